"""`/users`: one's own profile and password, and other people's public side (never an e-mail address)."""

from __future__ import annotations

from uuid import UUID

from msgspec import UNSET, structs
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import follows, sessions, users
from veza.db.errors import Conflict
from veza.http.api import letters
from veza.http.api.access import signed_in
from veza.http.api.envelope import conflict, not_found, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.models import Paging, PasswordChange, People, PeopleQuery, PeopleSearch, ProfileForm
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services
from veza.http.api.two_factor import confirm_password, count_try
from veza.security.passwords import Busy

people = Blueprint("users", __name__, url_prefix="/users")


@people.get("/profile")
@people.get("/me")
@signed_in
@answers(users.User)
async def my_profile(identity: Identity) -> Response:
    """One's own profile."""
    user = await services().db.read(users.by_id, identity.user_id)
    if user is None:
        raise not_found("This account")
    return ok(user)


@people.put("/profile")
@people.put("/me")
@signed_in
@takes(ProfileForm)
@answers(users.User)
@fails(409)
async def change_profile(identity: Identity, data: ProfileForm) -> Response:
    """Change one's own profile; what is left out stays."""
    s = services()
    given = {name: value or None for name, value in structs.asdict(data).items() if value is not UNSET}
    change = users.ProfileChange(frozenset(given), **given)
    try:
        user = await s.db.write(users.change_profile, identity.user_id, change)
    except Conflict:
        raise conflict("USERNAME_EXISTS", "This username is taken.") from None
    if user is None:
        raise not_found("This account")
    if user.username != identity.username:
        s.registry.changed_user(user.id)
    return ok(user, message="Profile saved.")


@people.put("/me/password")
@signed_in
@takes(PasswordChange)
@answers()
@fails(403, 409)
async def change_password(identity: Identity, data: PasswordChange) -> Response:
    """Change one's own password. Ends all other sessions."""
    s = services()
    account = identity.user_id
    here = count_try(s, account)
    known_hash = await confirm_password(
        s,
        account,
        data.current_password,
        here,
        field="current_password",
        says="The current password is not right.",
    )
    s.logins.succeeded(account, here)
    try:
        new_hash = await s.passwords.hash(data.new_password)
    except Busy:
        s.logins.uncounted(account, here)
        raise
    with s.registry.revoking(account) as revocation:
        ended = await s.db.write(sessions.change_password, account, known_hash, new_hash, UUID(identity.sid))
        revocation.sids = ended or ()
    if ended is None:
        raise conflict("CONFLICT", "The password was changed elsewhere at the same moment.")
    user = await s.db.read(users.by_id, account)
    if user is not None:
        s.mailer.post(letters.password_changed(s.settings, user.username, user.email))
    return ok(message="Password changed; other sessions have ended.")


@people.get("")
@signed_in
@takes_query(PeopleQuery)
@answers(People, listing=True)
async def list_people(identity: Identity, query: PeopleQuery) -> Response:
    """People, by name."""
    return await _list(query, query.search, None)


@people.get("/search")
@signed_in
@takes_query(PeopleSearch)
@answers(People, listing=True)
async def search_people(identity: Identity, query: PeopleSearch) -> Response:
    """People whose name holds a text; usernames that begin with it come first."""
    return await _list(query, query.q, None)


@people.get("/except-me")
@signed_in
@takes_query(PeopleQuery)
@answers(People, listing=True)
async def everybody_else(identity: Identity, query: PeopleQuery) -> Response:
    """People, by name, without oneself."""
    return await _list(query, query.search, identity.user_id)


@people.get("/<id:user_id>")
@signed_in
@answers(follows.Person)
@fails(404)
async def one_person(identity: Identity, user_id: int) -> Response:
    """Somebody's public profile, with how many follow and are followed, and how one stands to each other."""
    profile = await services().db.read(follows.person, user_id, identity.user_id)
    if profile is None:
        raise not_found("This person", "USER_NOT_FOUND")
    return ok(profile)


async def _list(page: Paging, text: str | None, without: int | None) -> Response:
    found = await services().db.read(users.search, text or None, without, page.limit, page.offset)
    return ok(People(found.profiles), meta=page_meta(page.page, page.limit, found.total))
