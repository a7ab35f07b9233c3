"""What is left of a deleted account goes: streams, rooms, tracks, files, and what hung on others' things.

The account is closed and committed before anything here begins (`veza.db.deletion.close_own`), and noted as having
something left. So every step may be the last one of a process, and all of them may be taken again: whoever starts next
finds the note and goes on. The note goes once nothing can come any more that was under way when the account was closed.

What runs is told by its own actor: a room's members see it end or change hands, a stream's listeners hear its end.
"""

from __future__ import annotations

from typing import Final

import trio

from veza import log
from veza.actors import listing_images
from veza.actors.commands import Depart, Person, Remove
from veza.actors.errors import ROOM_NOT_FOUND, Refused
from veza.actors.kernel import ActorError
from veza.actors.rooms import Rooms
from veza.actors.streams import Streams
from veza.actors.streams.refusals import NOT_FOUND
from veza.actors.track_intake import Processing
from veza.actors.upload_desk import remove_file
from veza.db import deletion
from veza.db import rooms as rooms_db
from veza.db import streams as streams_db
from veza.db.deletion import Closed, OwnedStream
from veza.db.errors import DatabaseError, Unavailable
from veza.db.pool import Database
from veza.media.images import Pictures
from veza.media.library import Library

_log = log.get("deletion")

EVERY: Final = 30.0  # seconds between two looks for what is left


class Departures:
    """The work, and who does it beside everything else.

    Args:
        rooms, streams, processing: those that run here; None: nothing runs, and only rows and files go.
    """

    def __init__(
        self,
        *,
        db: Database,
        library: Library,
        avatars: Pictures,
        listing_images: Pictures,
        rooms: Rooms | None = None,
        streams: Streams | None = None,
        processing: Processing | None = None,
    ) -> None:
        self._db = db
        self._library = library
        self._avatars = avatars
        self._listing_images = listing_images
        self._rooms = rooms
        self._streams = streams
        self._processing = processing
        self._turn = trio.Lock()  # one account at a time: nobody waits for any of it
        self._poked = trio.Event()

    def poke(self) -> None:
        """An account was closed, or may have been: see to it soon. Never blocks."""
        self._poked.set()

    async def run(self) -> None:
        """Finish what earlier processes and cancelled requests left. Never ends; cancel it."""
        while True:
            self._poked = trio.Event()
            try:
                await self.finish_all()
            except DatabaseError as error:
                _log.warning("deletions wait", reason=type(error).__name__)
            with trio.move_on_after(EVERY):
                await self._poked.wait()

    async def finish_all(self) -> None:
        """One pass over all accounts of which something may be left. Raises DatabaseError."""
        for account in await self._db.read(deletion.waiting):
            name = await self._db.read(deletion.tombstone, account.user_id)
            if await self.finish(Closed(account.user_id, name)) and account.settled:
                await self._db.write(deletion.done, account.user_id)
                _log.info("account deleted", user_id=account.user_id)

    async def finish(self, gone: Closed) -> bool:
        """Remove what is left of an account that was closed. Cancelled, or where something does not answer, the rest
        goes later. Whether it came to its end."""
        try:
            async with self._turn:
                await self._finish(gone)
        except (DatabaseError, ActorError, Refused, OSError) as error:
            _log.warning("deletion goes on later", user_id=gone.user_id, reason=type(error).__name__)
            return False
        return True

    async def _finish(self, gone: Closed) -> None:
        user_id = gone.user_id
        while streams := await self._db.read(deletion.streams, user_id):
            for stream in streams:
                await self._end_stream(user_id, gone.username, stream)
        await self._db.write(deletion.leave_market, user_id)
        await self._leave_rooms(gone)
        if self._rooms is not None:
            await self._rooms.person_forgotten(
                user_id, gone.username, await self._db.read(deletion.spoke_in, user_id)
            )
        while tracks := await self._db.write(deletion.take_tracks, user_id):
            for track_id, name in tracks:
                if self._rooms is not None:
                    self._rooms.track_changed(track_id)
                if self._processing is not None:
                    self._processing.cancel(track_id)
                # Killed here, the sweep of track files finds them: no row names them any more.
                await trio.to_thread.run_sync(self._library.remove_track, name)
        while uploads := await self._db.read(deletion.uploads, user_id):
            for upload_id in uploads:
                await remove_file(self._library, upload_id)
            await self._db.write(deletion.drop_uploads, uploads)
        async with self._avatars.turn(user_id):
            await trio.to_thread.run_sync(self._avatars.keep_only, user_id, ())
        for listing_id in await self._db.read(deletion.listings, user_id):
            await listing_images.forget(self._db, self._listing_images, listing_id)
        for step in range(deletion.SWEEPS):
            while await self._db.write(deletion.sweep, user_id, step):
                pass

    async def _end_stream(self, user_id: int, username: str, stream: OwnedStream) -> None:
        """Its source and its listeners part, its room goes, and then its files and its row."""
        if self._streams is not None:
            try:
                await self._streams.end(stream.id)
            except Refused as refused:
                if refused.code != NOT_FOUND:
                    raise
        if stream.room_id is not None:
            if self._rooms is not None:
                wish = Remove(person=Person(user_id, username), house=True)
                await self._ask_room(stream.room_id, wish)
            else:
                await self._db.write(rooms_db.remove, stream.room_id)
        await trio.to_thread.run_sync(self._library.remove_recordings, stream.id)
        await self._db.write(streams_db.delete, stream.id)
        if self._streams is not None:
            self._streams.changed(stream.id)

    async def _leave_rooms(self, gone: Closed) -> None:
        after = 0
        while room_ids := await self._db.read(deletion.rooms, gone.user_id, after):
            for room_id in room_ids:
                if self._rooms is not None:
                    await self._ask_room(room_id, Depart(person=Person(gone.user_id, gone.username)))
                else:
                    await self._db.write(rooms_db.depart, room_id, gone.user_id)
            after = room_ids[-1]

    async def _ask_room(self, room_id: int, wish: Depart | Remove) -> None:
        assert self._rooms is not None
        try:
            await self._rooms.ask(room_id, wish)
        except Refused as refused:
            if refused.code != ROOM_NOT_FOUND:
                raise Unavailable("a room does not let go") from None
