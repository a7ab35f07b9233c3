"""All one's data as a zip: what is in it and what is not, and that a half one never looks whole."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from tests.accounts.leaving.test_leaving import Scene, comes, set_scene
from tests.chat.conftest import House, Person
from tests.live.conftest import Air
from veza.db import export
from veza.db.errors import Unavailable
from veza.http.api import exporting

PATH = "/users/me/export"


@asynccontextmanager
async def asking(house: House, person: Person) -> AsyncIterator[httpx.Response]:
    headers = {"Authorization": f"Bearer {person.token}"}
    base = f"http://127.0.0.1:{house.port}/api/v1"
    async with (
        httpx.AsyncClient(base_url=base, timeout=60, headers=headers) as client,
        client.stream("GET", PATH) as answer,
    ):
        yield answer


async def exported(house: House, person: Person) -> zipfile.ZipFile:
    async with asking(house, person) as answer:
        body = await answer.aread()
        assert answer.status_code == 200, body
        assert answer.headers["content-type"] == "application/zip"
        assert f"veza-{person.name}-" in answer.headers["content-disposition"]
    found = zipfile.ZipFile(io.BytesIO(body))
    assert found.testzip() is None
    return found


def lines(found: zipfile.ZipFile, name: str) -> list[Any]:
    return [json.loads(line) for line in found.read(f"{name}.jsonl").splitlines()]


async def test_all_of_ones_own_and_nothing_else(air: Air) -> None:
    s: Scene = await set_scene(air)
    house, leaver = air.house, s.leaver
    me = await house.enter(leaver, s.rooms["kept"])
    friend = await house.enter(s.friend, s.rooms["guest"])
    await me.say(s.rooms["kept"], "said by me")
    await me.write(s.friend.id, "a letter of mine")
    await friend.write(leaver.id, "a secret of theirs")
    stream = await air.stream(owner=leaver)
    await s.sql("UPDATE two_factor SET secret = 'topsecret' WHERE user_id = $1", leaver.id)
    await s.sql(
        """UPDATE offers SET status = 'countered', countered_at = now(), counter_amount_cents = 1,
               message = CASE WHEN buyer_id = $1 THEN 'mine' ELSE 'words of theirs' END,
               counter_message = CASE WHEN seller_id = $1 THEN 'mine too' ELSE 'words of theirs' END
           WHERE $1 IN (buyer_id, seller_id)""",
        leaver.id,
    )
    found = await exported(house, leaver)

    names = set(found.namelist())
    assert {"README.txt", "profile.json", *(f"{section.name}.jsonl" for section in export.SECTIONS)} <= names
    profile = json.loads(found.read("profile.json"))
    assert (profile["username"], profile["first_name"], profile["second_factor"]) == (
        leaver.name,
        f"Zebulon{leaver.id}",
        False,
    )
    assert [m["content"] for m in lines(found, "messages")] == ["said by me", "a letter of mine"]
    assert {r["id"] for r in lines(found, "rooms") if r["own"]} >= {s.rooms["kept"], s.rooms["alone"]}
    assert {r["role"] for r in lines(found, "rooms") if r["id"] == s.rooms["guest"]} == {"member"}
    assert [c["user_id"] for c in lines(found, "conversations")] == [s.friend.id]
    for name in (
        "likes",
        "reposts",
        "comments",
        "plays",
        "playlists",
        "following",
        "followers",
        "mutes",
        "blocks",
    ):
        assert len(lines(found, name)) == 1, name
    for name in ("preferences", "sessions", "reports", "sanctions", "favorites", "notifications", "uploads"):
        assert len(lines(found, name)) == 1, name
    offers = {o["direction"]: (o["message"], o["counter_message"]) for o in lines(found, "offers")}
    assert offers == {"sent": ("mine", None), "received": (None, "mine too")}
    assert stream.slug in [shown["slug"] for shown in lines(found, "streams")]
    (track,) = lines(found, "tracks")
    assert found.read(f"tracks/{track['id']}-a_tune.mp3") == b"x"
    (listing,) = lines(found, "listings")
    assert listing["description"] == f"call Zebulon{leaver.id}"
    # What names a file that is not there does not end it.
    assert found.read("missing.txt").decode().split() == ["avatar.webp", f"listings/{listing['id']}/1.webp"]

    text = "".join(found.read(name).decode() for name in names if name.endswith((".json", ".jsonl")))
    hashed = (await s.sql("SELECT password_hash FROM users WHERE id = $1", leaver.id))[0][0]
    for secret in (
        hashed,
        "argon2",
        "topsecret",
        stream.key,
        "key_hash",
        leaver.token,
        "a secret of theirs",
        "words of theirs",
    ):
        assert secret not in text, secret
    assert {word for word in text.split('"') if "@" in word} == {f"{leaver.name}@example.org"}


async def test_somebody_with_nothing_and_somebody_whose_things_change(air: Air) -> None:
    house = air.house
    nobody, writer, other = await house.people(3)
    empty = await exported(house, nobody)
    assert json.loads(empty.read("profile.json"))["id"] == nobody.id
    assert [section.name for section in export.SECTIONS if lines(empty, section.name)] == ["sessions"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}/api/v1", timeout=60) as stranger:
        assert (await stranger.get(PATH)).status_code == 401

    room = await house.room(writer, other)
    many = 3 * export.PAGE
    await house.sql(
        """WITH said AS (INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
                         SELECT $1, n, $2, 'n' || n, 'message ' || n, now() FROM generate_series(1, $3) n)
           UPDATE rooms SET last_seq = $3 WHERE id = $1""",
        room.id,
        writer.id,
        many,
    )
    sockets = [await house.enter(person, room.id) for person in (writer, other)]
    finished = trio.Event()

    async def talk(number: int) -> None:
        count = 0
        while not finished.is_set():
            await sockets[number].say(room.id, f"meanwhile {number} {count}")
            count += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, 0)
        nursery.start_soon(talk, 1)
        found = await exported(house, writer)
        finished.set()
    said = [message["content"] for message in lines(found, "messages")]
    assert len(said) == len(set(said))
    assert {f"message {n}" for n in range(1, many + 1)} <= set(said)
    assert not any(content.startswith("meanwhile 1") for content in said)


async def test_a_client_that_leaves_or_waits_holds_nothing_up(air: Air) -> None:
    house = air.house
    exports = house.app.services.exports
    library = house.app.services.library
    people = await house.people(3)
    for person in people:
        await house.sql(
            """INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status)
               VALUES ($1, $2, 'long', 'wav', 'audio/wav', 1, 'ready')""",
            person.id,
            f"long-{person.id}",
        )
        original = library.original(f"long-{person.id}", "wav")
        original.parent.mkdir(parents=True)
        with original.open("wb") as file:
            file.truncate(1 << 30)  # a gibibyte that takes no room: nobody reads to its end

    async def free() -> bool:
        return exports.running == 0 and exports.limiter.borrowed_tokens == 0

    async with asking(house, people[0]) as first:
        some = first.aiter_bytes()  # kept: an iterator that ends closes the connection
        await anext(some)
        async with asking(house, people[0]) as again:
            assert again.status_code == 409
            assert json.loads(await again.aread())["code"] == "EXPORT_RUNNING"
        async with asking(house, people[1]) as second:
            more = second.aiter_bytes()
            await anext(more)
            async with asking(house, people[2]) as third:
                assert (third.status_code, int(third.headers["retry-after"])) == (503, 60)
            # They read nothing: nothing gathers for them, and others are served.
            assert exports.running == 2
            assert (await house.sql("SELECT 1"))[0][0] == 1
    await comes(free)
    for _ in range(4):
        async with asking(house, people[0]) as answer:
            assert answer.status_code == 200
        await comes(free)
    async with asking(house, people[0]) as answer:
        assert answer.status_code == 429  # five a day


async def test_who_reads_a_byte_now_and_then_keeps_no_place(autojump_clock: trio.abc.Clock) -> None:
    piece = bytes(exporting.PIECE)

    async def read(seconds: float, pieces: int) -> None:
        async def emit(data: bytes) -> None:
            await trio.sleep(seconds)

        send = exporting.paced(emit)
        for _ in range(pieces):
            await send(piece)

    await read(1.9, 5000)  # a slow line, for hours
    await read(100, 1)  # one that stumbles
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await read(20, 5000)
    assert trio.current_time() - began < 200
    with pytest.raises(trio.TooSlowError):
        await read(3600, 1)


@pytest.mark.parametrize("how", ["the database", "a logout"])
async def test_what_ends_midway_never_looks_whole(
    air: Air, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    house = air.house
    person = await house.person()
    real = export.page

    async def page(conn: Any, section: export.Section, user_id: int, after: Any) -> export.Page:
        if section.name == "streams" and user_id == person.id and how == "the database":
            raise Unavailable("gone")
        if section.name == "tracks" and user_id == person.id and how == "a logout":
            await conn.execute("UPDATE sessions SET revoked_at = now() WHERE user_id = $1", user_id)
            house.app.services.registry.forget_user(user_id)
        return await real(conn, section, user_id, after)

    monkeypatch.setattr(export, "page", page)
    body = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with asking(house, person) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                body += piece
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(body))
    assert house.app.services.exports.running == 0
