"""`/auth/2fa`: the second factor, set up, shown, switched off; and how a code is judged wherever one is asked for.

A wrong code is a wrong try like a wrong password (LoginGuard). Besides, six digits are few: all addresses together have
some tries an hour for one account. That slows a thief who knows the password down to nothing; its owner gets in all the
same, with a recovery code, which nobody can guess and nothing holds back. Codes and secrets are never logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final
from uuid import UUID

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza import log
from veza.actors.registry import Identity
from veza.db import two_factor as factors
from veza.db import users
from veza.db.errors import Unavailable
from veza.db.two_factor import Factor, NotProven, Proof, Status
from veza.http.api import letters
from veza.http.api.access import address, rate_address, signed_in
from veza.http.api.envelope import ApiError, conflict, ok, rate_limited
from veza.http.api.intake import takes
from veza.http.api.models import Code, GivenPassword
from veza.http.api.openapi import answers, fails
from veza.http.api.services import Services, services
from veza.security import second_factor
from veza.security.passwords import Busy

two_factor = Blueprint("two_factor", __name__, url_prefix="/auth/2fa")

ISSUER: Final = "Veza"
_log = log.get("auth")


class PasswordOnly(Struct, frozen=True):
    password: GivenPassword

    def __repr__(self) -> str:
        return "<PasswordOnly>"


class CodeOnly(Struct, frozen=True):
    """`totp_code` is accepted instead of `code`."""

    code: Code | None = None
    totp_code: Code | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.code is None and self.totp_code is None:
            yield "code", "This field is required."

    @property
    def given(self) -> str:
        return self.code or self.totp_code or ""

    def __repr__(self) -> str:
        return "<CodeOnly>"


class PasswordAndCode(CodeOnly, frozen=True, kw_only=True):
    """`code` is one of the authenticator's, or a recovery code."""

    password: GivenPassword


class SetUp(Struct, frozen=True):
    """What an authenticator needs: `uri` as it reads it, `qr_code` (SVG) as an image's address, `secret` to type."""

    secret: str
    uri: str
    qr_code: Annotated[str, Meta(description="`data:image/svg+xml,…`")]


class RecoveryCodes(Struct, frozen=True):
    """Shown this once; each is good once."""

    recovery_codes: list[str]


@two_factor.get("")
@signed_in
@answers(Status)
async def show_status(identity: Identity) -> Response:
    """Whether a code is asked for at login, and how many recovery codes are left."""
    return ok(await services().db.read(factors.status, identity.user_id))


@two_factor.post("/setup")
@signed_in
@takes(PasswordOnly)
@answers(SetUp)
@fails(403, 409)
async def set_up(identity: Identity, data: PasswordOnly) -> Response:
    """Get a secret for an authenticator. It is not in force before `enable` was given a code."""
    s, user_id = services(), identity.user_id
    here = count_try(s, user_id)
    await confirm_password(s, user_id, data.password, here)
    proven(s, user_id, None, here)
    secret = second_factor.new_secret()
    if not await s.db.write(factors.begin, user_id, s.secrets.seal(user_id, secret)):
        raise _enabled()
    uri = second_factor.uri(secret, identity.username, ISSUER)
    image = await trio.to_thread.run_sync(second_factor.qr_code, uri)
    return ok(SetUp(secret, uri, image))


@two_factor.post("/enable")
@signed_in
@takes(CodeOnly)
@answers(RecoveryCodes)
@fails(403, 409)
async def enable(identity: Identity, data: CodeOnly) -> Response:
    """Put the second factor into force, with a code that shows the authenticator has it. All other sessions end."""
    s, user_id = services(), identity.user_id
    found = await s.db.read(factors.of, user_id)
    if found is None:
        raise conflict("TWO_FACTOR_NOT_SET_UP", "Ask for a secret first.")
    if found.enabled:
        raise _enabled()
    here = count_try(s, user_id)
    proof = judged(s, user_id, found, data.given)
    if proof.step is None:  # a recovery code, and there are none yet
        s.logins.failed(user_id)
        raise wrong_code()
    codes = second_factor.new_recovery_codes()
    hashes = [second_factor.recovery_hash(code) for code in codes]
    with s.registry.revoking(user_id) as revocation:
        ended = await s.db.write(
            factors.enable, user_id, found.secret, proof.step, hashes, UUID(identity.sid), address()
        )
        revocation.sids = ended or ()
    if ended is None:
        raise conflict("CONFLICT", "The second factor was changed elsewhere at the same moment.")
    proven(s, user_id, proof, here)
    await _write_to(s, user_id, on=True)
    return ok(RecoveryCodes(codes), message="A code is asked for from now on; other sessions have ended.")


@two_factor.post("/disable")
@signed_in
@takes(PasswordAndCode)
@answers()
@fails(403, 409)
async def disable(identity: Identity, data: PasswordAndCode) -> Response:
    """Switch the second factor off."""
    s, user_id = services(), identity.user_id
    proof, here = await _both(s, user_id, data)
    try:
        await s.db.write(factors.disable, user_id, proof, address())
    except NotProven:
        s.logins.failed(user_id)
        raise wrong_code() from None
    proven(s, user_id, proof, here)
    await _write_to(s, user_id, on=False)
    return ok(message="No code is asked for any more.")


@two_factor.post("/recovery-codes")
@signed_in
@takes(PasswordAndCode)
@answers(RecoveryCodes)
@fails(403, 409)
async def renew_codes(identity: Identity, data: PasswordAndCode) -> Response:
    """New recovery codes; those from before are no good any more."""
    s, user_id = services(), identity.user_id
    proof, here = await _both(s, user_id, data)
    codes = second_factor.new_recovery_codes()
    hashes = [second_factor.recovery_hash(code) for code in codes]
    try:
        await s.db.write(factors.renew_codes, user_id, proof, hashes, address())
    except NotProven:
        s.logins.failed(user_id)
        raise wrong_code() from None
    proven(s, user_id, proof, here)
    return ok(RecoveryCodes(codes))


# What others ask for too --------------------------------------------------------------------------------


def count_try(s: Services, user_id: int) -> str:
    """Before a password or a code is looked at: where it is tried from. Raises ApiError 429."""
    here = rate_address()
    if wait := s.logins.attempt(user_id, here):
        raise rate_limited(wait, "Too many tries; wait before the next one.")
    return here


async def confirm_password(
    s: Services,
    user_id: int,
    password: str,
    here: str,
    *,
    field: str = "password",
    says: str = "The password is not right.",
) -> str:
    """The hash it was found right against. The try still counts: call `proven` when all else is right too.

    Raises ApiError 403: it is wrong.
    """
    try:
        known = await s.db.read(users.credentials_by_id, user_id)
        verdict = await s.passwords.verify(password, known.password_hash if known else None)
    except (Busy, Unavailable):
        s.logins.uncounted(user_id, here)
        raise
    if known is None or not verdict.right:
        s.logins.failed(user_id)
        raise ApiError(
            403,
            "INVALID_CREDENTIALS",
            says,
            details={field: "Is not right."},
        )
    return known.password_hash


def judge(s: Services, user_id: int, factor: Factor, code: str) -> Proof | None:
    """What this code may prove, to be taken by the transaction it is for; None: it is wrong.

    Raises ApiError 429: too many codes of six digits were tried for this account.
    """
    code = second_factor.plain(code)
    if second_factor.is_recovery(code):
        return Proof(recovery=second_factor.recovery_hash(code))
    if wait := s.code_rates.take(user_id):
        raise rate_limited(wait, "Too many codes were tried for this account; wait, or use a recovery code.")
    try:
        secret = s.secrets.open(user_id, factor.secret)
    except second_factor.Unreadable:
        _log.error("a second factor cannot be read: was SECRET_KEY changed?", user_id=user_id)
        return None
    step = second_factor.step_of(secret, code, s.wall())
    return None if step is None else Proof(step=step)


def judged(s: Services, user_id: int, factor: Factor, code: str) -> Proof:
    """`judge` for who is logged in. Raises ApiError 403: it is wrong."""
    proof = judge(s, user_id, factor, code)
    if proof is None:
        s.logins.failed(user_id)
        raise wrong_code()
    return proof


def proven(s: Services, user_id: int, proof: Proof | None, here: str) -> None:
    """All that was asked for is right, and the code is taken."""
    if proof is not None and proof.step is not None:
        s.code_rates.give_back(user_id)
    s.logins.succeeded(user_id, here)


def wrong_code(status: int = 403) -> ApiError:
    return ApiError(
        status,
        "INVALID_CODE",
        "This code is not right, or was used already.",
        details={"code": "Is not right, or was used already."},
    )


async def _both(s: Services, user_id: int, data: PasswordAndCode) -> tuple[Proof, str]:
    """Password and code, found right; the code is still to be taken. And where it was tried from."""
    here = count_try(s, user_id)
    await confirm_password(s, user_id, data.password, here)
    found = await s.db.read(factors.of, user_id)
    if found is None or not found.enabled:
        proven(s, user_id, None, here)
        raise conflict("TWO_FACTOR_NOT_ENABLED", "There is no second factor in force.")
    return judged(s, user_id, found, data.given), here


async def _write_to(s: Services, user_id: int, *, on: bool) -> None:
    """Who did not do it himself is to hear of it."""
    user = await s.db.read(users.by_id, user_id)
    if user is not None:
        s.mailer.post(letters.second_factor(s.settings, user.username, user.email, on))


def _enabled() -> ApiError:
    return conflict("TWO_FACTOR_ENABLED", "The second factor is in force already; switch it off first.")
