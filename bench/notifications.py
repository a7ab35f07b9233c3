"""A thousand people online who follow one person, who puts something up for sale once a second; a room that talks.

What is measured is the whole way: the request, the outbox, a notification for each follower, a frame on each socket.
The room's p99 is taken with the thousand sockets open in both cases, first in silence.
"""

import http.client
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from bench.load import BenchError
from bench.machine import Cores
from bench.people import Person, add_people, on_database
from bench.rooms import Chat, Rung
from bench.server import Server

PEOPLE: Final = 1_000
_PATIENCE: Final = 10.0  # seconds the last frames get to arrive
_WARM: Final = 2


class Told(msgspec.Struct, frozen=True):
    """What arrived of `causes` × PEOPLE; the times are from before the request to after the frame was read."""

    causes: int
    per_s: float
    missing: int
    doubled: int
    disordered: int
    p50_ms: float
    p99_ms: float


class Found(msgspec.Struct, frozen=True):
    idle: Rung
    busy: Rung
    told: Told


class _Frame(msgspec.Struct):
    type: str
    data: dict[str, Any]


_decode: Final = msgspec.json.Decoder(_Frame).decode


class Ears:
    """Sockets that listen, all in one thread: when each notification came, by socket."""

    def __init__(self, port: int, people: Sequence[Person]) -> None:
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytearray] = {}
        self._stopped = threading.Event()
        self.heard: dict[socket.socket, list[tuple[float, int, int]]] = {}  # when, id, listing
        self.welcomed = 0
        for person in people:
            self._open(port, person)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Ears":
        self._thread.start()
        deadline = time.monotonic() + 60
        while self.welcomed < len(self.heard):
            if time.monotonic() > deadline:
                raise BenchError(f"only {self.welcomed} of {len(self.heard)} were let in")
            time.sleep(0.02)
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()
        for sock in self.heard:
            sock.close()

    def count(self) -> int:
        return sum(map(len, self.heard.values()))

    def _open(self, port: int, person: Person) -> None:
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        sock.sendall(
            f"GET {person.path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = bytearray()
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                raise BenchError("a socket was refused")
            head += data
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"a socket was refused: {bytes(head[:80])!r}")
        sock.setblocking(False)
        self._buffers[sock] = head[head.index(b"\r\n\r\n") + 4 :]
        self.heard[sock] = []
        self._take(sock)
        self._selector.register(sock, selectors.EVENT_READ)

    def _listen(self) -> None:
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.1):
                sock: Any = key.fileobj
                try:
                    data = sock.recv(65536)
                except BlockingIOError:
                    continue
                if not data:
                    self._selector.unregister(sock)
                    continue
                self._buffers[sock] += data
                self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        """Every whole frame of the server's, which are not masked."""
        buffer = self._buffers[sock]
        while len(buffer) >= 2:
            size, at = buffer[1] & 127, 2
            if size == 126:
                size, at = int.from_bytes(buffer[2:4], "big"), 4
            if len(buffer) < at + size:
                return
            opcode, payload = buffer[0] & 15, bytes(buffer[at : at + size])
            del buffer[: at + size]
            if opcode == 9:
                sock.send(b"\x8a\x80\0\0\0\0")
            elif opcode == 1:
                frame = _decode(payload)
                if frame.type == "welcome":
                    self.welcomed += 1
                elif frame.type == "notification":
                    self.heard[sock].append((time.perf_counter(), frame.data["id"], frame.data["listing_id"]))


def measure(server: Server, cores: Cores, seconds: float) -> Found:
    """Raises BenchError."""
    chat = Chat(server, cores)
    seller, *followers = add_people(server.data, "follower", PEOPLE + 1)
    on_database(server.data, _follow, seller.id, [person.id for person in followers])
    people, room = chat.audience(1, 50)

    def talk() -> Rung:
        return chat.publish(people, room, rooms=1, publishers=2, rate=20, seconds=seconds, settle=False)

    with Ears(server.port, followers) as ears:
        chat.publish(people, room, rooms=1, publishers=2, rate=20, seconds=2, settle=False)  # first use
        _cause(server, seller, _WARM)
        _until(ears, _WARM * PEOPLE)
        idle = talk()
        with causing(server, seller) as causes:
            busy = talk()
        _until(ears, (_WARM + len(causes)) * PEOPLE)
    return Found(idle, busy, _judge(ears, causes))


def _judge(ears: Ears, causes: dict[int, float]) -> Told:
    times, doubled, disordered = [], 0, 0
    for heard in ears.heard.values():
        ids = [id for _, id, _ in heard]
        doubled += len(ids) - len(set(ids))
        disordered += ids != sorted(ids)
        times += [(at - causes[listing]) * 1000 for at, _, listing in heard if listing in causes]
    began, ended = min(causes.values()), max(causes.values()) + 1.0
    times.sort()
    cuts = statistics.quantiles(times, n=100)
    return Told(
        causes=len(causes),
        per_s=len(times) / (ended - began),
        missing=max(0, len(causes) * PEOPLE - len(times)),
        doubled=doubled,
        disordered=disordered,
        p50_ms=cuts[49],
        p99_ms=cuts[98],
    )


def _until(ears: Ears, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while ears.count() < count and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def causing(server: Server, seller: Person) -> Iterator[dict[int, float]]:
    """One listing a second while the `with` lasts: when each was asked for, by its id."""
    causes: dict[int, float] = {}
    stopped = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        due = time.perf_counter()
        try:
            while not stopped.wait(max(0.0, due - time.perf_counter())):
                due += 1.0
                causes.update(_cause(server, seller, 1))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield causes
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise BenchError(f"nothing was put up for sale: {failed[0]}")


def _cause(server: Server, seller: Person, count: int) -> dict[int, float]:
    causes = {}
    for _ in range(count):
        body = {"title": "A guitar", "category": "guitars", "state": "good", "price_cents": 12_000}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        began = time.perf_counter()
        try:
            connection.request(
                "POST",
                "/api/v1/listings",
                msgspec.json.encode(body),
                {"Authorization": f"Bearer {seller.token}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            said: Any = msgspec.json.decode(answer.read())
        except OSError as error:
            raise BenchError(f"POST /listings: {error}") from None
        finally:
            connection.close()
        if answer.status != 201:
            raise BenchError(f"POST /listings: {answer.status} {said}")
        causes[int(said["data"]["id"])] = began
    return causes


async def _follow(conn: Any, seller_id: int, follower_ids: list[int]) -> None:
    await conn.execute(
        "INSERT INTO follows (follower_id, followed_id) SELECT f, $1 FROM unnest($2::bigint[]) AS f",
        seller_id,
        follower_ids,
    )
    await conn.execute("ANALYZE follows")
