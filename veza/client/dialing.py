"""Opening a connection of our own: for sockets, and for requests too long for a client that keeps connections."""

import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from veza.client.errors import Unreachable, reason_of

CONNECT_TIMEOUT: Final = 10.0


async def dialled(url: str, verify: Any) -> trio.abc.Stream:
    """A connection to a server, encrypted for `https` and `wss`.

    Args:
        verify: an `ssl.SSLContext`, or False to trust any certificate.

    Raises:
        Unreachable: nobody is there, or it cannot be trusted.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if secure else 80)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            if not secure:
                return await trio.open_tcp_stream(host, port)
            stream = await trio.open_ssl_over_tcp_stream(
                host, port, ssl_context=_tls(verify), https_compatible=True
            )
            await stream.do_handshake()
            return stream
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise Unreachable(f"{parts.netloc} cannot be reached: {reason_of(error)}") from None


def _tls(verify: Any) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    context = ssl.create_default_context()
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
