"""`/admin`: the living tree, real counts, accounts, the audit log. For administrators.

What is inspected are numbers and names, never a message, a token or an e-mail. Every act is in the audit log, in the
transaction of what it did, and takes effect at once: on REST through the registry, on sockets through presence. Reports
are in `reports.py`, what moderators impose in `sanctions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.kernel import ActorInfo, NoSuchActor, System
from veza.actors.registry import Identity
from veza.db import administration, audit
from veza.db.administration import Account, AccountFilter, Acted
from veza.db.audit import Act, Entry
from veza.db.powers import Check
from veza.http.api.access import address, requires
from veza.http.api.chat import BIGINT, Cursor, Id, no_person, presence
from veza.http.api.dashboard import Dashboard, look
from veza.http.api.envelope import ApiError, conflict, forbidden, not_found, ok, page_meta
from veza.http.api.envelope import Meta as PageMeta
from veza.http.api.intake import takes, takes_query
from veza.http.api.models import Paging, SearchText
from veza.http.api.openapi import answers, fails
from veza.http.api.sanctions import Term, put_upon, take_from
from veza.http.api.services import services
from veza.security.roles import Role, above, at_least

admin = Blueprint("admin", __name__, url_prefix="/admin")

_LIMIT: Final = Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})
_ROLE_SAYS: Final = Meta(extra={"says": "Must be user, moderator, admin or super_admin."})


class TreeQuery(Struct, frozen=True, kw_only=True):
    """The part of the tree at `path`, so many levels deep, so many nodes at most."""

    path: Annotated[str, Meta(max_length=500)] = ""
    depth: Annotated[int, Meta(ge=0, le=20, extra={"says": "Must be a whole number from 0 to 20."})] = 2
    limit: Annotated[int, Meta(ge=1, le=1000, extra={"says": "Must be a whole number from 1 to 1000."})] = 200


class AccountsQuery(Paging, frozen=True, kw_only=True):
    """`search` looks in names; with an `@` it is a whole e-mail address. `cursor` is instead of `page`."""

    search: SearchText | None = None
    role: Annotated[Role, _ROLE_SAYS] | None = None
    is_active: bool | None = None
    cursor: Cursor = 0


class AccountChange(Struct, frozen=True):
    """What is left out stays."""

    role: Annotated[Role, _ROLE_SAYS] | None = None
    is_active: bool | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.role is None and self.is_active is None:
            yield "role", "Say a role, or whether the account is active."


class AuditQuery(Struct, frozen=True, kw_only=True):
    """The newest first; `cursor` goes on behind an earlier page."""

    actor_id: Id | None = None
    action: Annotated[str, Meta(max_length=50)] | None = None
    target_type: Annotated[str, Meta(max_length=50)] | None = None
    target_id: Annotated[int, Meta(ge=0, le=BIGINT)] | None = None
    limit: Annotated[int, _LIMIT] = 20
    cursor: Cursor | None = None


class Users(Struct, frozen=True):
    users: list[Account]


class Audit(Struct, frozen=True):
    entries: list[Entry]


# The tree ----------------------------------------------------------------------------------------------


@admin.get("/actors")
@requires("admin")
@takes_query(TreeQuery)
@answers(ActorInfo)
@fails(404)
async def tree(identity: Identity, query: TreeQuery) -> Response:
    """The live tree of actors: mailboxes, counters, times, and what each says of its state."""
    return ok(_inspect(query.path, query.depth, query.limit))


@admin.get("/actors/<path:path>")
@requires("admin")
@answers(ActorInfo)
@fails(404)
async def actor(path: str, identity: Identity) -> Response:
    """One actor, by its path (percent-encoded, or as it is). Of a supervisor, its first children too."""
    return ok(_inspect(path, 1, 100))


@admin.post("/actors/<path:path>/restart")
@requires("admin")
@answers()
@fails(404, 409)
async def restart(path: str, identity: Identity) -> Response:
    """Have an actor made anew after the message it handles now; its mailbox is kept."""
    found = _inspect(path, 0, 1)
    if found.mailbox is None:
        raise conflict("NOT_RESTARTABLE", "Only actors with a mailbox can be restarted.")
    await services().db.write(
        audit.record, _act(identity), "actor.restart", "actor", None, {"path": found.path}
    )
    try:
        _system().restart(path)
    except NoSuchActor:  # it ended meanwhile, which is as new as it gets
        raise _no_actor() from None
    return ok(message="It is being restarted.")


def _system() -> System:
    system: System | None = services().system
    if system is None:
        raise ApiError(503, "UNAVAILABLE", "No actors run here.", retry_after=2)
    return system


def _inspect(path: str, depth: int, limit: int) -> ActorInfo:
    try:
        return _system().inspect(path.strip("/") or None, depth=depth, limit=limit)
    except NoSuchActor:
        raise _no_actor() from None


def _no_actor() -> ApiError:
    return not_found("Such an actor", "NO_SUCH_ACTOR")


# Counts -------------------------------------------------------------------------------------------------


@admin.get("/dashboard")
@requires("admin")
@answers(Dashboard)
async def dashboard(identity: Identity) -> Response:
    """What there is and what goes on: counted, a few seconds old at most."""
    return ok(await look(services(), _system(), presence()))


# People -------------------------------------------------------------------------------------------------


@admin.get("/users")
@requires("admin")
@takes_query(AccountsQuery)
@answers(Users, listing=True)
async def list_users(identity: Identity, query: AccountsQuery) -> Response:
    """Accounts, by id."""
    wanted = AccountFilter(query.search or None, query.role, query.is_active)
    offset = 0 if query.cursor else query.offset
    page = await services().db.read(administration.accounts, wanted, query.cursor, query.limit, offset)
    cursor = str(page.accounts[-1].id) if page.more else None
    return ok(Users(page.accounts), meta=page_meta(query.page, query.limit, page.total, cursor))


@admin.get("/users/<id:user_id>")
@requires("admin")
@answers(Account)
@fails(404)
async def one_user(user_id: int, identity: Identity) -> Response:
    """One account."""
    return ok(await _account(user_id))


@admin.put("/users/<id:user_id>")
@requires("admin")
@takes(AccountChange)
@answers(Account)
@fails(404)
async def change_user(user_id: int, identity: Identity, data: AccountChange) -> Response:
    """Give a role, or switch an account off or on. Nobody acts on himself, on people at or above himself, or raises
    anybody above himself."""
    s = services()
    check = _below(identity, user_id, data.role)
    act = _act(identity)
    with s.registry.revoking(user_id) as revocation:
        with trio.CancelScope(shield=True):
            acted: Acted | None = await s.db.write(
                administration.change_account, act, user_id, data.role, data.is_active, check
            )
        if acted is None:
            raise no_person()
        # Switched off, nothing of the person's counts any more, whatever was ended just now.
        revocation.sids = None if acted.changed and data.is_active is False else ()
    if acted.changed:
        s.registry.changed_user(user_id)
    return ok(acted.account, message="The account is changed.")


@admin.post("/users/<id:user_id>/ban")
@requires("admin")
@takes(Term, optional=True)
@answers(Account)
@fails(404)
async def ban(user_id: int, identity: Identity, data: Term) -> Response:
    """Shut somebody out, until a time or for good. Sessions end and sockets close (4003) at once."""
    await put_upon(identity, user_id, "ban", data.ends(), data.reason or None, least="admin")
    return ok(await _account(user_id), message="The account is banned.")


@admin.delete("/users/<id:user_id>/ban")
@requires("admin")
@answers(Account)
@fails(404)
async def unban(user_id: int, identity: Identity) -> Response:
    """Let somebody in again."""
    await take_from(identity, user_id, "ban", least="admin")
    return ok(await _account(user_id), message="The account is not banned.")


async def _account(user_id: int) -> Account:
    """Raises ApiError."""
    found: Account | None = await services().db.read(administration.account, user_id)
    if found is None:
        raise no_person()
    return found


def _act(identity: Identity) -> Act:
    return Act(identity.user_id, address())


def _below(identity: Identity, target_id: int, role: Role | None = None) -> Check:
    """Acts go strictly downwards; roles are looked at as they are in the transaction."""
    if target_id == identity.user_id:
        raise forbidden("Nobody does this to himself.")

    def check(mine: str, theirs: str) -> None:
        if not at_least(mine, "admin"):
            raise forbidden()
        if not above(mine, theirs):
            raise forbidden("This works only on people below you.")
        if role is not None and above(role, mine):
            raise forbidden("Nobody raises anybody above himself.")

    return check


# The audit log ------------------------------------------------------------------------------------------


@admin.get("/audit")
@requires("admin")
@takes_query(AuditQuery)
@answers(Audit, listing=True)
async def list_audit(identity: Identity, query: AuditQuery) -> Response:
    """Who did what to whom, the newest first."""
    wanted = audit.Wanted(query.actor_id, query.action, query.target_type, query.target_id)
    found = await services().db.read(audit.entries, wanted, query.cursor, query.limit + 1)
    page = found[: query.limit]
    cursor = str(page[-1].id) if len(found) > query.limit else None
    return ok(Audit(page), meta=PageMeta(per_page=query.limit, next_cursor=cursor))
