"""Accounts: opening one, logging in, staying logged in, logging out."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import trio

from tests.api.conftest import PASSWORD, SECRET, Answer, Api, Clock, Post
from veza.db.pool import Database

LOGIN = "/auth/login"


async def test_registration_gives_an_account_and_tokens(api: Api) -> None:
    answer = await api.post(
        "/auth/register",
        {
            "username": "Nina_1",
            "email": "Nina@Example.org",
            "password": PASSWORD,
            "first_name": "Nina",
            "last_name": "",
        },
    )
    assert answer.status == 201
    data = answer.data
    assert set(data) == {"user", "token", "access_token", "refresh_token", "expires_at", "expires_in"}
    assert data["token"] == data["access_token"]
    user = data["user"]
    assert (user["username"], user["email"], user["first_name"], user["last_name"]) == (
        "Nina_1",
        "Nina@Example.org",
        "Nina",
        None,
    )
    assert (user["role"], user["is_active"], user["is_verified"]) == ("user", True, False)
    assert not any("password" in name or "hash" in name for name in user)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", user["created_at"])
    assert datetime.fromisoformat(data["expires_at"]) > datetime.now(UTC)
    top = answer.json
    assert (top["access_token"], top["refresh_token"], top["token_type"], top["expires_in"]) == (
        data["access_token"],
        data["refresh_token"],
        "Bearer",
        24 * 3600,
    )


async def test_the_access_token_carries_the_documented_claims(api: Api) -> None:
    person = await api.person("nina")
    claims = jwt.decode(person.token, SECRET, algorithms=["HS256"])
    assert set(claims) == {"user_id", "username", "role", "iat", "exp", "sid", "jti", "typ"}
    assert (claims["user_id"], claims["username"], claims["role"], claims["typ"]) == (
        person.id,
        "nina",
        "user",
        "access",
    )


async def test_signup_is_an_alias(api: Api) -> None:
    answer = await api.post("/auth/signup", {"username": "nina", "email": "n@x.org", "password": PASSWORD})
    assert answer.status == 201


async def test_nobody_makes_himself_an_admin(api: Api) -> None:
    answer = await api.post(
        "/auth/register",
        {
            "username": "mallory",
            "email": "m@x.org",
            "password": PASSWORD,
            "role": "super_admin",
            "is_verified": True,
            "is_active": False,
            "id": 77,
        },
    )
    user = answer.data["user"]
    assert (user["role"], user["is_verified"], user["is_active"]) == ("user", False, True)
    token = answer.data["access_token"]
    user = (
        await api.put("/users/me", {"role": "admin", "is_verified": True, "email": "z@z.org"}, token=token)
    ).data
    assert (user["role"], user["is_verified"], user["email"]) == ("user", False, "m@x.org")


@pytest.mark.parametrize(
    ("username", "email", "code"),
    [
        ("NINA", "other@x.org", "USERNAME_EXISTS"),
        ("other", "NINA@example.ORG", "EMAIL_EXISTS"),
    ],
)
async def test_names_and_addresses_are_unique_ignoring_case(
    api: Api, username: str, email: str, code: str
) -> None:
    await api.person("nina")
    answer = await api.post("/auth/register", {"username": username, "email": email, "password": PASSWORD})
    assert (answer.status, answer.code) == (409, code)


async def test_two_registrations_of_one_name_at_the_same_moment(api: Api) -> None:
    answers: list[Answer] = []

    async def one(number: int) -> None:
        body = {
            "username": "Nina" if number % 2 else "nina",
            "email": f"n{number}@x.org",
            "password": PASSWORD,
        }
        answers.append(await api.post("/auth/register", body))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert {answer.code for answer in answers if answer.status == 409} == {"USERNAME_EXISTS"}


async def test_two_registrations_of_one_address_at_the_same_moment(api: Api) -> None:
    answers: list[Answer] = []

    async def one(number: int) -> None:
        body = {"username": f"nina{number}", "email": "Same@x.org", "password": PASSWORD}
        answers.append(await api.post("/auth/register", body))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(one, number)
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert {answer.code for answer in answers if answer.status == 409} == {"EMAIL_EXISTS"}


WRONG: list[tuple[str, Any]] = [
    ("username", "ab"),
    ("username", "a" * 51),
    ("username", "no spaces"),
    ("username", "nina\n"),
    ("username", "nína"),
    ("username", "🎸🎸🎸"),
    ("username", "a'; DROP TABLE users; --"),
    ("username", 12345),
    ("username", None),
    ("username", ["nina"]),
    ("username", "ni\x00na"),
    ("email", "nobody"),
    ("email", "a@b"),
    ("email", "a@b@c.org"),
    ("email", "a b@c.org"),
    ("email", "a@c.org\nBcc: x@y.org"),
    ("email", "ü@example.org"),
    ("email", "a" * 95 + "@x.org"),
    ("email", {"$ne": ""}),
    ("email", "a\x00@x.org"),
    ("password", "short"),
    ("password", "x" * 129),
    ("password", 123456789),
    ("password", True),
    ("password", "correct\x00horse"),
    ("first_name", "x" * 51),
    ("first_name", "two\nlines"),
    ("first_name", "x\x00y"),
    ("last_name", 5),
    ("last_name", "x\x00y"),
]


async def test_a_wrong_field_is_named(api: Api) -> None:
    for field, value in WRONG:
        body = {"username": "nina", "email": "nina@example.org", "password": PASSWORD, field: value}
        answer = await api.post("/auth/register", body)
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), (field, value)
        assert set(answer.details) == {field}, (field, value)
        assert answer.details[field].endswith("."), (field, value)


async def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    answer = await api.post("/auth/register", {"username": "", "email": 3, "first_name": []})
    assert set(answer.details) == {"username", "email", "password", "first_name"}
    assert answer.details["password"] == "This field is required."


async def test_any_script_may_be_a_first_name_and_a_password(api: Api) -> None:
    person = await api.person(
        "nina", first_name="נינה 🎻", last_name="O'Brien; DROP TABLE users", password="пароль🎸密碼"
    )
    assert (await api.login(person)).status == 200
    user = (await api.get("/auth/me", token=person.token)).data
    assert (user["first_name"], user["last_name"]) == ("נינה 🎻", "O'Brien; DROP TABLE users")


# Logging in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who",
    [
        {"email": "nina@example.org"},
        {"email": "NINA@EXAMPLE.ORG"},
        {"email": "  nina@example.org "},
        {"username": "nina"},
        {"username": "Nina"},
        {"email": "nina"},
        {"email": None, "username": "nina"},
    ],
)
async def test_login_by_address_or_name(api: Api, who: dict[str, Any]) -> None:
    person = await api.person("nina")
    answer = await api.post(LOGIN, {**who, "password": PASSWORD})
    assert answer.status == 200
    assert answer.data["user"]["id"] == person.id
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["access_token"] == answer.data["token"]


async def test_wrong_and_unknown_are_alike(api: Api) -> None:
    await api.person("nina")
    wrong = await api.post(LOGIN, {"email": "nina@example.org", "password": "not this one"})
    unknown = await api.post(LOGIN, {"email": "nobody@example.org", "password": "not this one"})
    assert wrong.status == unknown.status == 401
    for answer in (wrong, unknown):
        body = answer.json
        body.pop("request_id")
        assert body == {
            "success": False,
            "error": "The name or the password is not right.",
            "code": "INVALID_CREDENTIALS",
        }


async def test_a_disabled_account_is_423_only_after_the_right_password(api: Api, db: Database) -> None:
    person = await api.person("nina")

    async def disable(conn: Any) -> None:
        await conn.execute("UPDATE users SET is_active = false WHERE id = $1", person.id)

    await db.write(disable)
    wrong = await api.login(person, "not this one")
    assert (wrong.status, wrong.code) == (401, "INVALID_CREDENTIALS")
    right = await api.login(person)
    assert (right.status, right.code) == (423, "ACCOUNT_DISABLED")


async def test_a_ban_ends_by_itself(api: Api, db: Database) -> None:
    person = await api.person("nina")

    async def ban(conn: Any, seconds: float) -> None:
        await conn.execute(
            "UPDATE users SET banned_until = now() + make_interval(secs => $2) WHERE id = $1",
            person.id,
            seconds,
        )

    await db.write(ban, 60.0)
    assert (await api.login(person)).status == 423
    await db.write(ban, -1.0)
    assert (await api.login(person)).status == 200


async def test_a_bcrypt_hash_is_verified_and_upgraded(api: Api, db: Database) -> None:
    import bcrypt

    person = await api.person("nina")
    legacy = bcrypt.hashpw(b"from the older program", bcrypt.gensalt(4)).decode()

    async def put(conn: Any) -> None:
        await conn.execute("UPDATE users SET password_hash = $2 WHERE id = $1", person.id, legacy)

    async def stored(conn: Any) -> str:
        return str(await conn.fetchval("SELECT password_hash FROM users WHERE id = $1", person.id))

    await db.write(put)
    assert (await api.login(person, "not this one")).status == 401
    assert await db.read(stored) == legacy
    assert (await api.login(person, "from the older program")).status == 200
    assert (await db.read(stored)).startswith("$argon2id$")
    assert (await api.login(person, "from the older program")).status == 200


@pytest.mark.parametrize(
    "meanwhile",
    ["UPDATE users SET password_hash = 'changed'", "UPDATE users SET is_active = false"],
)
async def test_a_login_does_not_slip_in_behind_what_ended_all_sessions(
    api: Api, db: Database, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """The old password was found right; before the session is made, it is changed, or the account disabled."""
    person = await api.person("nina")
    verify = type(api.services.passwords).verify

    async def change(conn: Any) -> None:
        await conn.execute(meanwhile)

    async def verify_slowly(self: Any, *args: Any) -> Any:
        verdict = await verify(self, *args)
        await db.write(change)
        return verdict

    monkeypatch.setattr(type(api.services.passwords), "verify", verify_slowly)
    assert (await api.login(person)).status == 401


async def test_five_tries_a_minute_then_growing_waits(api: Api, clock: Clock) -> None:
    person = await api.person("nina")
    for _ in range(5):
        assert (await api.login(person, "wrong one")).status == 401
        clock.pass_(1)
    answer = await api.login(person)
    assert (answer.status, answer.code) == (429, "RATE_LIMITED")
    first = int(answer.headers["retry-after"])
    assert 50 <= first <= 60
    clock.pass_(first)
    assert (await api.login(person, "wrong one")).status == 401
    second = int((await api.login(person)).headers["retry-after"])
    assert second > first
    # Somewhere else the owner is let in all the while, and an unknown account is treated no differently.
    assert (await api.at("198.51.100.7").login(person)).status == 200
    clock.pass_(second)
    assert (await api.login(person)).status == 200
    assert (await api.login(person, "wrong one")).status == 401  # a right one made it start anew


async def test_tries_at_the_same_moment_are_counted_each(api: Api) -> None:
    person = await api.person("nina")
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await api.login(person, "wrong one")).status)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(one)
    assert sorted(statuses) == [401] * 5 + [429] * 7


async def test_an_unknown_account_meets_the_same_limit(api: Api) -> None:
    statuses = [
        (await api.post(LOGIN, {"email": "nobody@x.org", "password": "whatever"})).status for _ in range(6)
    ]
    assert statuses == [401] * 5 + [429]


async def test_an_account_under_attack_from_everywhere_still_opens(api: Api) -> None:
    person = await api.person("nina")
    for number in range(12):
        answer = await api.at(f"198.51.100.{number}").login(person, "wrong one")
        assert answer.status == 401
    assert (await api.login(person)).status == 200


# Tokens ----------------------------------------------------------------------------------------------


async def test_what_is_no_access_token_is_401(api: Api) -> None:
    person = await api.person("nina")
    claims = jwt.decode(person.token, SECRET, algorithms=["HS256"])
    header, payload, signature = person.token.split(".")
    forged = {
        "refresh token": person.refresh_token,
        "alg none": jwt.encode(claims, None, algorithm="none"),
        "alg none, signature kept": jwt.encode(claims, None, algorithm="none").rstrip(".") + "." + signature,
        "another secret": jwt.encode(claims, "another secret, which is long enough", algorithm="HS256"),
        "another algorithm": jwt.encode(claims, SECRET, algorithm="HS512"),
        "no exp": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, SECRET, algorithm="HS256"),
        "typ refresh": jwt.encode({**claims, "typ": "refresh"}, SECRET, algorithm="HS256"),
        "no typ": jwt.encode({k: v for k, v in claims.items() if k != "typ"}, SECRET, algorithm="HS256"),
        "sid of nobody": jwt.encode({**claims, "sid": "not-a-uuid"}, SECRET, algorithm="HS256"),
        "sid unknown": jwt.encode(
            {**claims, "sid": "00000000-0000-4000-8000-000000000000"}, SECRET, algorithm="HS256"
        ),
        "somebody else's id": jwt.encode({**claims, "user_id": person.id + 1}, SECRET, algorithm="HS256"),
        "id as text": jwt.encode({**claims, "user_id": str(person.id)}, SECRET, algorithm="HS256"),
        "cut": person.token[:-3],
        "payload of another": f"{header}.{payload[:-2]}.{signature}",
        "garbage": "garbage",
        "dots": "...",
        "long": "a" * 100_000,
        "sql": "' OR 1=1 --",
    }
    for what, token in forged.items():
        answer = await api.get("/auth/me", token=token)
        assert answer.status == 401, what
        assert answer.code in ("AUTH_FAILED", "SESSION_ENDED"), what
        assert answer.headers["www-authenticate"].startswith("Bearer"), what
    expired = jwt.encode({**claims, "exp": claims["iat"] - 1}, SECRET, algorithm="HS256")
    assert (await api.get("/auth/me", token=expired)).code == "TOKEN_EXPIRED"


async def test_no_token_is_401(api: Api) -> None:
    for header in ("", "Bearer", "Bearer ", "Basic bmluYTpwdw==", "Token x", "bearer"):
        answer = await api.get("/auth/me", headers={"Authorization": header})
        assert (answer.status, answer.code) == (401, "AUTH_REQUIRED"), header


async def test_a_claimed_role_is_worth_nothing(api: Api) -> None:
    """The claims are for clients: what counts is in the database."""
    person = await api.person("nina")
    claims = jwt.decode(person.token, SECRET, algorithms=["HS256"])
    token = jwt.encode({**claims, "role": "super_admin", "username": "root"}, SECRET, algorithm="HS256")
    identity = await api.services.registry.authenticate(token)
    assert (identity.role, identity.username) == ("user", "nina")


# Sessions --------------------------------------------------------------------------------------------


async def test_logging_out_counts_at_once(api: Api) -> None:
    person = await api.person("nina")
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.post("/auth/logout", token=person.token)).status == 200
    answer = await api.get("/auth/me", token=person.token)
    assert (answer.status, answer.code) == (401, "SESSION_ENDED")
    assert (await api.post("/auth/refresh", {"refresh_token": person.refresh_token})).status == 401


async def test_logging_out_by_refresh_token_alone(api: Api) -> None:
    person = await api.person("nina")
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.post("/auth/logout", {"refresh_token": person.refresh_token})).status == 200
    assert (await api.get("/auth/me", token=person.token)).status == 401


async def test_logging_out_without_any_token(api: Api) -> None:
    answer = await api.post("/auth/logout")
    assert (answer.status, answer.code) == (401, "AUTH_REQUIRED")


async def test_sessions_are_listed_and_ended_one_by_one(api: Api) -> None:
    person = await api.person("nina")
    other = (await api.login(person)).data["access_token"]
    listed = (await api.get("/auth/sessions", token=person.token, headers={"User-Agent": "x"})).data[
        "sessions"
    ]
    assert len(listed) == 2
    assert [session["current"] for session in listed] == [False, True]
    assert {session["ip"] for session in listed} == {"192.0.2.1"}
    ended = next(session["id"] for session in listed if not session["current"])
    assert (await api.delete(f"/auth/sessions/{ended}", token=person.token)).status == 200
    assert (await api.get("/auth/me", token=other)).status == 401
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.delete(f"/auth/sessions/{ended}", token=person.token)).status == 404


async def test_nobody_ends_another_ones_session(api: Api) -> None:
    nina, mallory = await api.person("nina"), await api.person("mallory")
    sid = (await api.get("/auth/sessions", token=nina.token)).data["sessions"][0]["id"]
    assert (await api.delete(f"/auth/sessions/{sid}", token=mallory.token)).status == 404
    assert (await api.get("/auth/me", token=nina.token)).status == 200


async def test_a_session_that_is_none(api: Api) -> None:
    person = await api.person()
    for sid in ("1", "x", "00000000-0000-4000-8000-000000000000", "%00", "' OR 1=1 --"):
        answer = await api.delete(f"/auth/sessions/{sid}", token=person.token)
        assert (answer.status, answer.code) == (404, "NOT_FOUND"), sid


async def test_logging_out_everywhere(api: Api) -> None:
    person = await api.person("nina")
    tokens = [person.token] + [(await api.login(person)).data["access_token"] for _ in range(3)]
    answer = await api.post("/auth/logout-all", token=tokens[1])
    assert answer.data == {"ended": 4}
    for token in tokens:
        assert (await api.get("/auth/me", token=token)).status == 401


async def test_changing_the_password_ends_the_other_sessions(api: Api, outbox: Post) -> None:
    person = await api.person("nina")
    other = (await api.login(person)).data
    answer = await api.put(
        "/users/me/password",
        {"current_password": PASSWORD, "new_password": "battery staple"},
        token=person.token,
    )
    assert answer.status == 200
    assert (await api.get("/auth/me", token=person.token)).status == 200
    assert (await api.get("/auth/me", token=other["access_token"])).status == 401
    assert (await api.post("/auth/refresh", {"refresh_token": other["refresh_token"]})).status == 401
    assert (await api.login(person)).status == 401
    assert (await api.login(person, "battery staple")).status == 200
    letter = await outbox.wait("Your password was changed")
    assert letter["To"] == person.email


async def test_a_wrong_current_password_changes_nothing(api: Api) -> None:
    person = await api.person("nina")
    body = {"current_password": "not this one", "new_password": "battery staple"}
    for status in [403] * 5 + [429]:
        answer = await api.put("/users/me/password", body, token=person.token)
        assert answer.status == status
    assert (await api.at("198.51.100.7").login(person)).status == 200
