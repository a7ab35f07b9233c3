"""An export as it comes into being: a zip of all that is one's own, a piece at a time, never held as a whole.

A thread of its own compresses; it asks for a page of rows when it has written the last one, and for the next piece when
the client has taken the last one. So memory is bounded however much there is, a slow client holds nothing up but his
own thread, and cancelling ends it at its next request. What fails midway raises: a zip has its table at the end, so one
that was cut never looks whole.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
import trio.from_thread
from zipstream import ZIP_DEFLATED, ZIP_STORED, ZipStream

from veza.actors.registry import AuthFailed
from veza.db import export
from veza.db.pool import Database
from veza.http.api.envelope import ApiError, conflict, rate_limited
from veza.media.images import AVATAR, LISTING, Pictures
from veza.media.library import Library
from veza.security.rates import Buckets, Clock

AT_ONCE: Final = 2
A_DAY: Final = 5  # for one person
PATIENCE: Final = 120.0  # seconds a client may keep us waiting in all, and longer the more he has taken
SLOWEST: Final = 32 * 1024  # bytes a second
PIECE: Final = 64 * 1024  # bytes gathered before they are sent
_READ: Final = 256 * 1024
_AVATAR: Final = re.compile(r"/api/v1/users/\d{1,19}/avatar\?v=([0-9a-f]{20})")
_UNSAFE: Final = re.compile(r"[^\w.-]+")

README: Final = """This is all that is kept about you, as of {when}.

profile.json            your account
*.jsonl                 one JSON value a line, one file a kind; those you have none of are empty
  messages              what you said, in rooms (room_id, see rooms) and conversations (room_id, see conversations);
                        what others wrote to you is theirs and not in here
  reactions, comments, likes, reposts, plays, playlists, following, followers, blocks, mutes
  streams               your live streams; what was recorded of them is among your tracks
  listings, favorites, offers (sent and received, each with what you wrote to it)
  notifications, preferences, sessions, reports (made by you), sanctions and room_sanctions (received)
  uploads               those that were begun and not finished
tracks/                 the files of your tracks as they were uploaded, by id (see tracks.jsonl)
listings/               the pictures of your listings, by id
avatar.webp             your picture
missing.txt             if it is there: files that could not be found

Passwords, keys and other secrets are not in here. Of other people there are only names they show everybody.
"""

Emit = Callable[[bytes], Awaitable[None]]


def paced(emit: Emit) -> Emit:
    """The same, for a client who takes what he asked for: there are few places, and whoever reads a byte a minute would
    keep one for ever. Raises trio.TooSlowError: he took less than SLOWEST bytes a second, beyond PATIENCE."""
    taken, waited = 0, 0.0

    async def paced_emit(data: bytes) -> None:
        nonlocal taken, waited
        began = trio.current_time()
        with trio.fail_at(began + PATIENCE + taken / SLOWEST - waited):
            await emit(data)
        taken += len(data)
        waited += trio.current_time() - began

    return paced_emit


class Exports:
    """Who may have one: one at a time for a person, a few at once for all, some a day."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._running: set[int] = set()
        self._limiter = trio.CapacityLimiter(AT_ONCE)  # of threads: one each
        self._days = Buckets(A_DAY / 86_400, A_DAY, clock=clock)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def limiter(self) -> trio.CapacityLimiter:
        return self._limiter

    @contextmanager
    def turn(self, user_id: int) -> Iterator[None]:
        """Around one. Raises ApiError: not now."""
        if user_id in self._running:
            raise conflict("EXPORT_RUNNING", "An export of yours is being written already.")
        if len(self._running) >= AT_ONCE:
            raise ApiError(503, "BUSY", "Others export just now; try again in a while.", retry_after=60)
        if wait := self._days.take(user_id):
            raise rate_limited(wait, f"There are {A_DAY} exports a day.")
        self._running.add(user_id)
        try:
            yield
        finally:
            self._running.discard(user_id)


class Export:
    """One export.

    Args:
        still: asked before every page; raises AuthFailed once the person may not have it any more.
    """

    def __init__(
        self,
        user_id: int,
        profile: str,
        *,
        db: Database,
        library: Library,
        avatars: Pictures,
        images: Pictures,
        still: Callable[[], Awaitable[Any]],
    ) -> None:
        self._user_id = user_id
        self._profile = profile
        self._db = db
        self._library = library
        self._avatars = avatars
        self._images = images
        self._still = still
        self._missing: list[str] = []

    async def pour(self, emit: Emit, limiter: trio.CapacityLimiter) -> None:
        """Write it all, giving the pieces to `emit`. Cancelled, it ends at the next page or piece.

        Raises:
            DatabaseError, OSError, AuthFailed, trio.TooSlowError: it is not whole and will not be.
        """
        await trio.to_thread.run_sync(self._write, paced(emit), limiter=limiter)

    # In the thread ------------------------------------------------------------------------------------

    def _write(self, emit: Emit) -> None:
        archive = ZipStream(compress_type=ZIP_DEFLATED)
        gathered = bytearray()

        def send(pieces: Iterator[bytes], *, all_of_it: bool = False) -> None:
            for piece in pieces:
                gathered.extend(piece)
                if len(gathered) >= PIECE:
                    trio.from_thread.run(emit, bytes(gathered))
                    gathered.clear()
            if all_of_it and gathered:
                trio.from_thread.run(emit, bytes(gathered))

        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        with closing(self._entries(when)) as entries:
            for name, data, stored in entries:
                archive.add(data, name, compress_type=ZIP_STORED if stored else ZIP_DEFLATED)
                send(archive.file())
        send(archive.footer(), all_of_it=True)

    def _entries(self, when: str) -> Generator[tuple[str, bytes | Iterator[bytes], bool], None, None]:
        """Names, contents, and whether they are compressed already."""
        yield "README.txt", README.format(when=when).encode(), False
        yield "profile.json", self._profile.encode() + b"\n", False
        for section in export.SECTIONS:
            yield f"{section.name}.jsonl", self._lines(section), False
        yield from self._pictures()
        yield from self._tracks()
        if self._missing:
            yield "missing.txt", "".join(f"{name}\n" for name in self._missing).encode(), False

    def _lines(self, section: export.Section) -> Iterator[bytes]:
        key: export.Key | None = None
        while True:
            page = self._read(export.page, section, self._user_id, key)
            if page.lines:
                yield "".join(f"{line}\n" for line in page.lines).encode()
            key = page.key
            if key is None:
                return

    def _pictures(self) -> Iterator[tuple[str, Iterator[bytes], bool]]:
        avatar = msgspec.json.decode(self._profile)["avatar"] or ""
        if found := _AVATAR.fullmatch(avatar):
            yield from self._file(
                "avatar.webp", self._avatars.path(self._user_id, found[1], max(AVATAR.sizes))
            )
        after = 0
        while (last := self._read(export.last_listing, self._user_id, after)) is not None:
            for image in self._read(export.images, self._user_id, after):
                if image.listing_id <= last:
                    path = self._images.path(image.listing_id, image.hash, max(LISTING.sizes))
                    yield from self._file(f"listings/{image.listing_id}/{image.n}.webp", path)
            after = last

    def _tracks(self) -> Iterator[tuple[str, Iterator[bytes], bool]]:
        after = 0
        while tracks := self._read(export.track_files, self._user_id, after):
            for track in tracks:
                title = _UNSAFE.sub("_", track.title)[:80].strip("_.")
                name = (
                    f"tracks/{track.id}-{title}.{track.extension}"
                    if title
                    else f"tracks/{track.id}.{track.extension}"
                )
                yield from self._file(name, self._library.original(track.name, track.extension))
            after = tracks[-1].id

    def _file(self, name: str, path: Path) -> Iterator[tuple[str, Iterator[bytes], bool]]:
        """The file, if it is (still) there. Open, it is read to its end whatever becomes of its name."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._missing.append(name)
            return
        try:
            yield name, _pieces(descriptor), True
        finally:
            os.close(descriptor)

    def _read(self, unit: Callable[..., Any], *args: Any) -> Any:
        async def read() -> Any:
            try:
                await self._still()
            except AuthFailed as refused:
                if refused.code != "TOKEN_EXPIRED":  # it was good when this began
                    raise
            return await self._db.read(unit, *args)

        return trio.from_thread.run(read)


def _pieces(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, _READ):
        yield data
