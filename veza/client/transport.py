"""How requests reach the server and answers come back as types; whose they are, and how that is renewed.

`Transport` renews the access token by itself when the server says it ended. It never retries anything else: what is
safe to repeat is for the caller to know (posts are: they carry nonces). The transport is httpx: it runs on trio as it
is, keeps connections, and speaks TLS and proxies.
"""

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import trio

from veza.client.errors import ApiError, AuthFailed, ProtocolError, Unreachable, reason_of
from veza.client.frames import DirectMessage, History, RoomMessage, decode_history, decode_message
from veza.client.models import Login, Page, Tokens

T = TypeVar("T")


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


# Certificates are read once for all clients of a program: that takes 30 ms.
_verified = functools.cache(httpx.create_ssl_context)
_envelope = msgspec.json.Decoder(_Envelope)


class Transport:
    """What `VezaClient` stands on; see there for the arguments and the errors."""

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
            verify=_verified() if verify is True else verify,
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

    @property
    def socket_url(self) -> str:
        parts = urlsplit(self.url)
        return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path}/ws/chat"

    def absolute(self, url: str) -> str:
        """An address the server gave, with the server's own before it where it gave none."""
        return urljoin(f"{self.url}/", url)

    # Requests ------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        auth: bool = True,
        content: tuple[bytes, str] | None = None,
    ) -> msgspec.Raw:
        """The `data` of an answer, undecoded. A path that does not begin with `/` is one of the API, `/api/v1/…`.

        Args:
            content: a body that is no JSON, and its content type.
        """
        return (await self._ask(method, path, json, params, auth, content)).data

    async def get(self, path: str, kind: type[T], **params: Any) -> T:
        """A GET whose `data` is of type `kind`."""
        return read_as(kind, await self.request("GET", path, params=params))

    async def _page(self, path: str, key: str, kind: type[T], params: Mapping[str, Any]) -> Page[T]:
        answer = await self._ask("GET", path, None, params, True)
        items = read_list(answer.data, key, kind)
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
        content: tuple[bytes, str] | None = None,
    ) -> _Envelope:
        used = self.tokens if auth else None
        try:
            return await self._once(method, path, json, params, used, content)
        except AuthFailed:
            if not auth or used is None or used.refresh_token is None:
                raise
        await self.renew(used)
        return await self._once(method, path, json, params, self.tokens, content)

    async def _once(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        tokens: Tokens | None,
        content: tuple[bytes, str] | None,
    ) -> _Envelope:
        headers = {}
        if tokens is not None:
            headers["authorization"] = f"Bearer {tokens.access_token}"
        body = None
        if json is not None:
            body = msgspec.json.encode(json)
            headers["content-type"] = "application/json"
        elif content is not None:
            body, headers["content-type"] = content
        query = {name: value for name, value in (params or {}).items() if value is not None}
        address = path if path.startswith("/") else f"/api/v1/{path}"
        try:
            answer = await self._http.request(method, address, content=body, params=query, headers=headers)
        except httpx.TimeoutException:
            raise Unreachable(f"{self.url} does not answer in time") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.url} cannot be reached: {reason_of(error)}") from None
        return judge(answer)

    async def bare(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        """A request without a body whose answer is in its headers; refusals raise as ever."""
        used = self.tokens
        for last in (False, True):
            own = {"authorization": f"Bearer {used.access_token}", **headers} if used else dict(headers)
            try:
                answer = await self._http.request(method, path, headers=own)
            except httpx.TimeoutException:
                raise Unreachable(f"{self.url} does not answer in time") from None
            except httpx.HTTPError as error:
                raise Unreachable(f"{self.url} cannot be reached: {reason_of(error)}") from None
            if answer.status_code != 401 or last or used is None or used.refresh_token is None:
                break
            used = await self.renew(used)
        if not answer.is_success:
            judge(answer)
        return answer

    # Tokens --------------------------------------------------------------------------------------------

    def keep_tokens(
        self, on_tokens: Callable[[Tokens | None], None], other: Callable[[], Tokens | None] | None = None
    ) -> None:
        """Share a login with other processes: `on_tokens` keeps new tokens where `other` finds what others kept."""
        self._on_tokens, self._other_tokens = on_tokens, other

    def _keep(self, tokens: Tokens | None) -> None:
        self.tokens = tokens
        if self._on_tokens is not None:
            self._on_tokens(tokens)

    def _logged_in(self, data: msgspec.Raw) -> Login:
        login = read_as(Login, data)
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


def judge(answer: httpx.Response) -> _Envelope:
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


def read_as(kind: type[T], data: bytes | msgspec.Raw) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None


def read_one(data: msgspec.Raw, key: str, kind: type[T]) -> T:
    """A record that stands alone or under its name."""
    found = read_as(dict[str, msgspec.Raw], data)
    return read_as(kind, found.get(key, data))


def read_list(data: msgspec.Raw, key: str, kind: type[T]) -> list[T]:
    """A list that stands alone or under its name."""
    if bytes(data).lstrip()[:1] == b"[":
        return read_as(list[kind], data)  # type: ignore[valid-type]
    return read_as(list[kind], read_as(dict[str, msgspec.Raw], data).get(key, msgspec.Raw(b"[]")))  # type: ignore[valid-type]


def read_history(data: msgspec.Raw) -> History:
    try:
        return decode_history(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None


def read_message(data: msgspec.Raw) -> RoomMessage | DirectMessage:
    found = read_as(dict[str, msgspec.Raw], data)
    try:
        return decode_message(found.get("message", data))
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server's answer cannot be understood: {error}") from None
