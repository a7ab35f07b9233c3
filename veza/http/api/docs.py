"""The pages a person sees: `/docs` to try the API, and `/` until the web application stands there.

Swagger UI comes from an installed package, so both work without the internet and under a content policy that allows no
inline scripts and no other host. Only the files named here are ever served, whatever a path asks for.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import Final

import trio
from quart import Blueprint, Response, request

from veza import __version__
from veza.http.api.envelope import not_found

pages = Blueprint("pages", __name__)

_OURS: Final = files("veza.http.api") / "pages"
_SWAGGER: Final = files("flask_swagger_ui") / "dist"
_HTML: Final = "text/html; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"
_STYLE: Final = "text/css; charset=utf-8"

_FILES: Final = {
    "init.js": (_OURS, _SCRIPT),
    "page.css": (_OURS, _STYLE),
    "swagger-ui-bundle.js": (_SWAGGER, _SCRIPT),
    "swagger-ui.css": (_SWAGGER, _STYLE),
    "favicon-32x32.png": (_SWAGGER, "image/png"),
}
# Files change with either package, and only then.
_TAG: Final = f"{__version__}-{version('flask-swagger-ui')}"


@pages.get("/")
async def landing() -> Response:
    return await _file(_OURS, "index.html", _HTML)


@pages.get("/docs")
async def docs() -> Response:
    return await _file(_OURS, "docs.html", _HTML)


@pages.get("/docs/<name>")
async def asset(name: str) -> Response:
    if name not in _FILES:
        raise not_found("This file")
    directory, kind = _FILES[name]
    return await _file(directory, name, kind)


async def _file(directory: object, name: str, kind: str) -> Response:
    data = await trio.Path(f"{directory}/{name}").read_bytes()
    response = Response(data, content_type=kind)
    response.headers["Cache-Control"] = "no-cache"  # ask again, and be told 304
    response.set_etag(_TAG)
    await response.make_conditional(request)
    return response
