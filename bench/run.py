"""`make bench`: measure the parts that are asked for, tell figures as they come, print the table, write the JSON.

A part that cannot be measured here says why and leaves the others alone.
"""

import argparse
import datetime
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench import (
    connections,
    live,
    load,
    media,
    notifications,
    peers,
    processing,
    rest,
    rooms,
    search,
    startup,
    uploads,
)
from bench.machine import Cores, choose_cores
from bench.report import Figure, Report, new_report, show, write
from bench.rooms import LADDER, Chat, Ladder, Rung
from bench.server import Server

console: Final = Console(highlight=False)


class Plan(msgspec.Struct, frozen=True):
    """How much is measured."""

    cores: Cores
    postgres_apart: bool
    rates: tuple[int, ...]
    seconds: float
    audience: int
    crowd: int
    rows: float = 1.0


def main() -> None:
    arguments = _parse()
    plan = Plan(
        choose_cores(),
        arguments.postgres_apart,
        tuple(arguments.rates or (_QUICK_LADDER if arguments.quick else LADDER)),
        arguments.seconds or (2.0 if arguments.quick else 5.0),
        arguments.sockets,
        arguments.crowd or (2000 if arguments.quick else 9000),
        arguments.rows or (0.05 if arguments.quick else 1.0),
    )
    report = new_report(shlex.join(["python", "-m", "bench", *sys.argv[1:]]))
    if plan.cores.server is None:
        console.print(
            "only one core here: server and load share it, and the figures are lower than they would be"
        )
    failed = False
    for name in arguments.parts or PARTS:
        console.rule(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}", align="left")
        try:
            PARTS[name](plan, report)
        except load.BenchError as error:
            failed = True
            console.print(f"[red]cannot be measured:[/] {error}", soft_wrap=True)
    console.print()
    show(report, console)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    path = arguments.json or Path(__file__).parent / "results" / f"{stamp}.json"
    write(report, path)
    console.print(f"all of it: {path}")
    sys.exit(1 if failed else 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the server on this machine."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a rough look in about a minute")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the results go (bench/results/)")
    parser.add_argument("--postgres-apart", action="store_true", help="PostgreSQL on the load's core")
    parser.add_argument("--rates", type=int, nargs="+", metavar="N", help="the ladder, in posts per second")
    parser.add_argument("--seconds", type=float, metavar="N", help="length of a measurement")
    parser.add_argument("--sockets", type=int, default=500, metavar="N", help="in the large room (500)")
    parser.add_argument("--crowd", type=int, metavar="N", help="idle connections (9000)")
    parser.add_argument(
        "--rows", type=float, metavar="X", help="for search: the part of 5,000,000 messages (1)"
    )
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {unknown[0]} (there are {', '.join(PARTS)})")
    return arguments


_QUICK_LADDER: Final = (200, 500, 1000, 2000, 3000)


def _start(plan: Plan, report: Report) -> None:
    """from the command to the first answer"""
    found = startup.measure(plan.cores, 3)
    report.details["start"] = found
    report.figures += [
        Figure("first start to first answer", found.first_s, "s", at_most=3.0),
        Figure("later starts", found.later_s, "s", at_most=1.5),
    ]
    console.print(f"first {found.first_s:.2f} s, later {found.later_s:.2f} s")


def _room(plan: Plan, report: Report) -> None:
    """one large room, every message committed, up a ladder of rates"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        chat = Chat(server, plan.cores)
        people, room = chat.audience(1, plan.audience)

        def step(rate: float, publishers: int = rooms.PUBLISHERS) -> Rung:
            return chat.publish(people, room, rooms=1, publishers=publishers, rate=rate, seconds=plan.seconds)

        slow = step(20)
        _told("veza", slow)
        ladder = rooms.climb("veza", plan.rates, step, _told)
    report.details["room"] = {"slow": slow, "ladder": ladder}
    report.figures += [
        Figure("20 messages/s in the large room, p99", slow.run.latency_ms.p99, "ms", at_most=15),
        *_capacity(ladder, 1_000_000),
    ]


def _peers(plan: Plan, report: Report) -> None:
    """the same load on other servers, which store nothing"""
    ladders: list[Ladder] = []
    for peer in peers.PEERS:
        try:
            with peers.run(peer, plan.cores) as running:
                ladders.append(
                    rooms.climb(
                        peer.name,
                        plan.rates,
                        lambda rate, running=running: running.publish(  # type: ignore[misc]
                            connections=plan.audience, rate=rate, seconds=plan.seconds
                        ),
                        _told,
                    )
                )
        except peers.Missing as missing:
            console.print(f"{peer.name}: not installed here, skipped ({missing})", soft_wrap=True)
        except load.BenchError as error:
            console.print(f"{peer.name}: [red]{error}[/]", soft_wrap=True)
    report.details["peers"] = ladders
    ours = next((f.value for f in report.figures if f.name == _CAPACITY.format("veza")), None)
    for ladder in ladders:
        report.figures += _capacity(ladder, None)
        best = ladder.best
        if ours is not None and best is not None:
            bound = 5.0 if ladder.server.startswith("Go") else None
            times = ours / best.run.deliveries_per_s
            report.figures.append(Figure(f"veza, times {ladder.server}", times, "×", at_least=bound))


def _small(plan: Plan, report: Report) -> None:
    """5,000 posts a second over 50 rooms of two"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        chat = Chat(server, plan.cores)
        people, room = chat.audience(50, 2)
        rates = [rate for rate in (1000, 2500, 5000, 6000, 7000) if plan.seconds > 2 or rate <= 5000]
        ladder = rooms.climb(
            "veza, 50 rooms",
            rates,
            lambda rate: chat.publish(people, room, rooms=50, publishers=2, rate=rate, seconds=plan.seconds),
            _told,
        )
    report.details["small"] = ladder
    best = ladder.best
    report.figures.append(
        Figure(
            "posts committed, 50 rooms of 2", best.run.posts_per_s if best else 0, "/s", at_least=5000 * 0.99
        )
    )
    if best:
        report.figures.append(Figure("their acknowledgements, p99", best.run.ack_ms.p99, "ms"))


def _single(plan: Plan, report: Report) -> None:
    """a single message in a room where nothing else happens"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        chat = Chat(server, plan.cores)
        people, room = chat.audience(1, 10)
        rung = chat.publish(people, room, rooms=1, publishers=1, rate=10, seconds=plan.seconds * 2)
    _told("veza, 10 sockets", rung)
    report.details["single"] = rung
    report.figures += [
        Figure("single message to 10, p50", rung.run.latency_ms.p50, "ms"),
        Figure("single message to 10, p99", rung.run.latency_ms.p99, "ms"),
    ]


def _crowd(plan: Plan, report: Report) -> None:
    """thousands who are connected to one room and say nothing"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        found = connections.measure(server, plan.cores, plan.crowd)
    report.details["crowd"] = found
    many = f"{found.connections:,}"
    report.figures += [
        Figure(f"new connections, {many} for the first time", found.first_new_per_s, "/s", at_least=800),
        Figure(f"new connections, {many} returning", found.again_new_per_s, "/s", at_least=800),
        Figure("memory of an idle connection", found.bytes_each / 1000, "kB", at_most=30),
        Figure(f"a message to all {many}", found.reach_ms, "ms", at_most=120),
        Figure("the slowest of those messages", found.reach_worst_ms, "ms"),
        Figure("idle, share of a core", found.idle_cpu, ""),
    ]
    console.print(
        f"{many}: {found.first_new_per_s:.0f}/s in, {found.again_new_per_s:.0f}/s back in, "
        f"{found.bytes_each / 1000:.1f} kB each, a message reaches all in {found.reach_ms:.0f} ms"
    )


def _live(plan: Plan, report: Report) -> None:
    """one MP3 source and 2,000 progressive listeners, ours and Icecast 2"""
    seconds = max(10.0, plan.seconds * 2)
    us = live.ours(plan.cores, live.LISTENERS, seconds)
    _told_live(us)
    found = [us]
    try:
        them = live.icecast(plan.cores, live.LISTENERS, seconds)
        found.append(them)
        _told_live(them)
    except live.Missing as missing:
        them = None
        console.print(f"Icecast 2: not installed here, skipped ({missing})")
    report.details["live"] = found
    many = f"{live.LISTENERS:,} listeners"
    for run in found:
        mine = run is us
        heard = run.heard
        report.figures += [
            Figure(f"{run.server}, {many}: delivered", heard.ratio, "", at_least=1.0 if mine else None),
            Figure(
                f"{run.server}: starved, dropped or wrong", _harmed(heard), "", at_most=0 if mine else None
            ),
            Figure(f"{run.server}: delay p50", heard.delay_ms.p50, "ms"),
            Figure(f"{run.server}: delay p99", heard.delay_ms.p99, "ms", at_most=100 if mine else None),
            Figure(f"{run.server}: memory of a listener", run.bytes_each / 1000, "kB"),
            Figure(
                f"{run.server}: core", run.server_cpu, "", at_most=them.server_cpu if mine and them else None
            ),
        ]


def _harmed(heard: live.Heard) -> int:
    return heard.lost + heard.corrupt + heard.starved + heard.unheard + heard.closed


def _told_live(run: live.Live) -> None:
    heard = run.heard
    console.print(
        f"{run.server}: {heard.listeners} listeners in {heard.connect_s:.1f} s, ratio {heard.ratio:.4f}, "
        f"{_harmed(heard)} harmed, delay p50 {heard.delay_ms.p50:.1f}  p99 {heard.delay_ms.p99:.1f}  "
        f"max {heard.delay_ms.max:.1f} ms, core {run.server_cpu:.0%}, {run.bytes_each / 1000:.1f} kB each "
        f"(load {heard.load_cpu:.0%}, late {heard.late_ms:.1f} ms)",
        soft_wrap=True,
    )


def _rest(plan: Plan, report: Report) -> None:
    """reads that need no login, over connections that are kept"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        found = rest.measure(server, plan.cores, plan.seconds)
    report.details["rest"] = found
    for read in found:
        report.figures.append(Figure(f"GET {read.path}", read.requests.requests_per_s, "/s"))
        console.print(
            f"GET {read.path}: {read.requests.requests_per_s:.0f}/s, p50 {read.requests.p50_ms:.1f} ms, "
            f"p99 {read.requests.p99_ms:.1f} ms"
        )


def _uploads(plan: Plan, report: Report) -> None:
    """large files that are uploaded, and the memory they take meanwhile"""
    found = uploads.measure(plan.cores, 100 * uploads.MIB, 4)
    report.details["uploads"] = found
    mib = uploads.MIB
    report.figures += [
        Figure("upload of 100 MiB, memory", found.form.rise / mib, "MiB", at_most=16),
        Figure("upload of 100 MiB", found.form.rate, "MiB/s"),
        Figure(f"{found.forms.files} such uploads at once, memory", found.forms.rise / mib, "MiB"),
        Figure(f"{found.forms.files} such uploads at once", found.forms.rate, "MiB/s"),
        Figure("the same resumable, memory", found.resumable.rise / mib, "MiB", at_most=16),
        Figure("the same resumable", found.resumable.rate, "MiB/s"),
        Figure("this disk, written to plainly", found.disk_rate, "MiB/s"),
    ]
    for name, arrival in (("form", found.form), ("forms", found.forms), ("resumable", found.resumable)):
        console.print(
            f"{name}: {arrival.files} × {arrival.bytes_each // mib} MiB in {arrival.seconds:.2f} s "
            f"({arrival.stored_seconds:.2f} s to the last byte), {arrival.rate:.0f} MiB/s, "
            f"memory +{arrival.rise / mib:.1f} MiB, core {arrival.cpu:.0%}"
        )


def _processing(plan: Plan, report: Report) -> None:
    """tracks made of what is uploaded: times real time on one core, how soon they are ready, chat meanwhile"""
    with processing.files() as files:
        speeds = [processing.speed(plan.cores, name, path) for name, path in files.items()]
        for each in speeds:
            console.print(
                f"{each.source}: {each.times:.1f} times real time ({each.clock_s:.2f} s on the clock)"
            )
            least = 40.0 if "MP3" in each.source else None
            report.figures.append(Figure(f"processing, {each.source}", each.times, "×", at_least=least))
        source = files["music, MP3 320 kbit/s"]
        with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
            person = processing.uploader(server)
            ready = processing.until_ready(server, person, source)
            meanwhile = processing.meanwhile(server, plan.cores, person, source, max(plan.seconds, 5.0))
    report.details["processing"] = {"speeds": speeds, "ready_s": ready, "chat": meanwhile}
    idle, busy = meanwhile.idle.run.latency_ms.p99, meanwhile.busy.run.latency_ms.p99
    report.figures += [
        Figure("five minutes uploaded, until ready", ready, "s", at_most=15),
        Figure("chat p99 with nothing else", idle, "ms"),
        Figure("chat p99 while tracks are processed", busy, "ms"),
        Figure("that, times the idle one", meanwhile.ratio, "×", at_most=2),
    ]
    console.print(
        f"ready after {ready:.1f} s; chat p99 {idle:.1f} ms, {busy:.1f} ms while tracks are processed"
    )


def _media(plan: Plan, report: Report) -> None:
    """whole files and ranges beside nginx, slow readers, chat while files are sent"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        tracks = media.add_tracks(server)
        compared = [media.compare(server, plan.cores, tracks, case, plan.seconds / 3) for case in media.CASES]
        for each in compared:
            _told_files(each, report)
        chat = Chat(server, plan.cores)
        people, room = chat.audience(1, 50)

        def talk() -> Rung:
            return chat.publish(people, room, rooms=1, publishers=2, rate=20, seconds=plan.seconds)

        idle = talk()
        with media.downloads(server, plan.cores, tracks, plan.seconds):
            busy = talk()
        slow = media.slow(server, plan.cores, tracks, plan.crowd)
    report.details["media"] = {"compared": compared, "idle": idle, "busy": busy, "slow": slow}
    many = f"{slow.readers:,}"
    report.figures += [
        Figure("chat p99 with nothing else", idle.run.latency_ms.p99, "ms"),
        Figure("chat p99 while files are sent as fast as they go", busy.run.latency_ms.p99, "ms"),
        Figure(f"memory of one of {many} readers who take nothing", slow.bytes_each / 1000, "kB"),
        Figure("descriptors they hold besides their sockets", slow.descriptors, ""),
        Figure("slowest of the ranges sent meanwhile", slow.answer_ms, "ms"),
    ]
    console.print(
        f"chat p99 {idle.run.latency_ms.p99:.1f} ms, {busy.run.latency_ms.p99:.1f} ms while files are sent; "
        f"{many} slow readers: {slow.bytes_each / 1000:.1f} kB each, {slow.descriptors} descriptors"
    )


def _told_files(compared: media.Comparison, report: Report) -> None:
    case = compared.case
    for each in compared.rounds:
        fetched = each.fetches
        console.print(
            f"{case.name}, {each.server:5}: {fetched.requests_per_s:8,.0f}/s  {fetched.bytes_per_s / 1e9:5.2f} GB/s  "
            f"p50 {fetched.p50_ms:.1f}  p99 {fetched.p99_ms:.1f} ms  core {each.cpu:.0%}, load {fetched.load_cpu:.0%}",
            soft_wrap=True,
        )
    unit, scale = ("/s", 1.0) if case.ranges else ("GB/s", 1e9)
    report.figures.append(Figure(case.name, compared.rate("veza") / scale, unit))
    if compared.ratio is None:
        console.print(
            "nginx is not installed here, so there is nothing to compare with (apt install nginx-light)"
        )
        return
    report.figures += [
        Figure(f"{case.name}, nginx", compared.rate(media.NGINX) / scale, unit),
        Figure(f"{case.name}, times nginx", compared.ratio, "×", at_least=0.5 if case.ranges else 1.0),
    ]


def _notifications(plan: Plan, report: Report) -> None:
    """a thousand people who are told something every second, chat meanwhile"""
    with Server(plan.cores, postgres_apart=plan.postgres_apart) as server:
        found = notifications.measure(server, plan.cores, max(plan.seconds, 5.0) * 2)
    report.details["notifications"] = found
    idle, busy, told = found.idle.run.latency_ms.p99, found.busy.run.latency_ms.p99, found.told
    report.figures += [
        Figure("notifications delivered", told.per_s, "/s", at_least=notifications.PEOPLE * 0.99),
        Figure(
            "missing, doubled or out of order", told.missing + told.doubled + told.disordered, "", at_most=0
        ),
        Figure("from the request to the socket, p50", told.p50_ms, "ms"),
        Figure("from the request to the socket, p99", told.p99_ms, "ms"),
        Figure("chat p99 with nothing else", idle, "ms"),
        Figure("chat p99 meanwhile", busy, "ms"),
        Figure("that, times the idle one", busy / idle, "×", at_most=2),
    ]
    before, meanwhile = found.idle.run.latency_ms, found.busy.run.latency_ms
    console.print(
        f"{told.per_s:.0f} notifications/s, {told.missing} missing, p50 {told.p50_ms:.0f}  p99 {told.p99_ms:.0f} ms; "
        f"chat p50 {before.p50:.1f} → {meanwhile.p50:.1f}, p99 {before.p99:.1f} → {meanwhile.p99:.1f} ms; "
        f"core {found.idle.server_cpu:.0%}+{found.idle.postgres_cpu:.0%} → "
        f"{found.busy.server_cpu:.0%}+{found.busy.postgres_cpu:.0%}",
        soft_wrap=True,
    )


def _search(plan: Plan, report: Report) -> None:
    """lists and searches of 100,000 people, tracks and listings and 5,000,000 messages, in the database"""
    found = search.measure(plan.rows, 20 if plan.seconds <= 2 else 100, console.print)
    report.details["search"] = found
    for each in found.queries:
        scans = f"  [red]reads through {', '.join(each.scans)}[/]" if each.scans else ""
        busy = "" if each.cpu_p95_ms is None else f"  of a processor {each.cpu_p95_ms:5.1f}"
        console.print(
            f"{each.name:34} p50 {each.p50_ms:6.1f}  p95 {each.p95_ms:6.1f}  max {each.max_ms:6.1f} ms{busy}{scans}",
            soft_wrap=True,
        )
    for what, chosen in (
        ("messages", [each for each in found.queries if each.name.startswith("messages")]),
        ("suggestions", [each for each in found.queries if each.name.startswith("autocomplete")]),
        ("lists", [each for each in found.queries if each.name.startswith("GET")]),
        (
            "the rest",
            [each for each in found.queries if not each.name.startswith(("messages", "auto", "GET"))],
        ),
    ):
        worst = max(chosen, key=lambda each: each.p95_ms)
        report.figures.append(
            Figure(f"search: {what}, worst p95 ({worst.name})", worst.p95_ms, "ms", at_most=worst.bound_ms)
        )
    report.figures += [
        Figure(
            "search: queries that read large tables",
            sum(bool(each.scans) for each in found.queries),
            "",
            at_most=0,
        ),
        Figure("search: posts committed, batches of 100", found.posts_per_s, "/s"),
        Figure("search: the slowest of these commits", found.post_worst_ms, "ms"),
        Figure("search: index of messages", found.sizes["messages_words"] / 2**20, "MiB"),
    ]


PARTS: Final[dict[str, Callable[[Plan, Report], None]]] = {
    "start": _start,
    "single": _single,
    "room": _room,
    "peers": _peers,
    "small": _small,
    "crowd": _crowd,
    "rest": _rest,
    "uploads": _uploads,
    "processing": _processing,
    "live": _live,
    "media": _media,
    "notifications": _notifications,
    "search": _search,
}

_CAPACITY: Final = "{}, large room, sustained"


def _capacity(ladder: Ladder, at_least: float | None) -> list[Figure]:
    best = ladder.best
    figures = [
        Figure(
            _CAPACITY.format(ladder.server),
            best.run.deliveries_per_s if best else 0,
            "deliveries/s",
            at_least=at_least,
        )
    ]
    if best and at_least is not None:
        figures.append(Figure("its p99", best.run.latency_ms.p99, "ms", at_most=100))
    return figures


def _told(name: str, rung: Rung) -> None:
    run = rung.run
    verdict = "" if run.sustained else "  [red]not sustained[/]"
    lost = f", {run.closed} closed ({run.close_code})" if run.closed else ""
    console.print(
        f"{name}: {run.rate:5.0f} posts/s  {run.deliveries_per_s:9,.0f} deliveries/s  ratio {run.ratio:.4f}{lost}  "
        f"p50 {run.latency_ms.p50:.1f}  p99 {run.latency_ms.p99:.1f}  max {run.latency_ms.max:.1f} ms  "
        f"core {rung.server_cpu:.0%}+{rung.postgres_cpu:.0%}{verdict}",
        soft_wrap=True,
    )
