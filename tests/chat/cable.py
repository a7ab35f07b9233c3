"""The line between the server and PostgreSQL, with somebody on it who waits for one request."""

from __future__ import annotations

import contextlib
from functools import partial
from urllib.parse import parse_qs, urlsplit, urlunsplit

import trio

READY = (
    b"Z\x00\x00\x00\x05I"  # PostgreSQL's last word on a request: ready for the next one, no transaction open
)


class Cable:
    """A TCP line to the PostgreSQL of the tests. `lie_in_wait` says what happens to the next request with a word in it.

    "before"  the line is cut; the request never arrives
    "after"   it arrives and is carried out, and the line is cut before the answer
    "silent"  it arrives and is carried out; the answer does not come, and nothing tells why
    "late"    it is held back until `let_go`, long after the one who sent it has given up
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._word = b""
        self._plan: str | None = None
        self._freed = trio.Event()
        self.caught = trio.Event()
        self.carried_out = trio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        account = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{account}@127.0.0.1:{self.port}", query=""))

    def lie_in_wait(self, word: str, plan: str) -> None:
        self._word, self._plan = word.encode(), plan
        self.caught, self.carried_out = trio.Event(), trio.Event()

    def let_go(self) -> None:
        self._freed.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._relay, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _far(self) -> trio.SocketStream:
        host = parse_qs(self._parts.query).get("host", [self._parts.hostname or "localhost"])[0]
        port = self._parts.port or parse_qs(self._parts.query).get("port", ["5432"])[0]
        if host.startswith("/"):
            return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        return await trio.open_tcp_stream(host, int(port))

    async def _relay(self, near: trio.SocketStream) -> None:
        async with near, await self._far() as far:
            caught: tuple[bytes, str] | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pass_on, far, near, nursery.cancel_scope)
                caught = await self._requests(near, far)
                nursery.cancel_scope.cancel()
            if caught is not None:
                await self._waylay(*caught, near, far)

    async def _requests(self, near: trio.SocketStream, far: trio.SocketStream) -> tuple[bytes, str] | None:
        """Pass requests on, until the one that is waited for, which is returned with the plan for it."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in near:
                if self._plan is not None and self._word in data:
                    plan, self._plan = self._plan, None
                    self.caught.set()
                    return data, plan
                await far.send_all(data)
        return None

    async def _waylay(
        self, request: bytes, plan: str, near: trio.SocketStream, far: trio.SocketStream
    ) -> None:
        if plan == "before":
            return
        if plan == "late":
            await self._freed.wait()
        await far.send_all(request)
        answer = b""
        while not answer.endswith(READY):
            answer += await far.receive_some() or READY
        self.carried_out.set()
        if plan == "silent":
            with contextlib.suppress(trio.BrokenResourceError):
                async for _ in near:
                    pass


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    scope.cancel()
