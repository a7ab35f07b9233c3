"""Files, whole and in ranges of 64 KiB, by us and by nginx on the same core; thousands who read slowly; chat meanwhile.

Both serve the same file, so the same pages of memory; they take turns, so that what else the machine does hits both.
We check a signature at every address and say who may read; nginx sends a file. nginx runs as Debian ships it, with
`sendfile` and without `tcp_nopush`, which holds ranges back for 40 ms.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from bench import load, people
from bench.load import BenchError
from bench.machine import Cores, cpu_seconds, free_port
from bench.server import Server
from veza import config
from veza.media.library import Library
from veza.security.signing import Signer

RANGE: Final = 64 * 1024
SIZES: Final = {"small": 4 << 20, "large": 100 << 20}
ROUNDS: Final = 7  # an odd number, each short: what else the machine does comes and goes
NGINX: Final = "nginx"


class Missing(Exception):
    """nginx is not installed; the text says what to do."""


class Case(msgspec.Struct, frozen=True):
    """What is asked for: `connections` that each want a file of this size, or ranges of it, again and again."""

    name: str
    size: str
    connections: int
    ranges: bool


CASES: Final = (
    Case("whole files of 4 MiB", "small", 16, False),
    Case("whole files of 100 MiB", "large", 4, False),
    Case("ranges of 64 KiB", "large", 32, True),
)


class Fetches(msgspec.Struct, frozen=True):
    """What `mediaload` measured. `load_cpu` is the share of its own core it needed."""

    connections: int
    requests: int
    requests_per_s: float
    bytes_per_s: float
    load_cpu: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Measured(msgspec.Struct, frozen=True):
    """One server, one round. `cpu` is the share of its core it used."""

    server: str
    fetches: Fetches
    cpu: float


class Comparison(msgspec.Struct, frozen=True):
    """All rounds of a case, in the order they were run."""

    case: Case
    rounds: list[Measured]

    def rates(self, server: str) -> list[float]:
        """Of each of its rounds: bytes a second of whole files, requests a second of ranges."""
        return [
            each.fetches.requests_per_s if self.case.ranges else each.fetches.bytes_per_s
            for each in self.rounds
            if each.server == server
        ]

    def rate(self, server: str) -> float:
        """The middle of its rounds."""
        return statistics.median(self.rates(server))

    @property
    def ratio(self) -> float | None:
        """How many times nginx's rate ours is: the middle of the ratios of neighbouring rounds."""
        theirs = self.rates(NGINX)
        if not theirs:
            return None
        return statistics.median(
            ours / their for ours, their in zip(self.rates("veza"), theirs, strict=True) if their
        )


class Slow(msgspec.Struct, frozen=True):
    """Readers who asked for a large file and take nothing."""

    readers: int
    bytes_each: float
    descriptors: int  # the server holds while they wait, besides one a socket
    answer_ms: float  # the slowest of twenty ranges that somebody else asks for meanwhile


class Track(msgspec.Struct, frozen=True):
    """A track on the shelf: its file, and an address that opens it."""

    path: Path
    url: str


def add_tracks(server: Server) -> dict[str, Track]:
    """A track of each size, in the library and the database of a server that runs."""
    settings = config.load({"VEZA_DATA": str(server.data)}, dotenv=None).with_secrets()
    library, signer = Library(server.data), Signer(settings.secret_key)
    expires = int(time.time()) + 6 * 3600
    tracks = {}
    for size, length in SIZES.items():
        name = f"bench-{size}"
        path = library.original(name, "mp3")
        path.parent.mkdir(mode=0o700, parents=True)
        path.write_bytes(random.Random(size).randbytes(1 << 20) * (length >> 20))
        tracks[size] = Track(path, signer.stream_url(name, expires))
    owner = people.add_people(server.data, "files", 1)[0]
    people.on_database(
        server.data, _insert, owner.id, {f"bench-{size}": length for size, length in SIZES.items()}
    )
    return tracks


async def _insert(conn: Any, owner_id: int, lengths: dict[str, int]) -> None:
    await conn.executemany(
        """
        INSERT INTO tracks (owner_id, name, title, status, extension, content_type, size)
        VALUES ($1, $2, $2, 'ready', 'mp3', 'audio/mpeg', $3)
        """,
        [(owner_id, name, length) for name, length in lengths.items()],
    )


_CONF: Final = """
daemon off;
worker_processes 1;
pid {place}/pid;
error_log {place}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  types {{ audio/mpeg mp3; }}
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ root {root}; }} }}
}}
"""


@contextmanager
def nginx(cores: Cores, root: Path) -> Iterator[tuple[int, psutil.Process]]:
    """nginx over a directory, on the server's core; its port and its worker. Raises Missing, BenchError."""
    program = shutil.which(NGINX, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Missing("apt install nginx-light")
    with tempfile.TemporaryDirectory(prefix="veza-bench-nginx-") as place:
        port, conf = free_port(), Path(place, "nginx.conf")
        # As root its worker would be somebody else, who may not read our files.
        user = "user root;\n" if os.geteuid() == 0 else ""
        conf.write_text(user + _CONF.format(place=place, port=port, root=root))
        process = subprocess.Popen(
            [program, "-e", f"{place}/error.log", "-p", place, "-c", str(conf)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=cores.pinned(cores.server),
        )
        try:
            yield port, _worker(process, Path(place, "error.log"))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _worker(process: subprocess.Popen[bytes], log: Path) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children()
        if children:
            return children[0]
        time.sleep(0.01)
    words = log.read_text(errors="replace").strip()[-300:] if log.exists() else ""
    raise BenchError(f"nginx does not start: {words or 'it says nothing'}")


def compare(server: Server, cores: Cores, tracks: dict[str, Track], case: Case, seconds: float) -> Comparison:
    """The same load on both in turns; on us alone, and with a word, where nginx is missing.

    Args:
        seconds: of each of the `ROUNDS`.
    """
    library = tracks[case.size].path.parent.parent
    try:
        with nginx(cores, library) as (port, worker):
            path = "/" + tracks[case.size].path.relative_to(library).as_posix()
            rounds = []
            for _ in range(ROUNDS):
                rounds.append(_measure(NGINX, worker, cores, port, path, case, seconds))
                rounds.append(_ours(server, cores, tracks, case, seconds))
            return Comparison(case, rounds)
    except Missing:
        return Comparison(case, [_ours(server, cores, tracks, case, seconds) for _ in range(ROUNDS)])


def _ours(server: Server, cores: Cores, tracks: dict[str, Track], case: Case, seconds: float) -> Measured:
    return _measure("veza", server.process, cores, server.port, tracks[case.size].url, case, seconds)


def _measure(
    name: str, process: psutil.Process, cores: Cores, port: int, path: str, case: Case, seconds: float
) -> Measured:
    before, began = cpu_seconds([process]), time.perf_counter()
    fetches = _fetch(cores, ["-p", str(port), "-u", path, *_load(case), "-s", str(seconds), "-w", "0.5"])
    return Measured(name, fetches, (cpu_seconds([process]) - before) / (time.perf_counter() - began))


def _fetch(cores: Cores, arguments: list[str]) -> Fetches:
    """Run `mediaload` to its end. Raises BenchError."""
    with load.start("mediaload", cores, arguments) as process:
        assert process.stdout is not None
        line = process.stdout.read()
        load.must_succeed(process)
    return msgspec.json.decode(line, type=Fetches)


@contextmanager
def _stalled(cores: Cores, arguments: list[str]) -> Iterator[None]:
    """Readers who have the heads of their answers and take nothing more, for the length of a `with`."""
    with load.start("mediaload", cores, ["-h", *arguments], interactive=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            load.must_succeed(process)
        try:
            yield
        finally:
            process.stdin.close()


def _load(case: Case) -> list[str]:
    asked = ["-n", str(case.connections)]
    return [*asked, "-r", str(RANGE), "-l", str(SIZES[case.size])] if case.ranges else asked


def slow(server: Server, cores: Cores, tracks: dict[str, Track], readers: int) -> Slow:
    """So many readers who take nothing: what they cost, and what somebody notices who reads as usual."""
    server.settle()
    before, descriptors = server.memory(), server.process.num_fds()
    large = tracks["large"].url
    with _stalled(cores, ["-p", str(server.port), "-n", str(readers), "-u", large]):
        time.sleep(1)  # the memory of those who have just come is still being counted
        held = server.process.num_fds() - descriptors - readers
        each = (server.memory() - before) / readers
        probe = ["-p", str(server.port), "-u", large, "-n", "1", "-r", str(RANGE), "-l", str(SIZES["large"])]
        answer = _fetch(cores, [*probe, "-s", "1", "-w", "0"]).max_ms
    return Slow(readers, each, held, answer)


@contextmanager
def downloads(server: Server, cores: Cores, tracks: dict[str, Track], seconds: float) -> Iterator[None]:
    """Files are sent as fast as they go while something else is measured, for so many seconds and ten.

    They end by themselves: whoever measures waits for a server that has settled before he leaves.
    """
    with load.start(
        "mediaload",
        cores,
        ["-p", str(server.port), "-u", tracks["large"].url, "-n", "4", "-s", str(seconds + 10)],
    ) as process:
        try:
            yield
        finally:
            process.terminate()
