"""The second factor: set up, asked for, good once, and not to be guessed; and what goes wrong."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import trio
from structlog.testing import capture_logs

from tests.accounts.conftest import Wall, refused, secure
from tests.api.conftest import PASSWORD, Answer, Api, Clock, Person, Post, outbox
from veza.security import second_factor

__all__ = ["outbox"]


async def log_in(api: Api, person: Person, **more: str) -> Answer:
    return await api.post("/auth/login", {"email": person.email, "password": PASSWORD, **more})


async def test_from_setting_up_to_switching_off(api: Api, wall: Wall, outbox: Post) -> None:
    person = await api.person("tess_two")
    other = await api.login(person)
    status = await api.get("/auth/2fa", token=person.token)
    assert status.data == {"enabled": False, "recovery_codes_left": 0}
    refused(
        await api.post("/auth/2fa/setup", {"password": "wrong"}, token=person.token),
        403,
        "INVALID_CREDENTIALS",
    )
    refused(
        await api.post("/auth/2fa/enable", {"code": "123456"}, token=person.token),
        409,
        "TWO_FACTOR_NOT_SET_UP",
    )
    refused(
        await api.post("/auth/2fa/disable", {"password": PASSWORD, "code": "123456"}, token=person.token),
        409,
        "TWO_FACTOR_NOT_ENABLED",
    )

    made = (await api.post("/auth/2fa/setup", {"password": PASSWORD}, token=person.token)).data
    asked = urlsplit(made["uri"])
    assert (asked.scheme, asked.netloc, unquote(asked.path)) == ("otpauth", "totp", "/Veza:tess_two")
    assert parse_qs(asked.query)["secret"] == [made["secret"]]
    assert made["qr_code"].startswith("data:image/svg+xml") and "path" in unquote(made["qr_code"])
    # Not in force yet: its owner has not shown that he has it.
    assert (await api.login(person)).status == 200
    refused(await api.post("/auth/2fa/enable", {"code": "000000"}, token=person.token), 403, "INVALID_CODE")
    refused(await api.post("/auth/2fa/enable", {}, token=person.token), 400, "VALIDATION_ERROR")

    phone, codes = await secure(api, person, wall)  # setting up anew: the secret from before is no good
    assert phone.code() != second_factor.pyotp.TOTP(made["secret"]).at(int(wall.now))
    assert len(codes) == len(set(codes)) == 10 and all(
        second_factor.is_recovery(second_factor.plain(c)) for c in codes
    )
    refused(
        await api.post("/auth/2fa/setup", {"password": PASSWORD}, token=person.token),
        409,
        "TWO_FACTOR_ENABLED",
    )
    refused(
        await api.post("/auth/2fa/enable", {"code": phone.code()}, token=person.token),
        409,
        "TWO_FACTOR_ENABLED",
    )
    assert (await api.get("/auth/2fa", token=person.token)).data == {
        "enabled": True,
        "recovery_codes_left": 10,
    }
    # If it was not he, a new password alone does not let him in again: he is told what does.
    letter = await outbox.wait("Your second factor was switched on")
    assert "ask whoever runs this server" in letter.get_content()
    # Others who were logged in are not any more; who enabled it is.
    refused(await api.get("/auth/me", token=other.data["access_token"]), 401, "SESSION_ENDED")

    refused(await log_in(api, person), 401, "TWO_FACTOR_REQUIRED")
    wrong = await api.post(
        "/auth/login", {"email": person.email, "password": "wrong", "totp_code": phone.code()}
    )
    refused(wrong, 401, "INVALID_CREDENTIALS")  # says nothing of the code
    assert (await log_in(api, person, totp_code=phone.code())).status == 200

    wall.pass_(30)
    body = {"password": PASSWORD, "code": phone.code()}
    fresh = await api.post("/auth/2fa/recovery-codes", body, token=person.token)
    assert len(fresh.data["recovery_codes"]) == 10 and not set(fresh.data["recovery_codes"]) & set(codes)
    refused(await log_in(api, person, recovery_code=codes[0]), 401, "INVALID_CODE")  # of those from before
    wall.pass_(30)
    bad = {"password": "wrong", "code": phone.code()}
    refused(await api.post("/auth/2fa/disable", bad, token=person.token), 403, "INVALID_CREDENTIALS")
    bad = {"password": PASSWORD, "code": "000000"}
    refused(await api.post("/auth/2fa/disable", bad, token=person.token), 403, "INVALID_CODE")
    off = {"password": PASSWORD, "code": fresh.data["recovery_codes"][3].upper()}
    assert (await api.post("/auth/2fa/disable", off, token=person.token)).status == 200
    letter = await outbox.wait("Your second factor was switched off")
    assert "whoever runs" not in letter.get_content() and "forgot-password" in letter.get_content()
    assert (await log_in(api, person)).status == 200
    assert (await api.get("/auth/2fa", token=person.token)).data == {
        "enabled": False,
        "recovery_codes_left": 0,
    }


async def test_a_code_is_good_once_also_for_two_at_the_same_moment(
    api: Api, wall: Wall, clock: Clock
) -> None:
    person = await api.person()
    phone, codes = await secure(api, person, wall)

    async def rush(**more: str) -> list[int]:
        statuses: list[int] = []

        async def one(number: int) -> None:
            answer = await log_in(api.at(f"198.51.100.{number}"), person, **more)
            statuses.append(answer.status)
            if answer.status != 200:
                refused(answer, 401, "INVALID_CODE")

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(one, number)
        return sorted(statuses)

    assert await rush(totp_code=phone.code()) == [200, 401, 401, 401]
    refused(await log_in(api, person, totp_code=phone.code()), 401, "INVALID_CODE")
    refused(
        await log_in(api, person, totp_code=phone.code(-30)), 401, "INVALID_CODE"
    )  # nor one from before it
    assert await rush(recovery_code=codes[0]) == [200, 401, 401, 401]
    assert (await log_in(api, person, totp_code=codes[1].replace("-", " ").upper())).status == 200
    assert (await api.get("/auth/2fa", token=person.token)).data["recovery_codes_left"] == 8


async def test_clocks_may_be_a_step_apart_and_no_more(api: Api, wall: Wall) -> None:
    person = await api.person()
    phone, _ = await secure(api, person, wall)
    wall.pass_(300)
    refused(await log_in(api, person, totp_code=phone.code(-60)), 401, "INVALID_CODE")
    refused(await log_in(api, person, totp_code=phone.code(+60)), 401, "INVALID_CODE")
    assert (await log_in(api, person, totp_code=phone.code(-30))).status == 200
    assert (await log_in(api, person, totp_code=phone.code(+30))).status == 200
    refused(
        await log_in(api, person, totp_code=phone.code()), 401, "INVALID_CODE"
    )  # older than the last one taken


async def test_six_digits_cannot_be_guessed_and_their_owner_still_gets_in(
    api: Api, wall: Wall, clock: Clock
) -> None:
    person = await api.person()
    phone, codes = await secure(api, person, wall)
    good = phone.code()
    wrong = f"{(int(good) + 1) % 1_000_000:06}"
    # One address: five tries a minute, whatever was right of them.
    thief = api.at("203.0.113.9")
    for _ in range(5):
        refused(await log_in(thief, person, totp_code=wrong), 401, "INVALID_CODE")
    refused(await log_in(thief, person, totp_code=good), 429, "RATE_LIMITED")
    # Asking without a code does not start the count anew.
    refused(await log_in(thief, person), 429, "RATE_LIMITED")
    # A thousand addresses: some tries an hour, all together.
    judged = 0
    for number in range(20):
        answer = await log_in(api.at(f"198.51.100.{number}"), person, totp_code=wrong)
        judged += answer.status == 401
        assert answer.status in (401, 429)
    assert judged <= 6
    held = await log_in(api.at("192.0.2.77"), person, totp_code=good)
    refused(held, 429, "RATE_LIMITED")
    assert 0 < int(held.headers["retry-after"]) <= 360
    # Its owner has recovery codes, which nobody can guess; and time passes.
    assert (await log_in(api.at("192.0.2.78"), person, recovery_code=codes[0])).status == 200
    clock.pass_(3600)
    wall.pass_(3600)
    assert (await log_in(api.at("192.0.2.77"), person, totp_code=phone.code())).status == 200


async def test_a_letter_that_resets_the_password_does_not_open_the_second_lock(
    api: Api, wall: Wall, outbox: Post
) -> None:
    person = await api.person()
    phone, _ = await secure(api, person, wall)
    await api.post("/auth/forgot-password", {"email": person.email})
    token = await outbox.token("Set a new password")
    done = await api.post("/auth/reset-password", {"token": token, "new_password": "another horse"})
    assert done.status == 200
    body = {"email": person.email, "password": "another horse"}
    refused(await api.post("/auth/login", body), 401, "TWO_FACTOR_REQUIRED")
    assert (await api.post("/auth/login", {**body, "totp_code": phone.code()})).status == 200


async def test_nothing_secret_is_stored_plainly_or_logged_and_a_lost_key_leaves_recovery_codes(
    api: Api, wall: Wall
) -> None:
    person = await api.person()
    with capture_logs() as logs:
        phone, codes = await secure(api, person, wall)
        await log_in(api, person, totp_code=phone.code())
        await log_in(api, person, totp_code="123456")

    async def rows(conn: Any) -> Any:
        return (
            bytes(await conn.fetchval("SELECT secret FROM two_factor WHERE user_id = $1", person.id)),
            [
                bytes(r[0])
                for r in await conn.fetch(
                    "SELECT code_hash FROM recovery_codes WHERE user_id = $1", person.id
                )
            ],
        )

    sealed, hashes = await api.services.db.read(rows)
    secret = api.services.secrets.open(person.id, sealed)
    assert secret.encode() not in sealed and secret not in str(logs)
    assert secret.encode() not in b64decode(sealed, altchars=b"-_")
    assert not any(
        code in str(logs) or second_factor.plain(code).encode() in b"".join(hashes) for code in codes
    )
    with pytest.raises(second_factor.Unreadable):  # a row copied to another account opens nothing
        api.services.secrets.open(person.id + 1, sealed)

    async def garble(conn: Any) -> None:
        await conn.execute("UPDATE two_factor SET secret = 'x' WHERE user_id = $1", person.id)

    await api.services.db.write(garble)
    wall.pass_(60)
    refused(await log_in(api, person, totp_code=phone.code()), 401, "INVALID_CODE")
    assert (await log_in(api, person, recovery_code=codes[0])).status == 200


async def test_a_login_by_password_alone_never_slips_in_behind_a_factor_just_enabled(
    api: Api, wall: Wall
) -> None:
    """The factor comes into force between the login's look for one and its session."""
    person = await api.person()
    db = api.services.db
    real = db.read

    async def late(unit: Any, *args: Any) -> Any:
        found = await real(unit, *args)
        if unit.__name__ == "of" and found is None:
            api.services.db.read = real  # type: ignore[method-assign]
            await secure(api, person, wall)
        return found

    db.read = late  # type: ignore[method-assign]
    try:
        refused(await log_in(api, person), 401, "TWO_FACTOR_REQUIRED")
    finally:
        db.read = real  # type: ignore[method-assign]
    assert len((await api.get("/auth/sessions", token=person.token)).data["sessions"]) == 1
