"""Reads that need no login, over connections that are kept: requests per second."""

import msgspec

from bench import load
from bench.machine import Cores
from bench.server import Server

PATHS = ("/health", "/ready")
CONNECTIONS = 32


class Reads(msgspec.Struct, frozen=True):
    path: str
    requests: load.Requests


def measure(server: Server, cores: Cores, seconds: float) -> list[Reads]:
    return [
        Reads(
            path,
            load.ask(
                cores,
                ["-p", str(server.port), "-n", str(CONNECTIONS), "-u", path, "-s", str(seconds), "-w", "1"],
            ),
        )
        for path in PATHS
    ]
