"""The other servers: the same hub as their users write it, one core each, the same load. None of them stores anything.

A peer that is not installed is skipped with a word that says what to install.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from bench import load
from bench.load import BenchError
from bench.machine import Cores, cpu_seconds, free_port
from bench.rooms import PUBLISHERS, SIZE, Rung

HERE: Final = Path(__file__).parent / "peers"
SAY: Final = '{"type":"room_message","data":{"room":"general","content":"@"}}'


class Missing(Exception):
    """This peer is not installed; the text says what to do."""


class Peer(msgspec.Struct, frozen=True):
    """`prepare(directory, port)` builds what must be built and returns the command. It raises Missing."""

    name: str
    prepare: Callable[[Path, int], list[str]]


def _go(directory: Path, port: int) -> list[str]:
    gopath = os.environ.get("VEZA_BENCH_GOPATH", "/usr/share/gocode")
    if shutil.which("go") is None or not (Path(gopath) / "src/github.com/gorilla/websocket").is_dir():
        raise Missing("apt install golang-go golang-github-gorilla-websocket-dev")
    hub = directory / "hub"
    made = subprocess.run(
        ["go", "build", "-o", str(hub), str(HERE / "go_gorilla.go")],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": gopath, "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise Missing(f"go build failed: {made.stderr.strip()[:300]}")
    return [str(hub), str(port)]


def _node(_: Path, port: int) -> list[str]:
    if shutil.which("node") is None:
        raise Missing("install Node.js, then npm install --prefix ~/.cache/veza-bench/node ws")
    found = subprocess.run(
        ["node", "-e", "require('ws')"], env=_node_environment(), capture_output=True, check=False
    )
    if found.returncode:
        raise Missing("npm install --prefix ~/.cache/veza-bench/node ws")
    return ["node", str(HERE / "node_ws.js"), str(port)]


def _node_environment() -> dict[str, str]:
    places = [os.environ.get("NODE_PATH", ""), str(Path.home() / ".cache/veza-bench/node/node_modules")]
    return {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, places))}


def _python(_: Path, port: int) -> list[str]:
    ours = Path.home() / ".cache/veza-bench/python/bin/python"
    for python in (str(ours), sys.executable):
        if shutil.which(python) is None:
            continue
        found = subprocess.run([python, "-c", "import websockets, uvloop"], capture_output=True, check=False)
        if not found.returncode:
            return [python, str(HERE / "py_websockets.py"), str(port)]
    raise Missing(f"python3 -m venv {ours.parents[1]} && {ours} -m pip install websockets uvloop")


def _nchan(directory: Path, port: int) -> list[str]:
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    module = next((path for path in _NCHAN_PLACES if Path(path).exists()), None)
    if nginx is None or module is None:
        raise Missing("apt install nginx libnginx-mod-nchan")
    text = (HERE / "nchan.conf").read_text()
    for word, value in (("MODULE", module), ("PREFIX", str(directory)), ("PORT", str(port))):
        text = text.replace(word, value)
    (directory / "nchan.conf").write_text(text)
    return [
        nginx,
        "-e",
        str(directory / "error.log"),
        "-p",
        str(directory),
        "-c",
        str(directory / "nchan.conf"),
    ]


_NCHAN_PLACES: Final = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
)

PEERS: Final = (
    Peer("Go gorilla/websocket", _go),
    Peer("Node ws", _node),
    Peer("Python websockets + uvloop", _python),
    Peer("nginx + nchan", _nchan),
)


class Running:
    """A peer that runs, for `publish`."""

    def __init__(self, port: int, process: psutil.Process, cores: Cores) -> None:
        self._port = port
        self._process = process
        self._cores = cores
        self._cpu = 0.0

    def publish(self, *, connections: int, rate: float, seconds: float) -> Rung:
        run = load.publish(
            self._cores,
            [
                *("-p", str(self._port), "-n", str(connections), "-u", "/ws/chat", "-m", SAY),
                *("-P", str(PUBLISHERS), "-r", str(rate), "-s", str(seconds), "-b", str(SIZE)),
            ],
            self._moment,
        )
        time.sleep(0.5)
        return Rung(run, self._cpu)

    def _moment(self, name: str) -> None:
        at, used = time.perf_counter(), cpu_seconds([self._process, *self._process.children(recursive=True)])
        if name == "measuring":
            self._began, self._before = at, used
        else:
            self._cpu = (used - self._before) / (at - self._began)


@contextmanager
def run(peer: Peer, cores: Cores) -> Iterator[Running]:
    """Start a peer on the server's core. Raises Missing, BenchError."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as name:
        directory = Path(name)
        command = peer.prepare(directory, port)
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=_node_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=cores.pinned(cores.server),
            )
        try:
            wait_for(port, process, directory / "log")
            yield Running(port, psutil.Process(process.pid), cores)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"it does not start: {log.read_text(errors='replace').strip()[-300:]}")
