"""`/auth`: accounts, logins, sessions, and the mails that confirm and reset.

Unknown accounts and wrong passwords look and take the same. Whatever ends a session tells the registry after the
commit, so that it counts at once, on sockets too. Tokens and passwords are never logged.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
import trio
from quart import Blueprint, Response, g, request

from veza.actors import rules
from veza.actors.registry import Identity
from veza.db import accounts, mail_tokens, sessions, users
from veza.db import two_factor as factors
from veza.db.errors import Conflict, Unavailable
from veza.db.two_factor import Proof
from veza.http.api import letters
from veza.http.api.access import (
    address,
    current,
    either_token,
    perhaps_signed_in,
    rate_address,
    signed_in,
)
from veza.http.api.envelope import ApiError, bad_request, conflict, not_found, ok, rate_limited
from veza.http.api.intake import takes
from veza.http.api.models import (
    AddressOnly,
    Login,
    Logout,
    PasswordReset,
    PerhapsAddress,
    Refresh,
    Registration,
    SessionList,
    SessionsEnded,
    SessionShown,
    SignedIn,
    TokenByMail,
    TokenPair,
)
from veza.http.api.openapi import answers, fails
from veza.http.api.services import Services, services
from veza.http.api.two_factor import judge, proven, wrong_code
from veza.security.passwords import Busy
from veza.security.tokens import digest, new_secret

auth = Blueprint("auth", __name__, url_prefix="/auth")

VERIFY_SECONDS: Final = 24 * 3600.0
RESET_SECONDS: Final = 3600.0
# Answers that must not tell whether an address is known take at least this long, however the database felt.
EVEN_SECONDS: Final = 0.25


@auth.post("/register")
@auth.post("/signup")
@takes(Registration)
@answers(SignedIn, 201, beside=TokenPair)
@fails(409)
async def register(data: Registration) -> Response:
    """Open an account and log in.

    A mail with a token to confirm the address is sent.
    """
    s = services()
    name_taken, email_taken = await s.db.read(users.taken, data.username, data.email)
    if name_taken or email_taken:
        raise _taken(users.USERNAME_TAKEN if name_taken else users.EMAIL_TAKEN)
    account = accounts.NewAccount(
        data.username,
        data.email,
        await s.passwords.hash(data.password),
        data.first_name or None,
        data.last_name or None,
    )
    opening, refresh_token = _opening(s)
    verify_token = new_secret()
    try:
        user = await s.db.write(accounts.register, account, opening, digest(verify_token), VERIFY_SECONDS)
    except Conflict as error:  # somebody was faster
        raise _taken(error.constraint) from None
    s.mailer.post(letters.verification(s.settings, user.username, user.email, verify_token))
    return _signed_in(s, user, opening.sid, refresh_token, status=201)


@auth.post("/login")
@takes(Login)
@answers(SignedIn, beside=TokenPair)
@fails(401, 423)
async def login(data: Login) -> Response:
    """Log in with e-mail (or username) and password.

    401 `TWO_FACTOR_REQUIRED`, after the right password only: send it again with `totp_code` or `recovery_code`.
    """
    s = services()
    typed = (data.email or data.username or "").lower()
    by_email = data.email is not None and "@" in typed
    known = await s.db.read(users.credentials_by_email if by_email else users.credentials_by_username, typed)
    account: Hashable = known.user_id if known else typed
    here = rate_address()
    if wait := s.logins.attempt(account, here):
        raise rate_limited(wait, "Too many tries; wait before the next one.")
    try:
        await trio.sleep(s.logins.pause(account))
        verdict = await s.passwords.verify(data.password, known.password_hash if known else None)
        if known is None or not verdict.right:
            s.logins.failed(account)
            raise _wrong()
        proof = await _second_factor(s, known.user_id, data, here)
        if known.barred:
            s.logins.succeeded(account, here)
            raise _barred(known)
        stronger = await _upgraded(s, data.password) if verdict.outdated else None
        opening, refresh_token = _opening(s)
        with trio.CancelScope(shield=True):  # a code is taken with the session it opens, or not at all
            user = await s.db.write(
                factors.open_session, known.user_id, known.password_hash, stronger, opening, proof
            )
    except (Busy, Unavailable):
        s.logins.uncounted(account, here)
        raise
    except factors.NotProven:
        s.logins.failed(account)
        # Without one, the second factor was enabled while we looked.
        raise (code_needed() if proof is None else wrong_code(401)) from None
    if user is None:  # the password was changed, or the account disabled, while we looked
        raise _wrong()
    proven(s, known.user_id, proof, here)
    return _signed_in(s, user, opening.sid, refresh_token)


@auth.post("/refresh")
@takes(Refresh)
@answers(SignedIn, beside=TokenPair)
@fails(401)
async def refresh(data: Refresh) -> Response:
    """Exchange a refresh token for a new pair.

    Each refresh token is good once; the one used last works again for a minute while its successor is unused. One that
    comes back later ends the session.
    """
    s = services()
    token = new_secret()
    settings = s.settings
    # Not to be cancelled half-way: a client that hangs up must not keep a revocation from being told.
    with trio.CancelScope(shield=True):
        rotation = await s.db.write(
            sessions.rotate,
            digest(data.refresh_token),
            digest(token),
            settings.jwt_refresh_expiration,
            settings.refresh_grace,
        )
    if rotation.outcome == "reused" and rotation.sid is not None and rotation.user_id is not None:
        s.registry.forget_session(rotation.sid, rotation.user_id)
    if rotation.user is None or rotation.sid is None:
        raise ApiError(
            401, "INVALID_REFRESH_TOKEN", "This refresh token is not good (any more). Log in again."
        )
    return _signed_in(s, rotation.user, rotation.sid, token)


@auth.post("/logout")
@either_token
@takes(Logout, optional=True)
@answers()
@fails(401)
async def logout(data: Logout) -> Response:
    """End this session: the access token's, the refresh token's, or both."""
    s = services()
    identity: Identity | None = g.identity
    if identity is None and data.refresh_token is None:
        current()
    if identity is not None:
        await _end(s, UUID(identity.sid), identity.user_id, "logged out")
    if data.refresh_token is not None:
        ended = await s.db.write_shielded(sessions.end_by_refresh, digest(data.refresh_token), "logged out")
        if ended is not None:
            s.registry.forget_session(*ended)
    return ok(message="Logged out.")


@auth.post("/logout-all")
@signed_in
@answers(SessionsEnded)
async def logout_all(identity: Identity) -> Response:
    """End all of one's sessions, this one included."""
    s = services()
    with s.registry.revoking(identity.user_id) as revocation:
        revocation.sids = await s.db.write_shielded(
            sessions.end_all, identity.user_id, "logged out everywhere"
        )
    return ok(SessionsEnded(len(revocation.sids)), message="Logged out everywhere.")


@auth.get("/me")
@signed_in
@answers(users.User)
async def me(identity: Identity) -> Response:
    """One's own account."""
    user = await services().db.read(users.by_id, identity.user_id)
    if user is None:
        raise not_found("This account")
    return ok(user)


@auth.get("/sessions")
@signed_in
@answers(SessionList)
async def list_sessions(identity: Identity) -> Response:
    """One's own live logins, the latest first."""
    found = await services().db.read(sessions.of_user, identity.user_id)
    shown = [
        SessionShown(
            one.id,
            one.user_agent,
            one.ip,
            one.created_at,
            one.last_used_at,
            one.expires_at,
            current=str(one.id) == identity.sid,
        )
        for one in found
    ]
    return ok(SessionList(shown))


@auth.delete("/sessions/<session_id>")
@signed_in
@answers()
@fails(404)
async def end_session(session_id: str, identity: Identity) -> Response:
    """End one of one's own logins."""
    try:
        sid = UUID(session_id)
    except ValueError:
        raise not_found("This session") from None
    if not await _end(services(), sid, identity.user_id, "ended by its owner"):
        raise not_found("This session")
    return ok(message="Session ended.")


@auth.post("/verify-email")
@takes(TokenByMail)
@answers()
async def verify_email(data: TokenByMail) -> Response:
    """Confirm an e-mail address with the token from the mail."""
    addressee = await services().db.write(mail_tokens.verify_address, digest(data.token))
    if addressee is None:
        raise _bad_token()
    return ok(message="E-mail address confirmed.")


@auth.post("/resend-verification")
@perhaps_signed_in
@takes(PerhapsAddress, optional=True)
@answers()
async def resend_verification(identity: Identity | None, data: PerhapsAddress) -> Response:
    """Send the confirming mail again: to oneself, or to the address in the body.

    The answer does not tell whether that address is known.
    """
    s = services()
    _count_mail(s, identity.user_id if identity else data.email)
    finish = trio.current_time() + EVEN_SECONDS
    token = new_secret()
    if identity is not None:
        addressee = await s.db.write(
            mail_tokens.issue_unverified, digest(token), identity.user_id, VERIFY_SECONDS
        )
    elif data.email is not None:
        addressee = await s.db.write(
            mail_tokens.issue_unverified_for, digest(token), data.email, VERIFY_SECONDS
        )
    else:
        raise bad_request("Log in, or say which e-mail address.")
    if addressee is not None:
        s.mailer.post(letters.verification(s.settings, addressee.username, addressee.email, token))
    await trio.sleep_until(finish)
    return ok(message="If this address waits to be confirmed, a mail is on its way.")


@auth.post("/forgot-password")
@takes(AddressOnly)
@answers()
async def forgot_password(data: AddressOnly) -> Response:
    """Ask for a mail that lets one set a new password.

    The answer does not tell whether the address is known.
    """
    s = services()
    _count_mail(s, data.email)
    finish = trio.current_time() + EVEN_SECONDS
    token = new_secret()
    addressee = await s.db.write(
        mail_tokens.issue_for_email, digest(token), data.email, "reset", RESET_SECONDS
    )
    if addressee is not None:
        s.mailer.post(letters.reset(s.settings, addressee.username, addressee.email, token))
    await trio.sleep_until(finish)
    return ok(message="If this address is known, a mail is on its way.")


@auth.post("/reset-password")
@takes(PasswordReset)
@answers()
async def reset_password(data: PasswordReset) -> Response:
    """Set a new password with the token from the mail. Ends all sessions."""
    s = services()
    token = digest(data.token)
    user_id = await s.db.read(mail_tokens.holder, token, "reset")
    if user_id is None:
        raise _bad_token()
    password_hash = await s.passwords.hash(data.new_password)
    with s.registry.revoking(user_id) as revocation:
        done = await s.db.write(mail_tokens.reset_password, token, password_hash)
        revocation.sids = done[1] if done else ()
    if done is None:
        raise _bad_token()
    s.mailer.post(letters.password_changed(s.settings, done[0].username, done[0].email))
    return ok(message="Your password is set. Log in with it.")


# Inside ----------------------------------------------------------------------------------------------


def _opening(s: Services) -> tuple[sessions.Opening, str]:
    """A session to be, and the refresh token only its client will know."""
    refresh_token = new_secret()
    agent = "".join(c for c in request.headers.get("User-Agent", "") if c.isprintable())[:300] or None
    opening = sessions.Opening(
        uuid.uuid4(), digest(refresh_token), s.settings.jwt_refresh_expiration, agent, address()
    )
    return opening, refresh_token


def _signed_in(s: Services, user: users.User, sid: UUID, refresh_token: str, status: int = 200) -> Response:
    access, expires = s.tokens.issue(user.id, user.username, user.role, str(sid))
    lasts = max(1, int(s.tokens.lifetime))
    data = SignedIn(user, access, access, refresh_token, datetime.fromtimestamp(expires, UTC), lasts)
    pair = TokenPair(access, refresh_token, lasts)
    return ok(data, status=status, extra=msgspec.structs.asdict(pair))


async def _second_factor(s: Services, user_id: int, data: Login, here: str) -> Proof | None:
    """What the login may prove as its second factor; None where the account has none. Raises ApiError."""
    found = await s.db.read(factors.of, user_id)
    if found is None or not found.enabled:
        return None
    code = data.totp_code or data.recovery_code
    if code is None:
        s.logins.uncounted(user_id, here)  # half a login: the other half is counted
        raise code_needed()
    proof = judge(s, user_id, found, code)
    if proof is None:
        s.logins.failed(user_id)
        raise wrong_code(401)
    return proof


async def _upgraded(s: Services, password: str) -> str | None:
    """A hash at today's costs; not now when too many wait, the next login will do."""
    try:
        return await s.passwords.hash(password)
    except Busy:
        return None


async def _end(s: Services, sid: UUID, user_id: int, reason: str) -> bool:
    with s.registry.revoking(user_id) as revocation:
        ended: bool = await s.db.write_shielded(sessions.end, sid, user_id, reason)
        revocation.sids = [sid]
    return ended


def _count_mail(s: Services, whom: Hashable) -> None:
    """A few mails an hour for one address: enough for the forgetful, too few to bury a mailbox."""
    if wait := s.mail_rates.take(whom.lower() if isinstance(whom, str) else whom):
        raise rate_limited(wait, "Several mails were asked for already; look into your mailbox first.")


def _taken(constraint: str | None) -> ApiError:
    if constraint == users.USERNAME_TAKEN:
        return conflict("USERNAME_EXISTS", "This username is taken.")
    return conflict("EMAIL_EXISTS", "An account with this e-mail address exists already.")


def code_needed() -> ApiError:
    return ApiError(
        401, "TWO_FACTOR_REQUIRED", "Send the code of your authenticator too, or one of your recovery codes."
    )


def _barred(known: users.Credentials) -> ApiError:
    if known.banned_until is None:
        return ApiError(423, "ACCOUNT_DISABLED", "This account is disabled.")
    return ApiError(
        423, "ACCOUNT_BANNED", "This account is banned.", details=rules.ends(known.banned_until) or None
    )


def _wrong() -> ApiError:
    return ApiError(401, "INVALID_CREDENTIALS", "The name or the password is not right.")


def _bad_token() -> ApiError:
    return ApiError(400, "INVALID_TOKEN", "This token is not good (any more). Ask for a new mail.")
