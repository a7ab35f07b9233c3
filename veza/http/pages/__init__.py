"""The pages a person sees, from the start page to the moderators' queue; and `/docs` to try the API.

Plain HTML, modules and one style sheet: no build step, nothing from another host, and a content policy that allows no
inline scripts. A page is the same file whoever asks for whichever track: what it shows it asks the API for, as its
reader. Swagger UI comes from an installed package, hls.js lies in `vendor/`. They are files, and go the way of files;
only those named here are ever served.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from veza.http.asgi import Visit
from veza.http.head import Head
from veza.http.media import Pages, Resource, content_type

_OURS: Final = Path(__file__).parent
# Found, not imported: the package's own code is for Flask, and reading that costs each start a tenth of a second.
_SPEC: Final = find_spec("flask_swagger_ui")
assert _SPEC is not None and _SPEC.origin is not None, "flask-swagger-ui is not installed"
_SWAGGER: Final = Path(_SPEC.origin).parent / "dist"

_FILES: Final = (
    "account.js",
    "api.js",
    "bell.js",
    "bell.svg",
    "broadcast.js",
    "cards.js",
    "categories.js",
    "chat.js",
    "dom.js",
    "factor.js",
    "found.js",
    "gallery.js",
    "hls.js",
    "home.js",
    "icon.svg",
    "leaving.js",
    "listing.js",
    "live.js",
    "market.js",
    "moderation.js",
    "money.js",
    "newlisting.js",
    "notices.js",
    "notifications.js",
    "offercard.js",
    "offers.js",
    "person.js",
    "previews.js",
    "report.js",
    "room.js",
    "searchbox.js",
    "settings.js",
    "stream.js",
    "style.css",
    "talk.js",
    "terms.js",
    "top.js",
    "track.js",
    "vendor/hls.LICENSE.txt",
    "vendor/hls.min.mjs",
    "verdicts.js",
    "waveform.js",
)
_PAGES: Final = {
    "/": _OURS / "index.html",
    "/market": _OURS / "market.html",
    "/market/new": _OURS / "newlisting.html",
    "/moderation": _OURS / "moderation.html",
    "/notifications": _OURS / "notifications.html",
    "/messages": _OURS / "talk.html",
    "/offers": _OURS / "offers.html",
    "/rooms": _OURS / "talk.html",
    "/search": _OURS / "found.html",
    "/settings": _OURS / "settings.html",
    "/docs": _OURS / "docs.html",
    "/docs/": _OURS / "docs.html",
    "/docs/init.js": _OURS / "init.js",
    "/docs/page.css": _OURS / "page.css",
    "/docs/swagger-ui-bundle.js": _SWAGGER / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": _SWAGGER / "swagger-ui.css",
    "/docs/favicon-32x32.png": _SWAGGER / "favicon-32x32.png",
    **{f"/app/{name}": _OURS / name for name in _FILES},
}
# Addresses that name something: one page for each kind, whether what they name exists or not.
_PATTERNS: Final = (
    (re.compile(r"/market/[0-9]{1,19}"), _OURS / "listing.html"),
    (re.compile(r"/market/[0-9]{1,19}/edit"), _OURS / "newlisting.html"),
    (re.compile(r"/messages/[0-9]{1,19}"), _OURS / "room.html"),
    (re.compile(r"/people/[0-9]{1,19}"), _OURS / "person.html"),
    (re.compile(r"/rooms/[0-9]{1,19}"), _OURS / "room.html"),
    (re.compile(r"/tracks/[0-9]{1,19}"), _OURS / "track.html"),
    (re.compile(r"/s/[a-z0-9][a-z0-9-]{0,42}"), _OURS / "stream.html"),
    (re.compile(r"/s/[a-z0-9][a-z0-9-]{0,42}/broadcast"), _OURS / "broadcast.html"),
)


class _Site(Pages):
    """The fixed addresses, and those that follow a pattern."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        super().__init__(resources)
        self._patterns = tuple((pattern, _resource(path)) for pattern, path in _PATTERNS)

    def claims(self, path: str) -> bool:
        return super().claims(path) or self._named(path) is not None

    async def find(self, head: Head, visit: Visit) -> Resource:
        return self._named(head.path) or await super().find(head, visit)

    def _named(self, path: str) -> Resource | None:
        return next((found for pattern, found in self._patterns if pattern.fullmatch(path)), None)


def _resource(path: Path) -> Resource:
    return Resource(content_type=content_type(path.name), path=path)


def shelf() -> Pages:
    """The pages, for the room of files."""
    return _Site({address: _resource(path) for address, path in _PAGES.items()})
