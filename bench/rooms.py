"""Chat measured: one large room up a ladder of rates, many small rooms, and a room where hardly anybody speaks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import msgspec

from bench import load
from bench.machine import Cores
from bench.people import Person, add_people, add_rooms, tidy
from bench.server import Server, Usage

SIZE: Final = 128  # bytes of a text
LADDER: Final = (100, 200, 300, 400, 500, 750, 1000, 1500, 2000, 2500, 3000, 3500, 4000)  # posts/s
JOIN: Final = '{"type":"join_room","data":{"room":"ROOM"}}'
SAY: Final = '{"type":"room_message","ref":"#","data":{"room":"ROOM","content":"@"}}'
PUBLISHERS: Final = 20  # of the people in the large room


class Rung(msgspec.Struct, frozen=True):
    """One rate, and the share of a core that the server and its PostgreSQL took."""

    run: load.Run
    server_cpu: float
    postgres_cpu: float = 0.0


class Ladder(msgspec.Struct, frozen=True):
    """A server's way up the ladder."""

    server: str
    rungs: list[Rung]

    @property
    def best(self) -> Rung | None:
        """Its capacity: the highest rate it sustained."""
        return max((r for r in self.rungs if r.run.sustained), key=lambda r: r.run.rate, default=None)


def climb(
    name: str, rates: Sequence[int], step: Callable[[int], Rung], told: Callable[[str, Rung], None]
) -> Ladder:
    """Up the ladder until two rates in a row are too much: a single one may be the machine's fault."""
    rungs: list[Rung] = []
    for rate in rates:
        rungs.append(step(rate))
        told(name, rungs[-1])
        if len(rungs) > 1 and not rungs[-1].run.sustained and not rungs[-2].run.sustained:
            break
    return Ladder(name, rungs)


class Chat:
    """Rooms on one running server."""

    def __init__(self, server: Server, cores: Cores) -> None:
        self._server = server
        self._cores = cores
        self._made = 0

    def people(self, count: int) -> list[Person]:
        self._made += 1
        return add_people(self._server.data, f"p{self._made}x", count)

    def rooms(self, members: Sequence[Sequence[Person]]) -> str:
        """New rooms; their name, with `%G` for the number."""
        self._made += 1
        add_rooms(self._server.data, f"bench{self._made}", members)
        tidy(self._server.data)
        return f"bench{self._made}-%G"

    def audience(self, rooms: int, each: int) -> tuple[list[Person], str]:
        """People who are members of rooms already, `each` of one; person i belongs to room i % rooms."""
        people = self.people(rooms * each)
        return people, self.rooms([people[i::rooms] for i in range(rooms)])

    def publish(
        self,
        people: Sequence[Person],
        room: str,
        *,
        rooms: int,
        publishers: int,
        rate: float,
        seconds: float,
        settle: bool = True,
    ) -> Rung:
        """Connect everybody, join, publish, count. `settle`: nobody else is connected, so wait until nobody is."""
        usage = Usage(self._server)
        with Paths(people) as paths:
            run = load.publish(
                self._cores,
                [
                    *(
                        "-p",
                        str(self._server.port),
                        "-n",
                        str(len(people)),
                        "-g",
                        str(rooms),
                        "-f",
                        str(paths),
                    ),
                    *(
                        "-j",
                        JOIN.replace("ROOM", room),
                        "-k",
                        "join_room_ack",
                        "-m",
                        SAY.replace("ROOM", room),
                    ),
                    *("-P", str(publishers), "-r", str(rate), "-s", str(seconds), "-b", str(SIZE)),
                ],
                usage.moment,
            )
        if settle:
            self._server.settle()
        return Rung(run, usage.server, usage.postgres)


class Paths:
    """A file with the path of every person's chat socket; tokens do not belong on a command line."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._people = people

    def __enter__(self) -> Path:
        with NamedTemporaryFile("w", prefix="veza-bench-", delete=False) as file:
            file.writelines(f"{person.path}\n" for person in self._people)
        self._path = Path(file.name)
        return self._path

    def __exit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
