"""What happens around every request: the envelope, bad bodies, unknown paths, CORS, rate limits, a database away."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
import trio

from tests.api.conftest import SECRET, Api, Clock
from veza.config import Settings
from veza.db.errors import OutcomeUnknown, QueryTimeout, Unavailable
from veza.http.api.app import create_app
from veza.http.api.services import assemble
from veza.mail import Mailer
from veza.security.passwords import Passwords, Verdict

MALFORMED = [
    b"{",
    b"nonsense",
    b'{"email": "a"',
    b"{'email': 'a'}",
    b'{"email": undefined}',
    b'{"email": NaN}',
    b'{"email": "\xff\xfe"}',
    b'{"email": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    b'{"a": 1} trailing',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"password": 1e999999}',
    b"\x00",
]


async def test_malformed_json_is_400(api: Api) -> None:
    for raw in MALFORMED:
        for path in ("/auth/login", "/auth/register", "/auth/refresh", "/auth/logout"):
            answer = await api.post(path, raw=raw)
            assert (answer.status, answer.code) == (400, "INVALID_JSON"), (path, raw[:30])


async def test_json_that_is_no_object_is_400(api: Api) -> None:
    for raw in (b"[]", b"null", b'"text"', b"5", b"true"):
        answer = await api.post("/auth/login", raw=raw)
        assert (answer.status, answer.code) == (400, "INVALID_FORMAT"), raw


async def test_no_body_is_400(api: Api) -> None:
    answer = await api.post("/auth/login")
    assert (answer.status, answer.code) == (400, "INVALID_FORMAT")


async def test_another_kind_of_body_is_415(api: Api) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await api.post("/auth/login", raw=b"email=a&password=b", headers={"Content-Type": kind})
        assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind


async def test_a_body_without_a_kind_is_read_as_json(api: Api) -> None:
    answer = await api.post(
        "/auth/login", raw=b'{"email": "a", "password": "b"}', headers={"Content-Type": ""}
    )
    assert answer.status == 401


async def test_a_body_over_the_limit_is_413(api: Api) -> None:
    answer = await api.post("/auth/login", raw=b'{"email": "' + b"x" * (1024 * 1024) + b'"}')
    assert (answer.status, answer.code) == (413, "TOO_LARGE")


PROFILE = {"username": "nina", "first_name": "N", "last_name": "S", "bio": "b", "avatar": "https://x.org"}
REGISTRATION = {
    "username": "nina",
    "email": "n@x.org",
    "password": "password",
    "first_name": "N",
    "last_name": "S",
}
TEXT_FIELDS = [
    ("POST", "/auth/register", REGISTRATION),
    ("POST", "/auth/login", {"email": "n@x.org", "username": "nina", "password": "password"}),
    ("POST", "/auth/refresh", {"refresh_token": "x"}),
    ("POST", "/auth/logout", {"refresh_token": "x"}),
    ("POST", "/auth/verify-email", {"token": "x"}),
    ("POST", "/auth/resend-verification", {"email": "n@x.org"}),
    ("POST", "/auth/forgot-password", {"email": "n@x.org"}),
    ("POST", "/auth/reset-password", {"token": "x", "new_password": "password"}),
    ("PUT", "/users/me", PROFILE),
    ("PUT", "/users/profile", PROFILE),
    ("PUT", "/users/me/password", {"current_password": "password", "new_password": "password"}),
]


@pytest.mark.parametrize(("method", "path", "body"), TEXT_FIELDS)
async def test_nul_in_any_text_field_is_a_clear_400(
    api: Api, method: str, path: str, body: dict[str, str]
) -> None:
    person = await api.person()
    for field, good in body.items():
        for value in ("\x00", good + "\x00", "\x00" + good, "a\x00b"):
            answer = await api.request(method, path, {**body, field: value}, token=person.token)
            assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), field
            assert answer.details == {field: "Must not hold NUL characters."}


HOSTILE: list[Any] = [
    "'; DROP TABLE users; --",
    "' OR '1'='1",
    "1); DELETE FROM sessions; --",
    "$1",
    "%s%s%n",
    "\\",
    "😀" * 30,
    "\u202eright to left",
    "\u0000",
    "a" * 100_000,
    "",
    " ",
    0,
    -1,
    2**63,
    1.5,
    True,
    None,
    [],
    ["a"],
    {},
    {"$gt": ""},
]


@pytest.mark.parametrize(("method", "path", "body"), TEXT_FIELDS)
async def test_nothing_in_any_field_is_a_500(
    api: Api, clock: Clock, method: str, path: str, body: dict[str, str]
) -> None:
    person = await api.person("victim")
    for field in body:
        for value in HOSTILE:
            clock.pass_(3600)
            answer = await api.request(method, path, {**body, field: value}, token=person.token)
            assert answer.status < 500, (field, value, answer.raw)
            if answer.status >= 400:
                assert answer.code
    assert (await api.login(person)).status == 200  # still there, still the same password


async def test_privileged_and_unknown_fields_are_ignored(api: Api) -> None:
    body = {
        "email": "nobody@x.org",
        "password": "x",
        "role": "admin",
        "unknown": "\x00",
        "nested": {"a": [1]},
    }
    assert (await api.post("/auth/login", body)).status == 401


NOWHERE = [
    "/api/v1/nothing",
    "/api/v1",
    "/api/v1/",
    "/api/nothing",
    "/api/v1/auth//me",
    "/api/v1/auth/me/x",
    "/docs/nothing",
    "/docs/..%2f__init__.py",
]


async def test_unknown_paths_are_404_in_json(api: Api) -> None:
    for path in NOWHERE:
        for method in ("GET", "POST", "DELETE"):
            answer = await api.request(method, path)
            assert answer.status in (404, 405), path
            assert answer.headers["content-type"] == "application/json", path
            assert answer.code in ("NOT_FOUND", "METHOD_NOT_ALLOWED"), path


async def test_another_method_is_405_with_allow(api: Api) -> None:
    answer = await api.get("/auth/login")
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in answer.headers["allow"]


async def test_request_ids_come_from_the_door_or_are_made(api: Api) -> None:
    given = await api.get("/auth/me", headers={"X-Request-ID": "abc-123"})
    assert given.json["request_id"] == "abc-123"
    for wrong in ("a b", "x" * 200, "<script>", ""):
        made = (await api.get("/auth/me", headers={"X-Request-ID": wrong})).json["request_id"]
        assert made and made != wrong


async def test_answers_with_tokens_are_not_cached(api: Api) -> None:
    assert (await api.get("/auth/me")).headers["cache-control"] == "no-store"


# A defect, a database away ----------------------------------------------------------------------------


async def test_a_defect_is_a_500_that_says_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await api.person()

    async def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail: SELECT * FROM users")

    monkeypatch.setattr(api.services.db, "read", broken)
    answer = await api.get("/users/me", token=person.token)
    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert b"secret" not in answer.raw and b"SELECT" not in answer.raw and b"Traceback" not in answer.raw


@pytest.mark.parametrize("error", [Unavailable("gone"), OutcomeUnknown("cut"), QueryTimeout("slow")])
async def test_a_database_away_is_503(api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    person = await api.person()

    async def away(*_: Any) -> Any:
        raise error

    for name in ("read", "write", "write_shielded", "ping"):
        monkeypatch.setattr(api.services.db, name, away)
    for method, path, body in TEXT_FIELDS:
        answer = await api.request(method, path, body, token=person.token)
        assert (answer.status, answer.code) == (503, "UNAVAILABLE"), path
        assert int(answer.headers["retry-after"]) >= 1
    # Not a guess wasted: the limit on tries does not count what could not be judged.
    for _ in range(10):
        assert (await api.post("/auth/login", {"email": "a@x.org", "password": "x"})).status == 503
    assert (await api.get("/health")).status == 200
    ready = await api.get("/ready")
    assert (ready.status, ready.details["database"]) == (503, "unavailable")


async def test_too_many_passwords_at_once_are_503(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = assemble(
        msgspec.structs.replace(settings, argon2_waiting=2), api.services.db, api.services.mailer
    )
    crowded = Api(create_app(services), services)
    statuses: list[int] = []
    all_came = threading.Event()
    verify = Passwords._verify

    def verify_later(self: Passwords, *args: Any) -> Verdict:
        all_came.wait(50)
        return verify(self, *args)

    monkeypatch.setattr(Passwords, "_verify", verify_later)

    async def one(number: int) -> None:
        answer = await crowded.at(f"198.51.100.{number}").post(
            "/auth/login", {"email": "x@y.org", "password": "x"}
        )
        statuses.append(answer.status)
        if answer.status == 503:
            assert answer.code == "BUSY" and answer.headers["retry-after"]
        if statuses.count(503) == 8:
            all_came.set()

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, number)
    assert sorted(statuses) == [401] * 4 + [503] * 8, "two are worked on, two wait"


# CORS ------------------------------------------------------------------------------------------------


async def test_a_preflight_from_an_allowed_page(api: Api) -> None:
    for origin in ("https://app.example", "http://localhost:3000", "http://localhost"):
        answer = await api.request(
            "OPTIONS", "/auth/login", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "Origin" in answer.headers["vary"]


STRANGERS = [
    "https://evil.example",
    "https://app.example.evil.org",
    "http://app.example",
    "null",
    "http://localhost:80x",
    "https://app.example:444",
]


async def test_other_pages_read_nothing(api: Api) -> None:
    for origin in STRANGERS:
        for method in ("OPTIONS", "GET"):
            answer = await api.request(
                method, "/auth/me", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}
            )
            assert not [name for name in answer.headers if name.startswith("access-control-")], origin


async def test_failures_are_readable_by_allowed_pages(api: Api) -> None:
    answer = await api.get("/auth/me", headers={"Origin": "https://app.example"})
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


async def test_a_star_never_comes_with_credentials(api: Api, settings: Settings) -> None:
    services = assemble(
        msgspec.structs.replace(settings, allowed_origins=("*",)), api.services.db, api.services.mailer
    )
    open_api = Api(create_app(services), services)
    answer = await open_api.get("/auth/me", headers={"Origin": "https://anybody.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


# Rate limits -----------------------------------------------------------------------------------------


@pytest.fixture
def limited(api: Api, settings: Settings, clock: Clock) -> Api:
    """Three requests at once, then one every two seconds."""
    services = assemble(
        msgspec.structs.replace(settings, rate_rest_per_minute=30.0, rate_rest_burst=3),
        api.services.db,
        api.services.mailer,
        clock=clock,
    )
    return Api(create_app(services), services)


async def test_requests_are_limited_by_address(limited: Api, clock: Clock) -> None:
    assert [(await limited.get("/auth/me")).status for _ in range(4)] == [401, 401, 401, 429]
    answer = await limited.get("/nothing")
    assert (answer.status, answer.code) == (429, "RATE_LIMITED")
    assert answer.headers["retry-after"] == "2"
    assert (await limited.at("198.51.100.7").get("/auth/me")).status == 401
    assert (await limited.get("/health")).status == 200
    clock.pass_(2)
    assert [(await limited.get("/auth/me")).status for _ in range(2)] == [401, 429]


async def test_requests_are_limited_by_person_wherever_he_is(api: Api, limited: Api) -> None:
    person, other = await api.person(), await api.person()
    statuses = [
        (await limited.at(f"198.51.100.{number}").get("/auth/me", token=person.token)).status
        for number in range(4)
    ]
    assert statuses == [200, 200, 200, 429]
    # Somebody else behind the same address is not concerned.
    assert (await limited.at("198.51.100.1").get("/auth/me", token=other.token)).status == 200


async def test_the_address_of_a_client_is_not_what_he_says(limited: Api) -> None:
    statuses = [
        (await limited.get("/auth/me", headers={"X-Forwarded-For": f"203.0.113.{number}"})).status
        for number in range(4)
    ]
    assert statuses == [401, 401, 401, 429]


def test_weak_secrets_are_refused(settings: Settings) -> None:
    nothing: Any = None
    with pytest.raises(ValueError):
        assemble(msgspec.structs.replace(settings, jwt_secret="short"), nothing, Mailer(nothing, "x@y"))
    assert SECRET not in repr(assemble(settings, nothing, Mailer(nothing, "x@y")))
