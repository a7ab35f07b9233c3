"""Who may call a view. The bearer is found out once per request, before anything else looks at it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from quart import Response, g, request

from veza.actors.registry import AuthFailed, Identity, missing
from veza.http.api.envelope import forbidden
from veza.http.api.openapi import describe
from veza.http.api.services import services
from veza.security.rates import neighbourhood
from veza.security.roles import Role, at_least

View = Callable[..., Awaitable[Response]]


async def identify() -> None:
    """Note who sent the request, or why that is not known. Raises Unavailable when the database must be asked."""
    g.identity = None
    g.auth_error = None
    header = request.headers.get("Authorization")
    if header is None:
        return
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not (token := token.strip()):
        g.auth_error = missing()
        return
    try:
        g.identity = await services().registry.authenticate(token)
    except AuthFailed as error:
        g.auth_error = error


async def identify_again() -> None:
    """The same once more, now that the body is there. It may have come as slowly as its sender liked, and nobody keeps
    requests in his sleeve for the day he is shut out."""
    try:
        g.identity = await services().registry.confirm(current())
    except AuthFailed as error:
        g.identity, g.auth_error = None, error


def signed_in(view: View) -> View:
    """The view takes the bearer as `identity`; without a valid token the answer is 401."""

    @functools.wraps(view)
    async def wrapper(*args: Any, **kwargs: Any) -> Response:
        return await view(*args, identity=current(), **kwargs)

    describe(wrapper).login = True
    return wrapper


def perhaps_signed_in(view: View) -> View:
    """The view takes `identity`, which is None for a request without a token. A bad token is still 401."""

    @functools.wraps(view)
    async def wrapper(*args: Any, **kwargs: Any) -> Response:
        if g.auth_error is not None:
            raise g.auth_error
        return await view(*args, identity=g.identity, **kwargs)

    describe(wrapper).login = None
    return wrapper


def either_token(view: View) -> View:
    """Only documents that the view sees to the bearer itself."""
    describe(view).login = None
    return view


def requires(role: Role) -> Callable[[View], View]:
    """The view takes `identity`, who has this platform role or one above it; others get 403."""

    def decorator(view: View) -> View:
        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Response:
            identity = current()
            if not at_least(identity.role, role):
                raise forbidden()
            return await view(*args, identity=identity, **kwargs)

        describe(wrapper).login = True
        describe(wrapper).fails.add(403)
        return wrapper

    return decorator


def current() -> Identity:
    """The bearer; raises AuthFailed."""
    identity: Identity | None = g.identity
    if identity is None:
        raise g.auth_error or missing()
    return identity


def address() -> str:
    """Where the request came from, as the door made it out (trusted proxies considered)."""
    return request.remote_addr or "unknown"


def rate_address() -> str:
    """The same as rate limits see it: a whole IPv6 /64 is one."""
    return neighbourhood(address())
