"""What happened to one while one was away, or happens now: followers, likes, offers, mentions, …"""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec

from veza.client.errors import ProtocolError
from veza.client.frames import Frame, Notification
from veza.client.socket import ChatSocket
from veza.client.transport import Transport, read_as

if TYPE_CHECKING:
    from veza.client.rest import VezaClient


class Notice(Frame, frozen=True, kw_only=True):
    """One notification; `kind` is mention, reply, direct_message, follow, like, repost, comment, offer, listing,
    stream_started, track_ready or moderation.

    `user_id`, `username` and `avatar` are whose act it was, None where the house itself speaks. Which of the others are
    there depends on the kind; `data` holds all as they came. `unread` is only told on sockets.
    """

    id: int
    kind: str
    created_at: datetime | None = None
    read_at: datetime | None = None
    user_id: int | None = None
    username: str | None = None
    avatar: str | None = None
    room: str | int | None = None
    room_id: int | None = None
    message_id: int | None = None
    seq: int | None = None
    excerpt: str | None = None
    title: str | None = None
    track_id: int | None = None
    comment_id: int | None = None
    offer_id: int | None = None
    listing_id: int | None = None
    stream_id: int | None = None
    slug: str | None = None
    step: str | None = None
    status: str | None = None
    reason: str | None = None
    unread: int | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Notices(Frame, frozen=True, kw_only=True):
    """A page of notifications, the newest first; `unread` counts all pages."""

    notifications: tuple[Notice, ...] = ()
    unread: int = 0
    next_cursor: str | None = None


class _Listed(msgspec.Struct):
    notifications: list[dict[str, Any]]
    unread: int = 0


class Notifications(Transport):
    """What `VezaClient` offers of notifications."""

    async def notifications(
        self,
        *,
        unread: bool | None = None,
        kind: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Notices:
        """One's own; `unread` leaves out those that were read, `cursor` (a page's `next_cursor`) goes on behind it."""
        flag = None if unread is None else str(unread).lower()
        params = {"unread": flag, "kind": kind, "limit": limit, "cursor": cursor}
        answer = await self._ask("GET", "notifications", None, params, True)
        page = read_as(_Listed, answer.data)
        return Notices(
            notifications=tuple(read_notice(data) for data in page.notifications),
            unread=page.unread,
            next_cursor=answer.meta.next_cursor if answer.meta else None,
        )

    async def mark_notification_read(self, notification_id: int) -> None:
        await self.request("PUT", f"notifications/{notification_id}/read")

    async def mark_notifications_read(self) -> None:
        """All of them."""
        await self.request("POST", "notifications/read-all")

    async def listen_notifications(self) -> AsyncGenerator[Notice, None]:
        """Those that come from now on, over a chat socket of its own, which heals itself.

        Close the iterator when leaving early (`contextlib.aclosing`), or the connection stays until it is forgotten.
        """
        async with ChatSocket(cast("VezaClient", self)) as socket:
            async for event in socket:
                if isinstance(event, Notification) and "id" in event.data:
                    yield read_notice(event.data)


def read_notice(data: dict[str, Any]) -> Notice:
    """A notification as it came, from REST or in a `Notification` frame. Raises ProtocolError."""
    try:
        return msgspec.convert({**data, "data": data}, Notice)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None
