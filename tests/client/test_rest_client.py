"""REST by `VezaClient`, against a real server: typed answers, typed errors, tokens renewed by themselves."""

import functools

import msgspec
import pytest
import trio

from tests.client.conftest import PASSWORD, MakePerson, Network, StartServer
from veza.app import App
from veza.client import ApiError, AuthFailed, ProtocolError, Tokens, Unreachable, VezaClient


def url_of(server: App) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_an_account_from_registering_to_logging_out(server: App) -> None:
    kept: list[Tokens | None] = []
    async with VezaClient(url_of(server), on_tokens=kept.append) as ada:
        login = await ada.register("ada", "ada@example.org", PASSWORD, first_name="Ada")
        assert login.user is not None
        me = await ada.me()
        assert (me.id, me.username, me.email, me.first_name) == (
            login.user.id,
            "ada",
            "ada@example.org",
            "Ada",
        )
        (session,) = await ada.sessions()
        assert session.current
        await ada.logout()
        assert ada.tokens is None
        assert kept == [login.tokens, None]
        with pytest.raises(AuthFailed):
            await ada.me()
        await ada.login("ada@example.org", PASSWORD)
        await ada.login("ada", PASSWORD)
        assert len(await ada.sessions()) == 2


async def test_a_profile_is_changed_field_by_field(person: MakePerson) -> None:
    ada = await person("ada")
    await ada.update_profile(bio="I play", last_name="Lovelace")
    changed = await ada.update_profile(last_name=None)
    assert (changed.bio, changed.last_name) == ("I play", None)
    assert (await ada.profile()).bio == "I play"
    await ada.change_password(PASSWORD, "another password")
    await ada.login("ada", "another password")


async def test_people_are_found_in_pages(person: MakePerson) -> None:
    ada = await person("ada")
    for name in ("bob", "bobby", "carol"):
        await person(name)
    found = await ada.users("bob")
    assert sorted(user.username for user in found.items) == ["bob", "bobby"]
    page = await ada.users(page=2, limit=3)
    assert (page.page, page.per_page, page.total, page.total_pages, len(page.items)) == (2, 3, 4, 2, 1)
    assert (await ada.user(found.items[0].id)).email is None


async def test_refusals_carry_what_a_caller_can_act_on(person: MakePerson, server: App) -> None:
    await person("ada")
    async with VezaClient(url_of(server)) as stranger:
        with pytest.raises(ApiError) as taken:
            await stranger.register("ADA", "other@example.org", PASSWORD)
        assert (taken.value.status, taken.value.code) == (409, "USERNAME_EXISTS")
        with pytest.raises(ApiError) as invalid:
            await stranger.register("x", "not an address", "short")
        assert set(invalid.value.details) == {"username", "email", "password"}
        assert invalid.value.request_id
        with pytest.raises(AuthFailed) as wrong:
            await stranger.login("ada", "not the password")
        assert (wrong.value.status, wrong.value.code) == (401, "INVALID_CREDENTIALS")
        with pytest.raises(ApiError) as nowhere:
            await stranger.get("no/such/thing", dict)
        assert nowhere.value.status == 404


async def test_too_many_tries_say_how_long_to_wait(start_server: StartServer) -> None:
    async with start_server(rate_login_per_minute=2) as server, VezaClient(url_of(server)) as client:
        await client.register("ada", "ada@example.org", PASSWORD)
        with pytest.raises(ApiError) as refused:
            for _ in range(40):  # some, for more are granted as time goes
                with pytest.raises(AuthFailed):
                    await client.login("ada", "wrong password")
        assert refused.value.status == 429
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1


# Tokens


def spoil(client: VezaClient) -> None:
    """Let the access token be no good any more, as if its time had come."""
    assert client.tokens is not None
    client.tokens = msgspec.structs.replace(client.tokens, access_token="spoilt")


async def test_a_token_that_ended_is_renewed_once_for_all_who_need_it(person: MakePerson) -> None:
    ada = await person("ada")
    kept: list[Tokens | None] = []
    ada.keep_tokens(kept.append)
    spoil(ada)
    names: list[str] = []

    async def ask() -> None:
        names.append((await ada.me()).username)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
    assert names == ["ada"] * 8
    assert len(kept) == 1


async def test_a_session_that_ended_is_not_renewed_and_its_tokens_are_forgotten(person: MakePerson) -> None:
    ada = await person("ada")
    assert ada.tokens is not None
    async with VezaClient(ada.url, tokens=ada.tokens) as elsewhere:
        kept: list[Tokens | None] = []
        elsewhere.keep_tokens(kept.append)
        await ada.logout_all()
        with pytest.raises(AuthFailed):
            await elsewhere.me()
        assert elsewhere.tokens is None
        assert kept == [None]


async def test_processes_that_share_a_login_do_not_end_it_by_renewing(person: MakePerson) -> None:
    one = await person("ada")
    async with VezaClient(one.url, tokens=one.tokens) as other:
        store = {"tokens": one.tokens}
        for client in (one, other):
            client.keep_tokens(lambda tokens: store.update(tokens=tokens), lambda: store["tokens"])
        for _ in range(
            3
        ):  # a refresh token is good once: the second would end the session with the first one's
            for client in (one, other):
                spoil(client)
                assert (await client.me()).username == "ada"


async def test_without_a_login_nothing_is_renewed(server: App) -> None:
    async with VezaClient(url_of(server)) as stranger:
        with pytest.raises(AuthFailed) as refused:
            await stranger.me()
        assert refused.value.status == 401


def test_what_is_shown_of_tokens_is_not_the_tokens() -> None:
    tokens = Tokens(access_token="aaaa", refresh_token="bbbb")
    assert "aaaa" not in repr(tokens)
    assert "bbbb" not in repr(tokens)


# The way


async def test_a_server_that_is_not_there(person: MakePerson, network: Network) -> None:
    ada = await person("ada", network.url)
    network.cut()
    with trio.fail_after(60), pytest.raises(Unreachable):
        await ada.me()
    network.mend()
    assert (await ada.me()).username == "ada"


async def test_a_server_that_does_not_answer() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with VezaClient(url, timeout=0.2) as client:
        with trio.fail_after(60), pytest.raises(Unreachable, match="in time"):
            await client.me()
    await listener.aclose()


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b'{"success": "perhaps"}', b'{"success": true, "data": 3}']
)
async def test_something_that_is_no_veza_server(body: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            await stream.send_all(head % len(body) + body)

    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with VezaClient(url) as client:
            with trio.fail_after(60), pytest.raises(ProtocolError):
                await client.me()
        nursery.cancel_scope.cancel()


async def test_health(server: App) -> None:
    async with VezaClient(url_of(server)) as client:
        assert await client.healthy()
        assert await client.ready()
    async with VezaClient("http://127.0.0.1:1") as nobody:
        assert not await nobody.healthy()
