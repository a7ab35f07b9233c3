"""Listening: where connections come from. No failure of `accept` ends it; who cannot be let in yet waits outside."""

import errno
import socket
from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import wait_readable

from veza import log
from veza.http.clients import plain

BACKLOG: Final = 4096
BURST: Final = 64  # connections accepted before those who are already in get their turn
PAUSE: Final = 0.1  # seconds before the next try when there is no descriptor left
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_log = log.get("door")


async def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address `host` stands for.

    Raises:
        OSError: none of them can be had; EADDRINUSE when the port is taken.
    """
    flags = socket.AI_PASSIVE
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and listeners:  # every address on the same port
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for listener in listeners:
                    listener.close()
                raise
            failure = error
        else:
            listeners.append(sock)
    if not listeners:
        raise failure or OSError(errno.EADDRNOTAVAIL, "nothing to listen on")
    return listeners


async def accept(listener: socket.socket, welcome: Callable[[socket.socket, str], None]) -> None:
    """Hand every new connection and its address to `welcome`, until the listener is closed."""
    complained = False
    while True:
        try:
            await wait_readable(listener)
            for _ in range(BURST):
                sock, address = listener.accept()
                complained = False
                sock.setblocking(False)
                welcome(sock, plain(str(address[0])))
        except BlockingIOError:
            pass
        except trio.ClosedResourceError:
            return
        except OSError as error:
            if listener.fileno() < 0:
                return
            if error.errno in _FULL:
                # Those who wait outside stay in the kernel's queue until somebody leaves.
                if not complained:
                    _log.error("cannot accept", reason=error.strerror)
                complained = True
                await trio.sleep(PAUSE)
            # else: that client left before it was let in (ECONNABORTED and its kin, accept(2))
