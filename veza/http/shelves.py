"""Shelves: what there is to be sent, and who knows where it is.

What a shelf offers is known by name before anybody asks: no name from a request ever becomes a path.
"""

import mimetypes
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from veza.http.asgi import Visit
from veza.http.head import Head

# Better known here than on the machine we happen to run on.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be sent: a file, or a few bytes held in memory."""

    content_type: str
    path: Path | None = None  # opened at the request, without following a symbolic link in its last part
    data: bytes = b""  # instead of a path
    cache: str = "no-cache"  # Cache-Control; `no-cache` still lets a client ask with If-None-Match
    until: float = (
        0  # seconds since 1970; if given, what is sent may be kept until then, and `cache` says no age
    )
    etag: bytes = b""  # strong, with quotes; made from the file's time and size if empty
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Shelf(Protocol):
    """Where resources are found. Tracks and their signed addresses are another kind of it."""

    def claims(self, path: str) -> bool:
        """Are addresses like this one (percent-encoded, without query) ours? Must be quick."""
        ...

    async def find(self, head: Head, visit: Visit) -> Resource:
        """What to send. Raises Refused: 401, 403, 404 …"""
        ...


class Pages:
    """A shelf of resources with fixed addresses."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._resources = dict(resources)

    def claims(self, path: str) -> bool:
        return path in self._resources

    async def find(self, head: Head, visit: Visit) -> Resource:
        return self._resources[head.path]


def folder(prefix: str, directory: Path, *, index: str | None = None, cache: str = "no-cache") -> Pages:
    """A shelf of all regular files below a directory, as it is now; hidden files and symbolic links are left out.

    Args:
        prefix: where they are found, such as `/docs/`.
        index: the file that also answers at the prefix itself.
    """
    found: dict[str, Resource] = {}
    for place, folders, names in os.walk(directory, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if name.startswith(".") or not stat.S_ISREG(path.lstat().st_mode):
                continue
            relative = path.relative_to(directory).as_posix()
            resource = Resource(content_type=content_type(name), path=path, cache=cache)
            found[prefix + quote(relative)] = resource
            if relative == index:
                found[prefix] = resource
    return Pages(found)


def content_type(name: str) -> str:
    """The media type of a file, by its extension."""
    known = _TYPES.get(os.path.splitext(name)[1].lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"
