"""Live chat by `ChatSocket` against a real server: what is said arrives once, in order, whatever the network does."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from tests.client.conftest import MakePerson, Network, StartServer, network_to
from veza.app import App
from veza.client import (
    AuthFailed,
    ChangesMissed,
    ChatSocket,
    Closed,
    Connected,
    DirectMessage,
    FrameRefused,
    Gap,
    MessageEdited,
    MessageUpdated,
    ReactionUpdated,
    Reconnecting,
    RoomMessage,
    Typing,
    Unreachable,
    UserConnected,
    UserDisconnected,
    VezaClient,
    staying,
)
from veza.http.sockets import chat as chat_sockets

PATIENCE = 60.0  # not a measure: only so that nothing hangs


@pytest.fixture(autouse=True)
async def nobody_hangs() -> AsyncIterator[None]:
    with trio.fail_after(180):
        yield


async def until(socket: ChatSocket, *kinds: type[Any], count: int = 1) -> list[Any]:
    """The next `count` events of these kinds; others are passed over."""
    found: list[Any] = []
    with trio.fail_after(PATIENCE):
        while len(found) < count:
            event = await anext(socket)
            if isinstance(event, kinds):
                found.append(event)
    return found


def contents(messages: list[Any]) -> list[str]:
    return [message.content for message in messages]


@asynccontextmanager
async def in_general(client: VezaClient, **options: Any) -> AsyncIterator[ChatSocket]:
    async with client.chat(**options) as socket:
        await socket.join("general")
        yield socket


# Talking


async def test_what_one_says_everybody_hears(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    async with in_general(ada) as a, in_general(bob) as b:
        ack = await a.send("general", "hello")
        for socket in (a, b):
            (said,) = await until(socket, RoomMessage)
            assert (said.id, said.seq, said.content, said.username) == (ack.id, ack.seq, "hello", "ada")
            assert said.nonce == ack.nonce


async def test_many_at_once_are_all_acknowledged_with_numbers_of_their_own(person: MakePerson) -> None:
    ada = await person("ada")
    numbers: list[int] = []
    async with in_general(ada) as a:

        async def say(text: str) -> None:
            numbers.append((await a.send("general", text)).seq)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(say, str(number))
        assert sorted(numbers) == list(range(1, 101))
        assert len({said.content for said in await until(a, RoomMessage, count=100)}) == 100


async def test_a_nonce_makes_repeating_safe(person: MakePerson) -> None:
    ada = await person("ada")
    async with in_general(ada) as a:
        first = await a.send("general", "once", nonce="n1")
        again = await a.send("general", "once", nonce="n1")
        assert (first.id, first.seq) == (again.id, again.seq)


async def test_history_in_pages(person: MakePerson) -> None:
    ada = await person("ada")
    async with in_general(ada) as a:
        for number in range(1, 26):
            await a.send("general", str(number))
        newest = await a.history("general", limit=10)
        assert contents(newest.messages) == [str(number) for number in range(16, 26)]
        assert newest.has_more
        assert newest.total == 25
        pages = [contents(page.messages) async for page in a.pages("general", limit=10)]
        assert [text for page in reversed(pages) for text in page] == [str(number) for number in range(1, 26)]


async def test_private_words_reach_both_sides(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    async with ada.chat() as a, bob.chat() as b:
        assert b.welcome is not None
        await a.send_direct(b.welcome.user_id, "psst")
        for socket in (a, b):
            (written,) = await until(socket, DirectMessage)
            assert (written.content, written.author, written.to_user_id) == ("psst", "ada", b.welcome.user_id)
        page = await b.history(with_user=written.from_user_id)
        assert contents(page.messages) == ["psst"]


async def test_changes_return_when_they_are_made_and_everybody_sees_them(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    async with in_general(ada) as a, in_general(bob) as b:
        ack = await a.send("general", "helo")
        await a.edit(ack.id, "hello")
        await b.react(ack.id, "🎸")
        await b.react(ack.id, "🎸")  # it was so already
        await b.unreact(ack.id, "🎸")
        (edited,) = await until(b, MessageEdited)
        assert edited.content == "hello"
        assert [r.added for r in await until(a, ReactionUpdated, count=2)] == [True, False]
        with pytest.raises(FrameRefused) as refused:
            await b.edit(ack.id, "mine now")
        assert refused.value.code == "PERMISSION_DENIED"
        await a.delete(ack.id)
        page = await b.history("general")
        assert page.messages[-1].deleted_at is not None


async def test_presence_and_typing(start_server: StartServer) -> None:
    # A room whose last pass took longer than this drops what can be dropped, typing first.
    async with (
        start_server(fanout_max_wait=60.0) as server,
        network_to(server.port) as network,
        two(server, network) as (ada, bob),
        in_general(ada) as a,
    ):
        async with in_general(bob) as b:
            (came,) = await until(a, UserConnected)
            assert came.username == "bob"
            b.typing(room="general")
            (typing,) = await until(a, Typing)
            assert (typing.username, typing.is_typing) == ("bob", True)
        (left,) = await until(a, UserDisconnected)
        assert left.username == "bob"


async def test_refusals_are_errors_of_their_own_request_alone(person: MakePerson) -> None:
    ada = await person("ada")
    async with in_general(ada) as a:
        outcomes: dict[str, object] = {}

        async def say(room: str, text: str) -> None:
            try:
                outcomes[room + text[:5]] = await a.send(room, text)
            except FrameRefused as refusal:
                outcomes[room + text[:5]] = refusal.code

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, "nowhere", "x")
            nursery.start_soon(say, "general", "fine")
            nursery.start_soon(say, "general", "x" * 5000)
            nursery.start_soon(say, "general", "y" * 100_000)
        assert outcomes["nowherex"] == "ROOM_NOT_FOUND"
        assert outcomes["generalxxxxx"] == outcomes["generalyyyyy"] == "MESSAGE_TOO_LONG"
        assert outcomes["generalfine"].seq == 1  # type: ignore[attr-defined]


async def test_the_patient_wait_as_long_as_the_server_asks(start_server: StartServer) -> None:
    async with start_server(rate_messages_per_minute=600, rate_messages_burst=2) as server:
        async with VezaClient(f"http://127.0.0.1:{server.port}") as ada:
            await ada.register("ada", "ada@example.org", "correct horse")
            async with in_general(ada) as a:
                refused: list[FrameRefused] = []

                async def hasty(number: int) -> None:
                    try:
                        await a.send("general", f"hasty {number}")
                    except FrameRefused as error:
                        refused.append(error)

                # At once: one after the other might take as long as they should.
                async with trio.open_nursery() as nursery:
                    for number in range(30):
                        nursery.start_soon(hasty, number)
                assert {error.code for error in refused} == {"RATE_LIMITED"}
                assert all(error.retry_after is not None for error in refused)
                async with trio.open_nursery() as nursery:
                    for number in range(12):
                        nursery.start_soon(partial(a.send, "general", f"patient {number}", patient=True))


async def test_many_conversations_are_resumed_within_the_servers_patience(start_server: StartServer) -> None:
    async with (
        start_server(rate_frames_per_second=50, rate_frames_burst=10, abuse_refusals=8) as server,
        network_to(server.port) as network,
        two(server, network) as (ada, bob),
        VezaClient(f"http://127.0.0.1:{server.port}") as crowd,
    ):
        bob_id = (await bob.me()).id
        async with bob.chat() as b:
            for number in range(30):
                await crowd.register(f"fan{number}", f"fan{number}@example.org", "correct horse")
                await crowd.post_direct(bob_id, "hello")
            await until(b, DirectMessage, count=30)
            network.cut()
            await ada.post_direct(bob_id, "missed")
            network.mend()
            (missed,) = await until(b, DirectMessage)
            assert missed.content == "missed"
            while (
                True
            ):  # others may still be resumed, at the pace the server bears; it has not lost its patience
                try:
                    await b.ping()
                    break
                except FrameRefused as refused:
                    await trio.sleep(refused.retry_after or 0.02)


async def test_giving_up_on_an_answer_leaves_nothing_behind(person: MakePerson, network: Network) -> None:
    ada = await person("ada", network.url)
    async with in_general(ada) as a:
        network.cut()
        with trio.move_on_after(0.05) as scope:
            await a.send("general", "into the void")
        assert scope.cancelled_caught
        network.mend()
        await a.send("general", "later")
        (said,) = await until(a, RoomMessage)
        assert said.content == "later"


# A bad network


async def test_what_was_missed_comes_after_reconnecting(person: MakePerson, network: Network) -> None:
    ada, bob = await person("ada"), await person("bob", network.url)
    async with in_general(ada) as a, in_general(bob) as b:
        await a.send("general", "before")
        await until(b, RoomMessage)
        network.cut()
        for number in range(30):
            await a.send("general", f"away {number}")
        (lost,) = await until(b, Reconnecting)
        assert lost.reason
        network.mend()
        (back,) = await until(b, Connected)
        assert back.resumed
        await a.send("general", "after")
        said = contents(await until(b, RoomMessage, count=31))
        assert said == [*(f"away {number}" for number in range(30)), "after"]


async def test_every_post_is_stored_once_and_heard_once_whatever_breaks(
    person: MakePerson, network: Network
) -> None:
    ada, bob, eve = await person("ada", network.url), await person("bob", network.url), await person("eve")
    count = 150
    acks: list[int] = []
    async with in_general(ada) as a, in_general(bob) as b, in_general(eve) as e:

        async def talk() -> None:
            for number in range(count):
                acks.append((await a.send("general", str(number))).seq)

        async def break_things(talking: trio.CancelScope) -> None:
            while not talking.cancel_called:
                await until(e, RoomMessage, count=10)
                network.hiccup()

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as breaking:
                breaking.start_soon(break_things, nursery.cancel_scope)
                await talk()
                breaking.cancel_scope.cancel()
        heard = await until(b, RoomMessage, count=count)
        assert contents(heard) == [str(number) for number in range(count)]
        assert acks == [said.seq for said in heard] == list(range(1, count + 1))
        assert (await e.history("general", limit=1)).total == count


async def test_more_than_the_room_keeps_at_hand_is_fetched_in_pages(start_server: StartServer) -> None:
    async with start_server(room_ring_messages=5) as server, network_to(server.port) as network:
        async with two(server, network) as (ada, bob), in_general(ada) as a, in_general(bob) as b:
            network.cut()
            for number in range(250):
                await a.send("general", str(number))
            network.mend()
            await until(b, Connected)
            await a.send("general", "live")
            said = contents(await until(b, RoomMessage, count=251))
            assert said == [*map(str, range(250)), "live"]


async def test_too_much_to_fetch_is_one_gap(start_server: StartServer) -> None:
    async with start_server(room_ring_messages=5) as server, network_to(server.port) as network:
        async with two(server, network) as (ada, bob):
            async with in_general(ada) as a, in_general(bob, catch_up=20) as b:
                network.cut()
                for number in range(1, 101):
                    await a.send("general", str(number))
                network.mend()
                (gap,) = await until(b, Gap)
                assert (gap.first, gap.last) == (1, 80)
                said = contents(await until(b, RoomMessage, count=20))
                assert said == [str(number) for number in range(81, 101)]


async def test_more_changes_than_the_room_keeps_at_hand_are_told_as_one(start_server: StartServer) -> None:
    async with start_server(room_ring_messages=5) as server, network_to(server.port) as network:
        async with two(server, network) as (ada, bob), in_general(ada) as a, in_general(bob) as b:
            ids = [(await a.send("general", str(number))).id for number in range(10)]
            await until(b, RoomMessage, count=10)
            network.cut()
            for message_id in ids:
                await a.edit(message_id, "changed")
            network.mend()
            await until(b, ChangesMissed)
            await a.edit(ids[0], "changed once more")
            (edited,) = await until(b, MessageEdited)
            assert edited.content == "changed once more"


async def test_private_words_that_were_missed_come_too(person: MakePerson, network: Network) -> None:
    ada, bob, eve = await person("ada"), await person("bob", network.url), await person("eve")
    async with ada.chat() as a, bob.chat() as b, eve.chat() as e:
        assert b.welcome is not None
        bob_id = b.welcome.user_id
        await a.send_direct(bob_id, "known")
        await until(b, DirectMessage)
        network.cut()
        for number in range(5):
            await a.send_direct(bob_id, f"ada {number}")
            await e.send_direct(bob_id, f"eve {number}")  # a conversation that begins while he is away
        network.mend()
        await until(b, Connected)
        await a.send_direct(bob_id, "ada live")
        missed = contents(await until(b, DirectMessage, count=11))
        assert [text for text in missed if text.startswith("ada")] == [
            *(f"ada {n}" for n in range(5)),
            "ada live",
        ]
        assert [text for text in missed if text.startswith("eve")] == [f"eve {n}" for n in range(5)]


async def test_changes_that_were_missed_are_told_as_the_messages_stand(
    person: MakePerson, network: Network
) -> None:
    ada, bob = await person("ada"), await person("bob", network.url)
    async with in_general(ada) as a, in_general(bob) as b:
        one, two_ = await a.send("general", "one"), await a.send("general", "two")
        await until(b, RoomMessage, count=2)
        await a.edit(one.id, "ONE")
        await until(b, MessageEdited)
        network.cut()
        await a.edit(two_.id, "TWO")
        await a.react(two_.id, "🎸")
        network.mend()
        (changed,) = await until(b, MessageUpdated)
        assert changed.message.content == "TWO"
        assert [reaction.emoji for reaction in changed.message.reactions] == ["🎸"]
        await a.send("general", "three")
        assert contents(await until(b, RoomMessage, MessageUpdated)) == ["three"]  # nothing is told twice


async def test_a_server_that_restarts(start_server: StartServer) -> None:
    async with start_server() as first, network_to(first.port) as network:
        async with two(first, network) as (ada, bob):
            ada.url = network.url
            async with in_general(ada) as a, in_general(bob) as b:
                await a.send("general", "before")
                await until(b, RoomMessage)
                async with start_server() as second:
                    network.target = second.port
                    network.hiccup()
                    ack = await a.send("general", "after")
                    assert ack.seq == 2
                    (said,) = await until(b, RoomMessage)
                    assert said.content == "after"


async def test_a_reader_who_falls_behind_loses_nothing(person: MakePerson) -> None:
    ada, bob = await person("ada"), await person("bob")
    async with in_general(ada, listen=False) as a, in_general(bob, buffer=10) as b:
        for number in range(200):
            await a.send("general", str(number))
        said = contents(await until(b, RoomMessage, count=200))
        assert said == [str(number) for number in range(200)]


async def test_sending_works_for_one_who_never_reads(person: MakePerson) -> None:
    ada = await person("ada")
    async with in_general(ada, buffer=5) as a:
        for number in range(50):
            assert (await a.send("general", str(number))).seq == number + 1


# The end


async def test_after_the_block_the_iteration_ends_and_calls_say_so(person: MakePerson) -> None:
    ada = await person("ada")
    async with in_general(ada) as a:
        await a.send("general", "x")
    assert [event async for event in a if isinstance(event, RoomMessage)]
    with pytest.raises(Closed):
        await a.send("general", "y")
    with pytest.raises(Closed):
        a.typing(room="general")


async def test_errors_in_the_block_come_out_as_they_are(person: MakePerson) -> None:
    ada = await person("ada")
    with pytest.raises(ZeroDivisionError):
        async with in_general(ada):
            raise ZeroDivisionError


async def test_a_server_that_is_not_there_is_told_at_once(person: MakePerson, network: Network) -> None:
    ada = await person("ada", network.url)
    network.cut()
    with pytest.raises(Unreachable):
        async with ada.chat():
            raise AssertionError("connected to nothing")


async def test_without_a_login_there_is_no_connection(server: App) -> None:
    async with VezaClient(f"http://127.0.0.1:{server.port}") as stranger:
        with pytest.raises(AuthFailed):
            async with stranger.chat():
                raise AssertionError("connected as nobody")


async def test_a_token_that_ended_before_connecting_is_renewed(person: MakePerson) -> None:
    ada = await person("ada")
    assert ada.tokens is not None
    ada.tokens = msgspec.structs.replace(ada.tokens, access_token="spoilt")
    async with in_general(ada) as a:
        await a.send("general", "hello")


async def test_a_connection_outlives_its_tokens(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock is ours: tokens that really are short would end wherever the machine is slow."""
    passed = 0.0

    def clock() -> float:
        return time.time() + passed

    monkeypatch.setattr(chat_sockets, "time", SimpleNamespace(time=clock))
    monkeypatch.setattr(staying, "seconds_left", lambda token: 1.0)  # another one every half second
    # Sockets are looked at four times an interval.
    async with start_server(jwt_expiration=100.0, ws_ping_interval=0.2) as server:
        server.services.tokens._clock = clock
        async with VezaClient(f"http://127.0.0.1:{server.port}") as ada:
            await ada.register("ada", "ada@example.org", "correct horse")
            enough = trio.Event()

            def renewed(_tokens: object) -> None:
                nonlocal passed
                passed += 40
                if passed >= 120:
                    enough.set()

            ada.keep_tokens(renewed)
            async with in_general(ada) as a:
                await enough.wait()
                await trio.sleep(0.2)
                await a.send("general", "still here")
                assert not [
                    event
                    for event in await until(a, RoomMessage, Reconnecting, Connected, count=2)
                    if isinstance(event, Reconnecting) or (isinstance(event, Connected) and event.resumed)
                ]


async def test_a_session_that_is_ended_ends_the_socket(person: MakePerson) -> None:
    ada = await person("ada")
    async with VezaClient(ada.url, tokens=ada.tokens) as elsewhere:
        async with in_general(elsewhere) as a:
            await ada.logout_all()
            with pytest.raises(AuthFailed):
                await until(a, RoomMessage)
            with pytest.raises(AuthFailed):
                await a.send("general", "too late")


async def test_who_waits_for_an_answer_when_it_ends_is_told(person: MakePerson, network: Network) -> None:
    ada = await person("ada", network.url)
    async with in_general(ada, reconnect=False) as a:
        refused: list[object] = []

        async def say() -> None:
            try:
                await a.send("general", "x")
            except Unreachable as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            network.cut()
            nursery.start_soon(say)
        assert len(refused) == 1
        with pytest.raises(Unreachable):
            await until(a, RoomMessage)


# Helpers


@asynccontextmanager
async def two(server: App, network: Network) -> AsyncIterator[tuple[VezaClient, VezaClient]]:
    """Ada next to the server, Bob behind the network."""
    async with VezaClient(f"http://127.0.0.1:{server.port}") as ada, VezaClient(network.url) as bob:
        for client, name in ((ada, "ada"), (bob, "bob")):
            await client.register(name, f"{name}@example.org", "correct horse")
        yield ada, bob
