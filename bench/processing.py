"""Processing: seconds of audio per second on one core, how soon an upload is ready, and chat meanwhile.

Two kinds of five minutes: something like music (tones that swell, beats, overtones, the two ears different), and pink
noise, which is the worst a coder can get. The worker is the server's own, started as the server starts it.
"""

import contextlib
import http.client
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.load import BenchError
from bench.machine import Cores
from bench.people import Person, add_people
from bench.rooms import Chat, Rung
from bench.server import Server
from veza.media.child import ENVIRONMENT

SECONDS: Final = 300
_BOUNDARY: Final = b"what-stands-between-the-parts"
_LEFT: Final = (
    "0.15*sin(110*2*PI*t)*(0.5+0.5*sin(2*2*PI*t))+0.12*sin(440*2*PI*t+3*sin(5*2*PI*t))"
    "+0.08*sin(659.3*2*PI*t)*lt(mod(t\\,2)\\,1)+0.05*sin(1318*2*PI*t)*exp(-6*mod(t\\,0.5))"
    "+0.2*(random(0)-0.5)*exp(-30*mod(t\\,0.5))+0.04*sin(3520*2*PI*t)*exp(-8*mod(t\\,0.25))"
)
_RIGHT: Final = (
    "0.15*sin(110*2*PI*t)*(0.5+0.5*sin(2*2*PI*t))+0.12*sin(554*2*PI*t+3*sin(4*2*PI*t))"
    "+0.08*sin(880*2*PI*t)*lt(mod(t\\,3)\\,1)+0.05*sin(2637*2*PI*t)*exp(-6*mod(t\\,0.25))"
    "+0.2*(random(1)-0.5)*exp(-30*mod(t\\,0.25))+0.04*sin(4699*2*PI*t)*exp(-8*mod(t\\,0.5))"
)
_NOISE: Final = ("anoisesrc=c=pink:a=0.5:r=44100:seed=1", "anoisesrc=c=pink:a=0.5:r=44100:seed=2")


class Source(msgspec.Struct, frozen=True):
    """A file to be processed: what it holds, and how it is coded."""

    name: str
    noise: bool
    extension: str
    coding: tuple[str, ...]


SOURCES: Final = (
    Source("music, MP3 128 kbit/s", False, "mp3", ("-b:a", "128k")),
    Source("music, MP3 320 kbit/s", False, "mp3", ("-b:a", "320k")),
    Source("noise, MP3 128 kbit/s", True, "mp3", ("-b:a", "128k")),
    Source("noise, MP3 320 kbit/s", True, "mp3", ("-b:a", "320k")),
    Source("music, FLAC", False, "flac", ("-c:a", "flac")),
)


class Speed(msgspec.Struct, frozen=True):
    """One file, processed on one core: seconds on the clock and of the processor, start-up included."""

    source: str
    media_s: float
    clock_s: float
    cpu_s: float

    @property
    def times(self) -> float:
        """Times real time, by the processor: what else the machine does is not ours."""
        return self.media_s / self.cpu_s


class Meanwhile(msgspec.Struct, frozen=True):
    """Chat with nothing else, and while tracks are processed."""

    idle: Rung
    busy: Rung

    @property
    def ratio(self) -> float:
        return self.busy.run.latency_ms.p99 / self.idle.run.latency_ms.p99


@contextlib.contextmanager
def files(seconds: float = SECONDS) -> Iterator[dict[str, Path]]:
    """Every source as a file. Raises BenchError: there is no ffmpeg."""
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]

        ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise BenchError(f"no ffmpeg to make files with: {error}") from None
    directory = Path(tempfile.mkdtemp(prefix="veza-bench-"))
    try:
        found: dict[str, Path] = {}
        raw = {noise: directory / f"raw-{noise}.wav" for noise in (False, True)}
        for noise, wav in raw.items():
            _run([ffmpeg, *_input(noise), "-t", str(seconds), str(wav)])
        for source in SOURCES:
            path = directory / f"{len(found)}.{source.extension}"
            _run([ffmpeg, "-i", str(raw[source.noise]), *source.coding, str(path)])
            found[source.name] = path
        yield found
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(command: list[str]) -> None:
    subprocess.run([command[0], "-v", "error", "-nostdin", "-y", *command[1:]], check=True)


def _input(noise: bool) -> list[str]:
    if noise:
        left, right = _NOISE
        return ["-f", "lavfi", "-i", left, "-f", "lavfi", "-i", right, "-filter_complex", "amerge=inputs=2"]
    return ["-f", "lavfi", "-i", f"aevalsrc={_LEFT}|{_RIGHT}:s=44100:c=stereo"]


def speed(cores: Cores, name: str, path: Path, seconds: float = SECONDS) -> Speed:
    """Process a file on the server's core. Raises BenchError: the worker refuses it."""
    into = Path(tempfile.mkdtemp(prefix="veza-bench-"))
    try:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "veza.media.worker", str(path), str(into)],
            stdin=subprocess.PIPE,  # its lifeline: closed, it ends
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            preexec_fn=cores.pinned(cores.server),
        ) as worker:
            assert worker.stdout is not None
            lines = worker.stdout.read().splitlines()
        clock = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        shutil.rmtree(into, ignore_errors=True)
    said: Any = msgspec.json.decode(lines[-1]) if lines else {}
    if said.get("type") != "done":
        raise BenchError(f"{name} was not processed: {said}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Speed(name, seconds, clock, cpu)


def until_ready(server: Server, person: Person, path: Path) -> float:
    """Seconds from the first byte of an upload until its track is `ready`."""
    began = time.perf_counter()
    track_id = upload(server, person, path)
    while True:
        track = _ask(server, person, "GET", f"/api/v1/tracks/{track_id}")
        if track["status"] == "failed":
            raise BenchError(f"the track failed: {track['failure']}")
        if track["status"] == "ready":
            return time.perf_counter() - began
        if time.perf_counter() - began > 300:
            raise BenchError("the track is not ready after five minutes")
        time.sleep(0.02)


def meanwhile(server: Server, cores: Cores, person: Person, path: Path, seconds: float) -> Meanwhile:
    """Twenty messages a second to a room of fifty, with nothing else and while a worker is busy all the time."""
    chat = Chat(server, cores)
    people, room = chat.audience(1, 50)

    def talk() -> Rung:
        return chat.publish(people, room, rooms=1, publishers=2, rate=20, seconds=seconds)

    talk()  # what is loaded at first use
    idle = talk()
    tracks = [upload(server, person, path) for _ in range(1 + int(seconds // 3))]
    try:
        busy = talk()
        if all(_ask(server, person, "GET", f"/api/v1/tracks/{each}")["status"] == "ready" for each in tracks):
            raise BenchError("all tracks were ready before the measurement was over")
    finally:
        for each in tracks:
            _ask(server, person, "DELETE", f"/api/v1/tracks/{each}")
    return Meanwhile(idle, busy)


def uploader(server: Server) -> Person:
    return add_people(server.data, "musician", 1)[0]


def upload(server: Server, person: Person, path: Path) -> int:
    """The track's id."""
    body = b"".join(
        (
            b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n'
            % (_BOUNDARY, path.name.encode()),
            path.read_bytes(),
            b"\r\n--%b--\r\n" % _BOUNDARY,
        )
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
    track: Any = _ask(server, person, "POST", "/api/v1/tracks", body, headers)
    return int(track["id"])


def _ask(
    server: Server,
    person: Person,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {person.token}", **(headers or {})})
        answer = connection.getresponse()
        said: Any = msgspec.json.decode(answer.read() or b"{}")
    except OSError as error:
        raise BenchError(f"{method} {path}: {error}") from None
    finally:
        connection.close()
    if answer.status >= 300:
        raise BenchError(f"{method} {path}: {answer.status} {said}")
    return said.get("data")
