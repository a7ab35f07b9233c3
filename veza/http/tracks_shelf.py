"""The shelf of tracks: signed addresses that open a track's own file, or the tree of its renditions.

    /stream/{name}[.ext]?expires={unix}&sig={hex}[&download=1]
    /hls/{expires}.{sig}/{name}/master.m3u8, …/{rendition}/index.m3u8, init.mp4, 0.m4s

Asked in this order: is it a name, are there parameters (400), is the signature true and good now (403), is there such
a track (404). Paths are made of what the database says and of words this file knows, never of a request's. A signed
address authorises by itself; who asks, and what `Authorization` he sends, is nobody's business here.
"""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from veza.db.errors import DatabaseError
from veza.db.media_files import MediaFile, by_names
from veza.db.pool import Database
from veza.db.together import Together
from veza.http.asgi import Visit
from veza.http.disposition import attachment
from veza.http.head import Head
from veza.http.media import Resource, content_type
from veza.http.refusal import Refused
from veza.media.library import Library
from veza.security.signing import SKEW, Expired, SignatureRefused, Signer

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED: Final = 1.0  # seconds for which neither a signature is checked again nor the database asked
TICKETS: Final = 4096  # addresses that were found true lately
LONGEST: Final = 512  # bytes of an address that is remembered; ours are 150
NAMES: Final = 4096  # tracks that were found lately

_STREAM: Final = re.compile(r"/stream/(?P<name>[A-Za-z0-9_-]{1,64})(?:\.[A-Za-z0-9]{1,16})?")
_HLS: Final = re.compile(
    r"/hls/(?:(?P<signed>[^/]*)/)?(?P<name>[A-Za-z0-9_-]{1,64})/(?P<file>master\.m3u8|"
    r"(?P<rendition>[a-z0-9_]{1,32})/(?:index\.m3u8|init\.mp4|[a-z0-9_]{1,32}\.m4s))"
)
_PLAYABLE: Final = re.compile(r"(?:audio|video)/[A-Za-z0-9.+-]{1,80}|application/ogg")
_UNSIGNED: Final = "This address lacks its signature."


class Ticket(msgspec.Struct, frozen=True):
    """An address that was found true, and what it opens."""

    resource: Resource
    good_until: float  # seconds since 1970: then everything is asked again, the signature first


class TracksShelf:
    """The shelf.

    Args:
        clock: seconds since 1970.
    """

    def __init__(
        self, library: Library, db: Database, signer: Signer, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._library = library
        self._signer = signer
        self._clock = clock
        self._tracks = Together(db, by_names)
        self._tickets: dict[bytes, Ticket] = {}  # by target, the oldest first
        self._known: dict[
            str, tuple[MediaFile, float]
        ] = {}  # by name, and when it was read; the oldest first

    def claims(self, path: str) -> bool:
        return path.startswith(("/stream/", "/hls/"))

    async def find(self, head: Head, visit: Visit) -> Resource:
        """Raises Refused: 400, 403, 404, 503."""
        target = head.target
        ticket = self._tickets.get(target)
        if ticket is not None and ticket.good_until > self._clock():
            return ticket.resource
        path = unquote(head.path) if "%" in head.path else head.path
        if (found := _STREAM.fullmatch(path)) is not None:
            resource = await self._original(found["name"], head.query)
        elif (found := _HLS.fullmatch(path)) is not None:
            resource = await self._rendition(found)
        else:
            raise Refused(404)
        if len(target) <= LONGEST:
            good_until = min(self._clock() + REMEMBERED, resource.until + SKEW)
            _remember(self._tickets, target, Ticket(resource, good_until), TICKETS)
        return resource

    async def _original(self, name: str, query: bytes) -> Resource:
        """A track's own file."""
        asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        given = dict(asked)
        expires, sig = given.get("expires"), given.get("sig")
        if not expires or not sig:
            raise Refused(400, "SIGNATURE_MISSING", _UNSIGNED)
        if sum(key in ("expires", "sig") for key, _ in asked) > 2:
            raise Refused(400, sentence="This address is signed twice.")
        until = self._verified(name, expires, sig)
        track = await self._track(name)
        kind = track.content_type if _PLAYABLE.fullmatch(track.content_type) else "application/octet-stream"
        named: tuple[tuple[bytes, bytes], ...] = ()
        if given.get("download") == "1":
            named = ((b"content-disposition", attachment(track.filename or f"{name}.{track.extension}")),)
        path = self._library.original(name, track.extension)
        return _resource(kind, path, until, [self._library.track(name)], named)

    async def _rendition(self, found: re.Match[str]) -> Resource:
        """A file of the tree of a track's renditions."""
        name, file, rendition = found["name"], found["file"], found["rendition"]
        expires, _, sig = (found["signed"] or "").partition(".")
        if not expires or not sig:
            raise Refused(400, "SIGNATURE_MISSING", _UNSIGNED)
        until = self._verified(f"hls/{name}", expires, sig)
        if not (await self._track(name)).has_hls:
            raise Refused(404)
        tree = self._library.hls(name)
        above = [self._library.track(name), tree]
        if rendition is not None:
            above.append(tree / rendition)
        return _resource(content_type(file), tree / file, until, above)

    def _verified(self, message: str, expires: str, sig: str) -> int:
        try:
            return self._signer.verify(message, expires, sig, self._clock())
        except Expired:
            raise Refused(403, "SIGNATURE_EXPIRED", "This address has expired; ask for a new one.") from None
        except SignatureRefused:
            raise Refused(403, "SIGNATURE_INVALID", "This address is not one of ours.") from None

    async def _track(self, name: str) -> MediaFile:
        """The track of a name that was signed. What is known already outlives a database that cannot be asked."""
        known = self._known.get(name)
        began = self._clock()
        if known is not None and 0 <= began - known[1] < REMEMBERED:
            return known[0]
        try:
            track = await self._tracks.read(name)
        except DatabaseError:
            if known is None:
                raise Refused(503, headers=[(b"retry-after", b"2")]) from None
            return known[0]
        if track is None:
            self._known.pop(name, None)
            raise Refused(404)
        _remember(self._known, name, (track, began), NAMES)
        return track


def _resource(
    kind: str, path: Path, until: int, above: list[Path], headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Resource:
    """A file below directories that are none of them links: nothing leads out of the library. Raises Refused: 404."""
    try:
        plain = all(stat.S_ISDIR(directory.lstat().st_mode) for directory in above)
    except OSError:
        plain = False
    if not plain:
        raise Refused(404)
    return Resource(content_type=kind, path=path, cache="private", until=until, headers=headers)


def _remember(where: dict[K, V], key: K, value: V, most: int) -> None:
    """Put it behind the others, and let the oldest go."""
    where.pop(key, None)
    where[key] = value
    if len(where) > most:
        del where[next(iter(where))]
