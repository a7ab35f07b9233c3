"""`/notifications`: what one was told, what one has read of it, and what one wants to be told of, and where.

Everybody sees and changes his own alone; another's is a 404, as one that never was. Whoever reads in one place is told
so in all the others (`notifications_read`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import notifications as notifications_db
from veza.db.notifications import DEFAULTS, Wanted
from veza.http.api.access import signed_in
from veza.http.api.envelope import not_found, ok
from veza.http.api.intake import takes, takes_query
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import KeyPaging, key_meta, numbers
from veza.http.api.services import services

notifications = Blueprint("notifications", __name__, url_prefix="/notifications")

_KIND_SAYS = f"Must be one of {', '.join(DEFAULTS)}."


class Shown(Struct, frozen=True, omit_defaults=True):
    """One notification: the fields all have (the actor's are missing where the house itself speaks). Those of its kind
    stand beside them."""

    id: int
    kind: str
    created_at: datetime
    read_at: datetime | None = None
    user_id: int | None = None
    username: str | None = None
    avatar: str | None = None
    room: str | int | None = None
    excerpt: str | None = None


class Notifications(Struct, frozen=True):
    """`unread` counts all one's notifications, not those of the page."""

    notifications: list[Shown]
    unread: int


class Unread(Struct, frozen=True):
    unread: int


class NotificationsQuery(KeyPaging, frozen=True, kw_only=True):
    unread: bool = False
    kind: str | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.kind is not None and self.kind not in DEFAULTS:
            yield "kind", _KIND_SAYS


class ReadAll(Struct, frozen=True):
    """`up_to`: an id; what came after it stays unread."""

    up_to: Annotated[int, Meta(ge=0, le=2**63 - 1, extra={"says": "Must be a notification's id."})] | None = (
        None
    )


class Channels(Struct, frozen=True):
    """What is left out stays."""

    socket: bool | None = None
    email: bool | None = None


class Preferences(Struct, frozen=True):
    """Where one wants to be told of each kind."""

    preferences: dict[str, Wanted]


class _Preferences(Struct, frozen=True):
    """By kind; what is left out stays. They may also stand in the body itself, without `preferences` around them."""

    preferences: dict[str, Channels] | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        for kind in self.preferences or ():
            if kind not in DEFAULTS:
                yield f"preferences.{kind}", _KIND_SAYS

    def chosen(self) -> dict[str, Channels]:
        beside = {kind: getattr(self, kind) for kind in DEFAULTS}
        return {kind: each for kind, each in (beside | (self.preferences or {})).items() if each is not None}


PreferencesForm = msgspec.defstruct(
    "PreferencesForm",
    [(kind, Channels | None, None) for kind in DEFAULTS],
    bases=(_Preferences,),
    frozen=True,
    module=__name__,
)


@notifications.get("")
@signed_in
@takes_query(NotificationsQuery)
@answers(Notifications, listing=True)
async def list_notifications(identity: Identity, query: NotificationsQuery) -> Response:
    """One's notifications, the newest first."""
    place = numbers(query, 1)
    page = await services().db.read(
        notifications_db.page,
        identity.user_id,
        unread=query.unread,
        kind=query.kind,
        before=None if place is None else place[0],
        limit=query.limit,
    )
    data = {"notifications": [each.flat() for each in page.notifications], "unread": page.unread}
    return ok(data, meta=key_meta(query.limit, page.next))


@notifications.get("/unread-count")
@signed_in
@answers(Unread)
async def count_unread(identity: Identity) -> Response:
    """How many one has not read."""
    return ok(Unread(await services().db.read(notifications_db.unread_count, identity.user_id)))


@notifications.put("/<id:notification_id>/read")
@signed_in
@answers(Unread)
@fails(404)
async def read_one(notification_id: int, identity: Identity) -> Response:
    """One has read this one (again: nothing changes)."""
    return await _change(notifications_db.read, notification_id, identity)


@notifications.delete("/<id:notification_id>")
@signed_in
@answers(Unread)
@fails(404)
async def delete_one(notification_id: int, identity: Identity) -> Response:
    """Take one off the list for good."""
    return await _change(notifications_db.delete, notification_id, identity, deleted=True)


@notifications.post("/read-all")
@signed_in
@takes(ReadAll, optional=True)
@answers(Unread)
async def read_all(identity: Identity, data: ReadAll) -> Response:
    """One has read all there is now, or all up to one."""
    up_to, unread = await _write(notifications_db.read_all, identity, data.up_to)
    _tell(identity, up_to=up_to)
    return ok(Unread(unread))


@notifications.get("/preferences")
@signed_in
@answers(Preferences)
async def my_preferences(identity: Identity) -> Response:
    """What one wants to be told of, and where."""
    return ok(Preferences(await services().db.read(notifications_db.preferences, identity.user_id)))


@notifications.put("/preferences")
@signed_in
@takes(PreferencesForm)
@answers(Preferences)
async def prefer(identity: Identity, data: Any) -> Response:
    """Change it, kind by kind. With both channels off there is no notification at all (of what moderators decide about
    one there always is)."""
    changes = {kind: (each.socket, each.email) for kind, each in data.chosen().items()}
    return ok(Preferences(await services().db.write(notifications_db.prefer, identity.user_id, changes)))


async def _change(
    unit: Callable[..., Any], notification_id: int, identity: Identity, *, deleted: bool = False
) -> Response:
    unread = await _write(unit, identity, notification_id)
    if unread is None:
        raise not_found("This notification", "NOTIFICATION_NOT_FOUND")
    _tell(identity, ids=(notification_id,), deleted=deleted)
    return ok(Unread(unread))


async def _write(unit: Callable[..., Any], identity: Identity, *args: Any) -> Any:
    s = services()
    try:
        return await s.db.write(unit, identity.user_id, *args)
    except BaseException:
        _tell(identity)  # perhaps it is stored all the same
        raise


def _tell(identity: Identity, **what: Any) -> None:
    """One's connections count anew, and hear what was read or deleted."""
    notices = services().notices
    if notices is not None:
        notices.seen(identity.user_id, **what)
