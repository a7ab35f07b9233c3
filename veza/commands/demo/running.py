"""`veza demo`: a community to look at, in one command.

Where no server runs on the usual port it starts one of its own, in a directory of its own, so that nobody's data are
touched; else it fills the one that runs, if nobody lives there yet. Then the radio plays and people talk, until told to
stop. Started again it finds what it made, and makes nothing twice. Never in production: the people's password is
printed on the terminal.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import msgspec
import trio

from veza import config, log
from veza.client import AuthFailed, VezaClient
from veza.client.link import single_error
from veza.commands.demo.filling import Filled, Filling, Played
from veza.commands.demo.living import Radio, listen, now_and_then
from veza.commands.demo.people import PEOPLE, SHOWN
from veza.commands.demo.pieces import PIECES
from veza.commands.demo.town import Town, each, open_town
from veza.commands.demo.trade import WARES
from veza.commands.login import told_as_problems
from veza.config import Settings
from veza.errors import Problem
from veza.media.child import ChildEnded, ChildSilent, open_child

DIRECTORY: Final = "veza-demo"
PLAYING: Final = "veza.commands.demo.sounds"
SILENCE: Final = 60.0  # seconds for one piece, on the slowest of machines
SMALL: Final = (2, 3, 4, 3)  # pieces, bars of each, things for sale, pictures of people
NO_LIMIT: Final = 1e9


class State(msgspec.Struct, frozen=True):
    """What a start leaves to the next one. Its `repr` does not show the password."""

    password: str
    filled: bool = False

    def __repr__(self) -> str:
        return f"State(filled={self.filled!r})"


def run(
    host: str | None = None, port: int | None = None, data: Path | None = None, small: bool = False
) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        Problem: production, a server where others live, a directory that holds something else.
    """
    settings = _settings(host, port, data)
    log.setup(settings.log_format, settings.log_level)
    with told_as_problems():
        trio.run(_main, settings, small)


def _settings(host: str | None, port: int | None, data: Path | None) -> Settings:
    """The usual ones, but for whatever leads to somebody's data, mails or certificates."""
    given = {**config.read_dotenv(Path(".env")), **os.environ}
    if given.get("ENVIRONMENT", "").strip() == "production":
        raise Problem("ENVIRONMENT is production: a demonstration has no place there")
    ours = {
        name: value
        for name, value in given.items()
        if name not in config.DATABASE_PARTS
        and name not in ("DATABASE_URL", "VEZA_DATA", "PUBLIC_URL", "TLS_CERT", "TLS_KEY")
        and not name.startswith("SMTP_")
    }
    ours["VEZA_DATA"] = str(data or DIRECTORY)
    ours.setdefault("LOG_LEVEL", "warning")
    for name, value in (("HOST", host), ("PORT", port)):
        if value is not None:
            ours[name] = str(value)
    settings = config.load(ours, dotenv=None)
    # Twelve people move in within seconds, from one address.
    return msgspec.structs.replace(
        settings,
        rate_rest_per_minute=NO_LIMIT,
        rate_rest_burst=1_000_000,
        rate_messages_per_minute=NO_LIMIT,
        rate_messages_burst=1_000_000,
        media_workers=max(2, settings.media_workers),
    )


async def _main(settings: Settings, small: bool) -> None:
    began = time.monotonic()
    url = _address(settings, settings.port)
    data = Path(os.path.abspath(settings.data))  # noqa: ASYNC240 (that looks at no disk but for where we are)
    if settings.port and await _answers(url):
        await _elsewhere(url, data, small, began)
    else:
        await _at_home(settings, data, small, began)


def _address(settings: Settings, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "127.0.0.1": "localhost"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


async def _answers(url: str) -> bool:
    """Whether a Veza server is there."""
    try:
        async with httpx.AsyncClient(timeout=10.0, verify=False) as http:
            return bool((await http.get(f"{url}/health")).json()["success"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False


# A server of our own --------------------------------------------------------------------------------------


async def _at_home(settings: Settings, data: Path, small: bool, began: float) -> None:
    state = await trio.to_thread.run_sync(_prepare, data)
    settings = msgspec.structs.replace(settings, data=data).with_secrets()

    async def serve(task_status: trio.TaskStatus[int]) -> None:
        from veza import app  # late: the music is being played while all this is read

        await app.serve(settings, task_status=task_status)
        nursery.cancel_scope.cancel()  # also where it was told to stop before it was ready

    async with trio.open_nursery() as nursery, _pieces(data / "demo", small, state.filled) as played:
        await trio.lowlevel.checkpoint()  # so that the child is on its way
        port: int = await nursery.start(serve)
        # The people go first. Then the signal is the server's, which ends as it always does.
        told = await _until_told(
            partial(_furnish, _address(settings, port), data, state, played, small, began)
        )
        if told is not None:
            signal.raise_signal(told)
        await trio.sleep_forever()


async def _furnish(
    url: str, data: Path, state: State, played: trio.MemoryReceiveChannel[Played], small: bool, began: float
) -> None:
    async with _inhabited(url, state, data / "demo.json", played, small) as (town, radio, filled):
        if filled is not None:
            await _set_back(data, town, filled)
            _keep(data / "demo.json", State(state.password, True))
        await _live(town, radio, f"Everything is in {data}: remove it to begin anew.", began)


def _prepare(data: Path) -> State:
    """What an earlier start left; a new state where there was none. What it left half done is removed: it was ours,
    and nobody had been told where it is."""
    file = data / "demo.json"
    state = _found(file)
    if state is None:
        if data.is_dir() and not all(_of_elsewhere(entry) for entry in data.iterdir()):
            raise Problem(
                f"{data} holds something else than a demonstration: name another directory with --data"
            )
    elif not state.filled:
        from veza.db.lock import hold_data_directory

        with hold_data_directory(data):
            for entry in data.iterdir():
                if _of_elsewhere(entry) or entry.name == "server.lock":
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        state = None
    if state is None:
        state = State(_password())
        data.mkdir(parents=True, exist_ok=True)
        _keep(file, state)
    (data / "demo").mkdir(exist_ok=True)
    return state


def _of_elsewhere(entry: Path) -> bool:
    """Whether it may stem from filling another server: what has been played, and who lives there."""
    return entry.name == "demo" or entry.name.startswith("server-")


async def _set_back(data: Path, town: Town, filled: Filled) -> None:
    """Give the community the past it tells of, once all that is to be told has been."""
    from veza.db import demonstration
    from veza.db.embedded import embedded_url
    from veza.db.pool import open_database

    tracks = sorted(track.id for track in filled.tracks.values())
    hours = {ware.key: float(ware.hours_ago) for ware in WARES}
    past = demonstration.Past(
        messages=filled.messages,
        people_days={
            town.ids[person.username]: 47 + 31 * number % 160 for number, person in enumerate(PEOPLE)
        },
        tracks_hours={track: 3.0 + 11.0 * (len(tracks) - 1 - place) for place, track in enumerate(tracks)},
        listings_hours={listing.id: hours[key] for key, listing in filled.listings.items()},
        offers_hours={offer.id: bid.hours_ago for bid, offer in filled.offers},
    )
    async with embedded_url(data) as url, open_database(url, size=1, warm=0) as database:
        with trio.move_on_after(30):
            while await database.read(demonstration.waiting):  # noqa: ASYNC110 (nobody tells other processes)
                await trio.sleep(0.05)
        await database.write(demonstration.set_back, past)


# A server that runs -------------------------------------------------------------------------------------


async def _elsewhere(url: str, data: Path, small: bool, began: float) -> None:
    home = _found(data / "demo.json")
    if home is not None and await _knows(url, home.password):
        raise Problem(f"the demonstration runs already, at {url}")
    file = data / f"server-{url.partition('://')[2].translate(str.maketrans('[]:', '___'))}.json"
    state = _found(file)
    if state is None or not await _knows(url, state.password):
        if await _is_inhabited(url):
            raise Problem(
                f"somebody lives at {url} already: a demonstration is only for a server that is new"
            )
        state = State(_password())
        await trio.to_thread.run_sync(partial((data / "demo").mkdir, parents=True, exist_ok=True))
        _keep(file, state)
    elif not state.filled:
        raise Problem(
            f"the last start at {url} was interrupted, and left half a community there: begin with a new server"
        )
    await _until_told(partial(_furnish_elsewhere, url, data, state, file, small, began))


async def _furnish_elsewhere(
    url: str, data: Path, state: State, file: Path, small: bool, began: float
) -> None:
    async with (
        _pieces(data / "demo", small, state.filled) as played,
        _inhabited(url, state, file, played, small) as (town, radio, filled),
    ):
        if filled is not None:
            _keep(file, State(state.password, True))
        note = "All of it was said and done just now: the past needs a database at hand."
        await _live(town, radio, note, began)


async def _knows(url: str, password: str) -> bool:
    """Whether our people live there."""
    try:
        async with VezaClient(url) as client:
            await client.login(SHOWN[0], password)
    except AuthFailed:
        return False
    return True


async def _is_inhabited(url: str) -> bool:
    """Whether anybody ever opened an account: asked for a picture of the first, a server tells if there is nobody."""
    async with httpx.AsyncClient(timeout=10.0) as http:
        for user_id in range(1, 21):
            answer = await http.get(f"{url}/api/v1/users/{user_id}/avatar")
            if answer.is_success:
                return True
    return False


async def _until_told(work: Callable[[], Awaitable[None]]) -> int | None:
    """Do it until a signal says stop; the signal, or None where the work ended by itself."""
    told: int | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with single_error(), trio.open_nursery() as nursery:

            async def listen() -> None:
                nonlocal told
                async for number in signals:
                    told = number
                    nursery.cancel_scope.cancel()
                    return

            nursery.start_soon(listen)
            await work()
            nursery.cancel_scope.cancel()
    return told


# Either -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _pieces(
    directory: Path, small: bool, played_before: bool
) -> AsyncIterator[trio.MemoryReceiveChannel[Played]]:
    """The pieces as they are ready, played by a child or found where one left them."""
    pieces, bars, *_ = SMALL if small else (len(PIECES), 1000)
    give, take = trio.open_memory_channel[Played](len(PIECES))
    files = {piece.name: directory / f"{piece.name}.{piece.kind}" for piece in PIECES[:pieces]}

    async def play() -> None:
        async with give:
            if played_before and all(file.is_file() for file in files.values()):
                for name, file in files.items():
                    await give.send(Played(name, file))
                return
            async with open_child(PLAYING, str(directory), str(pieces), str(bars)) as child:
                try:
                    while (line := await child.line(SILENCE)) is not None:
                        await give.send(Played(line["name"], Path(line["file"])))
                except (ChildEnded, ChildSilent) as error:
                    raise Problem(
                        f"the music could not be played: {getattr(error, 'said', '') or error}"
                    ) from None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        yield take
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _inhabited(
    url: str, state: State, file: Path, played: trio.MemoryReceiveChannel[Played], small: bool
) -> AsyncIterator[tuple[Town, Radio, Filled | None]]:
    """A town with its people and a radio on air; filled now, if it was not before."""
    print(f"{url}/{'' if state.filled else ' (people are moving in)'}", flush=True)
    async with open_town(url, state.password, new=not state.filled) as town, single_error():
        async with trio.open_nursery() as nursery:
            radio = Radio(town)
            give, take = trio.open_memory_channel[Played](len(PIECES))

            async def share() -> None:
                async with give:
                    async for piece in played:
                        if piece.file.suffix == ".mp3":
                            radio.add(piece.file)
                        await give.send(piece)

            nursery.start_soon(share)
            filled = None
            if not state.filled:
                filling = Filling(town, take, *(SMALL[2:] if small else (len(WARES), len(PEOPLE))))

                async def tune() -> None:
                    await filling.people_ready.wait()
                    _tell_login(state.password)
                    await radio.open()
                    await radio.play()

                nursery.start_soon(tune)
                filled = await filling.run()
            else:
                _tell_login(state.password)
                await radio.open()
                nursery.start_soon(radio.play)
            await radio.on_air.wait()
            yield town, radio, filled
            nursery.cancel_scope.cancel()


def _tell_login(password: str) -> None:
    print(
        f"\n  log in as  {', '.join(SHOWN[:-1])} or {SHOWN[-1]}\n  password   {password}",
        flush=True,
    )


async def _live(town: Town, radio: Radio, note: str, began: float) -> None:
    print(
        f"\nVeza, with people in it ({time.monotonic() - began:.1f} s):\n\n"
        f"  {town.url}/\n"
        f"  {town.url}/market\n"
        f"  {town.url}/s/{radio.slug}\n\n"
        f"{note} Ctrl-C ends it.",
        flush=True,
    )
    await each([partial(now_and_then, town), partial(listen, town, radio.slug)])


def _password() -> str:
    letters = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def _found(file: Path) -> State | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Problem(f"{file} cannot be read: {error}") from None


def _keep(file: Path, state: State) -> None:
    """Whole or not at all, for nobody else's eyes."""
    draft = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(msgspec.json.encode(state))
    draft.replace(file)
