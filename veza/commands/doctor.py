"""`veza doctor`: look at everything a server needs, and say what to do about what is missing.

Changes nothing: where the embedded database does not run it is not started, where a directory is missing it is not
made. One finding a line; the exit code is 1 if any of them keeps the server from working.
"""

import difflib
import json
import os
import platform
import resource
import shutil
import socket
import ssl
import stat
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from enum import Enum
from http.client import HTTPException
from pathlib import Path
from typing import Any

import msgspec

from veza import __version__, config, grammar, log
from veza.config import Settings

LITTLE_SPACE = 1024**3
NO_SPACE = 100 * 1024**2
OLDEST_POSTGRES = 140000
SOON = 14 * 24 * 3600.0  # a certificate that ends within this time wants attention


class Mark(Enum):
    """How a finding is to be taken."""

    GOOD = ("✓", "green")
    WARNING = ("!", "yellow")
    BAD = ("✗", "red")


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at, what was seen, and what to do."""

    mark: Mark
    subject: str
    seen: str
    advice: str = ""


Findings = Iterator[Finding]


def run() -> None:
    log.setup("console", "error")
    findings: list[Finding] = list(program())
    settings = None
    try:
        settings = config.load()
    except config.SettingError as error:
        findings.append(Finding(Mark.BAD, "settings", str(error)))
    else:
        findings += setting_names(config.read_dotenv(Path(".env")))
        for check in CHECKS:
            findings += check(settings)
    show(findings)
    if any(finding.mark is Mark.BAD for finding in findings):
        sys.exit(1)


def show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        sign, colour = finding.mark.value
        seen = Text(finding.seen)
        if finding.advice:
            seen.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(sign, style=colour), Text(finding.subject), seen)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


# What is looked at ---------------------------------------------------------------------------------------


def program() -> Findings:
    python = platform.python_version()
    yield Finding(
        Mark.GOOD, "program", f"veza {__version__}, Python {python}, {platform.system()} {platform.machine()}"
    )


def setting_names(dotenv: dict[str, str]) -> Findings:
    """Names in `.env` that mean nothing to us and look like ones that do."""
    known = config.variables()
    strange = [name for name in dotenv if name not in known]
    for name in strange:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if close:
            yield Finding(
                Mark.WARNING,
                "settings",
                f".env sets {name}, which is no setting",
                f"did you mean {close[0]}?",
            )
    if not strange:
        yield Finding(Mark.GOOD, "settings", "all values can be read")


def secrets(settings: Settings) -> Findings:
    if settings.production:
        yield Finding(Mark.GOOD, "secrets", "set, and long enough")
        return
    path = settings.data / "secrets.json"
    given = [name.upper() for name in config.GENERATED if getattr(settings, name)]
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(Mark.BAD, "secrets", f"others may read {path}", f"chmod 600 {path}")
    elif len(given) == len(config.GENERATED):
        yield Finding(Mark.GOOD, "secrets", f"{' and '.join(given)} are set")
    else:
        when = "generated" if path.exists() else "will be generated at the first start"
        yield Finding(Mark.GOOD, "secrets", f"{when}, in {path} (fit for development only)")


def data_directory(settings: Settings) -> Findings:
    place = settings.data.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            Mark.BAD,
            "data",
            f"{place} cannot be written",
            "give it to this user, or let VEZA_DATA name another place",
        )
        return
    free = shutil.disk_usage(place).free
    seen = f"{settings.data.absolute()}, {grammar.format_amount(free)} free"
    if free < NO_SPACE:
        yield Finding(Mark.BAD, "data", seen, "make room: PostgreSQL stops on a full disk")
    elif free < LITTLE_SPACE:
        yield Finding(Mark.WARNING, "data", seen, "make room before it is full")
    else:
        yield Finding(Mark.GOOD, "data", seen)


def database(settings: Settings) -> Findings:
    from veza.db.errors import DatabaseError

    try:
        if settings.database_url is not None:
            yield from _asked(settings.database_url)
            return
        from veza.db.cluster import programs

        programs()
        if not _server_runs(settings):
            made = (settings.data / "postgres").exists()
            seen = (
                "is there and starts with the server"
                if made
                else "is installed; its database is made at the first start"
            )
            yield Finding(Mark.GOOD, "database", f"the embedded PostgreSQL {seen}")
            return
        import trio

        from veza.commands.database import reachable

        async def address() -> str:
            async with reachable(settings) as url:
                return url

        yield from _asked(trio.run(address))
    except DatabaseError as error:
        advice = "check DATABASE_URL, and that PostgreSQL runs" if settings.database_url else ""
        yield Finding(Mark.BAD, "database", str(error), advice)


def _asked(url: str) -> Findings:
    import trio

    from veza.db import survey
    from veza.db.migrate import load_migrations
    from veza.db.pool import with_connection

    found = trio.run(with_connection, url, survey.look)
    if found.version_number < OLDEST_POSTGRES:
        yield Finding(Mark.BAD, "database", f"PostgreSQL {found.version}", "use PostgreSQL 14 or newer")
    elif found.missing_extensions:
        names = ", ".join(found.missing_extensions)
        yield Finding(
            Mark.BAD, "database", f"PostgreSQL {found.version} lacks {names}", "install PostgreSQL's contrib"
        )
    else:
        yield Finding(
            Mark.GOOD, "database", f"PostgreSQL {found.version} answers in {found.round_trip * 1000:.1f} ms"
        )
    newest = max(migration.version for migration in load_migrations())
    if found.schema is None:
        seen = "empty; serve makes the schema" if not found.tables else "holds tables that are not veza's"
        advice = "" if not found.tables else "let DATABASE_URL name an empty database"
        yield Finding(Mark.BAD if found.tables else Mark.GOOD, "schema", seen, advice)
    elif found.schema < newest:
        yield Finding(
            Mark.WARNING, "schema", f"version {found.schema}; this program's is {newest}", "veza migrate"
        )
    elif found.schema > newest:
        seen = f"version {found.schema} is newer than this program's, {newest}"
        yield Finding(Mark.BAD, "schema", seen, "use the newer veza")
    else:
        yield Finding(Mark.GOOD, "schema", f"version {found.schema}, up to date")


def port(settings: Settings) -> Findings:
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        yield Finding(
            Mark.BAD, "port", f"HOST={settings.host!r} is no address", "HOST=127.0.0.1 or HOST=0.0.0.0"
        )
        return
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            yield _taken(settings, where, error)
        else:
            yield Finding(Mark.GOOD, "port", f"{where} is free")


def _taken(settings: Settings, where: str, error: OSError) -> Finding:
    if _is_veza(settings):
        return Finding(Mark.GOOD, "port", f"a veza server answers on {where}")
    if isinstance(error, PermissionError):
        return Finding(
            Mark.BAD, "port", f"{where} may not be used", "choose a PORT above 1023, behind a proxy"
        )
    reason = (error.strerror or str(error)).lower()
    return Finding(Mark.BAD, "port", f"{where}: {reason}", "stop what listens there, or choose another PORT")


def _is_veza(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme = "https" if settings.tls_cert else "http"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
        with urllib.request.urlopen(
            address, timeout=10, context=context if settings.tls_cert else None
        ) as answer:
            return bool(json.load(answer).get("success"))
    except (OSError, ValueError, AttributeError, HTTPException):
        return False


def web(settings: Settings) -> Findings:
    if settings.tls_cert is not None and settings.tls_key is not None:
        yield _certificate(settings.tls_cert, settings.tls_key)
    if settings.public_url is None and settings.production:
        yield Finding(
            Mark.WARNING, "PUBLIC_URL", "is not set: links are built on this machine's name", "set PUBLIC_URL"
        )
    elif settings.public_url is not None:
        yield Finding(Mark.GOOD, "PUBLIC_URL", settings.public_url)
    exposed = settings.host not in ("127.0.0.1", "::1", "localhost")
    if settings.production and exposed and settings.tls_cert is None and not settings.trusted_proxies:
        yield Finding(
            Mark.WARNING,
            "TLS",
            "passwords would travel in the clear",
            "set TLS_CERT and TLS_KEY, or TRUSTED_PROXIES to the proxy that speaks TLS",
        )


def _certificate(cert: Path, key: Path) -> Finding:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        reason = str(getattr(error, "reason", None) or error).replace("_", " ").lower()
        return Finding(
            Mark.BAD, "TLS", f"{cert} and {key}: {reason}", "they must be PEM files that belong together"
        )
    left = _seconds_valid(cert)
    if left is None:
        return Finding(Mark.GOOD, "TLS", f"{cert} can be used")
    if left < 0:
        return Finding(Mark.BAD, "TLS", f"{cert} has expired", "renew it")
    mark = Mark.WARNING if left < SOON else Mark.GOOD
    return Finding(
        mark, "TLS", f"{cert} is good for {left / 86400:.0f} days", "renew it" if left < SOON else ""
    )


def _seconds_valid(cert: Path) -> float | None:
    try:
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(cert))  # type: ignore[attr-defined]
        return ssl.cert_time_to_seconds(decoded["notAfter"]) - time.time()
    except (AttributeError, KeyError, OSError, ValueError):
        return None


def mail(settings: Settings) -> Findings:
    if settings.smtp_host is None:
        yield Finding(Mark.GOOD, "mail", f"no SMTP_HOST: mails are written to {settings.data / 'outbox'}")
        return
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        socket.create_connection((settings.smtp_host, settings.smtp_port), timeout=5).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        yield Finding(
            Mark.BAD, "mail", f"{where} cannot be reached: {reason}", "check SMTP_HOST and SMTP_PORT"
        )
    else:
        yield Finding(Mark.GOOD, "mail", f"{where} answers")


def limits(settings: Settings) -> Findings:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        seen = f"{hard} open files are allowed, {settings.max_connections} connections are promised"
        yield Finding(Mark.WARNING, "limits", seen, f"ulimit -n {wanted}, or a smaller MAX_CONNECTIONS")
    else:
        yield Finding(Mark.GOOD, "limits", f"{soft if soft >= wanted else hard} open files")


def _server_runs(settings: Settings) -> bool:
    from veza.db.lock import server_lock

    return server_lock(settings.data.absolute()).is_taken()


CHECKS: tuple[Callable[[Settings], Findings], ...] = (
    secrets,
    data_directory,
    database,
    port,
    web,
    mail,
    limits,
)
