"""Handlers beside Quart: requests whose body must be read as it comes, because it is too large to be held, and answers
that are written as they go.

Around a handler happens what happens around every view: request id, CORS, who it is, the rate limit, the envelope, the
metrics, and every failure ends as one. What no route here takes goes on to the application, unchanged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
import trio

from veza import log
from veza.actors.registry import AuthFailed, Identity, missing
from veza.http.api import silence
from veza.http.api.envelope import INTERNAL, ApiError, rate_limited, translate
from veza.http.api.openapi import describe
from veza.http.api.services import Services
from veza.http.asgi import ASK
from veza.http.head import Head
from veza.security.rates import neighbourhood

_log = log.get("rest")
_encode: Final = msgspec.json.Encoder().encode
_PARAMETER: Final = re.compile(r"<([a-z_]+)>")
_EXPOSED: Final = ("X-Request-ID", "Retry-After", "Location")
_ALLOWED: Final = ("Authorization", "Content-Type", "X-Request-ID")
_PREFLIGHT_SECONDS: Final = 7200  # browsers keep an answer no longer than that

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Gone(Exception):
    """The client has left before its request was whole: there is nobody to answer."""


class Answer(msgspec.Struct, frozen=True):
    """What a handler answers."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Flow(msgspec.Struct, frozen=True):
    """An answer (200) that is written while it is sent; its length is not known.

    Attributes:
        pour: given a function that takes the next bytes, and returns when there is room for more. It is cancelled when
            the client leaves. If it raises, the connection is cut, so that nobody takes what came for the whole.
        done: called at the end, whatever it was.
    """

    headers: tuple[tuple[str, str], ...]
    pour: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]
    done: Callable[[], None]


def success(
    data: Any, *, status: int = 200, message: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """A success in the envelope. `data` is anything msgspec encodes."""
    body: dict[str, Any] = {"success": True}
    if message is not None:
        body["message"] = message
    body["data"] = data
    return Answer(status, _encode(body), (("content-type", "application/json"), *(headers or {}).items()))


class Call:
    """One request, as a handler sees it.

    Attributes:
        services: what handlers may use.
        method: as it was asked.
        parameters: what stands in the places of the route's `<name>`s.
        request_id: echoed in every answer.
        address: where it comes from, the door's proxies considered.
        length: its Content-Length; None for a chunked body.
        identity: who sent it, if that is known.
    """

    __slots__ = (
        "_ask",
        "_auth_error",
        "_headers",
        "_query",
        "_receive",
        "_whole",
        "address",
        "identity",
        "length",
        "method",
        "parameters",
        "request_id",
        "services",
    )

    def __init__(
        self, services: Services, scope: dict[str, Any], receive: Receive, parameters: Mapping[str, str]
    ) -> None:
        self.services = services
        self.method: str = scope["method"]
        self.parameters = parameters
        self.address: str = (scope.get("client") or ("unknown",))[0]
        self.identity: Identity | None = None
        self._auth_error: AuthFailed | None = None
        self._query: bytes = scope.get("query_string", b"")
        self._receive = receive
        self._ask: Callable[[], None] | None = scope.get("state", {}).get(ASK)
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        length = self._headers.get("content-length", "")
        self.length = int(length) if length.isdigit() else None
        self._whole = False  # the first event tells: how a body is framed is the door's business
        self.request_id = self._headers.get("x-request-id", "")

    def header(self, name: str) -> str | None:
        """The first header of this (lower case) name."""
        return self._headers.get(name)

    def argument(self, name: str) -> str | None:
        """The first value of this name in the query string."""
        pairs = parse_qsl(self._query.decode("latin-1"), keep_blank_values=True, errors="replace")
        return next((value for known, value in pairs if known == name), None)

    def user(self) -> Identity:
        """Who sent it. Raises AuthFailed: nobody we know."""
        if self.identity is None:
            raise self._auth_error or missing()
        return self.identity

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end: asked for only when the last ones are dealt with.

        Cancelled, what was under way may be lost.

        Raises:
            Gone: the client left before the end.
        """
        if self._ask is not None:
            self._ask()
            self._ask = None
        while not self._whole:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise Gone
            self._whole = not event.get("more_body", False)
            if event.get("body"):
                return bytes(event["body"])
        return b""

    async def left(self) -> None:
        """Wait until the client has left. For who has read the body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def identify(self) -> None:
        """Find out who sent it, once. Raises Unavailable when the database must be asked and is away."""
        header = self.header("authorization")
        if header is None:
            return
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not (token := token.strip()):
            self._auth_error = missing()
            return
        try:
            self.identity = await self.services.registry.authenticate(token)
        except AuthFailed as error:
            self._auth_error = error


Handler = Callable[[Call], Awaitable[Answer]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a handler is found.

    What the document says of it is noted where it is written (`veza.http.api.openapi.describe`): login, fields,
    headers, failures. Headers noted there are also those that pages of other sites may send and read.

    Args:
        path: such as `/api/v1/uploads/<upload>`; a `<name>` stands for `[A-Za-z0-9_-]+`.
        tag: under which the document lists it.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Answer | Flow]]
    tag: str


class _Path:
    """All routes of one path."""

    def __init__(self, path: str, elsewhere: bool) -> None:
        self.path = path
        self.elsewhere = elsewhere  # the application has views at this path too
        self.pattern = re.compile(_PARAMETER.sub(r"(?P<\1>[A-Za-z0-9_-]{1,128})", path) + "/?")
        self.routes: dict[str, Route] = {}

    @property
    def headers_in(self) -> Iterator[str]:
        return (name for route in self.routes.values() for name in describe(route.handler).headers_in)

    @property
    def headers_out(self) -> Iterator[str]:
        return (name for route in self.routes.values() for name in describe(route.handler).headers_out)


class RawRoutes:
    """An ASGI application: these routes, and another application behind them.

    Args:
        known: paths (as templates) at which the application behind has views of its own.
    """

    def __init__(
        self, app: Any, services: Services, routes: Iterable[Route], known: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._services = services
        self._paths: dict[str, _Path] = {}
        elsewhere = frozenset(known)
        for route in routes:
            path = self._paths.setdefault(route.path, _Path(route.path, route.path in elsewhere))
            path.routes[route.method] = route

    def streams(self, head: Head) -> bool:
        """Is this request's body read here, piece by piece, and counted by its handler?"""
        path, _ = self._find(head.path)
        return path is not None and head.method in path.routes

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, parameters = self._find(scope["path"])
        if path is None:
            await self._app(scope, receive, send)
            return
        route = path.routes.get(scope["method"])
        if route is None and path.elsewhere:
            await self._app(scope, receive, _allowing(send, path))
            return
        await self._answer(path, route, Call(self._services, scope, receive, parameters), send)

    def _find(self, requested: str) -> tuple[_Path | None, Mapping[str, str]]:
        for path in self._paths.values():
            if found := path.pattern.fullmatch(requested):
                return path, found.groupdict()
        return None, {}

    async def _answer(self, path: _Path, route: Route | None, call: Call, send: Send) -> None:
        began = time.perf_counter()
        preflight = call.method == "OPTIONS" and call.header("access-control-request-method") is not None
        answer: Answer | Flow
        try:
            if preflight and call.header("origin") is not None:
                answer = self._preflight(path, call)
            else:
                answer = await self._handle(path, route, call)
        except Gone:
            return
        except Exception as error:
            answer = self._failed(path, call, error)
        headers = [*answer.headers, *self._cors(path, call)]
        if not any(name.lower() == "cache-control" for name, _ in headers):
            headers.append(("cache-control", "no-store"))
        method = call.method if route is not None else "OTHER"
        if isinstance(answer, Flow):
            self._services.metrics.answered(method, path.path, 200, time.perf_counter() - began)
            await self._flow(path, call, answer, _start(200, headers), send)
            return
        headers.append(("content-length", str(len(answer.body))))
        self._services.metrics.answered(method, path.path, answer.status, time.perf_counter() - began)
        await send(_start(answer.status, headers))
        await send({"type": "http.response.body", "body": answer.body})

    async def _flow(self, path: _Path, call: Call, flow: Flow, start: dict[str, Any], send: Send) -> None:
        async def emit(data: bytes) -> None:
            await trio.lowlevel.checkpoint()  # once the client has left, what is sent goes nowhere, at once
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def watch(scope: trio.CancelScope) -> None:
            await call.left()
            scope.cancel()

        whole = False
        try:
            await send(start)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, nursery.cancel_scope)
                await flow.pour(emit)
                whole = True
                nursery.cancel_scope.cancel()
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            _log.error(
                "an answer was cut",
                request_id=call.request_id,
                route=path.path,
                error=type(error).__name__,
                frames=log.frames(error),
            )
        finally:
            flow.done()
        if whole:  # without its end the door cuts the connection
            await send({"type": "http.response.body", "body": b""})

    async def _handle(self, path: _Path, route: Route | None, call: Call) -> Answer | Flow:
        await call.identify()
        key = call.identity.user_id if call.identity is not None else neighbourhood(call.address)
        if wait := self._services.rest_rates.take(key):
            raise rate_limited(wait)
        if route is None:
            raise ApiError(
                405,
                "METHOD_NOT_ALLOWED",
                "This method is not possible here.",
                headers={"Allow": ", ".join(sorted(path.routes))},
            )
        if call.identity is not None:
            silence.refuse(call.identity, call.method, None, path.path)
        return await route.handler(call)

    def _failed(self, path: _Path, call: Call, error: Exception) -> Answer:
        known = translate(error)
        if known is None:
            _log.error(
                "a handler failed",
                request_id=call.request_id,
                method=call.method,
                route=path.path,
                error=type(error).__name__,
                frames=log.frames(error),
            )
            known = INTERNAL
        body: dict[str, Any] = {"success": False, "error": known.message, "code": known.code}
        if known.details is not None:
            body["details"] = known.details
        body["request_id"] = call.request_id
        return Answer(
            known.status, _encode(body), (("content-type", "application/json"), *known.headers.items())
        )

    # Pages of other sites

    def _preflight(self, path: _Path, call: Call) -> Answer:
        if not self._services.origins.allows(call.header("origin")):
            return Answer(204)
        allowed = dict.fromkeys((*_ALLOWED, *path.headers_in))
        methods = ", ".join(dict.fromkeys((*path.routes, "GET", "POST", "PUT", "PATCH", "DELETE")))
        return Answer(
            204,
            headers=(
                ("access-control-allow-methods", methods),
                ("access-control-allow-headers", ", ".join(allowed)),
                ("access-control-max-age", str(_PREFLIGHT_SECONDS)),
            ),
        )

    def _cors(self, path: _Path, call: Call) -> list[tuple[str, str]]:
        """Whether this page may read the answer. `*` never comes with credentials."""
        origin = call.header("origin")
        if origin is None:
            return []
        headers = [("vary", "Origin")]
        origins = self._services.origins
        if origins.listed(origin):
            headers.append(("access-control-allow-origin", origin))
            headers.append(("access-control-allow-credentials", "true"))
        elif origins.any:
            headers.append(("access-control-allow-origin", "*"))
        else:
            return headers
        exposed = dict.fromkeys((*_EXPOSED, *path.headers_out))
        headers.append(("access-control-expose-headers", ", ".join(exposed)))
        return headers


def _start(status: int, headers: list[tuple[str, str]]) -> dict[str, Any]:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def _allowing(send: Send, path: _Path) -> Send:
    """Answers of the application to a method it does not know here also name those that are known beside it."""

    async def amended(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start" and event["status"] == 405:
            headers = [(name.lower(), value) for name, value in event["headers"]]
            allowed = {
                method.strip()
                for name, value in headers
                if name == b"allow"
                for method in value.decode("latin-1").split(",")
            }
            joined = ", ".join(sorted(allowed | path.routes.keys()))
            headers = [pair for pair in headers if pair[0] != b"allow"]
            event = {**event, "headers": [*headers, (b"allow", joined.encode())]}
        await send(event)

    return amended
