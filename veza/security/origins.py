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
        # `http://localhost:*` also means the address without a port.
        self._any_port = {origin[:-2] for origin in given if origin.endswith(":*")}

    def listed(self, origin: str) -> bool:
        """Whether this very origin is trusted (credentials may be allowed to it)."""
        origin = origin.lower()
        if origin in self._exact or origin in self._any_port:
            return True
        base, colon, port = origin.rpartition(":")
        return bool(colon) and port.isascii() and port.isdigit() and base in self._any_port

    def allows(self, origin: str | None) -> bool:
        """Whether a request with this `Origin` may be answered; no `Origin` at all is no web page's request."""
        return origin is None or self.any or self.listed(origin)
