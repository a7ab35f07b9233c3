"""Outside the base: is it alive, is it ready, what does it measure, what does it offer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio
from quart import Blueprint, Response

from veza import __version__
from veza.http.api import openapi
from veza.http.api.envelope import ApiError, ok
from veza.http.api.metrics import CONTENT_TYPE
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

system = Blueprint("system", __name__)

READY_SECONDS: Final = 2.0  # per part; orchestrators ask often and give up soon


class Alive(msgspec.Struct, frozen=True):
    status: str
    version: str


class Ready(msgspec.Struct, frozen=True):
    """Each part: "ok", or what is the matter."""

    status: str
    database: str
    actors: str


@system.get("/health")
@answers(Alive)
async def health() -> Response:
    """Whether the process answers at all."""
    return ok(Alive("ok", __version__))


@system.get("/ready")
@answers(Ready)
@fails(503)
async def ready() -> Response:
    """Whether requests can be served: the database and the actors answer."""
    s = services()
    database = "ok" if await _answers(s.db.ping) else "unavailable"
    actors = "ok" if s.actors_ready is None or await _answers(s.actors_ready) else "unavailable"
    if (database, actors) != ("ok", "ok"):
        raise ApiError(
            503,
            "NOT_READY",
            "The server is not ready.",
            details={"database": database, "actors": actors},
            retry_after=2,
        )
    return ok(Ready("ok", database, actors))


async def _answers(check: Callable[[], Awaitable[bool | None]]) -> bool:
    """Whether a check comes to an end soon, without an error and without saying False."""
    with trio.move_on_after(READY_SECONDS):
        try:
            return await check() is not False
        except Exception:
            return False
    return False


@system.get("/metrics")
@answers(content_type=CONTENT_TYPE)
async def metrics() -> Response:
    """Measurements for Prometheus."""
    return Response(services().metrics.text(), content_type=CONTENT_TYPE)


@system.get("/openapi.json")
@answers(content_type="application/json")
async def document() -> Response:
    """This document."""
    return Response(await openapi.document(), content_type="application/json")
