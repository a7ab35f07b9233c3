"""The line: the non-blocking socket of one connection, as everything above it sees it.

A write never waits: it takes what the kernel takes. The descriptor is asked for at every use and is −1 once closed: a
remembered number may be reused, and one person's bytes would reach another. Nothing here knows HTTP or frames.
"""

import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

READ_SIZE: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


class Line:
    """A connected TCP socket. One task may receive while another waits to write.

    Attributes:
        unsent: bytes taken by `write` that the kernel has not; always 0 on a plain line.
    """

    __slots__ = ("_drained", "_socket")

    secure = False
    unsent = 0

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._drained = True  # the last read left nothing: waiting first saves a read that would fail

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def fileno(self) -> int:
        """The descriptor now; −1 once closed."""
        return self._socket.fileno()

    def hasten(self) -> None:
        """Send small pieces at once (no Nagle)."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # gone already, or no TCP; the first read tells

    def expect(self) -> None:
        """What comes next may be there by the next pass: `receive` looks before it waits.

        Where many ask at once it is, and waiting costs three times what looking does.
        """
        self._drained = False

    async def agree(self) -> None:
        """What has to be said before the first byte; nothing on a plain line."""

    def here(self) -> tuple[str, int] | None:
        """Our own end's address and port; None once the connection is gone."""
        try:
            name = self._socket.getsockname()
        except OSError:
            return None
        return (name[0], name[1]) if isinstance(name, tuple) else None

    async def receive(self, size: int = READ_SIZE) -> bytes:
        """At least one byte, at most `size`; b"" at the end. A checkpoint always; cancelled, nothing is lost.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed here, perhaps while we waited.
        """
        sock = self._socket
        if sock.fileno() < 0:
            raise trio.ClosedResourceError
        if not self._drained:
            await checkpoint()
        else:
            await wait_readable(sock)
        while True:
            try:
                data = sock.recv(size)
            except BlockingIOError:
                await wait_readable(sock)
            except OSError as error:
                if sock.fileno() < 0:
                    raise trio.ClosedResourceError from None
                raise trio.BrokenResourceError from error
            else:
                self._drained = len(data) < size
                return data

    def gather(self, size: int) -> None:
        """From now on `receive` waits until so many bytes have come, or the end."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        except OSError:
            pass  # gone already, or a system without it: it waits for one byte, as ever

    def waiting(self) -> bool:
        """Has something arrived that nobody has read?"""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def write(self, data: bytes | memoryview) -> int:
        """Hand over what can be handed over at once.

        Returns:
            how many bytes were taken, perhaps none.

        Raises:
            OSError: the connection is dead or closed.
        """
        try:
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0

    @property
    def direct(self) -> Callable[[bytes], int] | None:
        """The socket's own `send`, for who broadcasts: as `write`, but raises BlockingIOError where that answers 0."""
        return self._socket.send

    def backlog(self) -> int:
        """Bytes the kernel took and the peer has not acknowledged: when they get fewer, it is reading."""
        held = bytearray(4)
        try:
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, held)
        except (OSError, ValueError):
            return 0
        return int.from_bytes(held, sys.byteorder)

    async def wait_writable(self) -> None:
        """Until a `write` may take something. Raises ClosedResourceError if it is closed meanwhile."""
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        await wait_writable(self._socket)

    def finish(self) -> None:
        """Say that nothing more will be sent (FIN). What was written still arrives."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Close; tasks that wait here wake with ClosedResourceError. May be called twice."""
        if self._socket.fileno() >= 0:
            notify_closing(self._socket)
            self._socket.close()

    def reset(self) -> None:
        """Close at once and let the peer know by RST; what is not sent is lost."""
        if self._socket.fileno() >= 0:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass
            self.close()
