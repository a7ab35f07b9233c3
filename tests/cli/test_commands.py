"""Every command of `veza`, as a person meets it: what works, and the one line that says why something does not."""

import json
import signal
import socket
import sys
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.cli.conftest import ROOT, Veza, descendants_mentioning, serving
from veza import __version__

pytestmark = pytest.mark.usefixtures("nobody_hangs")


def get(url: str) -> tuple[int, dict[str, object]]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.status, json.load(answer)


# The command itself


async def test_help_names_every_command(veza: Veza) -> None:
    done = await veza("--help")
    assert done.code == 0
    for command in ("serve", "demo", "migrate", "admin", "chat", "doctor", "import-legacy"):
        assert command in done.out


async def test_version(veza: Veza) -> None:
    assert (await veza("--version")).out.strip() == f"veza {__version__}"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["serve", "--port", "x"], ["import-legacy"], ["--nonsense"]]
)
async def test_wrong_usage_ends_with_2(veza: Veza, arguments: list[str]) -> None:
    done = await veza(*arguments)
    assert done.code == 2
    assert "Usage:" in done.err
    assert "Traceback" not in done.err


async def read_by(program: str) -> set[str]:
    """The modules a program has read."""
    program = f"{program}; import sys; print(*sys.modules)"
    done = await trio.run_process([sys.executable, "-c", program], capture_stdout=True, cwd=ROOT)
    return set(done.stdout.decode().split())


async def test_asking_for_help_reads_nothing_heavy() -> None:
    heavy = {"trio", "quart", "asyncpg", "httpx", "structlog", "msgspec", "veza.config", "asyncio"}
    assert not heavy & await read_by("import veza.cli")


async def test_serving_does_not_read_what_only_other_commands_need() -> None:
    assert not {"httpx", "typer", "veza.client", "veza.db.legacy"} & await read_by("import veza.app")


# serve


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_serves_and_ends_when_told(veza: Veza, number: int) -> None:
    async with serving(veza) as server:
        status, health = await trio.to_thread.run_sync(get, f"{server.url}/health")
        assert (status, health["success"]) == (200, True)
        assert (await trio.to_thread.run_sync(get, f"{server.url}/ready"))[0] == 200
        assert await server.end(number) == 0


async def test_a_server_with_a_database_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    veza = Veza(tmp_path)
    async with serving(veza) as server:
        await trio.to_thread.run_sync(get, f"{server.url}/ready")
        assert list(descendants_mentioning(str(tmp_path)))
        doctor = await veza("doctor")
        assert doctor.code == 0, doctor
        assert "PostgreSQL" in doctor.out
        # Other commands use the running server's database.
        assert "up to date" in (await veza("migrate")).out
        assert await server.end() == 0
    assert not list(descendants_mentioning(str(tmp_path)))
    assert (tmp_path / "data" / "secrets.json").stat().st_mode & 0o777 == 0o600


async def test_a_port_that_is_taken(veza: Veza) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        complaint = (await veza("serve", PORT=port)).complaint
        assert f"port {port} is taken" in complaint
        assert (await veza("serve", "--port", port)).complaint == complaint


async def test_a_wrong_setting(veza: Veza) -> None:
    done = await veza("serve", JWT_EXPIRATION="soon")
    assert "JWT_EXPIRATION='soon' is not a duration" in done.complaint
    assert done.code == 2


async def test_production_without_secrets(veza: Veza) -> None:
    assert "JWT_SECRET is missing" in (await veza("serve", ENVIRONMENT="production")).complaint


async def test_a_database_that_cannot_be_reached(veza: Veza) -> None:
    url = "postgresql://veza:hunter2@127.0.0.1:1/veza"
    for command in (["serve"], ["migrate"], ["admin", "create", "--username", "ada"]):
        complaint = (await veza(*command, DATABASE_URL=url)).complaint
        assert "database" in complaint
        assert "connection refused" in complaint
        assert "hunter2" not in complaint


async def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    for command in ("serve", "migrate"):
        complaint = (await Veza(tmp_path)(command)).complaint
        assert str(tmp_path / "data") in complaint


async def test_a_data_directory_that_is_in_use(veza: Veza) -> None:
    async with serving(veza) as server:
        complaint = (await veza("serve")).complaint
        assert "in use by another server" in complaint
        assert str(server.process.pid) in complaint


async def test_a_database_that_another_server_works_on(veza: Veza) -> None:
    async with serving(veza):
        complaint = (await veza("serve", VEZA_DATA=str(veza.home / "other"))).complaint
        assert "another server works on this database" in complaint
        complaint = (await veza("import-legacy", veza.settings["DATABASE_URL"])).complaint
        assert "another server works on this database" in complaint


# migrate


async def test_an_empty_database_gets_the_schema(tmp_path: Path, empty_database_url: str) -> None:
    veza = Veza(tmp_path, DATABASE_URL=empty_database_url)
    assert "was empty" in (await veza("migrate")).out
    assert (await veza("migrate")).out == "the database is up to date\n"


# admin create


async def test_the_first_admin_is_made_by_hand(veza: Veza) -> None:
    made = await veza("admin", "create", typed="boss\nboss@example.org\ncorrect horse\n")
    assert made.code == 0, made
    assert "boss (id 1) is a new super_admin" in made.out
    again = await veza("admin", "create", "--username", "BOSS")
    assert "was super_admin already" in again.out
    async with serving(veza) as server:
        body = json.dumps({"username": "boss", "password": "correct horse"}).encode()
        request = urllib.request.Request(
            f"{server.url}/api/v1/auth/login", body, {"content-type": "application/json"}
        )

        def log_in() -> dict[str, dict[str, dict[str, str]]]:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found: dict[str, dict[str, dict[str, str]]] = json.load(answer)
                return found

        assert (await trio.to_thread.run_sync(log_in))["data"]["user"]["role"] == "super_admin"


async def test_somebody_who_is_registered_becomes_admin(veza: Veza) -> None:
    await veza("admin", "create", typed="ada\nada@example.org\ncorrect horse\n")
    done = await veza("admin", "create", "--username", "ada", "--role", "admin")
    assert "ada (id 1) is admin now, and was super_admin" in done.out


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("x\nx@example.org\ncorrect horse\n", "username: must have 3 to 50"),
        ("ada\nnobody\ncorrect horse\n", "email: must be an e-mail address"),
        ("ada\nada@example.org\nshort\n", "password: must have 8 to 128"),
        ("", "no username given"),
    ],
)
async def test_an_admin_follows_the_rules_for_everybody(veza: Veza, typed: str, says: str) -> None:
    assert says in (await veza("admin", "create", typed=typed)).complaint


async def test_an_address_that_belongs_to_somebody_else(veza: Veza) -> None:
    await veza("admin", "create", typed="ada\nada@example.org\ncorrect horse\n")
    done = await veza("admin", "create", typed="eve\nADA@example.org\ncorrect horse\n")
    assert "this e-mail address belongs to somebody else" in done.complaint
    assert "--role" in (await veza("admin", "create", "--role", "emperor")).complaint


# doctor


async def test_a_healthy_installation(veza: Veza) -> None:
    done = await veza("doctor")
    assert done.code == 0, done
    assert "✗" not in done.out
    for subject in ("program", "settings", "secrets", "data", "database", "schema", "port", "mail", "limits"):
        assert subject in done.out
    assert not (veza.home / "data").exists(), "it must change nothing"


async def test_what_is_wrong_is_said_with_what_to_do(veza: Veza) -> None:
    (veza.home / "data").write_text("a file")
    (veza.home / ".env").write_text("JWT_SECERT=x\nUNRELATED=1\n")

    async def greet(stream: trio.SocketStream) -> None:
        """Another program than ours: it says something else at once."""
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"SSH-2.0-OpenSSH_9.9\r\n")
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        (taken,) = await nursery.start(partial(trio.serve_tcp, greet, 0, host="127.0.0.1"))
        done = await veza(
            "doctor",
            PORT=str(taken.socket.getsockname()[1]),
            DATABASE_URL="postgresql://veza:hunter2@127.0.0.1:1/veza",
            SMTP_HOST="127.0.0.1",
            SMTP_PORT="1",
        )
        nursery.cancel_scope.cancel()
    assert done.code == 1, done
    assert done.out.count("✗") == 4
    assert "did you mean JWT_SECRET?" in done.out
    assert "hunter2" not in done.out
    assert done.out.count("→") >= 4
    assert "UNRELATED" not in done.out


async def test_a_wrong_setting_is_a_finding(veza: Veza) -> None:
    done = await veza("doctor", PORT="eighty")
    assert (done.code, "PORT='eighty' is not a port" in done.out) == (1, True)


async def test_a_running_server_is_recognised(veza: Veza) -> None:
    async with serving(veza) as server:
        done = await veza("doctor", PORT=str(server.port))
        assert (done.code, f"a veza server answers on 127.0.0.1:{server.port}" in done.out) == (0, True), done


# import-legacy


async def test_the_older_programs_people_can_log_in_and_read(veza: Veza, empty_database_url: str) -> None:
    from tests.db.test_legacy import BCRYPT, DATA, SCHEMA, execute

    await execute(empty_database_url, SCHEMA, DATA.replace("HASH", BCRYPT))
    done = await veza("import-legacy", empty_database_url)
    assert done.code == 0, done
    assert done.out.startswith("brought 4 people, 4 rooms, 10 messages\n")
    assert "left behind: 1 messages of no room" in done.out
    assert "(10 messages were here already)" in (await veza("import-legacy", empty_database_url)).out


async def test_a_wrong_address_of_the_older_database(veza: Veza) -> None:
    assert "URL is not a database URL" in (await veza("import-legacy", "mysql://x")).complaint
    complaint = (await veza("import-legacy", "postgresql://u:hunter2@127.0.0.1:1/x")).complaint
    assert "hunter2" not in complaint
