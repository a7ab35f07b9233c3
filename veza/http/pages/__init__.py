"""The pages a person sees: `/docs` to try the API, and `/` until the web application stands there.

Swagger UI comes from an installed package, so both work without the internet and under a content policy that allows no
inline scripts and no other host. They are files, and go the way of files; only those named here are ever served.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from veza.http.media import Pages, Resource, content_type

_OURS: Final = Path(__file__).parent
# Found, not imported: the package's own code is for Flask, and reading that costs each start a tenth of a second.
_SPEC: Final = find_spec("flask_swagger_ui")
assert _SPEC is not None and _SPEC.origin is not None, "flask-swagger-ui is not installed"
_SWAGGER: Final = Path(_SPEC.origin).parent / "dist"

_PAGES: Final = {
    "/": _OURS / "index.html",
    "/docs": _OURS / "docs.html",
    "/docs/": _OURS / "docs.html",
    "/docs/init.js": _OURS / "init.js",
    "/docs/page.css": _OURS / "page.css",
    "/docs/swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
    "/docs/favicon-32x32.png": _SWAGGER / "favicon-32x32.png",
}


def shelf() -> Pages:
    """The pages, for the room of files."""
    return Pages(
        {
            address: Resource(content_type=content_type(path.name), path=path)
            for address, path in _PAGES.items()
        }
    )
