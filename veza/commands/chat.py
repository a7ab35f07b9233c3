"""`veza chat ROOM`: talk from a terminal, or from a pipe.

Reads lines, prints what happens; everything hard (reconnecting, resuming, sending once) is the client's. On a terminal
the line being typed stays whole whatever arrives; from a pipe every line is sent, in order and patiently, and the
command ends when all are stored.
"""

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import trio

from veza.client import (
    ChatSocket,
    ClientError,
    Closed,
    Connected,
    DirectMessage,
    ErrorEvent,
    Event,
    Gap,
    MessageDeleted,
    MessageEdited,
    Reconnecting,
    RoomMessage,
    RoomPresence,
    UserConnected,
    UserDisconnected,
    VezaClient,
)
from veza.commands.lines import Key, LineEditor, Screen, harmless, is_terminal, keys_unechoed
from veza.commands.login import ANOTHER, log_in, server_url, told_as_problems
from veza.errors import Problem

SHOWN_AT_FIRST: Final = 20
AUTHORS_KEPT: Final = 500
LAST_WORDS: Final = 5.0  # seconds to wait for our own echo at the end of a pipe
HELP: Final = """\
/history      what was said before
/who          who is here
/dm NAME TEXT write to one person
/quit         leave (the room stays yours)
//text        a line that begins with a slash"""


def run(room: str, server: str | None, user: str | None, register: bool) -> None:
    """Talk until the end of the input.

    Raises:
        Problem: no server, no login, no such room.
    """
    url = server_url(server)
    with told_as_problems(ANOTHER):
        trio.run(_main, url, room, user, register)


async def _main(url: str, room: str, user: str | None, register: bool) -> None:
    async with VezaClient(url) as client:
        await log_in(client, url, user, register)
        async with client.chat() as socket:
            await Conversation(client, socket, is_terminal(sys.stdin) and is_terminal(sys.stdout)).hold(room)


# Talking -------------------------------------------------------------------------------------------------


class Conversation:
    """One room (or person) on one terminal."""

    def __init__(self, client: VezaClient, socket: ChatSocket, interactive: bool) -> None:
        self._client = client
        self._socket = socket
        self._interactive = interactive
        self._editor = LineEditor()
        self._screen = Screen(self._editor, sys.stdout, interactive=interactive)
        self._room_id = 0
        self._label = ""
        self._with_user: int | None = None
        self._oldest: int | None = None
        self._seen = 0  # the last number shown
        self._said = 0  # the number of our own last message here
        self._shown = trio.Event()  # set, and made anew, with every message shown
        self._names: dict[int, str] = {}  # of people written to or heard from in private
        self._authors: dict[int, str] = {}  # of the last messages shown
        self._unsaid: deque[str] = deque()  # lines taken from the keyboard that were not dealt with yet
        self._lost = ""  # why the connection is away, as it was shown

    async def hold(self, room: str) -> None:
        """Join, show what was said last, and talk until the input ends."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._until_signal, nursery.cancel_scope)
            try:
                with keys_unechoed(sys.stdin.fileno()) if self._interactive else contextlib.nullcontext():
                    await self._join(room)
                    nursery.start_soon(self._listen, nursery.cancel_scope)
                    nursery.start_soon(self._mark_read)
                    self._screen.draw()
                    await self._converse()
            finally:
                for line in self._unsaid:
                    if line.strip():
                        self._note(f"✗ perhaps not sent: {line.strip()}")
                self._screen.end()
            nursery.cancel_scope.cancel()

    async def _converse(self) -> None:
        """Read lines and do what they say, the one not waiting for the other: a keyboard must not freeze."""
        lines, work = trio.open_memory_channel[str](100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work, work)
            async with lines:
                async for line in self._typed() if self._interactive else self._piped():
                    if line.strip() in ("/quit", "/exit", "/q"):
                        break
                    self._unsaid.append(line)
                    await lines.send(line)
            if self._interactive:
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS

    async def _work(self, lines: trio.MemoryReceiveChannel[str]) -> None:
        async for line in lines:
            await self._take(line)
            self._unsaid.popleft()
        with trio.move_on_after(LAST_WORDS):
            while self._seen < self._said:
                await self._shown.wait()

    async def _join(self, room: str) -> None:
        if room.startswith("@"):
            person = await self._person(room[1:])
            self._with_user = person[0]
            self._label = f"@{person[1]}"
            ack = await self._socket.join(with_user=person[0])
        else:
            name = room.removeprefix("#")
            ack = await self._socket.join(int(name) if name.isascii() and name.isdigit() else room)
            self._label = f"#{ack.room}"
        self._room_id, self._seen = ack.room_id, ack.last_seq
        self._oldest = ack.last_seq + 1
        self._editor.prompt = f"{harmless(self._label)}> "
        many = f": {ack.members} member{'s' if ack.members > 1 else ''}, {max(ack.online or 1, 1)} online"
        self._note(f"{self._label}{many if self._with_user is None else ''}")
        if ack.last_seq:
            await self._history()

    async def _person(self, name: str) -> tuple[int, str]:
        page = await self._client.users(search=name, limit=20)
        for user in page.items:
            if user.username.lower() == name.lower():
                return user.id, user.username
        raise Problem(f"there is nobody named {name!r}")

    # In

    async def _typed(self) -> AsyncIterator[str]:
        """Lines from the keyboard, until ctrl-c or ctrl-d."""
        descriptor = sys.stdin.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            data = os.read(descriptor, 4096)
            if not data:
                return
            for typed in self._editor.feed(data):
                if isinstance(typed, str):
                    yield typed
                elif typed is Key.REDRAW:
                    self._screen.draw(all_of_it=True)
                else:
                    return
            self._screen.draw()

    async def _piped(self) -> AsyncIterator[str]:
        """Lines from a pipe or a file, which only a thread can wait for."""
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            yield line.rstrip("\n")

    async def _take(self, line: str) -> None:
        """Do what a line says."""
        command, _, rest = line.strip().partition(" ")
        try:
            if not line.strip():
                pass
            elif command == "/history":
                await self._history()
            elif command == "/who":
                await self._who()
            elif command == "/dm":
                await self._direct(rest)
            elif command.startswith("//"):
                await self._say(line.strip()[1:])
            elif command.startswith("/"):
                self._note(HELP)
            else:
                await self._say(line.strip())
        except Closed:
            raise
        except (ClientError, Problem) as error:
            self._note(f"✗ {error}")

    async def _say(self, text: str) -> None:
        if self._with_user is not None:
            ack = await self._socket.send_direct(self._with_user, text, patient=True)
        else:
            ack = await self._socket.send(self._room_id, text, patient=True)
        self._said = ack.seq

    async def _direct(self, rest: str) -> None:
        name, _, text = rest.strip().partition(" ")
        if not name or not text.strip():
            raise Problem("write it like /dm NAME TEXT")
        user_id, name = await self._person(name.removeprefix("@"))
        self._names[user_id] = name
        await self._socket.send_direct(user_id, text.strip(), patient=True)

    async def _who(self) -> None:
        if self._with_user is not None:
            self._note(f"you and {self._label}")
            return
        members = (await self._client.members(self._room_id, limit=100)).items
        here = [member.username for member in members if member.is_online]
        gone = [member.username for member in members if not member.is_online]
        self._note(f"here: {', '.join(here)}")
        if gone:
            self._note(f"not here: {', '.join(gone)}")

    async def _history(self) -> None:
        """Show the page before the oldest one shown."""
        page = await self._socket.history(
            self._room_id if self._with_user is None else None,
            with_user=self._with_user,
            limit=SHOWN_AT_FIRST,
            before_seq=self._oldest,
        )
        messages = [
            message for message in page.messages if self._oldest is None or message.seq < self._oldest
        ]
        if not messages:
            self._note("nothing was said before")
            return
        for message in messages:
            self._message(message)
        self._oldest = messages[0].seq

    # Out

    async def _listen(self, scope: trio.CancelScope) -> None:
        async for event in self._socket:
            self._show(event)
        scope.cancel()

    def _show(self, event: Event) -> None:
        match event:
            case RoomMessage() | DirectMessage():
                if event.room_id == self._room_id:
                    self._seen = max(self._seen, event.seq)
                    self._message(event)
                    self._shown.set()
                    self._shown = trio.Event()
                elif isinstance(event, DirectMessage):
                    self._message(event, aside=self._aside(event))
            case MessageEdited(room_id=self._room_id):
                self._note(f"{self._whose(event.id)} was changed to: {event.content}")
            case MessageDeleted(room_id=self._room_id):
                self._note(f"{self._whose(event.id)} was deleted")
            case UserConnected(username=name):
                self._note(f"→ {name} is here")
            case UserDisconnected(username=name):
                self._note(f"← {name} is gone")
            case RoomPresence(online=online):
                self._note(f"{online} are here")
            case Reconnecting(reason=reason):
                if reason != self._lost:  # once, however many tries it takes
                    self._lost = reason
                    self._note(f"… {reason}; trying again")
            case Connected(resumed=True):
                self._lost = ""
                self._note("connected again")
            case Gap(room_id=self._room_id, first=first, last=last):
                self._oldest = last + 1
                self._note(f"{last - first + 1} messages are left out: /history shows them")
            case ErrorEvent(message=message):
                self._note(f"✗ {message}")
            case _:
                pass

    def _aside(self, letter: DirectMessage) -> str:
        """Which private conversation a letter belongs to; our own, from here or another device, say to whom."""
        welcome = self._socket.welcome
        if welcome is None or letter.from_user_id != welcome.user_id:
            return "(private) "
        name = self._names.get(letter.to_user_id)
        return f"(private, to {harmless(name)}) " if name else "(private) "

    def _whose(self, message_id: int) -> str:
        name = self._authors.get(message_id)
        return f"a message of {name}" if name else "a message"

    def _message(self, message: RoomMessage | DirectMessage, aside: str = "") -> None:
        when = message.created_at.astimezone()
        today = when.date() == datetime.now().astimezone().date()
        stamp = when.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
        content = "(deleted)" if message.deleted_at else message.content
        name = harmless(message.author or "somebody")
        self._authors[message.id] = name
        if len(self._authors) > AUTHORS_KEPT:
            del self._authors[next(iter(self._authors))]
        if isinstance(message, DirectMessage) and message.from_user_id is not None:
            self._names[message.from_user_id] = name
        indent = " " * (len(stamp) + 1)
        lines = harmless(content or message.media_url or "").split("\n")
        self._screen.say(f"{stamp} {aside}{name}: " + f"\n{indent}".join(lines))

    def _note(self, text: str) -> None:
        for line in harmless(text).split("\n"):
            self._screen.say(f"· {line}")

    async def _mark_read(self) -> None:
        """Say how far we have read, not more often than anybody cares."""
        told = 0
        while True:
            if self._seen > told:
                told = self._seen
                with contextlib.suppress(ClientError):
                    if self._with_user is None:
                        self._socket.mark_read(told, room=self._room_id)
                    else:
                        self._socket.mark_read(told, with_user=self._with_user)
            await trio.sleep(2)

    async def _until_signal(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()
                return
