"""One source, thousands who listen: ours and Icecast 2, one after the other, on the same core, under the same load.

`liveload` is the source and all listeners. It checks every byte of every listener and measures every frame against the
time it was due; what the servers used meanwhile is read from the system.
"""

import base64
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from bench import load
from bench.load import BenchError, Latency
from bench.machine import Cores, cpu_seconds, free_port
from bench.peers import Missing, wait_for
from bench.people import add_people, on_database
from bench.server import Server
from veza.db import streams as streams_db
from veza.security import stream_keys

LISTENERS: Final = 2000


class Heard(msgspec.Struct, frozen=True):
    """What `liveload` found. `starved`: listeners who got nothing for a second, or not all; `unheard`: who got no
    sound at all; `lost` and `corrupt`: frames that did not follow the one before, or were not as they were sent."""

    listeners: int
    connect_s: float
    window_s: float
    expected: int
    delivered: int
    ratio: float
    lost: int
    corrupt: int
    starved: int
    unheard: int
    closed: int
    megabits_per_s: float
    load_cpu: float
    late_ms: float
    delay_ms: Latency

    @property
    def whole(self) -> bool:
        """Everybody heard everything."""
        failed = self.lost + self.corrupt + self.starved + self.unheard + self.closed
        return self.delivered == self.expected > 0 and not failed


class Live(msgspec.Struct, frozen=True):
    """One server under this load; bytes are resident memory for each listener."""

    server: str
    heard: Heard
    server_cpu: float
    bytes_each: float


class _Moment(msgspec.Struct, frozen=True):
    moment: str


def ours(cores: Cores, listeners: int, seconds: float) -> Live:
    """On a server of ours that has just started."""
    with Server(cores) as server:
        key = stream_keys.new_key()
        slug = f"bench-{secrets.token_hex(4)}"
        person = add_people(server.data, "broadcaster", 1)[0]
        on_database(server.data, _insert_stream, person.id, slug, stream_keys.hash_of(key))
        return _measure("veza", server.process, server.port, f"/live/{slug}", key, cores, listeners, seconds)


def icecast(cores: Cores, listeners: int, seconds: float) -> Live:
    """On Icecast 2, with its burst as long as ours. Raises Missing: it is not installed."""
    with _icecast(cores) as (process, port, password):
        return _measure("Icecast 2", process, port, "/live.mp3", password, cores, listeners, seconds)


def _measure(
    name: str,
    process: psutil.Process,
    port: int,
    mount: str,
    key: str,
    cores: Cores,
    listeners: int,
    seconds: float,
) -> Live:
    credentials = base64.b64encode(f"source:{key}".encode()).decode()
    used: dict[str, tuple[float, float, int]] = {}
    arguments = [
        *("-p", str(port), "-m", mount, "-a", credentials),
        *("-n", str(listeners), "-s", str(seconds)),
    ]
    with load.start("liveload", cores, arguments) as client:
        assert client.stdout is not None
        last = b""
        for last in client.stdout:
            if last.startswith(b'{"moment"'):
                moment = msgspec.json.decode(last, type=_Moment).moment
                used[moment] = (time.perf_counter(), cpu_seconds([process]), process.memory_info().rss)
        load.must_succeed(client)
    heard = msgspec.json.decode(last, type=Heard)
    (began, before, _), (ended, after, _) = used["measuring"], used["measured"]
    each = (used["listening"][2] - used["alone"][2]) / listeners
    return Live(name, heard, (after - before) / (ended - began), each)


async def _insert_stream(conn: Any, owner_id: int, slug: str, key_hash: bytes) -> None:
    async with conn.transaction():
        await streams_db.create(
            conn,
            owner_id,
            slug=slug,
            title="A measurement",
            description=None,
            category="music",
            visibility="public",
            record=False,
            key_hash=key_hash,
            most_open=1,
            most_kept=1,
        )


@contextmanager
def _icecast(cores: Cores) -> Iterator[tuple[psutil.Process, int, str]]:
    program = shutil.which("icecast2") or shutil.which("icecast")
    if program is None:
        raise Missing("apt install icecast2")
    port, password = free_port(), secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as name:
        directory = Path(name)
        owner = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"
        (directory / "icecast.xml").write_text(
            _ICECAST.format(
                port=port,
                password=password,
                directory=directory,
                owner=owner if os.geteuid() == 0 else "",
            )
        )
        directory.chmod(0o777)  # it leaves root behind before it opens its log
        with (directory / "out").open("wb") as out:
            started = subprocess.Popen(
                [program, "-c", str(directory / "icecast.xml")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=cores.pinned(cores.server),
            )
        try:
            wait_for(port, started, directory / "out")
            yield psutil.Process(started.pid), port, password
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(10)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


_ICECAST: Final = """<icecast>
  <hostname>localhost</hostname>
  <limits>
    <clients>20000</clients><sources>4</sources><queue-size>524288</queue-size>
    <burst-size>65536</burst-size><source-timeout>10</source-timeout>
  </limits>
  <authentication>
    <source-password>{password}</source-password>
    <admin-user>admin</admin-user><admin-password>{password}</admin-password>
  </authentication>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <fileserve>0</fileserve>
  <paths>
    <basedir>{directory}</basedir><logdir>{directory}</logdir>
    <webroot>{directory}</webroot><adminroot>{directory}</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>1</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""

__all__ = ["LISTENERS", "BenchError", "Heard", "Live", "Missing", "icecast", "ours"]
