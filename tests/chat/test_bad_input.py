"""Whatever a client sends: a clear error in the documented form or the right close, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import random
import struct
from typing import Any
from urllib.parse import quote

import pytest
import trio
from wsproto.events import BytesMessage

from tests.chat.client import Client, eventually, fence
from tests.chat.conftest import Build, House

DEEP = 30_000

MALFORMED = [
    "",
    " ",
    "{",
    "}",
    "null",
    "5",
    '"text"',
    "[]",
    '[{"type":"ping"}]',
    "{}",
    '{"data":{}}',
    '{"type":null}',
    '{"type":5}',
    '{"type":["ping"]}',
    '{"type":"ping",}',
    "{'type':'ping'}",
    '{"type":"ping"} x',
    '{"type":"ping"}{"type":"ping"}',
    '{"type":"ping","data":[]}',
    '{"type":"ping","data":"x"}',
    '{"type":"ping","data":5}',
    '{"type":"ping","data":true}',
    '{"type":"ping","ref":5}',
    '{"type":"ping","ref":{}}',
    '{"type":"ping","ref":"' + "r" * 65 + '"}',
    '{"type":"PING"}',
    '{"type":"ping\\u0000"}',
    '{"type":"ping "}',
    '{"type":"__class__"}',
    '{"type":"' + "t" * 10_000 + '"}',
    '{"type":"ping","data":{"x":NaN}}',
    '{"type":"ping","data":{"x":Infinity}}',
    '{"type":"ping","data":{"x":01}}',
    '{"type":"ping","x":"\\ud800"}',
    '{"type":"\\udfff"}',
    '{"type":"ping","x":"\t"}',
    "\ufeff" + '{"type":"ping"}',
    "[" * DEEP,
    "[" * DEEP + "]" * DEEP,
    '{"type":"ping","x":' + "[" * 20_000 + "]" * 20_000 + "}",
    '{"a":' * 9_000 + "1" + "}" * 9_000,
    '{"type":"join_room","data":' + '{"a":' * 8_000 + "1" + "}" * 8_000 + "}",
    '{"type":"join_room","data":{"room":1e999}}',
    '{"type":"join_room","data":{"room":' + "9" * 5_000 + "}}",
    '{"type":"join_room","data":{"room":-1}}',
    '{"type":"join_room","data":{"room":1.0}}',
    '{"type":"join_room","data":{"room":true}}',
    '{"type":"join_room","data":{"room":["general"]}}',
    '{"type":"join_room","data":{"room":{"id":1}}}',
    '{"type":"join_room","data":{"room":"' + "x" * 201 + '"}}',
    '{"type":"join_room","data":{"room":"\\ud83d"}}',
    '{"type":"join_room","data":{"with_user":"1"}}',
    '{"type":"join_room","data":{"room":"general","since_seq":-1}}',
    '{"type":"join_room","data":{"room":"general","since_seq":1.5}}',
    '{"type":"join_room","data":{"room":"general","since_seq":9223372036854775808}}',
    '{"type":"join_room","data":{"room":"general","since_rev":"0"}}',
    '{"type":"room_message","data":{"content":"x"}}',
    '{"type":"room_message","data":{"room":"general"}}',
    '{"type":"room_message","data":{"room":"general","content":null}}',
    '{"type":"room_message","data":{"room":"general","content":5}}',
    '{"type":"room_message","data":{"room":"general","content":"x","reply_to":1.5}}',
    '{"type":"room_message","data":{"room":"general","content":"x","duration":"1"}}',
    '{"type":"room_message","data":{"room":"general","content":"x","duration":1e999}}',
    '{"type":"room_message","data":{"room":"general","content":"x","nonce":5}}',
    '{"type":"direct_message","data":{"to_user_id":"x","content":"x"}}',
    '{"type":"edit_message","data":{"content":"x"}}',
    '{"type":"edit_message","data":{"id":"1","content":"x"}}',
    '{"type":"delete_message","data":{"id":1e3}}',
    '{"type":"add_reaction","data":{"id":1}}',
    '{"type":"add_reaction","data":{"id":1,"emoji":5}}',
    '{"type":"pin_message"}',
    '{"type":"mark_read","data":{"room":"general"}}',
    '{"type":"set_presence"}',
    '{"type":"auth","data":{"token":null}}',
    '{"type":"message_batch"}',
    '{"type":"message_batch","data":{"messages":{}}}',
]


async def test_what_is_no_frame_is_an_error_and_the_socket_goes_on(house: House) -> None:
    client = await house.connect(await house.person())
    for text in MALFORMED:
        await client.text(text)
        error = await client.error("INVALID_FORMAT")
        assert len(error.raw) < 1000, text[:80]  # we do not echo what we were sent
        assert "Traceback" not in error.raw and "msgspec" not in error.raw
    await client.pong()
    assert len(client.seen("error")) == len(MALFORMED)


async def test_an_error_carries_the_ref_wherever_it_could_be_read(house: House) -> None:
    client = await house.connect(await house.person())
    for i, frame in enumerate(
        (
            {"type": "nonsense"},
            {"type": "ping", "data": 5},
            {"type": "room_message", "data": {"room": [], "content": 1}},
            {"type": "room_message", "room": "no such room", "content": "x"},
            {"type": "message_batch", "data": {"messages": 1}},
        )
    ):
        await client.text(json.dumps(frame | {"ref": f"r{i} 👋"}))
        await client.next(lambda f, i=i: f.type == "error" and f.data.get("ref") == f"r{i} 👋", "an error")  # type: ignore[misc]


async def test_text_of_every_script_is_as_good_as_any(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob, name=f"غرفة 🎸 {ann.id}")
    a, b = await house.enter(ann, room.name or ""), await house.enter(bob, room.id)
    for text in (
        "مرحبا بالعالم ‏(RTL)‎",
        "\u202eright to left override\u202c",
        "👨‍👩‍👧‍👦🏳️‍🌈🇫🇷👋🏽",
        "Z̸̡̙͕a̵l̶g̷o̴",
        "日本語 한국어 中文",
        "𐀀\U0010ffff\uffff\ufffe",
        "<script>alert('x')</script> &amp; \"quoted\" \\ \\u0000 %00 ${x} {{x}}",
        "\u200b\u2060\ufeffinvisible",
        "\u2028\u2029 separators",
    ):
        await a.say(room.id, text)
        assert (await b.expect("room_message"))["content"] == text.strip()
    rows = await house.sql("SELECT count(*) FROM messages WHERE room_id = $1", room.id)
    assert rows[0][0] == 9


SQL = [
    "'; DROP TABLE messages; --",
    "' OR '1'='1",
    "1; SELECT pg_sleep(10)",
    "\\'; DELETE FROM users; --",
    "$1",
    "%s%s%n",
    "{1,2}",
    '{"a"}',
    "NULL",
    "E'\\\\000'",
    "general' --",
]


async def test_sql_in_every_field(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
    for sql in SQL:
        ack = await a.say(room.id, sql, nonce=sql, media_url=f"https://x/{quote(sql)}", media_type=sql)
        frame = await b.expect("room_message")
        assert (frame["content"], frame["nonce"], frame["media_type"]) == (sql, sql, sql)
        await a.ask_frame("edit_message", "message_edited", id=ack["id"], content=sql + "!")
        await a.refused("ROOM_NOT_FOUND", "join_room", room=sql)
        await a.refused("ROOM_NOT_FOUND", "room_message", room=sql, content=sql)
        await a.refused("ROOM_NOT_FOUND", "room_history", room=sql)
        await a.refused("INVALID_FORMAT", "add_reaction", id=ack["id"], emoji=sql)
        await a.refused("INVALID_FORMAT", "room_message", room=room.id, content="x", message_type=sql)
        await a.refused("INVALID_FORMAT", "set_presence", status=sql)
        await a.refused("AUTH_FAILED", "auth", token=sql)
        await a.send("set_presence", status="away", text=sql)
        assert (await b.expect("presence"))["text"] == sql
        for kind, field in (
            ("direct_message", "to_user_id"),
            ("dm_history", "with_user"),
            ("mark_read", "seq"),
            ("delete_message", "id"),
            ("room_history", "limit"),
            ("room_history", "before_seq"),
            ("join_room", "since_seq"),
        ):
            await a.refused("INVALID_FORMAT", kind, **({"room": room.id, "content": "x"} | {field: sql}))
    rows = await house.sql("SELECT last_seq FROM rooms WHERE id = $1", room.id)
    assert rows[0][0] == len(SQL)


def text_frame(
    payload: bytes, *, fin: bool = True, opcode: int = 1, masked: bool = True, rsv: int = 0
) -> bytes:
    """One client frame (RFC 6455, 5.2), right or wrong; the mask is all zeros."""
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


def padded(size: int, letter: str = "x") -> bytes:
    """A ping of so many bytes."""
    empty = json.dumps({"type": "ping", "x": ""}).encode()
    room, width = size - len(empty), len(letter.encode())
    filling = letter * (room // width) + "x" * (room % width)
    return json.dumps({"type": "ping", "x": filling}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (1003, BytesMessage(b'{"type":"ping"}')),
        (1003, BytesMessage(b"")),
        (1007, text_frame(b'{"type":"ping","x":"\xff"}')),
        (1007, text_frame(b"\xc3")),
        (1007, text_frame(b"\xed\xa0\x80")),  # a surrogate in UTF-8
        (1007, text_frame(b'{"type":"\xe2', fin=False) + text_frame(b'ping"}', opcode=0)),
        (1009, text_frame(padded(64 * 1024 + 1))),
        (1009, text_frame(padded(64 * 1024 + 3, "é"))),  # counted in bytes
        (1009, b"\x81\xff" + struct.pack("!Q", 2**62)),  # known from its head alone
        (1009, b"".join(text_frame(b" " * 30_000, fin=False, opcode=int(i == 0)) for i in range(3))),
        (1002, text_frame(b"{}", masked=False)),
        (1002, text_frame(b"{}", rsv=0x40)),
        (1002, text_frame(b"{}", opcode=3)),
        (1002, text_frame(b"{}", opcode=0)),  # continues nothing
        (1002, text_frame(b"x" * 126, opcode=9)),  # a control frame too long
        (1002, text_frame(b"x", opcode=9, fin=False)),
        (1002, text_frame(b"{", fin=False) + text_frame(b"}")),
        (1002, text_frame(b"\x03", opcode=8)),
    ],
    ids=lambda sent: repr(sent)[:50] if not isinstance(sent, int) else str(sent),
)
async def test_what_the_socket_itself_does_not_bear(house: House, code: int, sent: Any) -> None:
    ann, bob = await house.people(2)
    client, other = await house.connect(ann), await house.connect(bob)
    if isinstance(sent, bytes):
        await client.raw(sent)
    else:
        await client.event(sent)
    assert await client.closed() == code
    await other.pong()
    await eventually(lambda: len(house.app.chat) == 1)


async def test_the_largest_frame_there_may_be(house: House) -> None:
    client = await house.connect(await house.person())
    for letter in ("x", "é", "👋"):
        await client.raw(text_frame(padded(64 * 1024, letter)))
        await client.expect("pong")
    pieces = padded(64 * 1024)
    for i in range(0, len(pieces), 10_000):  # in fragments
        end = i + 10_000 >= len(pieces)
        await client.raw(text_frame(pieces[i : i + 10_000], fin=end, opcode=int(i == 0)))
    await client.expect("pong")
    for byte in text_frame(b'{"type":"ping"}'):  # and byte by byte
        await client.raw(bytes([byte]))
    await client.expect("pong")


async def test_a_frame_limit_of_our_own(build: Build) -> None:
    async with build(ws_frame_limit=2000) as house:
        ann = await house.person()
        client = await house.connect(ann)
        await client.raw(text_frame(padded(2000)))
        await client.expect("pong")
        await client.raw(text_frame(padded(2001)))
        assert await client.closed() == 1009


NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 50, 101, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 1.5, -0.0, 1e300,
    "", "x", "5", "0", "-1", "general", "\x00", "\n", "a\x7fb", "👍", "👍👍", "\u202e", "é" * 50, "x" * 5000,
    "'; DROP TABLE users; --", "@everyone", "true", "null", "https://x", "online", "invisible", "@@LONE@@",
    [], {}, [1], [[]], {"a": {"b": [None]}}, [{"type": "ping"}], {"type": "ping"},
]  # fmt: skip
FIELDS = [
    "room", "with_user", "with", "to_user_id", "to", "content", "message_type", "media_url",
    "media_type", "duration", "reply_to", "nonce", "limit", "offset", "before_seq", "after_seq",
    "since_seq", "since_rev", "id", "emoji", "is_typing", "seq", "status", "text", "token",
]  # fmt: skip
TYPES = [
    "join_room", "join", "leave_room", "leave", "room_message", "message", "direct_message", "dm",
    "room_history", "dm_history", "ping", "message_batch", "edit_message", "delete_message",
    "add_reaction", "remove_reaction", "pin_message", "unpin_message", "typing", "mark_read",
    "set_presence", "auth",
]  # fmt: skip
SILENT = {"typing", "mark_read", "set_presence"}  # no acknowledgement is promised
TOLD = {  # answered by what everybody hears, which carries no ref
    "edit_message": "message_edited",
    "delete_message": "message_deleted",
    "add_reaction": "reaction_updated",
    "remove_reaction": "reaction_updated",
    "pin_message": "message_pinned",
    "unpin_message": "message_unpinned",
}


class Fuzzer:
    """Frames of every shape, most of them nearly right."""

    def __init__(self, seed: int, rooms: list[Any], people: list[int], messages: list[int]) -> None:
        self.dice = random.Random(seed)
        self.good: dict[str, list[Any]] = {
            "room": rooms,
            "with_user": people,
            "with": people,
            "to_user_id": people,
            "to": people,
            "content": ["hello", "@general", "x" * 4000, " y "],
            "message_type": ["text", "audio"],
            "reply_to": messages,
            "id": messages,
            "emoji": ["👍", "🎸", "❤️"],
            "status": ["online", "away", "busy", "invisible"],
            "seq": [0, 1, 5],
            "since_seq": [0, 1, 100],
            "since_rev": [0, 1],
            "limit": [1, 50, 100],
            "is_typing": [True, False],
            "nonce": ["n", "m"],
            "duration": [1, 1.5],
        }

    def frame(self, ref: str) -> tuple[str, str, list[str]]:
        """(type, text, types of the batch in it) of one frame."""
        dice = self.dice
        kind = dice.choice(TYPES)
        data: dict[str, Any] = {}
        for name in FIELDS:
            chance = dice.random()
            if name in self.good and chance < 0.75:
                data[name] = dice.choice(self.good[name])
            elif chance > 0.97:
                data[name] = dice.choice(NASTY)
        if dice.random() < 0.15:
            data[dice.choice(FIELDS)] = dice.choice(NASTY)
        inner: list[str] = []
        if kind == "message_batch":
            frames = [self.frame(f"{ref}.{i}") for i in range(dice.randrange(4))] if "." not in ref else []
            data["messages"] = [json.loads(text.replace("\\ud800", "x")) for _, text, _ in frames]
            inner = [each for each, _, _ in frames]
        frame: dict[str, Any] = {"type": kind, "ref": ref}
        if dice.random() < 0.7:
            frame["data"] = data
        else:
            frame = data | frame
        text = json.dumps(frame, ensure_ascii=dice.random() < 0.5)
        return kind, text.replace("@@LONE@@", "\\ud800"), inner


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_frame_of_any_shape_breaks_anything_or_goes_unanswered(build: Build, seed: int) -> None:
    async with build(ws_frame_limit=1 << 20) as house:
        ann, bob, eve = await house.people(3)
        public, quiet = await house.room(ann, bob), await house.room(bob)
        private = await house.room(ann, eve, kind="private")
        a, b, e = (
            await house.enter(ann, public.id),
            await house.enter(bob, public.id),
            await house.connect(eve),
        )
        said = [(await b.say(public.id, f"m{i}"))["id"] for i in range(8)]
        secret = (await a.say(private.id, "secret"))["id"]
        fuzzer = Fuzzer(
            seed,
            [public.name, public.id, quiet.name, private.id, private.name, "nowhere", 2**60],
            [ann.id, eve.id, 2**60],
            [*said, secret, 0, 2**60],
        )
        kinds: dict[str, str] = {}  # of what must be answered, by ref
        unreadable = 0
        with trio.fail_after(120):
            for i in range(500):
                kind, text, inner = fuzzer.frame(f"f{i}")
                if "\\ud800" in text:
                    unreadable += 1  # no JSON, so the ref is not read either
                elif inner:
                    kinds |= {f"f{i}.{n}": each for n, each in enumerate(inner)}
                else:
                    kinds[f"f{i}"] = kind
                await b.text(text)
                if i % 50 == 49:
                    await b.pong()
            await b.join(public.id)
            await fence(b, public.id, a, b)
            await b.pong()

            def unanswered() -> dict[str, str]:
                answered = {f.data["ref"] for f in b.frames if isinstance(f.data.get("ref"), str)}
                return {ref: kind for ref, kind in kinds.items() if ref not in answered}

            def untold() -> dict[str, int]:
                """How many of what is answered by telling everybody were not told, or too often."""
                waiting = list(unanswered().values())
                return {
                    kind: missing
                    for kind in set(TOLD.values())
                    if (missing := sum(TOLD.get(each) == kind for each in waiting) - len(b.seen(kind)))
                }

            with contextlib.suppress(trio.TooSlowError):  # other rooms answer when they do
                await eventually(lambda: set(unanswered().values()) <= SILENT | set(TOLD) and not untold())
            assert not {r: kind for r, kind in unanswered().items() if kind not in SILENT | set(TOLD)}
            assert not untold()
            assert len([f for f in b.seen("error") if "ref" not in f.data]) == unreadable
            codes = {f["code"] for f in b.seen("error")}
            assert codes >= {"INVALID_FORMAT", "ROOM_NOT_FOUND", "MESSAGE_NOT_FOUND", "USER_NOT_FOUND"}
            assert "INTERNAL" not in codes and "UNAVAILABLE" not in codes
            await e.pong()
        assert house.app.core.system.inspect().failures == 0
        assert a.code is None and b.code is None
        # What is not for him has not changed, and nobody was sent what is none of his business.
        row = (await house.sql("SELECT content, rev FROM messages WHERE id = $1", secret))[0]
        assert tuple(row) == ("secret", 0)
        assert not any("secret" in f.raw for f in b.frames)
        assert not any(f.data.get("room_id") == private.id for f in b.frames)
        rows = await house.sql("SELECT seq FROM messages WHERE room_id = $1 ORDER BY seq", public.id)
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))


async def test_frames_after_the_close_are_nobodys_business(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)

    def said(text: str) -> bytes:
        return text_frame(
            json.dumps({"type": "room_message", "data": {"room": room.id, "content": text}}).encode()
        )

    await a.raw(said("before") + text_frame(struct.pack("!H", 1000), opcode=8) + said("after"))
    assert await a.closed() == 1000
    await b.expect("room_message", content="before")
    await fence(b, room.id)
    assert not b.seen("room_message", content="after")


async def test_half_a_frame_and_a_reset_disturb_nobody(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    b = await house.enter(bob, room.id)
    clients: list[Client] = []
    whole = text_frame(
        json.dumps({"type": "room_message", "data": {"room": room.id, "content": "cut"}}).encode()
    )
    for cut in (1, 2, 5, 7, 20, len(whole) - 1):
        a = await house.enter(ann, room.id)
        await a.raw(whole[:cut])
        await a.drop()
        clients.append(a)
    await eventually(lambda: len(house.app.chat) == 1)
    await fence(b, room.id)
    assert not b.seen("room_message", content="cut")
    assert house.app.core.system.inspect().failures == 0
