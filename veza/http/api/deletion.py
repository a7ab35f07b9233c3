"""`DELETE /users/me`, `DELETE /admin/users/{id}`: the end of an account.

Once the answer says so, or may have been about to, the account is closed for good: sessions have ended, sockets are
closed, the name is free. What is left of it (streams, rooms, tracks, files) goes before the answer where that is
possible, and otherwise beside everything else (`veza.actors.departures`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Final

import trio
from msgspec import Struct
from quart import Blueprint, Response

from veza.actors.registry import Identity, ended
from veza.db import deletion as deletion_db
from veza.db import two_factor as factors
from veza.db import users
from veza.db.audit import Act
from veza.db.deletion import Closed
from veza.db.errors import Conflict
from veza.db.powers import Check
from veza.http.api import letters
from veza.http.api.access import address, requires, signed_in
from veza.http.api.chat import Reason, no_person
from veza.http.api.envelope import ApiError, conflict, forbidden, ok
from veza.http.api.intake import takes
from veza.http.api.models import Code, GivenPassword
from veza.http.api.openapi import answers, fails
from veza.http.api.services import Services, services
from veza.http.api.two_factor import confirm_password, count_try, judged, proven, wrong_code
from veza.security.roles import above, at_least

deletion = Blueprint("deletion", __name__)

PATIENCE: Final = 20.0  # seconds the answer waits for what is left; the rest goes all the same


class Farewell(Struct, frozen=True):
    """`totp_code` (or a recovery code) where the account has a second factor."""

    password: GivenPassword
    totp_code: Code | None = None
    recovery_code: Code | None = None

    def __repr__(self) -> str:
        return "<Farewell>"


class Removal(Struct, frozen=True):
    """`reason` goes into the audit log."""

    reason: Reason | None = None


@deletion.delete("/users/me")
@signed_in
@takes(Farewell)
@answers()
@fails(403, 409)
async def delete_own_account(identity: Identity, data: Farewell) -> Response:
    """Delete one's own account, for ever.

    Personal data, tracks, streams, playlists and listings go; messages stay, under a name that is nobody's.
    """
    s, user_id = services(), identity.user_id
    here = count_try(s, user_id)
    verified = await confirm_password(s, user_id, data.password, here)
    factor = await s.db.read(factors.of, user_id)
    proof = None
    if factor is not None and factor.enabled:
        code = data.totp_code or data.recovery_code
        if code is None:
            s.logins.uncounted(user_id, here)
            raise ApiError(403, "TWO_FACTOR_REQUIRED", "Send a code of your second factor too.")
        proof = judged(s, user_id, factor, code)

    async def close(name: str) -> Closed:
        try:
            return await s.db.write(deletion_db.close_own, user_id, verified, proof, name)
        except factors.NotProven:
            s.logins.failed(user_id)
            raise wrong_code() from None
        except deletion_db.LastOfThem:
            raise conflict(
                "LAST_SUPER_ADMIN", "You are the last super_admin; make somebody else one first."
            ) from None
        except deletion_db.Stale:
            raise ended() from None

    await _delete(s, user_id, close, himself=True)
    proven(s, user_id, proof, here)
    return ok(message="Your account is gone.")


@deletion.delete("/admin/users/<id:user_id>")
@requires("admin")
@takes(Removal, optional=True)
@answers()
@fails(404)
async def delete_account(user_id: int, identity: Identity, data: Removal) -> Response:
    """Delete somebody's account, for ever; only of people below oneself."""
    s = services()
    act, check = Act(identity.user_id, address()), _below(identity, user_id)

    async def close(name: str) -> Closed:
        closed = await s.db.write(deletion_db.close_other, act, user_id, check, data.reason or None, name)
        if closed is None:
            raise no_person()
        return closed

    await _delete(s, user_id, close, himself=False)
    return ok(message="The account is gone.")


async def _delete(
    s: Services, user_id: int, close: Callable[[str], Awaitable[Closed]], *, himself: bool
) -> None:
    """Close it, tell everybody who must know, and remove what is left."""
    former = await s.db.read(users.by_id, user_id)
    try:
        # None told: everything of the person has ended, if the write happened, or may have.
        with s.registry.revoking(user_id):
            try:
                closed = await close(f"deleted_{user_id}")
            except Conflict:  # somebody has that very name
                closed = await close(f"deleted_{user_id}_{token_hex(4)}")
    finally:  # also where we do not know whether it is stored
        s.poke()
        s.departures.poke()
    s.registry.changed_user(user_id)
    if former is not None and former.is_verified:  # an address nobody confirmed may be somebody else's
        s.mailer.post(letters.goodbye(former.username, former.email, himself))
    if s.streams is not None:
        s.streams.owner_changed(user_id)
    with trio.move_on_after(PATIENCE):
        await s.departures.finish(closed)
    s.poke()


def _below(identity: Identity, target_id: int) -> Check:
    """Acts go strictly downwards; roles are looked at as they are in the transaction."""
    if target_id == identity.user_id:
        raise forbidden("Nobody does this to himself here; see DELETE /users/me.")

    def check(mine: str, theirs: str) -> None:
        if not at_least(mine, "admin") or not above(mine, theirs):
            raise forbidden("This works only on people below you.")

    return check
