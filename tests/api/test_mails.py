"""The mails accounts cause: confirming an address, setting a forgotten password."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.conftest import PASSWORD, Api, Clock, Post
from veza.db.pool import Database

CONFIRM = "Confirm your e-mail address"
RESET = "Set a new password"


async def test_the_letter_after_registering_confirms_the_address(api: Api, outbox: Post) -> None:
    person = await api.person("nina")
    letter = await outbox.wait(CONFIRM)
    assert letter["To"] == "nina@example.org"
    assert letter["Message-ID"] and letter["Date"] and letter["From"]
    text = letter.get_content()
    token = await outbox.token(CONFIRM)
    assert f"http://localhost:8080/verify-email?token={token}" in text
    answer = await api.post("/auth/verify-email", {"token": token})
    assert answer.status == 200
    assert (await api.get("/auth/me", token=person.token)).data["is_verified"] is True
    again = await api.post("/auth/verify-email", {"token": token})
    assert (again.status, again.code) == (400, "INVALID_TOKEN")


async def test_the_outbox_is_private(api: Api, outbox: Post) -> None:
    await api.person()
    await outbox.wait(CONFIRM)
    assert outbox.directory.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in outbox.directory.iterdir())


async def test_a_token_confirms_only_the_address_it_was_sent_to(api: Api, outbox: Post, db: Database) -> None:
    person = await api.person("nina")
    token = await outbox.token(CONFIRM)

    async def move(conn: Any) -> None:
        await conn.execute("UPDATE users SET email = 'new@x.org' WHERE id = $1", person.id)

    await db.write(move)
    assert (await api.post("/auth/verify-email", {"token": token})).status == 400


async def test_the_confirming_mail_is_sent_again(api: Api, outbox: Post) -> None:
    person = await api.person("nina")
    first = await outbox.token(CONFIRM)
    assert (await api.post("/auth/resend-verification", token=person.token)).status == 200
    second = await outbox.token(CONFIRM, 2)
    assert (await api.post("/auth/verify-email", {"token": first})).status == 400  # only the latest counts
    assert (await api.post("/auth/verify-email", {"token": second})).status == 200
    # Without a login, by address; nothing is sent to who is confirmed already, and the answer does not tell.
    known = await api.post("/auth/resend-verification", {"email": "NINA@example.org"})
    unknown = await api.post("/auth/resend-verification", {"email": "nobody@example.org"})
    assert known.status == unknown.status == 200
    assert known.json == unknown.json
    assert (await api.post("/auth/resend-verification")).status == 400
    assert len(outbox.all()) == 2


async def test_a_forgotten_password(api: Api, outbox: Post) -> None:
    person = await api.person("nina")
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.post("/auth/forgot-password", {"email": "Nina@Example.org"})).status == 200
    letter = await outbox.wait(RESET)
    assert letter["To"] == "nina@example.org"
    token = await outbox.token(RESET)
    answer = await api.post("/auth/reset-password", {"token": token, "new_password": "battery staple"})
    assert answer.status == 200
    # All sessions have ended, at once.
    assert (await api.get("/auth/me", token=person.token)).status == 401
    assert (await api.post("/auth/refresh", {"refresh_token": person.refresh_token})).status == 401
    assert (await api.login(person)).status == 401
    login = await api.login(person, "battery staple")
    assert login.status == 200
    assert login.data["user"]["is_verified"] is True  # whoever read the mail owns the address
    again = await api.post("/auth/reset-password", {"token": token, "new_password": PASSWORD})
    assert (again.status, again.code) == (400, "INVALID_TOKEN")


async def test_an_unknown_address_gets_the_same_answer_in_the_same_time(api: Api, outbox: Post) -> None:
    await api.person("nina")
    times = {}
    answers = {}
    for email in ("nina@example.org", "nobody@example.org"):
        start = trio.current_time()
        answers[email] = (await api.post("/auth/forgot-password", {"email": email})).json
        times[email] = trio.current_time() - start
    assert answers["nina@example.org"] == answers["nobody@example.org"]
    assert all(seconds >= 0.25 for seconds in times.values())
    await outbox.wait(RESET)
    assert [letter["To"] for letter in outbox.all() if letter["Subject"] == RESET] == ["nina@example.org"]


async def test_a_reset_token_is_used_once_even_at_the_same_moment(api: Api, outbox: Post) -> None:
    await api.person("nina")
    await api.post("/auth/forgot-password", {"email": "nina@example.org"})
    token = await outbox.token(RESET)
    statuses: list[int] = []

    async def one(number: int) -> None:
        body = {"token": token, "new_password": f"battery staple {number}"}
        statuses.append((await api.post("/auth/reset-password", body)).status)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(one, number)
    assert sorted(statuses) == [200] + [400] * 5


async def test_a_later_token_replaces_the_earlier(api: Api, outbox: Post) -> None:
    await api.person("nina")
    await api.post("/auth/forgot-password", {"email": "nina@example.org"})
    first = await outbox.token(RESET)
    await api.post("/auth/forgot-password", {"email": "nina@example.org"})
    second = await outbox.token(RESET, 2)
    new = {"new_password": "battery staple"}
    assert (await api.post("/auth/reset-password", {"token": first, **new})).status == 400
    assert (await api.post("/auth/reset-password", {"token": second, **new})).status == 200


async def test_a_changed_password_outdates_the_mail_that_would_set_another(api: Api, outbox: Post) -> None:
    nina = await api.person("nina")
    await api.post("/auth/forgot-password", {"email": "nina@example.org"})
    token = await outbox.token(RESET)
    change = {"current_password": PASSWORD, "new_password": "battery staple"}
    assert (await api.put("/users/me/password", change, token=nina.token)).status == 200
    body = {"token": token, "new_password": "stolen mailbox"}
    assert (await api.post("/auth/reset-password", body)).status == 400


async def test_tokens_expire_and_serve_one_purpose(api: Api, outbox: Post, db: Database) -> None:
    await api.person("nina")
    confirm = await outbox.token(CONFIRM)
    body = {"token": confirm, "new_password": "battery staple"}
    assert (await api.post("/auth/reset-password", body)).status == 400
    await api.post("/auth/forgot-password", {"email": "nina@example.org"})
    reset = await outbox.token(RESET)
    assert (await api.post("/auth/verify-email", {"token": reset})).status == 400

    async def expire(conn: Any) -> None:
        await conn.execute("UPDATE mail_tokens SET expires_at = now()")

    await db.write(expire)
    assert (await api.post("/auth/reset-password", {**body, "token": reset})).status == 400
    assert (await api.post("/auth/verify-email", {"token": confirm})).status == 400


async def test_mail_tokens_are_stored_as_hashes_only(api: Api, outbox: Post, db: Database) -> None:
    await api.person()
    token = await outbox.token(CONFIRM)

    async def everything(conn: Any) -> str:
        return str(await conn.fetchval("SELECT string_agg(t::text, '') FROM mail_tokens t"))

    stored = await db.read(everything)
    assert token not in stored and token.encode().hex() not in stored


async def test_a_mailbox_is_not_buried(api: Api, outbox: Post, clock: Clock) -> None:
    await api.person("nina")
    statuses = [
        (await api.at(f"198.51.100.{n}").post("/auth/forgot-password", {"email": "nina@example.org"})).status
        for n in range(4)
    ]
    assert statuses == [200, 200, 200, 429]
    clock.pass_(1200)
    assert (await api.post("/auth/forgot-password", {"email": "nina@example.org"})).status == 200


@pytest.mark.parametrize("token", ["x", "' OR 1=1 --", "🎸", "a" * 512])
async def test_a_token_that_is_none(api: Api, token: str) -> None:
    body = {"token": token, "new_password": "battery staple"}
    for path in ("/auth/verify-email", "/auth/reset-password"):
        answer = await api.post(path, body)
        assert (answer.status, answer.code) == (400, "INVALID_TOKEN")


async def test_a_new_password_must_be_one(api: Api) -> None:
    answer = await api.post("/auth/reset-password", {"token": "x", "new_password": "short"})
    assert set(answer.details) == {"new_password"}
