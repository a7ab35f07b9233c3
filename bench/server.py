"""A server of ours, started as a user would: `veza serve` with a data directory of its own, limits raised by settings.

Everything it starts ends with it, whatever happens here.
"""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from bench.load import BenchError
from bench.machine import Cores, cpu_seconds, free_port

# One address and few people make all the load, which limits are there to prevent.
SETTINGS: Final = {
    "MAX_CONNECTIONS": "15000",
    "MAX_CONNECTIONS_PER_IP": "15000",
    "WS_CONNECTIONS_PER_IP": "15000",
    "WS_CONNECTIONS_PER_USER": "20",
    "RATE_MESSAGES_PER_MINUTE": "10000000",
    "RATE_MESSAGES_BURST": "1000000",
    "RATE_FRAMES_PER_SECOND": "1000000",
    "RATE_FRAMES_BURST": "1000000",
    "RATE_REST_PER_MINUTE": "100000000",
    "RATE_REST_BURST": "10000000",
}


class Server:
    """`veza serve`, for the length of a `with`.

    Args:
        data: its data directory; None makes one that is removed in the end.
        postgres_apart: let PostgreSQL run on the load's core instead of the server's.
        extra: further settings.
    """

    def __init__(
        self,
        cores: Cores,
        data: Path | None = None,
        *,
        postgres_apart: bool = False,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self._cores = cores
        self._extra = dict(extra or {})
        self._temporary = tempfile.TemporaryDirectory(prefix="veza-bench-") if data is None else None
        self.data = Path(self._temporary.name) / "data" if self._temporary is not None else data or Path()
        self._postgres_apart = postgres_apart
        self.port = free_port()
        self.start_s = 0.0

    def __enter__(self) -> "Server":
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self._log = (self.data.parent / "serve.log").open("ab")
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "veza", "serve"],
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith(("DATABASE_", "DB_"))
                },
                **SETTINGS,
                **self._extra,
                "HOST": "127.0.0.1",
                "PORT": str(self.port),
                "VEZA_DATA": str(self.data),
                "LOG_FORMAT": "json",
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=self._cores.pinned(self._cores.server),
        )
        try:
            self._wait_for_an_answer(began + 60)
            self.start_s = time.perf_counter() - began
            self.process = psutil.Process(self._process.pid)
            if self._postgres_apart and self._cores.load is not None:
                for child in self.postgres():
                    child.cpu_affinity([self._cores.load])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its PostgreSQL ends with it
            self._process.wait()
        self._log.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _wait_for_an_answer(self, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                raise BenchError(f"the server does not start: {self.last_words()}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.005)
            finally:
                connection.close()
        raise BenchError(f"the server does not answer: {self.last_words()}")

    def last_words(self) -> str:
        return (self.data.parent / "serve.log").read_text(errors="replace").strip()[-500:]

    def postgres(self) -> list[psutil.Process]:
        children: list[psutil.Process] = self.process.children(recursive=True)
        return children

    def memory(self) -> int:
        """Resident bytes of the server alone, its PostgreSQL left out."""
        resident: int = self.process.memory_info().rss
        return resident

    def settle(self, patience: float = 30.0) -> None:
        """Wait until the connections of the measurement before are gone."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            before = cpu_seconds([self.process])
            time.sleep(0.5)
            established = [
                c for c in self.process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED
            ]
            if not established and cpu_seconds([self.process]) - before < 0.05:
                return
        raise BenchError("the server does not let go of closed connections")


class Usage:
    """What share of a core the server used while something was measured; give `moment` to `load.publish`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.server = 0.0
        self.postgres = 0.0

    def moment(self, name: str) -> None:
        at = time.perf_counter()
        now = cpu_seconds([self._server.process]), cpu_seconds(self._server.postgres())
        if name == "measuring":
            self._began, self._before = at, now
        else:
            self.server, self.postgres = (
                (after - before) / (at - self._began) for after, before in zip(now, self._before, strict=True)
            )
