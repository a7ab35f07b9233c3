"""Somebody deletes the account while others are there: in his rooms, at his stream, dealing with him. And a server that
is killed before all of it is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.chat.conftest import Person
from tests.live.conftest import Air, OnAir
from tests.live.radio import Listener, Stream, until
from veza.actors.departures import Departures

PASSWORD = "correct horse"


@dataclass
class Scene:
    """All that somebody may have, and others who have to do with it."""

    air: Air
    leaver: Person
    heir: Person
    member: Person
    friend: Person
    rooms: dict[str, int] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        return await self.air.house.sql(statement, *args)

    async def value(self, statement: str, *args: Any) -> Any:
        return (await self.sql(statement, *args))[0][0]

    async def http(self, method: str, path: str, person: Person, body: Any = None) -> httpx.Response:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.air.port}/api/v1", timeout=180
        ) as client:
            headers = {"Authorization": f"Bearer {person.token}"}
            return await client.request(method, path, headers=headers, json=body)

    def file(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        self.files.append(path)


async def set_scene(air: Air) -> Scene:
    house = air.house
    leaver, heir, member, friend = await house.people(4)
    s = Scene(air, leaver, heir, member, friend)
    hashed = await house.app.services.passwords.hash(PASSWORD)
    await s.sql(
        """UPDATE users SET password_hash = $2, first_name = 'Zebulon' || id, last_name = 'Quist' || id,
               bio = 'plays zither ' || id,
               presence_text = 'zithering ' || id, avatar = '/api/v1/users/' || id || '/avatar?v=0123456789abcdef0123'
           WHERE id = $1""",
        leaver.id,
        hashed,
    )
    made = {
        "kept": await house.room(leaver, member, moderators=(heir,)),
        "to a member": await house.room(leaver, member, kind="private"),
        "alone": await house.room(leaver),
        "guest": await house.room(friend, leaver),
    }
    s.rooms = {name: room.id for name, room in made.items()}
    await air.stream(owner=leaver)  # one that was never on air, and one that is over
    over = await air.stream(owner=leaver)
    await s.sql("UPDATE streams SET state = 'ended', ended_at = now() WHERE id = $1", over.id)
    library = house.app.services.library
    for owner, name in ((leaver, "mine"), (friend, "theirs")):
        s.ids[name] = await s.value(
            """INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status, duration_ms)
               VALUES ($1, $2, 'a tune', 'mp3', 'audio/mpeg', 1, 'ready', 1000) RETURNING id""",
            owner.id,
            f"{name}-{owner.id}",
        )
    s.file(library.original(f"mine-{leaver.id}", "mp3"))
    s.file(library.avatars / str(leaver.id) / "64-0123456789abcdef0123.webp")
    for owner, name in ((leaver, "my zither"), (friend, "their drum")):
        s.ids[name] = await s.value(
            """INSERT INTO listings (owner_id, title, description, category_id, state, exchange_for, location)
               SELECT $1, $2, $3, id, 'good', 'a lute', $4 FROM categories LIMIT 1
               RETURNING id""",
            owner.id,
            name,
            f"call Zebulon{leaver.id}" if owner is leaver else "call me",
            f"Zither Street {leaver.id}" if owner is leaver else None,
        )
    mine, theirs, kept = s.ids["mine"], s.ids["theirs"], s.rooms["kept"]
    me, other, third, fourth = leaver.id, friend.id, member.id, heir.id
    for table, columns, values in (
        ("track_likes", "track_id, user_id", f"{theirs}, {me}"),
        ("track_reposts", "track_id, user_id", f"{theirs}, {me}"),
        ("track_comments", "track_id, user_id, content, at_ms", f"{theirs}, {me}, 'fine', 1"),
        ("track_plays", "track_id, listener, user_id", f"{theirs}, 'u{me}', {me}"),
        ("follows", "follower_id, followed_id", f"{me}, {other}"),
        ("follows", "follower_id, followed_id", f"{other}, {me}"),
        ("mutes", "muter_id, muted_id", f"{me}, {third}"),
        ("mutes", "muter_id, muted_id", f"{third}, {me}"),
        ("blocks", "blocker_id, blocked_id", f"{fourth}, {me}"),
        ("blocks", "blocker_id, blocked_id", f"{me}, {fourth}"),
        ("playlists", "owner_id, title", f"{me}, 'mine'"),
        ("listing_favorites", "listing_id, user_id", f"{s.ids['their drum']}, {me}"),
        ("notification_preferences", "user_id, kind, socket, email", f"{me}, 'like', false, false"),
        ("notifications", "user_id, kind, key, actor_id", f"{me}, 'follow', 'a', {other}"),
        ("notifications", "user_id, kind, key, actor_id", f"{other}, 'follow', 'b', {me}"),
        (
            "reports",
            "reporter_id, target_type, target_id, reason, accused_id",
            f"{me}, 'user', {other}, 'x', {other}",
        ),
        ("sanctions", "user_id, kind, reason", f"{me}, 'warning', 'x'"),
        (
            "mail_tokens",
            "token_hash, user_id, purpose, email, expires_at",
            f"'h{me}', {me}, 'verify', 'x', now()",
        ),
        ("two_factor", "user_id, secret", f"{me}, 'x'"),
        ("recovery_codes", "user_id, code_hash", f"{me}, 'x'"),
        (
            "uploads",  # not over yet, else a server that has just started may sweep it away
            "id, user_id, length, expires_at",
            f"gen_random_uuid(), {me}, 1, now() + interval '1 day'",
        ),
        ("room_parties", "room_id, track_id, started_by", f"{kept}, {mine}, {me}"),
        ("room_invites", "code, room_id, by_user_id", f"'code{me}', {kept}, {me}"),
    ):
        await s.sql(f"INSERT INTO {table} ({columns}) VALUES ({values})")
    theirs_list = await s.value(
        "INSERT INTO playlists (owner_id, title) VALUES ($1, 'theirs') RETURNING id", friend.id
    )
    await s.sql(
        "INSERT INTO playlist_items (playlist_id, track_id, position) VALUES ($1, $2, 0), ($1, $3, 1)",
        theirs_list,
        mine,
        theirs,
    )
    s.file(library.listings / str(s.ids["my zither"]) / f"320-{'ab' * 10}.webp")
    await s.sql(
        """INSERT INTO listing_images (listing_id, n, position, hash, width, height) VALUES ($1, 1, 1, $2, 1, 1)""",
        s.ids["my zither"],
        "ab" * 10,
    )
    for name, listing, buyer, seller in (
        ("to me", "my zither", friend, leaver),
        ("by me", "their drum", leaver, friend),
    ):
        s.ids[name] = await s.value(
            """INSERT INTO offers (listing_id, buyer_id, seller_id, amount_cents, currency, expires_at)
               VALUES ($1, $2, $3, 100, 'EUR', now() + interval '1 day') RETURNING id""",
            s.ids[listing],
            buyer.id,
            seller.id,
        )
    return s


async def on_the_air(s: Scene) -> tuple[Stream, Any, Listener]:
    stream = await s.air.stream(owner=s.leaver, record=True)
    source = await s.air.source(stream)
    listener = await s.air.listener(stream.path)
    s.files.append(s.air.house.app.services.library.recordings_of(stream.id))
    return stream, source, listener


WORDS = ("Zebulon", "Quist", "Zither Street ", "plays zither ", "zithering ")
# Where something of a deleted account may still stand, and why.
STAYS = {
    ("audit_log", "actor_id"),
    ("deletions", "user_id"),  # until nothing can come any more
    ("listings", "owner_id"),  # removed; in others' offers
    ("messages", "user_id"),  # under nobody's name
    ("notifications", "actor_id"),  # that an offer ended
    ("offers", "buyer_id"),
    ("offers", "seller_id"),
    ("outbox", "actor_id"),  # the same, not told yet
    ("reports", "accused_id"),
    ("room_members", "user_id"),  # private conversations
    ("rooms", "user_high"),
    ("rooms", "user_low"),
    ("sanctions", "user_id"),
}


async def comes(true: Callable[[], Awaitable[bool]]) -> None:
    """Until that is so, in the database or on the disk."""
    with trio.fail_after(60):
        while True:
            if await true():
                return
            await trio.sleep(0.02)


async def nothing_is_left(s: Scene) -> None:
    """Every column that leads to a person, and every text there is."""
    columns = await s.sql(
        """SELECT c.conrelid::regclass::text, a.attname FROM pg_constraint c
           JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
           WHERE c.contype = 'f' AND c.confrelid = 'users'::regclass"""
    )
    assert len(columns) > 40
    for table, column in columns:
        if (table, column) not in STAYS:
            count = await s.value(f"SELECT count(*) FROM {table} WHERE {column} = $1", s.leaver.id)
            assert count == 0, f"{table}.{column}"
    rooms = "SELECT count(*) FROM room_members m JOIN rooms r ON r.id = m.room_id WHERE r.kind <> 'direct'"
    assert await s.value(f"{rooms} AND m.user_id = $1", s.leaver.id) == 0
    for (table,) in await s.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for word in (s.leaver.name, *(f"{word}{s.leaver.id}" for word in WORDS)):
            count = await s.value(
                f"SELECT count(*) FROM {table} t WHERE t::text ~* ('\\m' || $1 || '\\M')", word
            )
            assert count == 0, f"{word} in {table}"
    for path in s.files:
        assert not path.exists(), path


async def test_an_account_goes_while_others_are_there(air: Air) -> None:
    s = await set_scene(air)
    house, leaver = air.house, s.leaver
    kept, private, alone, guest = (s.rooms[name] for name in ("kept", "to a member", "alone", "guest"))
    me = await house.enter(leaver, kept, private, alone, guest)
    heir = await house.enter(s.heir, kept)
    member = await house.enter(s.member, kept, private)
    friend = await house.enter(s.friend, guest)
    await me.say(kept, "said in the room")
    await me.say(guest, "said as a guest")
    await me.write(s.friend.id, "a letter")
    letter = await friend.expect("direct_message", content="a letter")
    stream, source, listener = await on_the_air(s)
    stream_room = await s.value("SELECT room_id FROM streams WHERE id = $1", stream.id)
    answer = await s.http("DELETE", "/users/me", leaver, {"password": PASSWORD})
    assert answer.status_code == 200, answer.text
    ghost = f"deleted_{leaver.id}"

    # His sockets, his stream, those who heard it.
    assert await me.closed() == 4001
    with trio.fail_after(60):
        await listener.hear_all()
        await source.close()
    assert await s.sql("SELECT 1 FROM streams WHERE id = $1", stream.id) == []
    # His rooms: the members saw him go, and who is next has them.
    for watcher, room in ((heir, kept), (member, kept), (member, private), (friend, guest)):
        await watcher.expect("user_disconnected", user_id=leaver.id, room_id=room)
    owners = dict(
        await s.sql("SELECT id, owner_id FROM rooms WHERE id = ANY ($1)", [*s.rooms.values(), stream_room])
    )
    assert owners == {kept: s.heir.id, private: s.member.id, guest: s.friend.id}
    # The running room knows it too: its new owner may do what owners may.
    done = await s.http("PUT", f"/chat/rooms/{kept}", s.heir, {"name": f"renamed {kept}"})
    assert done.status_code == 200, done.text
    assert (await s.http("GET", f"/chat/rooms/{kept}/members", s.heir)).json()["meta"]["total"] == 2
    # What he said stays, and he is nobody: in lists, and in what a running room replays.
    said = (await s.http("GET", f"/chat/rooms/{guest}/messages", s.friend)).json()["data"]["messages"]
    assert [(m["username"], m["content"]) for m in said] == [(ghost, "said as a guest")]
    late = await house.connect(s.friend)
    await late.join(guest, since_seq=0)
    replayed = await late.expect("room_message", content="said as a guest")
    assert replayed["username"] == ghost and leaver.name not in str(replayed)
    # A conversation can be read, and takes no letters any more.
    letters = (await s.http("GET", f"/chat/dm/{leaver.id}", s.friend)).json()["data"]["messages"]
    assert [m["content"] for m in letters] == ["a letter"] and letters[0]["id"] == letter["id"]
    await friend.send("direct_message", to_user_id=leaver.id, content="are you there?")
    await friend.error("BLOCKED")
    # Open deals have ended, and the other side hears of it.
    states = dict(
        await s.sql("SELECT id, status FROM offers WHERE buyer_id = $1 OR seller_id = $1", leaver.id)
    )
    assert states == {s.ids["to me"]: "rejected", s.ids["by me"]: "rejected"}
    told: list[Any] = []

    async def both() -> bool:
        query = "SELECT data->>'reason' FROM notifications WHERE user_id = $1 AND kind = 'offer'"
        told[:] = await s.sql(query, s.friend.id)
        return len(told) == 2

    await comes(both)
    assert {row[0] for row in told} == {"account_deleted"}
    # What hung on others' things is counted anew.
    counts = await s.sql(
        "SELECT like_count, repost_count, comment_count FROM tracks WHERE id = $1", s.ids["theirs"]
    )
    assert tuple(counts[0]) == (0, 0, 0)
    assert await s.value("SELECT item_count FROM playlists WHERE owner_id = $1", s.friend.id) == 1
    assert (await s.http("GET", f"/users/{leaver.id}", s.friend)).status_code == 404
    await nothing_is_left(s)


async def test_killed_before_all_is_gone_the_next_server_finishes(
    on_air: OnAir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is closed; then the process ends, wherever the rest was."""

    async def dies(self: Departures, gone: Any) -> bool:
        return False  # as one who was killed right after the commit: nothing more is done

    with monkeypatch.context() as patch:
        patch.setattr(Departures, "finish", dies)
        async with on_air() as air:
            s = await set_scene(air)
            stream, source, listener = await on_the_air(s)
            answer = await s.http("DELETE", "/users/me", s.leaver, {"password": PASSWORD})
            assert answer.status_code == 200, answer.text
            # At once: nobody broadcasts any more, whatever else is left.
            await until(lambda: (live := air.state(stream)) is None or live.state != "live")
            assert (await s.http("GET", "/users/me", s.leaver)).status_code == 401
            await source.close()
            await listener.close()
    assert s.files[0].exists()
    async with on_air() as air:
        s.air = air

        async def gone() -> bool:
            left = (
                "SELECT 1 FROM playlists WHERE owner_id = $1 UNION SELECT 1 FROM streams WHERE owner_id = $1"
            )
            return not any(path.exists() for path in s.files) and not await s.sql(left, s.leaver.id)

        await comes(gone)
        # Once nothing can come any more, it is not looked for again.
        await s.sql(
            "UPDATE deletions SET began_at = now() - interval '1 hour' WHERE user_id = $1", s.leaver.id
        )
        await air.house.app.services.departures.finish_all()
        assert await s.sql("SELECT 1 FROM deletions WHERE user_id = $1", s.leaver.id) == []
        await nothing_is_left(s)


async def test_who_hangs_up_while_it_goes_is_gone_all_the_same(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = await set_scene(air)
    real, begun = Departures.finish, trio.Event()

    async def hangs_once(self: Departures, gone: Any) -> bool:
        if gone.user_id == s.leaver.id and not begun.is_set():  # the server sees to what others left, too
            begun.set()
            await trio.sleep_forever()
        return await real(self, gone)

    monkeypatch.setattr(Departures, "finish", hangs_once)
    monkeypatch.setattr(
        Departures, "poke", lambda self: None
    )  # the next look at what is left, not this very one

    async def ask() -> None:
        await s.http("DELETE", "/users/me", s.leaver, {"password": PASSWORD})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert (await s.http("GET", "/users/me", s.leaver)).status_code == 401
    await air.house.app.services.departures.finish_all()
    await nothing_is_left(s)
