"""Who gets a socket, how, what it is told first, and how it ends."""

from __future__ import annotations

import contextlib
import json
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import trio

from tests.chat.client import Client, Rejected, eventually, request
from tests.chat.conftest import SECRET, Build, House, Person
from veza.actors.ports import Connection
from veza.http.refusal import Refused
from veza.http.sockets import chat
from veza.http.sockets.chat import Gate
from veza.security.tokens import AccessTokens


async def rejected(house: House, person: Person | str | None, **how: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of a handshake that must be refused, in the envelope of REST."""
    with pytest.raises(Rejected) as refusal:
        await house.connect(person, **how)
    body = json.loads(refusal.value.body or b"")
    assert body["success"] is False and body["error"] and body["code"] and body["request_id"], body
    return refusal.value.status, body


@pytest.mark.parametrize("way", ["header", "query", "protocol"])
@pytest.mark.parametrize("path", ["/ws/chat", "/ws"])
async def test_a_token_opens_a_socket_and_welcome_comes_first(house: House, way: str, path: str) -> None:
    ann = await house.person()
    client = await house.connect(ann, way=way, path=path)
    assert client.subprotocol == ("veza.v1" if way == "protocol" else None)
    welcome = client.frames[0]
    assert welcome.type == "welcome"
    assert welcome.data["user_id"] == ann.id
    assert welcome.data["username"] == ann.name
    assert welcome.data["protocol"] == "veza.v1"
    assert welcome.data["heartbeat_s"] == 30.0
    assert welcome.data["session_id"]
    assert welcome.data["server_time"].endswith("Z")
    assert welcome.data["conversations"] == []
    await client.pong()


def forged(person: Person, secret: str = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    claims = jwt.decode(person.token, SECRET, algorithms=["HS256"]) | changed
    return jwt.encode(claims, None if algorithm == "none" else secret, algorithm=algorithm)


async def test_what_is_no_access_token_is_refused_before_the_upgrade(house: House) -> None:
    ann, bob = await house.people(2)
    status, body = await rejected(house, None)
    assert (status, body["code"]) == (401, "AUTH_REQUIRED")
    for token in (
        "rubbish",
        ann.token[:-2],
        forged(ann, secret="another secret that is long enough too"),
        forged(ann, algorithm="none"),
        forged(ann, typ="refresh"),
        forged(ann, exp=int(time.time()) - 1),
        forged(ann, user_id=bob.id),  # another's session
        forged(ann, sid="00000000-0000-4000-8000-000000000000"),
        "x" * 5000,
    ):
        for way in ("header", "query") if len(token) < 4000 else ("header",):
            status, body = await rejected(house, token, way=way)
            assert status == 401, body
            assert token not in json.dumps(body)
    assert (await rejected(house, "a.b.c", way="protocol"))[0] == 401
    # None of this counts as a connection, and a good token is as good as before.
    await house.connect(ann)


async def test_origin(house: House) -> None:
    ann = await house.person()
    for origin in ("https://app.example", "https://veza.example"):
        await house.connect(ann, origin=origin)
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://app.example"):
        status, _ = await rejected(house, ann, origin=origin)
        assert status == 403


async def test_one_person_has_so_many_sockets_and_no_more(build: Build) -> None:
    async with build(ws_connections_per_user=2, ws_connections_per_ip=5) as house:
        ann, bob, cleo = await house.people(3)
        first, _ = await house.connect(ann), await house.connect(ann)
        assert (await rejected(house, ann))[0] == 429
        await house.connect(bob)
        # A refused handshake takes no place, and one that ends gives exactly one back.
        for _ in range(3):
            assert (await rejected(house, "rubbish"))[0] == 401
        for _ in range(2):
            await first.aclose()
            first = await connect_once_there_is_room(house, ann)
            assert (await rejected(house, ann))[0] == 429
        await house.connect(bob)
        await house.connect(cleo)
        assert (await rejected(house, cleo))[0] == 429  # the address is full


async def test_a_handshake_that_breaks_off_takes_no_place(build: Build) -> None:
    async with build(ws_connections_per_user=1) as house:
        ann = await house.person()
        head = request(ann.token)
        for sent in (head[:-2], head):
            stream = await trio.open_tcp_stream("127.0.0.1", house.port)
            await stream.send_all(sent)
            await stream.aclose()
        await connect_once_there_is_room(house, ann)


async def connect_once_there_is_room(house: House, person: Person) -> Client:
    """The server notices by itself that somebody has gone."""
    with trio.fail_after(120):
        while True:
            try:
                return await house.connect(person)
            except Rejected as refusal:
                assert refusal.status == 429
                await trio.sleep(0.005)


async def test_silence_is_closed_and_any_byte_is_a_sign_of_life(build: Build) -> None:
    async with build(ws_idle_timeout=600.0, ws_ping_interval=0.05) as house:
        ann, bob = await house.people(2)
        alive = await house.connect(ann)  # answers pings
        silent = await trio.open_tcp_stream("127.0.0.1", house.port)
        await silent.send_all(request(bob.token))
        await eventually(lambda: len(house.app.chat) == 2)
        outlets = {each.user_id: each.outlet for each in connections(house)}
        # Both were heard of last some time ago, one of them too long ago: no machine is so slow.
        long_ago = trio.current_time() - 300.0
        outlets[ann.id].last_received = long_ago
        await eventually(lambda: outlets[ann.id].last_received > long_ago)
        received = b""
        with trio.fail_after(120), contextlib.suppress(trio.BrokenResourceError):  # it ends by a reset
            while b"\x89\x00" not in received:  # pings came
                received += await silent.receive_some()
            outlets[bob.id].last_received = trio.current_time() - 601.0
            async for data in silent:
                received += data
        assert received.endswith(b"\x03\xe8no sign of life")  # then a Close
        assert alive.code is None
        await alive.pong()
        await silent.aclose()


def connections(house: House) -> list[Connection]:
    return [session.connection for session in house.app.chat._sessions]


async def test_a_token_that_runs_out_closes_the_socket(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await house.person()
    tokens = AccessTokens(SECRET, 600.0)
    client, renewing = [
        await house.connect(tokens.issue(ann.id, ann.name, "user", ann.sid)[0]) for _ in range(2)
    ]
    ok = await renewing.ask("auth", "auth_ok", token=ann.token)
    assert ok["expires_at"].endswith("Z")
    await client.pong()
    # Ten minutes go by.
    monkeypatch.setattr(chat, "time", SimpleNamespace(time=lambda: time.time() + 600.0))
    await client.error("AUTH_FAILED")
    assert await client.closed() == 4001
    await renewing.pong()
    assert renewing.code is None


async def test_auth_takes_nothing_but_ones_own_good_token(house: House) -> None:
    ann, bob = await house.people(2)
    client = await house.connect(ann)
    for token in (
        bob.token,
        "rubbish",
        "",
        forged(ann, exp=int(time.time()) - 5),
        forged(ann, typ="refresh"),
        forged(ann, algorithm="none"),
    ):
        await client.refused("AUTH_FAILED", "auth", token=token)
    await client.refused("INVALID_FORMAT", "auth", token=5)
    await client.refused("INVALID_FORMAT", "auth")
    await client.pong()


async def end_session(house: House, person: Person) -> None:
    await house.sql("UPDATE sessions SET revoked_at = now() WHERE id = $1 RETURNING 1", person.sid)
    house.app.services.registry.forget_session(person.sid, person.id)


async def test_an_ended_session_closes_its_sockets_and_no_others(house: House) -> None:
    ann, bob = await house.people(2)
    other = await second_session(house, ann)
    first, second = await house.connect(ann), await house.connect(ann)
    elsewhere, bobs = await house.connect(other), await house.connect(bob)
    await end_session(house, ann)
    assert await first.closed() == 4001
    assert await second.closed() == 4001
    await elsewhere.pong()
    await bobs.pong()
    assert (await rejected(house, ann))[0] == 401
    house.app.services.registry.forget_user(ann.id)  # banned, deleted: all of them
    assert await elsewhere.closed() == 4001
    await bobs.pong()


async def test_a_socket_renewed_by_another_session_lives_and_dies_with_that(house: House) -> None:
    ann = await house.person()
    other = await second_session(house, ann)
    client = await house.connect(ann)
    await client.ask("auth", "auth_ok", token=other)
    await end_session(house, ann)
    await client.pong()
    house.app.services.registry.forget_user(ann.id)
    assert await client.closed() == 4001


async def second_session(house: House, person: Person) -> str:
    rows = await house.sql(
        "INSERT INTO sessions (id, user_id, expires_at) VALUES (gen_random_uuid(), $1, now() + interval '1 day')"
        " RETURNING id",
        person.id,
    )
    return house.app.services.tokens.issue(person.id, person.name, "user", str(rows[0][0]))[0]


async def test_a_revocation_during_the_handshake_is_not_missed(house: House) -> None:
    """Whatever moment a session ends in, its socket does not stay."""
    people = await house.people(30)
    outcomes: list[str] = []

    async def come(person: Person) -> None:
        try:
            client: Client = await house.connect(person, welcome=False)
        except Rejected as refusal:
            assert refusal.status == 401
            outcomes.append("refused")
        else:
            assert await client.closed() == 4001
            outcomes.append("closed")

    async def end(person: Person, after: int) -> None:
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        await end_session(house, person)

    with trio.fail_after(120):
        for i, person in enumerate(people):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(come, person)
                nursery.start_soon(end, person, i * 2)
    assert len(outcomes) == 30


def test_a_whole_ipv6_network_is_one_address_at_the_gate() -> None:
    gate = Gate(per_user=10, per_ip=2)
    gate.enter(1, "2001:db8::1")
    gate.enter(2, "2001:db8::2")
    with pytest.raises(Refused):
        gate.enter(3, "2001:db8::3")
    gate.enter(3, "2001:db8:0:1::3")
    gate.leave(1, "2001:db8::1")
    gate.enter(1, "2001:db8::4")
