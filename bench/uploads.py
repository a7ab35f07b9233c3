"""Uploads: how fast a large file arrives, and how far the server's memory rises meanwhile.

The file is a WAV of noise, written by sockets of this process; the server looks at it and makes a track of it, as it
would of anybody's. The rise is the kernel's own high-water mark of the server's resident memory, so that no peak can
pass between two looks. Processing has children of its own, and is ended by deleting the track.
"""

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from bench.load import BenchError
from bench.machine import Cores, cpu_seconds
from bench.people import Person, add_people
from bench.server import Server

MIB: Final = 1024 * 1024
_PIECE: Final = 256 * 1024
_BOUNDARY: Final = b"what-stands-between-the-parts"
_SETTINGS: Final = {"UPLOAD_RESERVE": "16MiB", "UPLOADS_PER_USER": "100"}


class Arrival(msgspec.Struct, frozen=True):
    """Files that were sent at the same time. `rise`: how far the server's memory rose, in bytes."""

    files: int
    bytes_each: int
    seconds: float
    stored_seconds: (
        float  # until the last byte was taken; the rest is looking at the file and storing the track
    )
    rise: int
    cpu: float  # share of a core that the server used

    @property
    def rate(self) -> float:
        """MiB/s, from the first byte to the track."""
        return self.files * self.bytes_each / MIB / self.seconds


class Uploads(msgspec.Struct, frozen=True):
    """A form, the same for several at once, and a resumable upload in pieces; and what the disk itself takes."""

    form: Arrival
    forms: Arrival
    resumable: Arrival
    disk_rate: float  # MiB/s of a plain write of as much, made durable


def measure(cores: Cores, size: int, together: int) -> Uploads:
    """Start a server and upload `size` bytes to it: once, `together` at once, and in pieces."""
    with Server(cores, extra=_SETTINGS) as server:
        person = add_people(server.data, "uploader", 1)[0]
        wav = _wav(size)
        _once(
            server, person, lambda: [_post(server, person, _wav(MIB))], 1, MIB
        )  # what is loaded at first use
        form = _once(server, person, lambda: [_post(server, person, wav)], 1, size)
        forms = _once(server, person, lambda: _together(server, person, wav, together), together, size)
        resumable = _once(server, person, lambda: [_resume(server, person, wav)], 1, size)
        return Uploads(form, forms, resumable, _disk(server.data, wav))


def _once(
    server: Server, person: Person, send: Callable[[], list[tuple[int, float]]], files: int, size: int
) -> Arrival:
    server.settle()
    before = server.memory()
    _forget_peak(server.process.pid)
    cpu, began = cpu_seconds([server.process]), time.perf_counter()
    sent = send()
    seconds = time.perf_counter() - began
    used = cpu_seconds([server.process]) - cpu
    rise = max(0, _peak(server.process.pid) - before)
    for track_id, _ in sent:
        _request(server, person, "DELETE", f"/api/v1/tracks/{track_id}")
    stored = max(at for _, at in sent) - began
    return Arrival(files, size, seconds, stored, rise, used / seconds)


def _together(server: Server, person: Person, wav: bytes, count: int) -> list[tuple[int, float]]:
    sent: list[tuple[int, float]] = []
    threads = [threading.Thread(target=lambda: sent.append(_post(server, person, wav))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(sent) != count:
        raise BenchError(f"{count - len(sent)} of {count} uploads at once failed")
    return sent


def _post(server: Server, person: Person, wav: bytes) -> tuple[int, float]:
    """One form; the track's id, and when the last byte was taken."""
    before = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="noise.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" % _BOUNDARY
    )
    after = b"\r\n--%b--\r\n" % _BOUNDARY
    head = (
        f"POST /api/v1/tracks HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {person.token}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\n"
        f"Content-Length: {len(before) + len(wav) + len(after)}\r\nConnection: close\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as sock:
        sock.sendall(head + before)
        view = memoryview(wav)
        for start in range(0, len(wav), _PIECE):
            sock.sendall(view[start : start + _PIECE])
        sock.sendall(after)
        stored = time.perf_counter()
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return _track(answer.status, answer.read()), stored


def _resume(server: Server, person: Person, wav: bytes, pieces: int = 8) -> tuple[int, float]:
    """The same by tus, in so many requests."""
    tus = {"Tus-Resumable": "1.0.0"}
    announced, _ = _request(
        server, person, "POST", "/api/v1/uploads", headers={**tus, "Upload-Length": str(len(wav))}
    )
    path = announced.getheader("location") or ""
    size = -(-len(wav) // pieces)
    stored = body = None
    for start in range(0, len(wav), size):
        _, body = _request(
            server,
            person,
            "PATCH",
            path,
            wav[start : start + size],
            headers={
                **tus,
                "Upload-Offset": str(start),
                "Content-Type": "application/offset+octet-stream",
                "Accept": "application/json",
            },
        )
        stored = time.perf_counter()
    if stored is None or body is None:
        raise BenchError("nothing was sent")
    return _track(200, body), stored


def _request(
    server: Server,
    person: Person,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {person.token}", **(headers or {})})
        answer = connection.getresponse()
        found = answer.read()
        if answer.status >= 400:
            raise BenchError(f"{method} {path}: {answer.status} {found[:200]!r}")
        return answer, found
    finally:
        connection.close()


def _track(status: int, body: bytes) -> int:
    if status not in (200, 201):
        raise BenchError(f"an upload was answered with {status}: {body[:200]!r}")
    track_id: int = msgspec.json.decode(body)["data"]["id"]
    return track_id


def _wav(size: int) -> bytes:
    """So many bytes of 16-bit stereo noise, header included."""
    data = size - 44
    data -= data % 4
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + data, b"WAVE", b"fmt ", 16, 1, 2, 44_100, 176_400, 4, 16, b"data", data),
    )
    return head + os.urandom(data)


def _disk(directory: Path, data: bytes) -> float:
    """MiB/s of this disk for one plain write."""
    path = directory / "plain"
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            file.write(view[start : start + _PIECE])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return len(data) / MIB / seconds


def _forget_peak(pid: int) -> None:
    """The high-water mark begins anew at what is resident now (proc(5), clear_refs)."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError as error:
        raise BenchError(f"the system does not tell peaks of memory ({error.strerror})") from None


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchError("the system does not tell peaks of memory")
