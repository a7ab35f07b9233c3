"""A line under TLS: an `ssl.SSLObject` between two memory BIOs, so that sockets, files and broadcasts stay ours.

What is shared among connections is encrypted for each of them, 64 KiB at a time and only when the kernel has taken what
was encrypted before: memory stays bounded by one piece a connection. HTTP/2 is never offered.
"""

import ssl
from pathlib import Path
from typing import Final

import trio

from veza.http.line import READ_SIZE, Line

PIECE: Final = 64 * 1024


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The context of our port.

    Raises:
        OSError, ssl.SSLError: the files cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsLine(Line):
    """As `Line`; `write` takes bytes as soon as they are encrypted, `unsent` says what of that still waits."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "_waiting")

    secure = True

    def __init__(self, plain: Line, context: ssl.SSLContext) -> None:
        super().__init__(plain._socket)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._waiting = b""  # encrypted, not taken by the kernel yet

    @property
    def unsent(self) -> int:  # type: ignore[override]
        return len(self._waiting) + self._outgoing.pending

    @property
    def direct(self) -> None:
        """There is none: every byte is encrypted first."""

    async def agree(self) -> None:
        """The handshake; the caller sets the deadline.

        Raises:
            trio.BrokenResourceError: no agreement.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush_all()
                if not await self._fetch():
                    raise trio.BrokenResourceError("the peer left during the handshake") from None
            except ssl.SSLError as error:
                self._try_flush()
                raise trio.BrokenResourceError(error.reason) from None
            else:
                await self._flush_all()
                return

    async def receive(self, size: int = READ_SIZE) -> bytes:
        if self._tls.pending() or self._incoming.pending:
            await trio.lowlevel.checkpoint()  # before anything is taken, for who is cancelled loses nothing
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                if not await self._fetch():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                return b""  # cut without close_notify; HTTP and WebSocket have framings of their own
            except (ssl.SSLError, ValueError) as error:
                raise trio.BrokenResourceError from error

    def write(self, data: bytes | memoryview) -> int:
        if self.closed:
            raise OSError("closed")
        taken = 0
        with memoryview(data) as view:
            while taken < len(view) and self._try_flush():
                try:
                    taken += self._tls.write(view[taken : taken + PIECE])
                except ssl.SSLError as error:
                    raise OSError(error.reason) from None
        self._try_flush()
        return taken

    def finish(self) -> None:
        if not self.closed:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, ValueError):
                pass  # only our half: the peer's close_notify may come or not
            try:
                self._try_flush()
            except OSError:
                pass
        super().finish()

    def _try_flush(self) -> bool:
        """Give the kernel what is encrypted; True if it took everything. Raises OSError on a dead connection."""
        while True:
            if not self._waiting:
                self._waiting = self._outgoing.read()
                if not self._waiting:
                    return True
            sent = super().write(self._waiting)
            self._waiting = self._waiting[sent:]
            if self._waiting:
                return False

    async def _flush_all(self) -> None:
        try:
            while not self._try_flush():
                await self.wait_writable()
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def _fetch(self) -> bool:
        try:
            self._try_flush()  # TLS answers some records by itself
        except OSError as error:
            raise trio.BrokenResourceError from error
        data = await super().receive()
        if data:
            self._incoming.write(data)
            return True
        self._incoming.write_eof()
        return False
