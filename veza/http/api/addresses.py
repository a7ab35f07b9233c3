"""Absolute addresses of this server, for what is pasted into other programs.

The base is PUBLIC_URL; without one, the address the server listens on. Never what a request's `Host` says.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from veza.config import Settings

_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", "127.0.0.1", "::1", ""})


class Site(Struct, frozen=True):
    """Where the server is, in the parts that source programs ask for. `prefix` stands before every path."""

    host: str
    port: int
    tls: bool
    prefix: str

    @property
    def authority(self) -> str:
        """`host:port`, brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, path: str, scheme: str = "http") -> str:
        """The absolute address of a path; `scheme` is the plain one (`http`, `ws`), which TLS makes `https`, `wss`."""
        usual = 443 if self.tls else 80
        host = self.authority if self.port != usual else self.authority.rpartition(":")[0]
        return f"{scheme}{'s' if self.tls else ''}://{host}{self.prefix}{path}"


def site(settings: Settings, port: int | None = None) -> Site:
    """The server's place. `port`: the one it really listens on, where the settings leave that open."""
    if settings.public_url is None:
        host = "localhost" if settings.host in _EVERYWHERE else settings.host
        return Site(host, port or settings.port, settings.tls_cert is not None, "")
    parts: SplitResult = urlsplit(settings.public_url)
    tls = parts.scheme == "https"
    return Site(
        parts.hostname or "localhost", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/")
    )
