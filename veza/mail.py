"""Outgoing mail: posted and forgotten by requests, delivered by one task of its own.

With SMTP settings letters go to that server, tried again a few times with growing pauses; without, each becomes an
`.eml` file in the data directory's `outbox/`, and the log says where. A letter's text holds single-use tokens: it is
never logged, only its kind and what became of it. `post` never blocks and never raises; if far too many letters wait,
the newest is dropped with a log line (every letter can be asked for again).
"""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
import trio

from veza import log
from veza.config import Settings

_log = log.get("mail")

_TIMEOUT: Final = 20.0  # seconds without an answer from the SMTP server
_PAUSES: Final = (5.0, 30.0, 120.0)  # before each further try
_WAITING: Final = 1000


class Letter(msgspec.Struct, frozen=True):
    """One plain-text mail. `kind` is what the log calls it."""

    kind: str
    to: str
    subject: str
    text: str

    def __repr__(self) -> str:
        return f"<Letter {self.kind}>"


class Transport(Protocol):
    def deliver(self, message: EmailMessage) -> str:
        """Runs in a thread. Where it went, for the log; raises OSError or smtplib.SMTPException."""
        ...


class Outbox:
    """Writes letters into a directory nobody else may read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def deliver(self, message: EmailMessage) -> str:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = message["Message-ID"].strip("<>").partition("@")[0]
        path = self.directory / f"{name}.eml"
        part = path.with_suffix(".part")  # readers of the directory see whole letters only
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(message.as_bytes(policy=policy.SMTPUTF8))
        part.rename(path)
        return str(path)


class Smtp:
    """Hands letters to an SMTP server, one connection each: they are few."""

    def __init__(self, settings: Settings) -> None:
        self._host = settings.smtp_host or ""
        self._port = settings.smtp_port
        self._username = settings.smtp_username
        self._password = settings.smtp_password
        self._tls = settings.smtp_tls

    def deliver(self, message: EmailMessage) -> str:
        context = ssl.create_default_context()
        if self._tls == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=_TIMEOUT, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT)
        with server:
            if self._tls == "starttls":
                server.starttls(context=context)
            if self._username:
                server.login(self._username, self._password or "")
            server.send_message(message)
        return f"{self._host}:{self._port}"


class Mailer:
    """Takes letters at once, delivers them in order. Run `run` in a task, or use `open_mailer`."""

    def __init__(
        self,
        transport: Transport,
        sender: str,
        *,
        pauses: tuple[float, ...] = _PAUSES,
        waiting: int = _WAITING,
    ) -> None:
        self._transport = transport
        self._sender = sender
        self._pauses = pauses
        self._in, self._out = trio.open_memory_channel[Letter](waiting)
        self.delivered = 0
        self.lost = 0

    def post(self, letter: Letter) -> None:
        """Have a letter delivered soon. Never blocks, never raises."""
        try:
            self._in.send_nowait(letter)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            self.lost += 1
            _log.error(
                "a letter was dropped", kind=letter.kind, waiting=self._in.statistics().current_buffer_used
            )

    async def run(self) -> None:
        """Deliver until `close`, then what still waits."""
        async for letter in self._out:
            try:
                await self._deliver(letter)
            except Exception as error:  # one letter that cannot even be written must not end all mail
                self.lost += 1
                _log.error("a letter could not be sent", kind=letter.kind, error=type(error).__name__)

    def close(self) -> None:
        """Take no more letters."""
        self._in.close()

    async def _deliver(self, letter: Letter) -> None:
        message = self._compose(letter)
        for tries, pause in enumerate((*self._pauses, None), 1):
            try:
                where = await trio.to_thread.run_sync(
                    self._transport.deliver, message, abandon_on_cancel=True
                )
            except (OSError, smtplib.SMTPException) as error:
                # Not the error's text: servers quote addresses in it.
                final = pause is None or isinstance(error, smtplib.SMTPRecipientsRefused)
                _log.warning(
                    "mail not delivered",
                    kind=letter.kind,
                    tries=tries,
                    error=type(error).__name__,
                    final=final,
                )
                if final or pause is None:
                    self.lost += 1
                    return
                await trio.sleep(pause)
            else:
                self.delivered += 1
                _log.info("mail delivered", kind=letter.kind, to=where)
                return

    def _compose(self, letter: Letter) -> EmailMessage:
        message = EmailMessage(policy=policy.SMTPUTF8)
        message["From"] = self._sender
        message["To"] = letter.to
        message["Subject"] = letter.subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2].rstrip(">") or None)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies, please
        # As it is, without quoted-printable: tokens and links stay whole for whoever reads the file.
        message.set_content(letter.text, cte="7bit" if letter.text.isascii() else "8bit")
        return message


@asynccontextmanager
async def open_mailer(settings: Settings) -> AsyncIterator[Mailer]:
    """The mailer the settings ask for. Leaving, it gets two seconds for what still waits."""
    host = urlsplit(settings.public_url or "").hostname or "localhost"
    transport: Transport = Smtp(settings) if settings.smtp_host else Outbox(settings.data / "outbox")
    mailer = Mailer(transport, settings.smtp_from or f"Veza <veza@{host}>")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailer.run)
        try:
            yield mailer
        finally:
            mailer.close()
            nursery.cancel_scope.deadline = trio.current_time() + 2.0
