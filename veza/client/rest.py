"""REST: one method a request, typed in and out.

`VezaClient` keeps the tokens and renews them by itself when the server says they ended. It never retries anything
else: what is safe to repeat is for the caller to know (posts are: they carry nonces).

The transport is httpx: it runs on trio as it is, keeps connections, and speaks TLS and proxies.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import trio

from veza.client.errors import ApiError, AuthFailed, ProtocolError, Unreachable
from veza.client.frames import DirectMessage, History, RoomMessage, decode_history, decode_message
from veza.client.models import (
    Conversation,
    Invite,
    Login,
    Member,
    Page,
    Room,
    Session,
    Tokens,
    Unread,
    User,
)
from veza.client.socket import ChatSocket

T = TypeVar("T")
RoomName = str | int  # a public room's name, or any room's id
_UNSET: Final[Any] = object()


class _Meta(msgspec.Struct):
    page: int = 1
    per_page: int = 20
    total: int = 0
    total_pages: int = 1
    next_cursor: str | None = None


class _Envelope(msgspec.Struct):
    success: bool = True
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    code: str | None = None
    details: dict[str, Any] | None = None
    request_id: str | None = None
    meta: _Meta | None = None


_envelope = msgspec.json.Decoder(_Envelope)


class VezaClient:
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

    def __init__(
        self,
        url: str,
        *,
        tokens: Tokens | None = None,
        on_tokens: Callable[[Tokens | None], None] | None = None,
        timeout: float = 10.0,
        verify: Any = True,
    ) -> None:
        self.url = url.rstrip("/")
        self.tokens = tokens
        self.verify = verify
        self._on_tokens = on_tokens
        self._other_tokens: Callable[[], Tokens | None] | None = None
        self._renewing = trio.Lock()
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=timeout,
            verify=verify,
            headers={"accept": "application/json", "user-agent": "veza-client"},
            # The server keeps idle connections longer than this, so none is reused that it just closed.
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=30.0),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. The session on the server stays; `logout` ends it."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await self._http.aclose()

    @asynccontextmanager
    async def chat(self, **options: Any) -> AsyncIterator[ChatSocket]:
        """A live connection as the person logged in; see `ChatSocket` for its options."""
        async with ChatSocket(self, **options) as socket:
            yield socket

    @property
    def socket_url(self) -> str:
        parts = urlsplit(self.url)
        return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/ws/chat"

    # Requests ------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        auth: bool = True,
    ) -> msgspec.Raw:
        """The `data` of an answer, undecoded. A path that does not begin with `/` is one of the API, `/api/v1/…`."""
        return (await self._ask(method, path, json, params, auth)).data

    async def get(self, path: str, kind: type[T], **params: Any) -> T:
        """A GET whose `data` is of type `kind`."""
        return _as(kind, await self.request("GET", path, params=params))

    async def _page(self, path: str, key: str, kind: type[T], params: Mapping[str, Any]) -> Page[T]:
        answer = await self._ask("GET", path, None, params, True)
        items = _listed(answer.data, key, kind)
        meta = answer.meta or _Meta(total=len(items))
        return Page(
            items=items,
            page=meta.page,
            per_page=meta.per_page,
            total=meta.total,
            total_pages=meta.total_pages,
            next_cursor=meta.next_cursor,
        )

    async def _ask(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        auth: bool,
    ) -> _Envelope:
        used = self.tokens if auth else None
        try:
            return await self._once(method, path, json, params, used)
        except AuthFailed:
            if not auth or used is None or used.refresh_token is None:
                raise
        await self.renew(used)
        return await self._once(method, path, json, params, self.tokens)

    async def _once(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        tokens: Tokens | None,
    ) -> _Envelope:
        headers = {}
        if tokens is not None:
            headers["authorization"] = f"Bearer {tokens.access_token}"
        body = None
        if json is not None:
            body = msgspec.json.encode({name: value for name, value in json.items() if value is not _UNSET})
            headers["content-type"] = "application/json"
        query = {name: value for name, value in (params or {}).items() if value is not None}
        address = path if path.startswith("/") else f"/api/v1/{path}"
        try:
            answer = await self._http.request(method, address, content=body, params=query, headers=headers)
        except httpx.TimeoutException:
            raise Unreachable(f"{self.url} does not answer in time") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from None
        return _judge(answer)

    # Who we are ----------------------------------------------------------------------------------------

    def keep_tokens(
        self, on_tokens: Callable[[Tokens | None], None], other: Callable[[], Tokens | None] | None = None
    ) -> None:
        """Share a login with other processes: `on_tokens` keeps new tokens where `other` finds what others kept."""
        self._on_tokens, self._other_tokens = on_tokens, other

    def _keep(self, tokens: Tokens | None) -> None:
        self.tokens = tokens
        if self._on_tokens is not None:
            self._on_tokens(tokens)

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
        """Log in by e-mail address or username."""
        body = {"email" if "@" in name else "username": name, "password": password}
        if totp_code is not None:
            body["totp_code"] = totp_code
        return self._logged_in(await self.request("POST", "auth/login", json=body, auth=False))

    def _logged_in(self, data: msgspec.Raw) -> Login:
        login = _as(Login, data)
        self._keep(login.tokens)
        return login

    async def renew(self, used: Tokens | None = None) -> Tokens:
        """New tokens for old ones. With `used`, only if no other task has renewed those meanwhile.

        Raises:
            AuthFailed: the session has ended; the tokens are forgotten.
        """
        async with self._renewing:
            if used is not None and self.tokens is not None and self.tokens is not used:
                return self.tokens
            if self.tokens is None or self.tokens.refresh_token is None:
                raise AuthFailed(401, "AUTH_FAILED", "not logged in")
            # A refresh token is good once: if another process has used ours, what it got is ours as well.
            other = self._other_tokens() if self._other_tokens is not None else None
            if other is not None and other.refresh_token != self.tokens.refresh_token:
                self.tokens = other
                return other
            try:
                data = await self.request(
                    "POST", "auth/refresh", json={"refresh_token": self.tokens.refresh_token}, auth=False
                )
            except AuthFailed:
                self._keep(None)
                raise
            return self._logged_in(data).tokens

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
        return _one(data, "user", User)

    async def sessions(self) -> list[Session]:
        return _listed(await self.request("GET", "auth/sessions"), "sessions", Session)

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
        return _one(await self.request("GET", "users/profile"), "user", User)

    async def update_profile(self, **fields: Any) -> User:
        """Change `username`, `first_name`, `last_name`, `bio`, …: what is not named stays, None clears."""
        return _one(await self.request("PUT", "users/profile", json=fields), "user", User)

    async def change_password(self, current_password: str, new_password: str) -> None:
        body = {"current_password": current_password, "new_password": new_password}
        await self.request("PUT", "users/me/password", json=body)

    async def users(self, search: str | None = None, *, page: int = 1, limit: int = 20) -> Page[User]:
        return await self._page("users", "users", User, {"search": search, "page": page, "limit": limit})

    async def user(self, user_id: int) -> User:
        return _one(await self.request("GET", f"users/{user_id}"), "user", User)

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
        return _one(await self.request("POST", "chat/rooms", json=body), "room", Room)

    async def room(self, room: RoomName) -> Room:
        return _one(await self.request("GET", _room(room)), "room", Room)

    async def update_room(self, room: RoomName, **fields: Any) -> Room:
        """Change `name`, `description`, `is_private`, `slow_mode_s`."""
        return _one(await self.request("PUT", _room(room), json=fields), "room", Room)

    async def delete_room(self, room: RoomName) -> None:
        await self.request("DELETE", _room(room))

    async def join_room(self, room: RoomName) -> Room:
        """Become a member; a socket's `join` does so too, and listens."""
        return _one(await self.request("POST", f"{_room(room)}/join"), "room", Room)

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
        return _as(Invite, await self.request("POST", f"{_room(room)}/invites", json=body))

    async def accept_invite(self, code: str) -> Room:
        return _one(await self.request("POST", f"chat/invites/{_segment(code)}"), "room", Room)

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
        return _history(await self.request("GET", f"{_room(room)}/messages", params=params))

    async def post_message(
        self, room: RoomName, content: str, *, nonce: str | None = None, **fields: Any
    ) -> RoomMessage | DirectMessage:
        """Post without a socket. Repeating it with the same nonce is safe."""
        body = {"content": content, "nonce": nonce or uuid.uuid4().hex, **fields}
        return _message(await self.request("POST", f"{_room(room)}/messages", json=body))

    async def pins(self, room: RoomName) -> list[RoomMessage | DirectMessage]:
        return _history(await self.request("GET", f"{_room(room)}/pins")).messages

    async def message(self, message_id: int) -> RoomMessage | DirectMessage:
        return _message(await self.request("GET", f"chat/messages/{message_id}"))

    # Each of these answers with the message as it stands then.

    async def edit_message(self, message_id: int, content: str) -> RoomMessage | DirectMessage:
        return _message(await self.request("PUT", f"chat/messages/{message_id}", json={"content": content}))

    async def delete_message(self, message_id: int) -> RoomMessage | DirectMessage:
        return _message(await self.request("DELETE", f"chat/messages/{message_id}"))

    async def react(self, message_id: int, emoji: str) -> RoomMessage | DirectMessage:
        path = f"chat/messages/{message_id}/reactions/{_segment(emoji)}"
        return _message(await self.request("PUT", path))

    async def unreact(self, message_id: int, emoji: str) -> RoomMessage | DirectMessage:
        path = f"chat/messages/{message_id}/reactions/{_segment(emoji)}"
        return _message(await self.request("DELETE", path))

    async def pin(self, message_id: int) -> RoomMessage | DirectMessage:
        return _message(await self.request("PUT", f"chat/messages/{message_id}/pin"))

    async def unpin(self, message_id: int) -> RoomMessage | DirectMessage:
        return _message(await self.request("DELETE", f"chat/messages/{message_id}/pin"))

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
        return _history(await self.request("GET", f"chat/dm/{user_id}", params=params))

    async def post_direct(
        self, user_id: int, content: str, *, nonce: str | None = None, **fields: Any
    ) -> RoomMessage | DirectMessage:
        body = {"content": content, "nonce": nonce or uuid.uuid4().hex, **fields}
        return _message(await self.request("POST", f"chat/dm/{user_id}", json=body))

    async def unread(self) -> Unread:
        return _as(Unread, await self.request("GET", "chat/unread"))

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
        return _history(await self.request("GET", "chat/search", params=params)).messages

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


def _judge(answer: httpx.Response) -> _Envelope:
    """The envelope of an answer, or the error it tells of."""
    if answer.status_code == 204:
        return _Envelope()
    try:
        envelope = _envelope.decode(answer.content)
    except msgspec.MsgspecError:
        if answer.is_success:
            raise ProtocolError(f"{answer.request.url.host} does not answer as a Veza server") from None
        envelope = _Envelope(success=False)
    if answer.is_success and envelope.success:
        return envelope
    wait = answer.headers.get("retry-after", "")
    kind = AuthFailed if answer.status_code == 401 else ApiError
    raise kind(
        answer.status_code,
        envelope.code or f"HTTP_{answer.status_code}",
        envelope.error or f"the server answered {answer.status_code} {answer.reason_phrase}",
        envelope.details,
        float(wait) if wait.isascii() and wait.isdigit() else None,
        envelope.request_id or answer.headers.get("x-request-id"),
    )


def _as(kind: type[T], data: bytes | msgspec.Raw) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None


def _one(data: msgspec.Raw, key: str, kind: type[T]) -> T:
    """A record that stands alone or under its name."""
    found = _as(dict[str, msgspec.Raw], data)
    return _as(kind, found.get(key, data))


def _listed(data: msgspec.Raw, key: str, kind: type[T]) -> list[T]:
    """A list that stands alone or under its name."""
    if bytes(data).lstrip()[:1] == b"[":
        return _as(list[kind], data)  # type: ignore[valid-type]
    return _as(list[kind], _as(dict[str, msgspec.Raw], data).get(key, msgspec.Raw(b"[]")))  # type: ignore[valid-type]


def _history(data: msgspec.Raw) -> History:
    try:
        return decode_history(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None


def _message(data: msgspec.Raw) -> RoomMessage | DirectMessage:
    found = _as(dict[str, msgspec.Raw], data)
    try:
        return decode_message(found.get("message", data))
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _segment(text: str) -> str:
    return quote(text, safe="")


def _room(room: RoomName) -> str:
    return f"chat/rooms/{_segment(str(room))}"
