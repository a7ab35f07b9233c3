"""Which web pages may talk to us: the `Origin` header against the settings, for REST (CORS) and sockets alike.

An origin is compared as scheme, host and port; `http://localhost:*` in the settings stands for any port. `null`
(sandboxed pages, files) is never allowed, because everybody can have it.
"""

from __future__ import annotations

from collections.abc import Iterable


class Origins:
    """The server's own origin and those the settings allow. `*` among them allows every page, without credentials."""

    def __init__(self, allowed: Iterable[str], own: str | None = None) -> None:
        given = [origin.strip().rstrip("/").lower() for origin in allowed]
        self.any = "*" in given
        self._exact = {origin for origin in given if origin != "*" and not origin.endswith(":*")}
        if own:
            scheme, _, rest = own.lower().partition("://")
            self._exact.add(f"{scheme}://{rest.split('/', 1)[0]}")
        self._own_known = bool(own)
        # `http://localhost:*` also means the address without a port.
        self._any_port = {origin[:-2] for origin in given if origin.endswith(":*")}

    def listed(self, origin: str) -> bool:
        """Whether this very origin is trusted (credentials may be allowed to it)."""
        origin = origin.lower()
        if origin in self._exact or origin in self._any_port:
            return True
        base, colon, port = origin.rpartition(":")
        return bool(colon) and port.isascii() and port.isdigit() and base in self._any_port

    def opens(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may open a socket with a handshake to `host` (its `Host` header).

        A server that was not told its own address (PUBLIC_URL) knows its own pages by coming from where they connect
        to. A page that made its name point at us would pass as well, and gain nothing: what opens a socket is a token,
        which no browser sends by itself.
        """
        if self.listed(origin):
            return True
        scheme, _, authority = origin.lower().partition("://")
        return not self._own_known and bool(scheme and authority) and authority == host.lower()

    def allows(self, origin: str | None) -> bool:
        """Whether a request with this `Origin` may be answered; no `Origin` at all is no web page's request."""
        return origin is None or self.any or self.listed(origin)
