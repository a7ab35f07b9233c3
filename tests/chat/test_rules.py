"""What may be said, and the small states a room is made of: pure code, so hypothesis looks for what breaks it."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.actors import rules
from veza.actors.commands import Person
from veza.actors.errors import Refused
from veza.actors.ring import Ring
from veza.actors.roster import Roster
from veza.db.rooms import Loaded, Member, Room

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "next", "jump", "again", "replace", "clear"]), st.integers(0, 40)
    )
)


@given(steps=STEPS, messages=st.integers(1, 8), size=st.integers(1, 120))
def test_the_ring_is_bounded_gapless_and_replays_exactly(
    steps: list[tuple[str, int]], messages: int, size: int
) -> None:
    ring = Ring(messages, size)
    model: dict[int, bytes] = {}  # everything since it was begun anew
    last = 0
    for step, n in steps:
        match step:
            case "replace":
                seq = last - n % 10  # one of the last, held or not
                ring.replace(seq, b"r" * n)
                if seq in model:
                    model[seq] = b"r" * n
            case "clear":
                ring.clear()
                model.clear()
            case _:
                last += {"next": 1, "jump": 2 + n, "again": 0}[step]
                if step != "next":
                    model.clear()
                model[last] = b"%d" % last + b"." * n
                ring.append(last, model[last])
        assert len(ring) <= messages
        assert ring.size <= size
        held = [] if ring.first is None else list(range(ring.first, last + 1))
        assert len(ring) == len(held)
        assert ring.size == sum(len(model[seq]) for seq in held)
        for since in range(max(0, last - 10), last):
            expected = [model[seq] for seq in range(since + 1, last + 1)] if since + 1 in held else None
            assert ring.after(since, last) == expected
        assert ring.after(last, last) == []


TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.text(
    "@ab ._\r\n\t\x00\x85\u2028/7٣é", max_size=60
)


@given(TEXT)
def test_what_is_said_is_trimmed_plain_and_not_changed_otherwise(text: str) -> None:
    try:
        said = rules.content(text)
    except Refused as refusal:
        assert refusal.code == "INVALID_FORMAT"
        assert not text.strip() or any(unicodedata.category(c) == "Cc" for c in text)
        return
    assert said == said.strip() == text.replace("\r\n", "\n").strip() != ""
    assert {c for c in said if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert rules.content(said) == said


def test_how_much_may_be_said() -> None:
    assert rules.content("  " + "é" * 4000 + "\n") == "é" * 4000
    with pytest.raises(Refused) as caught:
        rules.content("x" * 4001)
    assert (caught.value.code, caught.value.details["limit"]) == ("MESSAGE_TOO_LONG", 4000)


@given(TEXT)
def test_a_rooms_name_is_of_one_form(text: str) -> None:
    try:
        name = rules.room_name(text)
    except Refused:
        return
    assert 1 <= len(name) <= 50 and not name.isdecimal() and "/" not in name and name == name.strip()
    assert name == unicodedata.normalize("NFC", name) == rules.room_name(name)
    assert name.isprintable() or not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name)


@pytest.mark.parametrize("text", ["\u3164", "\u2800 \u2800", "\u200d\ufe0f", "\u115f"])
def test_what_cannot_be_seen_is_no_name(text: str) -> None:
    assert not rules.shows(text)
    with pytest.raises(Refused):
        rules.room_name(text)


@pytest.mark.parametrize("text", ["a", "\U0001f469\u200d\U0001f3a4", "❤\ufe0f", "ㅎ", "\u0903", "…"])
def test_what_can_be_seen_is_one(text: str) -> None:
    assert rules.shows(text) and rules.room_name(text) == text


@given(TEXT)
def test_nonces_come_back_as_they_were_and_ours_are_never_shown(text: str) -> None:
    try:
        nonce = rules.nonce(text)
    except Refused:
        assert not 1 <= len(text) <= 64 or any(unicodedata.category(c) == "Cc" for c in text)
        return
    assert nonce == text == rules.shown_nonce(nonce)


def test_nonces_of_ours() -> None:
    ours = {rules.own_nonce() for _ in range(1000)}
    assert len(ours) == 1000
    assert {rules.shown_nonce(nonce) for nonce in ours} == {None}
    for nonce in ours:
        with pytest.raises(Refused):  # so no client can guess one and have it taken for his
            rules.nonce(nonce)


@given(
    st.lists(st.from_regex(r"[A-Za-z0-9_éß名]{1,50}", fullmatch=True), max_size=5),
    st.sampled_from([" ", "\n", "، ", "!? "]),
)
def test_everybody_named_is_mentioned(names: list[str], between: str) -> None:
    assert rules.mentioned(between.join(f"@{name}" for name in names)) == {name.lower() for name in names}


@pytest.mark.parametrize("text", ["ann@example.org", "@", "@@ann", "a@b", "no one", ""])
def test_what_is_no_mention(text: str) -> None:
    assert rules.mentioned(text) == set()


@pytest.mark.parametrize("emoji", ["👍", "👍🏽", "❤️", "🏳️‍🌈", "👩‍👩‍👧‍👦", "🇫🇷", "1️⃣", "#⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "©️"])
def test_one_emoji_of_any_kind(emoji: str) -> None:
    assert rules.emoji(emoji) == emoji


@pytest.mark.parametrize(
    "text", ["", " ", "a", "1", "#", "👍👍", "👍 ", "🇫", "🇫🇷🇩🇪", "e\u0301", "👍" + "\u200d👩" * 20]
)
def test_what_is_not_one_emoji(text: str) -> None:
    with pytest.raises(Refused):
        rules.emoji(text)


@given(st.floats())
def test_durations(seconds: float) -> None:
    try:
        assert rules.duration(seconds) == seconds
        assert 0 <= seconds <= 1e7
    except Refused:
        assert not 0 <= seconds <= 1e7


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "", "ftp://x", "https://x\n", "https://" + "x" * 2000]
)
def test_media_urls_that_are_none(url: str) -> None:
    with pytest.raises(Refused):
        rules.media_url(url)


def roster(*names: str) -> Roster:
    """Members 1, 2, … of these names."""
    room = Room(1, "public", "r", None, None, None, 60, 0, 0, len(names), datetime.now(UTC))
    return Roster(Loaded(room, [Member(i, name, "member", 0) for i, name in enumerate(names, 1)], []))


def test_a_refused_post_lifts_its_own_pause_and_no_other() -> None:
    members, ann = roster("ann"), Person(1, "ann")
    members.slow_down(ann, 60, 100.0, "a")
    members.take_back(1, "an older one")
    with pytest.raises(Refused):
        members.slow_down(ann, 60, 101.0, "b")
    members.take_back(1, "a")
    members.slow_down(ann, 60, 101.0, "b")
    # The same nonce twice, one refused (it answers nothing), one stored: the pause after that stays.
    members.slow_down(ann, 60, 101.1, "b")
    members.take_back(1, "b")
    with pytest.raises(Refused):
        members.slow_down(ann, 60, 102.0, "c")
    members.take_back(1, "b")
    members.slow_down(ann, 60, 102.0, "c")


def test_people_who_exchange_their_names_are_mentioned_by_the_new_ones() -> None:
    members = roster("ann", "bob")
    members.rename(1, "bob")  # bob is zoe by now, but news of ann came first
    members.rename(2, "zoe")
    assert members.mentions("@bob") == [1] and members.mentions("@zoe") == [2]
    assert members.mentions("@ann") is None
    members.drop(2)
    assert members.mentions("@bob @zoe") == [1]
