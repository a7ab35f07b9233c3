"""The REST API's records as this client reads them. Unknown fields are ignored, so the server may grow."""

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from veza.client.frames import Frame

T = TypeVar("T")


class Tokens(Frame, frozen=True, kw_only=True):
    """What proves who we are; `expires_at` is when the access token ends. Its `repr` shows neither token."""

    access_token: str
    refresh_token: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Tokens(expires_at={self.expires_at!r})"


class User(Frame, frozen=True, kw_only=True):
    """A person; `email` and what follows it only of oneself."""

    id: int
    username: str
    first_name: str | None = None
    last_name: str | None = None
    bio: str | None = None
    avatar: str | None = None
    role: str = "user"
    created_at: datetime | None = None
    email: str | None = None
    is_active: bool | None = None
    is_verified: bool | None = None


class Login(Frame, frozen=True, kw_only=True):
    """The answer to registering, logging in and refreshing."""

    access_token: str
    refresh_token: str
    expires_at: datetime
    expires_in: float
    user: User | None = None

    @property
    def tokens(self) -> Tokens:
        return Tokens(
            access_token=self.access_token, refresh_token=self.refresh_token, expires_at=self.expires_at
        )

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, expires_at={self.expires_at!r})"


class Session(Frame, frozen=True, kw_only=True):
    """One login of ours, somewhere."""

    id: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    user_agent: str | None = None
    ip: str | None = None
    current: bool = False


class Room(Frame, frozen=True, kw_only=True):
    """A room as its reader sees it; `name` is None for conversations, which are `with_user`'s."""

    id: int
    kind: str
    name: str | None = None
    description: str | None = None
    is_private: bool = False
    owner_id: int | None = None
    member_count: int = 0
    online: int = 0
    unread: int = 0
    last_seq: int = 0
    last_read_seq: int = 0
    slow_mode_s: int = 0
    role: str | None = None
    with_user: int | None = None
    last_message: dict[str, Any] | None = None
    created_at: datetime | None = None


class Invite(Frame, frozen=True, kw_only=True):
    """An invitation; whoever has the code may come in, as often as `uses` says (None: without end)."""

    code: str
    room_id: int
    user_id: int | None = None
    uses: int | None = None
    expires_at: datetime | None = None


class Member(Frame, frozen=True, kw_only=True):
    """A member of a room; `status` while online."""

    user_id: int
    username: str
    role: str = "member"
    is_online: bool = False
    status: str | None = None
    status_text: str | None = None
    joined_at: datetime | None = None


class Conversation(Frame, frozen=True, kw_only=True):
    """A direct conversation as lists show it."""

    user_id: int
    username: str
    room_id: int
    avatar: str | None = None
    last_message: str | None = None
    last_activity: datetime | None = None
    unread_count: int = 0
    is_online: bool = False
    last_seen: datetime | None = None


class UnreadRoom(Frame, frozen=True, kw_only=True):
    room_id: int
    room: str | int
    kind: str
    unread_count: int
    with_user: int | None = None


class Unread(Frame, frozen=True, kw_only=True):
    unread_count: int
    rooms: tuple[UnreadRoom, ...] = ()


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list; `total` counts all pages."""

    items: list[T]
    page: int = 1
    per_page: int = 20
    total: int = 0
    total_pages: int = 0
    next_cursor: str | None = None
