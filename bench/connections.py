"""Many people who say nothing: how fast they get in, what each costs, how long it takes to reach them all."""

import statistics
import time

import msgspec

from bench import load
from bench.machine import Cores, cpu_seconds
from bench.rooms import JOIN, SAY, SIZE, Chat, Paths
from bench.server import Server

SHOUTS = 9


class Crowd(msgspec.Struct, frozen=True):
    """Handshake, welcome and join, all counted in `new_per_s`; `first` joins a room, `again` returns to it.

    Bytes are resident memory of the server, without PostgreSQL, for each connection. `reach_ms` is the time until the
    last has a message, in the middle of some; `idle_cpu` the share of a core while nobody says anything.
    """

    connections: int
    first_new_per_s: float
    again_new_per_s: float
    bytes_each: float
    postgres_mb: float
    reach_ms: float
    reach_worst_ms: float
    idle_cpu: float


def measure(server: Server, cores: Cores, connections: int, parallel: int = 64) -> Crowd:
    """On a server that has just started: memory freed by earlier connections would be used again and hide the cost."""
    chat = Chat(server, cores)
    _warm_up(chat, server, cores)
    people = chat.people(connections)
    room = chat.rooms([[]])
    with Paths(people) as paths:
        arguments = [
            *("-p", str(server.port), "-n", str(connections), "-f", str(paths), "-c", str(parallel)),
            *("-j", JOIN.replace("ROOM", room), "-k", "join_room_ack"),
            *("-m", SAY.replace("ROOM", room), "-b", str(SIZE)),
        ]
        before = server.memory()
        with load.Holding(cores, arguments) as crowd:
            first = crowd.held
            time.sleep(3)  # what coming in left to do: announcements, collections
            each = (server.memory() - before) / connections
            postgres = sum(process.memory_info().rss for process in server.postgres())
            shouts = [crowd.shout() for _ in range(SHOUTS)]
            idle = _idle_share(server, 5.0)
        server.settle()
        with load.Holding(cores, arguments) as crowd:
            again = crowd.held
    lost = [shout for shout in shouts if shout.delivered != connections]
    if lost:
        raise load.BenchError(
            f"a message reached {lost[0].delivered} of {connections}, {lost[0].closed} were closed"
        )
    reach = [shout.latency_ms.max for shout in shouts]
    return Crowd(
        connections,
        connections / first.connect_s,
        connections / again.connect_s,
        each,
        postgres / 1e6,
        statistics.median(reach),
        max(reach),
        idle,
    )


def _warm_up(chat: Chat, server: Server, cores: Cores) -> None:
    """Whatever the first connections alone cost: code read, pools filled."""
    people, room = chat.audience(1, 50)
    chat.publish(people, room, rooms=1, publishers=1, rate=50, seconds=1)


def _idle_share(server: Server, seconds: float) -> float:
    before = cpu_seconds([server.process])
    time.sleep(seconds)
    return (cpu_seconds([server.process]) - before) / seconds
