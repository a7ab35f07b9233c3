"""REST: one method a request, typed in and out. How requests travel is `transport`'s."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from veza.client.finding import Finding
from veza.client.frames import DirectMessage, History, RoomMessage
from veza.client.market import Market
from veza.client.models import (
    Conversation,
    Invite,
    Login,
    Member,
    Page,
    Room,
    Session,
    Unread,
    User,
)
from veza.client.notifications import Notifications
from veza.client.people import People
from veza.client.socket import ChatSocket
from veza.client.streams import Streams
from veza.client.tracks import Tracks
from veza.client.transport import read_as, read_history, read_list, read_message, read_one

RoomName = str | int  # a public room's name, or any room's id


class VezaClient(Tracks, Streams, Market, People, Notifications, Finding):
    """A person's (or a stranger's) way to one server.

    Args:
        url: the server's address, such as `http://localhost:8080`.
        tokens: from an earlier login.
        on_tokens: called with the new tokens after every login, refresh and logout (None), to keep them somewhere.
        timeout: seconds for one request without progress.
        verify: an `ssl.SSLContext`, or False to trust any certificate.

    All methods raise `ApiError` when the server refuses, `AuthFailed` when it is about who we are, `Unreachable` when
    no answer came and `ProtocolError` when the answer makes no sense. Cancelling a method leaves it unknown whether
    the server carried it out.
    """

    @asynccontextmanager
    async def chat(self, **options: Any) -> AsyncIterator[ChatSocket]:
        """A live connection as the person logged in; see `ChatSocket` for its options."""
        async with ChatSocket(self, **options) as socket:
            yield socket

    # Who we are ----------------------------------------------------------------------------------------

    async def register(
        self,
        username: str,
        email: str,
        password: str,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
    ) -> Login:
        """Make an account and be logged in with it."""
        body = {
            "username": username,
            "email": email,
            "password": password,
            "first_name": first_name,
            "last_name": last_name,
        }
        return self._logged_in(await self.request("POST", "auth/register", json=body, auth=False))

    async def login(self, name: str, password: str, *, totp_code: str | None = None) -> Login:
        """Log in by e-mail address or username.

        Args:
            totp_code: of the authenticator, or a recovery code, where the account has a second factor. Without one
                that is refused with the code `TWO_FACTOR_REQUIRED`.
        """
        body = {"email" if "@" in name else "username": name, "password": password}
        if totp_code is not None:
            body["totp_code"] = totp_code
        return self._logged_in(await self.request("POST", "auth/login", json=body, auth=False))

    async def logout(self) -> None:
        """End this session on the server and forget the tokens."""
        if self.tokens is not None:
            await self.request("POST", "auth/logout", json={"refresh_token": self.tokens.refresh_token})
        self._keep(None)

    async def logout_all(self) -> None:
        """End all sessions of this person, this one included."""
        await self.request("POST", "auth/logout-all")
        self._keep(None)

    async def me(self) -> User:
        data = await self.request("GET", "auth/me")
        return read_one(data, "user", User)

    async def sessions(self) -> list[Session]:
        return read_list(await self.request("GET", "auth/sessions"), "sessions", Session)

    async def end_session(self, session_id: str) -> None:
        await self.request("DELETE", f"auth/sessions/{_segment(session_id)}")

    async def verify_email(self, token: str) -> None:
        await self.request("POST", "auth/verify-email", json={"token": token}, auth=False)

    async def resend_verification(self) -> None:
        await self.request("POST", "auth/resend-verification")

    async def forgot_password(self, email: str) -> None:
        await self.request("POST", "auth/forgot-password", json={"email": email}, auth=False)

    async def reset_password(self, token: str, new_password: str) -> None:
        body = {"token": token, "new_password": new_password}
        await self.request("POST", "auth/reset-password", json=body, auth=False)

    # People --------------------------------------------------------------------------------------------

    async def profile(self) -> User:
        return read_one(await self.request("GET", "users/profile"), "user", User)

    async def update_profile(self, **fields: Any) -> User:
        """Change `username`, `first_name`, `last_name`, `bio`, …: what is not named stays, None clears."""
        return read_one(await self.request("PUT", "users/profile", json=fields), "user", User)

    async def change_password(self, current_password: str, new_password: str) -> None:
        body = {"current_password": current_password, "new_password": new_password}
        await self.request("PUT", "users/me/password", json=body)

    async def users(self, search: str | None = None, *, page: int = 1, limit: int = 20) -> Page[User]:
        return await self._page("users", "users", User, {"search": search, "page": page, "limit": limit})

    async def user(self, user_id: int) -> User:
        return read_one(await self.request("GET", f"users/{user_id}"), "user", User)

    # Rooms ---------------------------------------------------------------------------------------------

    async def rooms(
        self,
        search: str | None = None,
        *,
        mine: bool | None = None,
        page: int | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Room]:
        """Public rooms and one's own; `cursor` (a page's `next_cursor`) goes on behind that page."""
        params = {"search": search, "mine": _flag(mine), "page": page, "limit": limit, "cursor": cursor}
        return await self._page("chat/rooms", "rooms", Room, params)

    async def create_room(self, name: str, *, description: str | None = None, private: bool = False) -> Room:
        body = {"name": name, "description": description, "is_private": private}
        return read_one(await self.request("POST", "chat/rooms", json=body), "room", Room)

    async def room(self, room: RoomName) -> Room:
        return read_one(await self.request("GET", _room(room)), "room", Room)

    async def update_room(self, room: RoomName, **fields: Any) -> Room:
        """Change `name`, `description`, `is_private`, `slow_mode_s`."""
        return read_one(await self.request("PUT", _room(room), json=fields), "room", Room)

    async def delete_room(self, room: RoomName) -> None:
        await self.request("DELETE", _room(room))

    async def join_room(self, room: RoomName) -> Room:
        """Become a member; a socket's `join` does so too, and listens."""
        return read_one(await self.request("POST", f"{_room(room)}/join"), "room", Room)

    async def leave_room(self, room: RoomName) -> None:
        """End the membership, and every subscription of this person."""
        await self.request("POST", f"{_room(room)}/leave")

    async def invite(
        self,
        room: RoomName,
        *,
        user_id: int | None = None,
        uses: int | None = None,
        expires_in: int | None = 7 * 24 * 3600,
    ) -> Invite:
        """An invitation: for one person, or a code for whoever has it. `expires_in` None: it never does."""
        body = {"user_id": user_id, "uses": uses, "expires_in": expires_in}
        return read_as(Invite, await self.request("POST", f"{_room(room)}/invites", json=body))

    async def invites(self, room: RoomName) -> list[Invite]:
        """Those in force; for owner and moderators."""
        return read_list(await self.request("GET", f"{_room(room)}/invites"), "invites", Invite)

    async def revoke_invite(self, room: RoomName, code: str) -> None:
        await self.request("DELETE", f"{_room(room)}/invites/{_segment(code)}")

    async def accept_invite(self, code: str) -> Room:
        return read_one(await self.request("POST", f"chat/invites/{_segment(code)}"), "room", Room)

    async def members(
        self, room: RoomName, *, page: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Member]:
        params = {"page": page, "limit": limit, "cursor": cursor}
        return await self._page(f"{_room(room)}/members", "members", Member, params)

    async def set_role(self, room: RoomName, user_id: int, role: str) -> None:
        """`moderator` or `member`; giving `owner` away makes oneself a moderator."""
        await self.request("PUT", f"{_room(room)}/members/{user_id}", json={"role": role})

    async def kick(self, room: RoomName, user_id: int) -> None:
        await self.request("DELETE", f"{_room(room)}/members/{user_id}")

    async def mute(
        self, room: RoomName, user_id: int, *, duration: int | None = None, reason: str | None = None
    ) -> None:
        """For `duration` seconds, or until it is lifted."""
        body = {"user_id": user_id, "duration": duration, "reason": reason}
        await self.request("POST", f"{_room(room)}/mutes", json=body)

    async def unmute(self, room: RoomName, user_id: int) -> None:
        await self.request("DELETE", f"{_room(room)}/mutes/{user_id}")

    async def ban(
        self, room: RoomName, user_id: int, *, duration: int | None = None, reason: str | None = None
    ) -> None:
        """For `duration` seconds, or until it is lifted."""
        body = {"user_id": user_id, "duration": duration, "reason": reason}
        await self.request("POST", f"{_room(room)}/bans", json=body)

    async def unban(self, room: RoomName, user_id: int) -> None:
        await self.request("DELETE", f"{_room(room)}/bans/{user_id}")

    # Messages ------------------------------------------------------------------------------------------

    async def messages(
        self,
        room: RoomName,
        *,
        limit: int = 50,
        before_seq: int | None = None,
        after_seq: int | None = None,
    ) -> History:
        """The newest messages, ascending; or those before, or right after, a number."""
        params = {"limit": limit, "before_seq": before_seq, "after_seq": after_seq}
        return read_history(await self.request("GET", f"{_room(room)}/messages", params=params))

    async def post_message(
        self, room: RoomName, content: str, *, nonce: str | None = None, **fields: Any
    ) -> RoomMessage | DirectMessage:
        """Post without a socket. Repeating it with the same nonce is safe."""
        body = {"content": content, "nonce": nonce or uuid.uuid4().hex, **fields}
        return read_message(await self.request("POST", f"{_room(room)}/messages", json=body))

    async def pins(self, room: RoomName) -> list[RoomMessage | DirectMessage]:
        return read_history(await self.request("GET", f"{_room(room)}/pins")).messages

    async def message(self, message_id: int) -> RoomMessage | DirectMessage:
        return read_message(await self.request("GET", f"chat/messages/{message_id}"))

    # Each of these answers with the message as it stands then.

    async def edit_message(self, message_id: int, content: str) -> RoomMessage | DirectMessage:
        return read_message(
            await self.request("PUT", f"chat/messages/{message_id}", json={"content": content})
        )

    async def delete_message(self, message_id: int) -> RoomMessage | DirectMessage:
        return read_message(await self.request("DELETE", f"chat/messages/{message_id}"))

    async def react(self, message_id: int, emoji: str) -> RoomMessage | DirectMessage:
        path = f"chat/messages/{message_id}/reactions/{_segment(emoji)}"
        return read_message(await self.request("PUT", path))

    async def unreact(self, message_id: int, emoji: str) -> RoomMessage | DirectMessage:
        path = f"chat/messages/{message_id}/reactions/{_segment(emoji)}"
        return read_message(await self.request("DELETE", path))

    async def pin(self, message_id: int) -> RoomMessage | DirectMessage:
        return read_message(await self.request("PUT", f"chat/messages/{message_id}/pin"))

    async def unpin(self, message_id: int) -> RoomMessage | DirectMessage:
        return read_message(await self.request("DELETE", f"chat/messages/{message_id}/pin"))

    async def report(self, message_id: int, reason: str) -> None:
        await self.request("POST", f"chat/messages/{message_id}/report", json={"reason": reason})

    async def conversations(self, *, page: int = 1, limit: int = 100) -> Page[Conversation]:
        """One's direct conversations, the latest first."""
        params = {"page": page, "limit": limit}
        return await self._page("chat/conversations", "conversations", Conversation, params)

    async def direct_messages(
        self, user_id: int, *, limit: int = 50, before_seq: int | None = None, after_seq: int | None = None
    ) -> History:
        params = {"limit": limit, "before_seq": before_seq, "after_seq": after_seq}
        return read_history(await self.request("GET", f"chat/dm/{user_id}", params=params))

    async def post_direct(
        self, user_id: int, content: str, *, nonce: str | None = None, **fields: Any
    ) -> RoomMessage | DirectMessage:
        body = {"content": content, "nonce": nonce or uuid.uuid4().hex, **fields}
        return read_message(await self.request("POST", f"chat/dm/{user_id}", json=body))

    async def unread(self) -> Unread:
        return read_as(Unread, await self.request("GET", "chat/unread"))

    async def search_messages(
        self,
        q: str,
        *,
        room: RoomName | None = None,
        author: str | int | None = None,
        before: int | None = None,
        limit: int = 20,
    ) -> list[RoomMessage | DirectMessage]:
        """Full text over all one may read, the newest first; `before` a message's id goes on behind it."""
        params = {"q": q, "room": room, "from": author, "before": before, "limit": limit}
        return read_history(await self.request("GET", "chat/search", params=params)).messages

    # Around it -----------------------------------------------------------------------------------------

    async def healthy(self) -> bool:
        """Whether the server answers at all."""
        return (await self._status("/health")) == 200

    async def ready(self) -> bool:
        """Whether the server can do its work: database and actors answer."""
        return (await self._status("/ready")) == 200

    async def _status(self, path: str) -> int:
        try:
            return (await self._http.get(path)).status_code
        except httpx.HTTPError:
            return 0


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _segment(text: str) -> str:
    return quote(text, safe="")


def _room(room: RoomName) -> str:
    return f"chat/rooms/{_segment(str(room))}"
