"""Refresh tokens: one use each, a minute's grace for races and lost replies, and theft ends the session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.api.conftest import Answer, Api, Person
from veza.db.pool import Database

REFRESH = "/auth/refresh"
Pass = Callable[[float], Awaitable[None]]


async def refresh(api: Api, token: str) -> Answer:
    return await api.post(REFRESH, {"refresh_token": token})


@pytest.fixture
def age(db: Database) -> Pass:
    """Make everything that happened to refresh tokens so far happen some seconds earlier."""

    async def unit(conn: Any, seconds: float) -> None:
        await conn.execute(
            """UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => $1),
               revoked_at = revoked_at - make_interval(secs => $1)""",
            seconds,
        )

    async def pass_(seconds: float) -> None:
        await db.write(unit, seconds)

    return pass_


async def alive(api: Api, person: Person) -> bool:
    return (await api.get("/auth/me", token=person.token)).status == 200


async def test_a_refresh_gives_a_new_pair_in_the_same_session(api: Api) -> None:
    person = await api.person()
    answer = await refresh(api, person.refresh_token)
    assert answer.status == 200
    assert answer.data["refresh_token"] != person.refresh_token
    assert answer.json["refresh_token"] == answer.data["refresh_token"]
    assert answer.json["token_type"] == "Bearer"
    assert (await api.get("/auth/me", token=answer.data["access_token"])).status == 200
    sessions = (await api.get("/auth/sessions", token=answer.data["access_token"])).data["sessions"]
    assert len(sessions) == 1


async def test_a_chain_of_refreshes(api: Api) -> None:
    token = (await api.person()).refresh_token
    for _ in range(5):
        token = (await refresh(api, token)).data["refresh_token"]
    assert (await refresh(api, token)).status == 200


async def test_a_lost_reply_is_repeated_within_the_grace(api: Api) -> None:
    person = await api.person()
    lost = (await refresh(api, person.refresh_token)).data["refresh_token"]
    again = await refresh(api, person.refresh_token)
    assert again.status == 200
    # The successor nobody received is dropped, the one granted now goes on.
    assert (await refresh(api, lost)).status == 401
    assert (await refresh(api, again.data["refresh_token"])).status == 200
    assert await alive(api, person)


async def test_the_grace_ends_once_the_successor_was_used(api: Api) -> None:
    person = await api.person()
    second = (await refresh(api, person.refresh_token)).data["refresh_token"]
    third = (await refresh(api, second)).data["refresh_token"]
    assert (await refresh(api, person.refresh_token)).status == 401
    # Only refused: it may have been a straggler, and it got nothing.
    assert (await refresh(api, third)).status == 200
    assert await alive(api, person)


async def test_a_token_that_comes_back_later_ends_the_session(api: Api, age: Pass) -> None:
    person = await api.person()
    second = (await refresh(api, person.refresh_token)).data["refresh_token"]
    assert await alive(api, person)
    await age(61)
    answer = await refresh(api, person.refresh_token)
    assert (answer.status, answer.code) == (401, "INVALID_REFRESH_TOKEN")
    assert not await alive(api, person)
    assert (await refresh(api, second)).status == 401


async def test_within_the_grace_the_first_use_counts(api: Api, age: Pass) -> None:
    """Asking again and again does not stretch the minute."""
    person = await api.person()
    for _ in range(3):
        assert (await refresh(api, person.refresh_token)).status == 200
        await age(22)
    assert (await refresh(api, person.refresh_token)).status == 401
    assert not await alive(api, person)


async def test_theft_within_the_grace_is_found_out_when_the_owner_comes_back(api: Api, age: Pass) -> None:
    person = await api.person()
    owners = (await refresh(api, person.refresh_token)).data["refresh_token"]
    thiefs = (await refresh(api, person.refresh_token)).data["refresh_token"]
    await age(3600)
    assert (await refresh(api, owners)).status == 401
    assert (await refresh(api, thiefs)).status == 401
    assert not await alive(api, person)


async def test_other_sessions_of_the_person_are_not_concerned(api: Api, age: Pass) -> None:
    person = await api.person()
    other = (await api.login(person)).data
    await refresh(api, person.refresh_token)
    await age(61)
    await refresh(api, person.refresh_token)
    assert (await api.get("/auth/me", token=other["access_token"])).status == 200
    assert (await refresh(api, other["refresh_token"])).status == 200


async def test_refreshes_at_the_same_moment(api: Api) -> None:
    """However many tabs ask at once with one token: all are served, one successor is left, nobody is logged out."""
    person = await api.person()
    answers: list[Answer] = []

    async def one() -> None:
        answers.append(await refresh(api, person.refresh_token))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert [answer.status for answer in answers] == [200] * 10
    tokens = {answer.data["refresh_token"] for answer in answers}
    assert len(tokens) == 10
    good = [token for token in tokens if (await refresh(api, token)).status == 200]
    assert len(good) == 1
    assert await alive(api, person)


async def test_a_refresh_racing_a_logout_leaves_no_session(api: Api) -> None:
    for _ in range(5):
        person = await api.person()
        answers: list[Answer] = []

        async def renew(person: Person = person, answers: list[Answer] = answers) -> None:
            answers.append(await refresh(api, person.refresh_token))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew)
            nursery.start_soon(lambda person=person: api.post("/auth/logout", token=person.token))
        for answer in answers:
            assert answer.status in (200, 401)
            if answer.status == 200:
                assert (await refresh(api, answer.data["refresh_token"])).status == 401
                assert (await api.get("/auth/me", token=answer.data["access_token"])).status == 401


async def test_tokens_are_stored_as_hashes_only(api: Api, db: Database) -> None:
    person = await api.person()

    async def everything(conn: Any) -> str:
        rows = await conn.fetch("SELECT t::text FROM refresh_tokens t")
        return "".join(str(row[0]) for row in rows)

    stored = await db.read(everything)
    assert stored and person.refresh_token not in stored
    assert person.refresh_token.encode().hex() not in stored


async def test_a_disabled_person_does_not_refresh(api: Api, db: Database) -> None:
    person = await api.person()

    async def disable(conn: Any) -> None:
        await conn.execute("UPDATE users SET is_active = false WHERE id = $1", person.id)

    await db.write(disable)
    assert (await refresh(api, person.refresh_token)).status == 401


async def test_an_expired_refresh_token(api: Api, db: Database) -> None:
    person = await api.person()

    async def expire(conn: Any) -> None:
        await conn.execute("UPDATE refresh_tokens SET expires_at = now()")

    await db.write(expire)
    assert (await refresh(api, person.refresh_token)).status == 401


async def test_what_is_no_refresh_token(api: Api) -> None:
    person = await api.person()
    for token in ("x", person.token[:500], "' OR 1=1 --", "🎸"):
        answer = await refresh(api, token)
        assert (answer.status, answer.code) == (401, "INVALID_REFRESH_TOKEN")
    for wrong in ("", "x" * 513, None, 5, [], "a\x00b"):
        answer = await api.post(REFRESH, {"refresh_token": wrong})
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert (await api.post(REFRESH, {})).details == {"refresh_token": "This field is required."}
