"""Which pages of other sites may read media: the settings' origins, said in headers (Fetch standard, CORS).

The same rules as the application's: a listed origin by its name, `*` never with credentials. Refusals say it too, so
that a player can tell a late address from a broken line.
"""

from typing import Final

from veza.http.head import Head
from veza.security.origins import Origins

_EXPOSED: Final = b"Content-Range, Content-Length, Accept-Ranges"
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD"),
    (
        b"access-control-allow-headers",
        b"Authorization, If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range",
    ),
    (b"access-control-max-age", b"7200"),
)
# On every answer, whoever asks: else a browser shows one page what it kept for another.
VARY: Final = (b"vary", b"Origin")


class Cors:
    """Says who may read."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def headers(self, head: Head) -> list[tuple[bytes, bytes]]:
        """What an answer to this request carries besides `VARY`; nothing for most."""
        origin = head.get(b"origin")
        if origin is None:
            return []
        if self._origins.listed(origin.decode("latin-1")):
            return [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", _EXPOSED),
            ]
        if self._origins.any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        return []

    def preflight(self, head: Head) -> list[tuple[bytes, bytes]]:
        """The headers that answer `OPTIONS`."""
        allowed = self.headers(head)
        asked = head.get(b"access-control-request-method") is not None
        return [VARY, *allowed, *(_PREFLIGHT if allowed and asked else ())]
