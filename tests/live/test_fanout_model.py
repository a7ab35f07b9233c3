"""Ring, listeners and passes against a model: whatever lines take and whenever, nobody gets a wrong byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live.radio import song_of
from veza.actors.streams.fanout import COHORT, COHORTS, Fanout, Tally
from veza.actors.streams.listener import METAINT, Listener, Progressive, icy_piece
from veza.actors.streams.messages import LiveInfo
from veza.actors.streams.ring import Ring, binary_frame
from veza.media.splitters import Chunk

INFO = LiveInfo("A show", None, None, True, "audio/mpeg", 128)


class Line:
    """A socket that takes so many bytes, as told, and then no more."""

    def __init__(self) -> None:
        self.room = 1 << 40
        self.taken = bytearray()
        self.dead = False
        self.was_reset = False

    unsent = 0

    @property
    def direct(self) -> Callable[[bytes], int] | None:
        return self._direct

    def _direct(self, data: bytes) -> int:
        taken = self.write(data)
        if not taken and data:
            raise BlockingIOError
        return taken

    def write(self, data: bytes | memoryview) -> int:
        if self.dead:
            raise BrokenPipeError
        taken = min(self.room, len(data))
        self.taken += data[:taken]
        self.room -= taken
        return taken

    async def wait_writable(self) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        self.dead = self.was_reset = True


class Tls(Line):
    """A line that takes more than its kernel does, and keeps it until it is asked again."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = b""

    @property
    def unsent(self) -> int:  # type: ignore[override]
        return len(self.kept)

    @property
    def direct(self) -> None:  # type: ignore[override]
        return None

    def write(self, data: bytes | memoryview) -> int:
        if self.dead:
            raise BrokenPipeError
        self.kept = self.kept[super().write(self.kept) :]
        if self.kept or not data:
            return 0
        self.kept = bytes(data[super().write(data) :])
        return len(data)


class Guest:
    def __init__(self) -> None:
        self.left = False

    def opening(self, info: LiveInfo) -> bytes:
        return b"HEAD"

    def over(self) -> None:
        self.left = True


class Stage:
    """A stream with a fan-out and nothing else."""

    def __init__(self, seconds: float = 1e9, size: int = 1 << 40) -> None:
        self.ring = Ring(seconds, size)
        self.tally = Tally()
        self.full: list[Progressive] = []
        self.fanout = Fanout(self.ring, 0.08, self.tally, self.lost, self.full.append)
        self.sent = bytearray()
        self.keys: list[int] = []
        self.now = 0.0

    def lost(self, listener: Listener) -> None:
        self.fanout.remove(listener)

    def append(self, size: int, key: bool = True) -> None:
        number = len(self.sent)
        data = bytes((number + i) % 251 for i in range(size))
        if key:
            self.keys.append(number)
        self.ring.append(Chunk(data, key, None, b"H" if key else b""), self.now)
        self.sent += data

    def join(self, burst: int, *, icy: bool = False, tls: bool = False) -> tuple[Line, Progressive]:
        line = Tls() if tls else Line()
        listener = Progressive(line, Guest(), icy=icy)
        opening = self.ring.opening(burst, self.fanout.place(listener))
        assert opening is not None
        listener.begin(INFO, opening)
        self.fanout.catch_up(listener)
        return line, listener

    def writable(self) -> None:
        full, self.full[:] = list(self.full), []
        for listener in full:
            listener.waiting = False
            if listener in self.fanout:
                self.fanout.catch_up(listener)


step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 300), st.booleans()),
    st.tuples(st.just("pass"), st.booleans()),
    st.tuples(st.just("join"), st.integers(0, 500), st.booleans(), st.booleans()),
    st.tuples(st.just("room"), st.integers(0, 7), st.integers(0, 400)),
    st.tuples(st.just("die"), st.integers(0, 7)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=60))
async def test_whatever_lines_take_every_listener_has_the_sources_bytes(steps: list[Any]) -> None:
    stage = Stage()
    stage.append(10)
    listeners: list[tuple[Line, Progressive]] = []
    for what, *args in steps:
        match what:
            case "append":
                stage.append(*args)
                stage.now += 0.02
                if due := stage.fanout.came(stage.now):
                    await stage.fanout.run(stage.now, True, due)
            case "pass":
                await stage.fanout.run(stage.now, True, None if args[0] else stage.fanout.overdue(stage.now))
            case "join":
                listeners.append(stage.join(args[0], icy=args[1], tls=args[2]))
                listeners[-1][0].room = 10**9
            case "room" if listeners:
                listeners[args[0] % len(listeners)][0].room = args[1]
                stage.writable()
            case "die" if listeners:
                listeners[args[0] % len(listeners)][0].dead = True
    alive = [(line, listener) for line, listener in listeners if not line.dead]
    for line, _ in alive:
        line.room = 10**9
    stage.writable()
    await stage.fanout.run(stage.now, True)
    stage.writable()
    sent = bytes(stage.sent)
    for line, listener in alive:
        assert listener in stage.fanout
        taken = bytes(line.taken)
        assert taken.startswith(b"HEADH")
        sound = taken[4:]
        if listener.icy is not None:
            sound, _ = song_of(sound)
        begins = len(sent) - (len(sound) - 1)
        assert begins in stage.keys
        assert sound[1:] == sent[begins:]
    # The dead are found out by the next bytes.
    stage.append(5)
    await stage.fanout.run(stage.now, True)
    assert len(stage.fanout) == len(alive)


@settings(max_examples=40, deadline=None)
@given(st.data())
async def test_who_is_too_slow_goes_on_at_a_key_point_once_and_in_whole_chunks(data: st.DataObject) -> None:
    stage = Stage(size=1000)
    stage.append(100)
    line, listener = stage.join(100)
    line.room = data.draw(st.integers(0, 500))
    moved_at = 0
    for _ in range(40):
        if line.dead:
            break
        stage.append(data.draw(st.integers(1, 200)), data.draw(st.booleans()))
        before = listener.moved
        await stage.fanout.run(stage.now, True)
        if listener.moved and not before:
            moved_at = len(stage.sent)
        if data.draw(st.booleans()):
            line.room = data.draw(st.integers(0, 300))
            stage.writable()
    if line.was_reset:
        assert listener.moved or not stage.ring._keys or stage.tally.dropped == 1
        assert listener not in stage.fanout
        return
    line.room = 10**9
    stage.writable()
    await stage.fanout.run(stage.now, True)
    stage.writable()
    heard, sent = bytes(line.taken)[5:], bytes(stage.sent)
    if not moved_at:
        assert heard == sent
        return
    # The beginning, to the end of a chunk; the header again; and the rest from a key point on.
    tail = next(
        n
        for n in range(len(heard) + 1)
        if sent.endswith(heard[n:]) and len(sent) - len(heard) + n in stage.keys
    )
    assert heard[tail - 1 : tail] == b"H"
    assert sent.startswith(heard[: tail - 1])


async def test_many_are_served_in_turns_and_few_at_once() -> None:
    stage = Stage()
    stage.append(1000)
    few = [stage.join(100) for _ in range(3)]
    stage.append(100)
    due = stage.fanout.came(stage.now)
    assert sum(len(cohort.plain) for cohort in due) == 3  # nothing has cost anything yet: at once
    await stage.fanout.run(stage.now, True, due)
    many = few + [stage.join(100) for _ in range(COHORT * 4)]
    for cohort in stage.fanout._cohorts:
        cohort.cost = 1.0  # a round is dear
    turns: list[int] = []
    for _ in range(120):
        stage.now += 0.024
        stage.append(384)
        due = stage.fanout.came(stage.now)
        for cohort in due:
            assert cohort.oldest is not None
            assert stage.now - cohort.oldest < 0.1
        turns.append(len(due))
        await stage.fanout.run(stage.now, True, due)
        for cohort in stage.fanout._cohorts:
            cohort.cost = 1.0
    assert set(turns[-40:]) <= {0, 1}
    assert sum(turns[-40:]) == 10 * COHORTS  # four arrivals are a round
    await stage.fanout.run(stage.now, True)
    assert len({bytes(line.taken[-5000:]) for line, _ in many}) == 1


@pytest.mark.parametrize("song", ["", "x", "ü" * 3000, "it's;' '; done", "\N{MUSICAL SYMBOL G CLEF}" * 2000])
def test_a_piece_of_metadata_is_a_whole_number_of_units(song: str) -> None:
    piece = icy_piece(song)
    assert len(piece) == 1 + piece[0] * 16
    text = piece[1:].rstrip(b"\0").decode()
    assert text.startswith("StreamTitle='")
    assert text.endswith("';")
    assert "';" not in text[:-2]


@given(st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=1, max_size=40), st.data())
def test_what_the_ring_reads_is_what_was_put_in(chunks: list[tuple[int, bool]], data: st.DataObject) -> None:
    stage = Stage(size=data.draw(st.integers(1, 3000)))
    for size, key in chunks:
        stage.append(size, key)
        stage.ring.trim(max(stage.ring.start, stage.ring.horizon(0.0)))
    ring, sent = stage.ring, bytes(stage.sent)
    assert ring.end == len(sent)
    newest = stage.keys[-1] if stage.keys else None
    assert ring.size <= max(ring._size + 400, ring.end - (newest or 0) + 400)
    at = data.draw(st.integers(ring.start, ring.end - 1)) if ring.size else ring.end
    stop = data.draw(st.integers(at, ring.end))
    if at < stop:
        assert ring.read(at, stop) == sent[at:stop]
        assert ring.frame(at, stop) == binary_frame(sent[at:stop])
        rest, following = ring.rest(at)
        assert sent[at:following] == rest
    opening = ring.opening(data.draw(st.integers(0, 2000)), ring.end)
    held = [key for key in stage.keys if key >= ring.start]
    assert (opening is None) == (not held)
    if opening is not None:
        assert opening.at in held


def test_the_interval_is_what_players_are_told() -> None:
    assert METAINT == 16_000
