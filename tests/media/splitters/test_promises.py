"""What every splitter promises, tried on real sources of every kind."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.media.splitters.sources import KINDS, SECONDS, Sources, divided, fed, heard, joined
from veza.media.splitters import ENOUGH, Chunk, splitter_for
from veza.media.splitters.mp4 import Mp4Splitter
from veza.media.splitters.webm import WebmSplitter

EVERY = pytest.mark.parametrize("name", KINDS)
HELD_MOST = 5 * 1024 * 1024
"""More than the longest thing any of them waits for, an element of 4 MiB."""
FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def split(name: str, data: bytes) -> list[Chunk]:
    return KINDS[name].splitter().feed(data)


@EVERY
def test_it_is_found_by_what_the_bytes_are(name: str, sources: Sources) -> None:
    kind = KINDS[name]
    for declared in (kind.content_type, None, "application/octet-stream", "audio/mpeg; charset=utf-8"):
        splitter = splitter_for(declared, sources[name][:ENOUGH])
        assert type(splitter) is kind.splitter
    assert splitter is not None
    splitter.feed(sources[name])
    assert splitter.content_type == kind.content_type


@EVERY
def test_it_decides_at_the_same_place_whatever_it_saw_before(name: str, sources: Sources) -> None:
    data = sources[name]
    decided = next(size for size in range(0, ENOUGH, 50) if splitter_for(None, data[:size]) is not None)
    assert decided <= 4_000, "a source should not have to wait"
    assert type(splitter_for(None, data[:decided])) is KINDS[name].splitter


@EVERY
def test_all_chunks_together_are_the_input(name: str, sources: Sources) -> None:
    data = sources[name]
    splitter = KINDS[name].splitter()
    chunks = splitter.feed(data)
    tags = getattr(splitter, "tags", 0)
    together = joined(chunks)
    assert len(together) + tags + splitter.held == len(data)
    assert splitter.skipped == 0
    assert splitter.held < 188 * 7
    if not name.startswith("mp4"):  # where references to data are made relative
        assert data[tags:].startswith(together)


@EVERY
def test_the_durations_together_are_the_time_that_passed(name: str, sources: Sources) -> None:
    total = sum(chunk.duration or 0.0 for chunk in split(name, sources[name]))
    assert total == pytest.approx(SECONDS, abs=0.3)


@EVERY
def test_one_can_listen_from_every_key_chunk(name: str, sources: Sources) -> None:
    chunks = split(name, sources[name])
    keys = [nth for nth, chunk in enumerate(chunks) if chunk.key]
    assert len(keys) >= 3
    whole = heard(chunks[keys[0]].header + joined(chunks[keys[0] :]))
    assert whole["sound"] == pytest.approx(SECONDS, abs=0.2)
    for key in (keys[1], keys[len(keys) // 2]):
        before = sum(chunk.duration or 0.0 for chunk in chunks[:key])
        found = heard(chunks[key].header + joined(chunks[key:]))
        assert found["sound"] == pytest.approx(SECONDS - before, abs=0.35)
        if whole["pictures"]:
            assert found["pictures"] == pytest.approx((SECONDS - before) * 25, abs=4)


@EVERY
def test_a_chunk_that_is_no_beginning_has_no_header(name: str, sources: Sources) -> None:
    assert all(not chunk.header for chunk in split(name, sources[name]) if not chunk.key)


@EVERY
@FEW
@given(sizes=st.lists(st.one_of(st.integers(0, 20), st.integers(0, 3_000)), max_size=60))
def test_any_division_gives_the_same_chunks(name: str, sources: Sources, sizes: list[int]) -> None:
    data = sources[name][:60_000]
    splitter = KINDS[name].splitter()
    assert fed(splitter, divided(data, sizes)) == split(name, data)


@EVERY
def test_single_bytes_give_the_same_chunks(name: str, sources: Sources) -> None:
    data = sources[name][:12_000]
    splitter = KINDS[name].splitter()
    assert fed(splitter, (data[at : at + 1] for at in range(len(data)))) == split(name, data)


@EVERY
@FEW
@given(garbage=st.binary(min_size=1, max_size=1_500), where=st.floats(0.2, 0.6), seed=st.integers())
def test_garbage_between_chunks_is_skipped(
    name: str, sources: Sources, garbage: bytes, where: float, seed: int
) -> None:
    data = sources[name]
    chunks = split(name, data)
    begun = next(nth for nth, chunk in enumerate(chunks) if chunk.key)  # without its header it is nothing
    nth = begun + 1 + int((len(chunks) - begun) * where)
    garbage += random.Random(seed).randbytes(len(garbage))
    rest = joined(chunks[nth:])
    spoiled = joined(chunks[:nth]) + garbage + rest + data
    splitter = KINDS[name].splitter()
    found = splitter.feed(spoiled)
    together = joined(found)
    assert together.startswith(joined(chunks[:nth]))
    assert together.endswith(joined(chunks)), "what begins anew after it is whole"
    lost = splitter.skipped - len(garbage)
    if isinstance(splitter, (WebmSplitter, Mp4Splitter)):  # the next cluster or fragment is waited for
        assert lost <= len(rest)
    else:
        assert -3 * 188 <= lost <= 1_500
    tags = getattr(splitter, "tags", 0)
    assert len(together) + splitter.skipped + splitter.held + tags == len(spoiled)


@EVERY
@FEW
@given(
    damage=st.lists(
        st.tuples(
            st.sampled_from(["cut", "double", "flip", "zero", "noise"]),
            st.floats(0, 1),
            st.integers(1, 3_000),
        ),
        min_size=1,
        max_size=6,
    ),
    sizes=st.lists(st.integers(0, 9_000), max_size=20),
)
def test_damage_of_every_kind_neither_depends_on_the_division_nor_loses_count(
    name: str, sources: Sources, damage: list[tuple[str, float, int]], sizes: list[int]
) -> None:
    data = bytearray(sources[name][:50_000])
    for kind, where, length in damage:
        at = int(where * len(data))
        part = bytes(data[at : at + length])
        data[at : at + length] = {
            "cut": b"",
            "double": part + part,
            "flip": bytes(byte ^ 0x55 for byte in part),
            "zero": bytes(len(part)),
            "noise": random.Random(length).randbytes(len(part)),
        }[kind]
    whole, divisible = KINDS[name].splitter(), KINDS[name].splitter()
    chunks = whole.feed(bytes(data))
    assert fed(divisible, divided(bytes(data), sizes)) == chunks
    counted = len(joined(chunks)) + whole.skipped + whole.held + getattr(whole, "tags", 0)
    assert counted == len(data)
    assert (whole.skipped, whole.held) == (divisible.skipped, divisible.held)


@EVERY
@settings(FEW, max_examples=40)
@given(data=st.binary(max_size=4_000), sizes=st.lists(st.integers(0, 400), max_size=30))
def test_any_bytes_at_all_are_taken(name: str, data: bytes, sizes: list[int]) -> None:
    whole, divisible = KINDS[name].splitter(), KINDS[name].splitter()
    assert whole.feed(data) == fed(divisible, divided(data, sizes))
    assert whole.held <= len(data)


@EVERY
def test_noise_for_ever_is_not_kept(name: str, sources: Sources) -> None:
    """After a good beginning, too: what an encoder that went mad sends."""
    noise = random.Random(7)
    splitter = KINDS[name].splitter()
    splitter.feed(sources[name])
    for _ in range(30):
        splitter.feed(noise.randbytes(64 * 1024))
        assert splitter.held < HELD_MOST
    assert splitter.skipped > 20 * 64 * 1024
