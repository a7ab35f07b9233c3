"""Which cores the server and the load get, and what a process has used. Nothing here starts or measures anything."""

import os
import platform
import socket
from collections.abc import Callable, Iterable

import msgspec
import psutil


class Cores(msgspec.Struct, frozen=True):
    """One core for the server (and, unless set apart, its PostgreSQL), one for the load. None: nobody is pinned."""

    server: int | None
    load: int | None

    def pinned(self, core: int | None) -> Callable[[], None] | None:
        """What a child runs before its program, so that it and its children stay on that core."""
        if core is None:
            return None
        return lambda: os.sched_setaffinity(0, {core})


def choose_cores() -> Cores:
    """The first two cores we may use; nobody is pinned where there are not two, or the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else Cores(None, None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """What these processes have used so far; those that are gone count nothing."""
    total = 0.0
    for process in processes:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total


def describe() -> dict[str, str | int]:
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model or "unknown",
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1min": f"{os.getloadavg()[0]:.2f}",
    }
