"""What goes on while the demonstration runs: a radio that never ends, people who are there and say something now and
then. Everything through the ordinary client."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import trio

from veza.client import ApiError, ChatSocket, ClientError, FrameRefused, NewStream
from veza.client.link import single_error
from veza.client.streams import file_bytes
from veza.commands.demo.people import ANNOUNCER
from veza.commands.demo.pieces import PIECES
from veza.commands.demo.talk import NOW_AND_THEN
from veza.commands.demo.town import Town

TITLE: Final = "Radio Veza: made here"
LISTENERS: Final = {"lea_moreau", "sam_studio", "yuki_s"}
HERE: Final = ("malik_b", "nadia_v", "yuki_s", "old_joe", "clara_d", "tom_weller")  # who is online
BESIDE: Final = (  # said in the radio's chat
    ("yuki_s", "good morning, whatever time it is"),
    ("sam_studio", "Le son passe bien chez vous ?"),
    ("lea_moreau", "Parfait, et le chat danse."),
)
TYPING: Final = 3.0  # seconds somebody is shown typing
AGAIN: Final = 2.0  # seconds before the radio begins anew
PAUSES: Final = (25.0, 70.0)  # seconds between two things said


class Radio:
    """Plays files of MP3 in turn, for as long as it runs; more may be added meanwhile."""

    def __init__(self, town: Town) -> None:
        self.files: list[Path] = []
        self.ready = trio.Event()  # there is something to play
        self.slug = ""
        self.on_air = trio.Event()
        self._town = town
        self._key = ""

    def add(self, file: Path) -> None:
        self.files.append(file)
        self.ready.set()

    async def open(self) -> str:
        """Find the stream, or make it; its slug."""
        client = self._town[ANNOUNCER]
        for stream in (await client.my_streams()).items:
            if stream.title == TITLE and stream.state != "ended":
                self.slug, self._key = stream.slug, (await client.new_stream_key(stream.id)).stream_key
                return self.slug
        about = "What was uploaded here, one after the other."
        made: NewStream = await client.create_stream(TITLE, description=about)
        self.slug, self._key = made.slug, made.stream_key
        return self.slug

    async def play(self) -> None:
        """Broadcast until cancelled. Who ends the stream only makes it begin anew.

        Raises:
            ClientError: the server does not let us begin.
        """
        await self.ready.wait()
        while True:
            try:
                async with single_error(), trio.open_nursery() as nursery:
                    await self._broadcast(nursery)
                    nursery.cancel_scope.cancel()
            except ClientError:
                if not self.on_air.is_set():
                    raise
            await trio.sleep(AGAIN)
            with contextlib.suppress(ClientError):
                await self.open()

    async def _broadcast(self, nursery: trio.Nursery) -> None:
        await self._town[ANNOUNCER].broadcast(
            self.slug,
            self._key,
            self._turns(nursery),
            content_type="audio/mpeg",
            realtime=True,
            name=TITLE,
            progress=lambda sent, _at: self.on_air.set() if sent else None,
        )

    async def _turns(self, nursery: trio.Nursery) -> AsyncIterator[bytes]:
        turn = 0
        while True:
            file = self.files[turn % len(self.files)]
            nursery.start_soon(self._tell_song, file)
            async for data in file_bytes(file):
                yield data
            turn += 1

    async def _tell_song(self, file: Path) -> None:
        """What is playing; said again until the server has heard of the source."""
        piece = next(piece for piece in PIECES if piece.name == file.name.partition(".")[0])
        await self.on_air.wait()
        for pause in (0.2, 0.5, 1.0, 2.0):
            try:
                await self._town[ANNOUNCER].set_song(self.slug, self._key, f"{piece.artist} - {piece.title}")
                return
            except ClientError:
                await trio.sleep(pause)


async def listen(town: Town, slug: str) -> None:
    """Some have the radio on, until cancelled, and say so beside it."""
    for name, text in BESIDE:
        if name in town.clients:
            with contextlib.suppress(ApiError):
                room = await town[name].join_stream_chat(slug)
                await town[name].post_message(
                    room.id, text, nonce=f"demo-radio-{name}"
                )  # once, however often
    async with trio.open_nursery() as nursery:
        for name in LISTENERS & town.clients.keys():
            nursery.start_soon(_keep_listening, town, slug, name)


async def _keep_listening(town: Town, slug: str, name: str) -> None:
    while True:
        try:
            async with aclosing(town[name].listen(slug)) as heard:
                async for _ in heard:
                    pass
        except ClientError:
            pass  # the source dropped, perhaps; it comes back
        await trio.sleep(1)


async def now_and_then(town: Town, pauses: tuple[float, float] = PAUSES, typing: float = TYPING) -> None:
    """Some are online, and somebody says something once in a while, until cancelled."""
    chance = random.Random()
    async with AsyncExitStack() as stack:
        sockets: dict[str, ChatSocket] = {}
        for name in sorted({*HERE, *(name for _, name, _ in NOW_AND_THEN)} & town.clients.keys()):
            sockets[name] = await stack.enter_async_context(ChatSocket(town[name], listen=False))
        rooms = {room for room, _, _ in NOW_AND_THEN}
        for socket in sockets.values():
            for room in rooms:
                with contextlib.suppress(FrameRefused):
                    await socket.join(room)
        turn = 0
        while sockets:
            await trio.sleep(chance.uniform(*pauses))
            room, name, text = NOW_AND_THEN[turn % len(NOW_AND_THEN)]
            turn += 1
            if name not in sockets:
                continue
            try:
                sockets[name].typing(room=room)
                await trio.sleep(typing)
                await sockets[name].send(room, text, patient=True)
            except FrameRefused:
                pass  # somebody tries out what moderators can do
            except ClientError:
                del sockets[name]  # for good, says the socket, which heals all else
