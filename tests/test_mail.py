"""Letters: posted at once, delivered once, written whole; a mail server that fails is tried again, not for ever."""

from __future__ import annotations

import smtplib
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.conftest import real_time
from veza import mail
from veza.config import Settings
from veza.mail import Letter, Mailer, Outbox, Smtp, open_mailer

LETTER = Letter(
    "verification", "nina@example.org", "Sübject 🎻", "Token: abc\nhttps://veza.example/x?token=abc\n"
)


class Flaky:
    """Fails some times, then takes letters."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.taken: list[EmailMessage] = []
        self.tries = 0

    def deliver(self, message: EmailMessage) -> str:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(message)
        return "somewhere"


async def run(mailer: Mailer) -> None:
    """Deliver all that waits."""
    mailer.close()
    with trio.fail_after(30):
        await mailer.run()


async def test_the_outbox_holds_whole_private_letters(tmp_path: Path, mock_clock: MockClock) -> None:
    """Those of the last moment too: leaving, the mailer gets two seconds, which do not pass here."""
    settings = Settings(data=tmp_path, public_url="https://veza.example")
    async with real_time(), open_mailer(settings) as mailer:
        for _ in range(3):
            mailer.post(LETTER)
    files = list((tmp_path / "outbox").iterdir())
    assert len(files) == 3
    assert all(path.suffix == ".eml" and path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    message = message_from_bytes(files[0].read_bytes(), policy=policy.default)
    assert message["From"] == "Veza <veza@veza.example>"
    assert message["To"] == "nina@example.org"
    assert message["Subject"] == "Sübject 🎻"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@veza.example>")
    assert message.get_content().splitlines() == LETTER.text.splitlines()
    assert b"https://veza.example/x?token=abc" in files[0].read_bytes()  # readable as it is


async def test_a_failing_server_is_tried_again() -> None:
    flaky = Flaky([ConnectionRefusedError(), smtplib.SMTPServerDisconnected()])
    mailer = Mailer(flaky, "veza@x.org", pauses=(0.0, 0.0, 0.0))
    mailer.post(LETTER)
    await run(mailer)
    assert (flaky.tries, len(flaky.taken), mailer.delivered, mailer.lost) == (3, 1, 1, 0)


async def test_but_not_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    flaky = Flaky([OSError("nina@example.org abc")] * 10)
    mailer = Mailer(flaky, "veza@x.org", pauses=(0.0, 0.0))
    mailer.post(LETTER)
    await run(mailer)
    assert (flaky.tries, mailer.delivered, mailer.lost) == (3, 0, 1)
    logged = capsys.readouterr()
    assert "abc" not in logged.out + logged.err and "nina" not in logged.out + logged.err


async def test_a_refused_recipient_is_not_asked_for_again() -> None:
    flaky = Flaky([smtplib.SMTPRecipientsRefused({"nina@example.org": (550, b"no")})])
    mailer = Mailer(flaky, "veza@x.org", pauses=(0.0, 0.0))
    mailer.post(LETTER)
    mailer.post(LETTER)
    await run(mailer)
    assert (flaky.tries, mailer.delivered, mailer.lost) == (2, 1, 1)


async def test_a_letter_that_cannot_be_written_is_lost_alone() -> None:
    flaky = Flaky([])
    mailer = Mailer(flaky, "veza@x.org")
    mailer.post(Letter("verification", "nina@example.org\nBcc: all@example.org", "Subject", "text"))
    mailer.post(LETTER)
    await run(mailer)
    assert (mailer.lost, mailer.delivered) == (1, 1)


async def test_posting_never_blocks_and_never_raises() -> None:
    mailer = Mailer(Flaky([]), "veza@x.org", waiting=3)
    for _ in range(5):
        mailer.post(LETTER)
    assert mailer.lost == 2
    mailer.close()
    mailer.post(LETTER)
    assert mailer.lost == 3


async def test_leaving_does_not_wait_for_a_silent_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "_TIMEOUT", 120.0)  # who waits for it is not back in time
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    settings = Settings(data=tmp_path, smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none")
    with trio.fail_after(60):
        async with open_mailer(settings) as mailer:
            mailer.post(LETTER)
    assert mailer.delivered == 0
    await listener.aclose()


async def test_smtp_hands_a_letter_over() -> None:
    """A mail server of a few lines: what it was told and given."""
    lines: list[str] = []

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 here\r\n")
        buffer, reading = b"", False
        async for chunk in stream:
            buffer += chunk
            while b"\r\n" in buffer:
                line, _, buffer = buffer.partition(b"\r\n")
                lines.append(line.decode())
                if reading:
                    if line == b".":
                        reading = False
                        await stream.send_all(b"250 taken\r\n")
                elif line.upper() == b"DATA":
                    reading = True
                    await stream.send_all(b"354 go on\r\n")
                elif line.upper() == b"QUIT":
                    await stream.send_all(b"221 bye\r\n")
                    return
                else:
                    await stream.send_all(b"250 ok\r\n")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            mailer = Mailer(
                Smtp(Settings(smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none")), "veza@x.org"
            )
            mailer.post(Letter("verification", "nina@example.org", "Subject", "Token: abc\n"))
            await run(mailer)
            nursery.cancel_scope.cancel()
    assert mailer.delivered == 1
    assert any(line.upper().startswith("MAIL FROM:<VEZA@X.ORG>") for line in lines)
    assert any(line.upper().startswith("RCPT TO:<NINA@EXAMPLE.ORG>") for line in lines)
    assert "Token: abc" in lines


def test_an_outbox_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file where the directory should be")
    message = EmailMessage()
    message["Message-ID"] = "<1@x>"
    with pytest.raises(OSError):
        Outbox(tmp_path / "outbox").deliver(message)


def test_letters_do_not_show_their_text() -> None:
    assert "abc" not in repr(LETTER) and "nina" not in repr(LETTER)
