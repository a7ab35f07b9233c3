"""The load clients: built from C when they are needed, run on the load's core, their JSON read.

They are C because a load client in Python would be the slower side, and the figures would be its own.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import Cores

HERE: Final = Path(__file__).parent
CONNECT_PATIENCE: Final = 180.0


class BenchError(Exception):
    """A measurement cannot be made; the text is for people."""


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    count: int
    min: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Run(msgspec.Struct, frozen=True):
    """What `fanload` measured while it published.

    `window_s` is how long it published, `took_s` the time until the last of that was delivered; `late_ms` how far it
    was itself behind its schedule at worst.
    """

    connections: int
    rooms: int
    rate: float
    connect_s: float
    sent: int
    expected: int
    delivered: int
    ratio: float
    acknowledged: int
    window_s: float
    took_s: float
    megabytes: float
    closed: int
    close_code: int
    errors: int
    load_cpu: float
    late_ms: float
    latency_ms: Latency
    ack_ms: Latency

    @property
    def sustained(self) -> bool:
        """Everything delivered, nobody closed, p99 under 100 ms."""
        return self.delivered == self.expected > 0 and not self.closed and self.latency_ms.p99 < 100

    @property
    def posts_per_s(self) -> float:
        return self.sent / self._time

    @property
    def deliveries_per_s(self) -> float:
        return self.delivered / self._time

    @property
    def _time(self) -> float:
        """A server that keeps up delivers as much as is posted at any time; one that does not needs longer."""
        return self.window_s if self.sustained else self.took_s


class Held(msgspec.Struct, frozen=True):
    connections: int
    connect_s: float


class Shout(msgspec.Struct, frozen=True):
    """One message to everybody who is held."""

    delivered: int
    closed: int
    latency_ms: Latency


class Requests(msgspec.Struct, frozen=True):
    connections: int
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class _Moment(msgspec.Struct, frozen=True):
    moment: str


def build(name: str) -> Path:
    """The program made of `name`.c, from the cache if that file has not changed. Raises BenchError."""
    source = HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veza-bench"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.mkdtemp(prefix="veza-bench-"))
    program = cache / f"{name}-{digest}"
    if program.exists():
        return program
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(
            "the load clients are C, and there is no compiler here: install one "
            "(Debian and Ubuntu: apt install gcc libc6-dev)"
        )
    draft = program.with_suffix(f".{os.getpid()}")
    made = subprocess.run(
        [compiler, "-O2", "-o", str(draft), str(source)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise BenchError(f"{compiler} cannot build {source.name}: {made.stderr.strip()[:500]}")
    draft.replace(program)
    return program


def publish(cores: Cores, arguments: Sequence[str], on_moment: Callable[[str], None] = lambda _: None) -> Run:
    """Run `fanload` to its end; `on_moment` hears `measuring` and `measured` as they happen. Raises BenchError."""
    with start("fanload", cores, arguments) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(b'{"moment"'):
                on_moment(msgspec.json.decode(line, type=_Moment).moment)
        must_succeed(process)
    return msgspec.json.decode(lines[-1], type=Run)


class Holding:
    """Connections that are held, idle, for the length of a `with`."""

    def __init__(self, cores: Cores, arguments: Sequence[str]) -> None:
        self._process = start("fanload", cores, ["-H", *arguments], interactive=True)

    def __enter__(self) -> "Holding":
        self.held = msgspec.json.decode(self._line(), type=Held)
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def shout(self) -> Shout:
        """Let the first connection send one message."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Shout)

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            must_succeed(self._process)
            raise BenchError("fanload ended early")
        return line


def ask(cores: Cores, arguments: Sequence[str]) -> Requests:
    """Run `httpload` to its end. Raises BenchError."""
    with start("httpload", cores, arguments) as process:
        assert process.stdout is not None
        line = process.stdout.read()
        must_succeed(process)
    return msgspec.json.decode(line, type=Requests)


def start(
    name: str, cores: Cores, arguments: Sequence[str], *, interactive: bool = False
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(build(name)), *arguments],
        stdin=subprocess.PIPE if interactive else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=cores.pinned(cores.load),
    )


def must_succeed(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    words = process.stderr.read().decode(errors="replace").strip() if process.stderr is not None else ""
    if process.returncode:
        raise BenchError(words or f"the load client ended with {process.returncode}")
