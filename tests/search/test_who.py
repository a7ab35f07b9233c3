"""Who finds what: nothing is found that could not be looked at."""

from __future__ import annotations

from typing import Any

import pytest

from tests.search.conftest import Library, Person
from veza.db import message_search, search_words
from veza.db.message_search import Heard, Where


@pytest.mark.parametrize("part", [0, 1_000_000])
async def test_messages_are_found_by_members_alone(library: Library, monkeypatch: Any, part: int) -> None:
    """Whether the index looks into his rooms alone (0), or what it finds is looked through for them."""
    monkeypatch.setattr(message_search, "_PART", part)
    owner, member, stranger = await library.people(3)
    public = await library.room("Wide open", owner)
    private = await library.room("Closed", owner, member, kind="private")
    letters = await library.letters(owner, member)
    open_word = await library.said(public, owner, "zarzuela in public")
    closed = await library.said(private, owner, "zarzuela in private")
    letter = await library.said(letters, owner, "zarzuela in a letter")
    assert await library.found("messages", "zarzuela", owner) == [letter, closed, open_word]
    assert await library.found("messages", "zarzuela", member) == [letter, closed]
    assert await library.found("messages", "zarzuela", stranger) == []
    assert await library.found("messages", "zarzuela") == []  # nobody is logged in
    # In the chat's own search public rooms are open to everybody.
    assert await heard(library, member) == [letter, closed, open_word]
    assert await heard(library, stranger) == [open_word]
    assert await heard(library, stranger, room=public) == [open_word]
    answer = await library.api.get(f"/chat/search?q=zarzuela&room={private}", token=stranger.token)
    assert answer.status in (200, 404) and "zarzuela" not in answer.raw.decode()
    found = (await library.ask("/search", owner, q="zarzuela", type="messages"))["messages"]
    assert [each["content"] for each in found] == [
        "zarzuela in a letter",
        "zarzuela in private",
        "zarzuela in public",
    ]


async def test_who_left_or_was_banned_finds_it_no_longer_and_deleted_ones_nobody(library: Library) -> None:
    owner, member = await library.people(2)
    room = await library.room("Kick", owner, member, kind="private")
    public = await library.room("Kick in public", owner, member)
    message = await library.said(room, owner, "habanera")
    spoken = await library.said(public, owner, "habanera")
    assert await library.found("messages", "habanera", member) == [spoken, message]
    await library.sql("DELETE FROM room_members WHERE room_id = $1 AND user_id = $2", room, member.id)
    assert await library.found("messages", "habanera", member) == [spoken]
    await library.sql(
        "INSERT INTO room_sanctions (room_id, user_id, kind) VALUES ($1, $2, 'ban')", public, member.id
    )
    assert await library.found("messages", "habanera", member) == []
    assert await heard(library, member, q="habanera") == []
    await library.sql(
        "UPDATE messages SET content = NULL, deleted_at = now() WHERE id = ANY ($1)", [message, spoken]
    )
    assert await library.found("messages", "habanera", owner) == []
    # An edited message is found by what it says now.
    other = await library.said(room, owner, "seguidilla")
    await library.sql("UPDATE messages SET content = 'malaguena' WHERE id = $1", other)
    assert await library.found("messages", "seguidilla", owner) == []
    assert await library.found("messages", "malagueña", owner) == [other]


async def test_tracks(library: Library) -> None:
    owner, other = await library.people(2)
    public = await library.song(owner, "Passacaglia")
    private = await library.song(owner, "Passacaglia", public=False)
    unready = await library.song(owner, "Passacaglia", status="processing")
    assert await library.found("tracks", "passacaglia") == [public]
    assert await library.found("tracks", "passacaglia", other) == [public]
    assert set(await library.found("tracks", "passacaglia", owner)) == {public, private, unready}
    assert len(await library.begun("passac", other)) == 1 and len(await library.begun("passac", owner)) == 3
    await library.sql("UPDATE users SET is_active = false WHERE id = $1", owner.id)
    assert await library.found("tracks", "passacaglia", other) == []


async def test_rooms(library: Library) -> None:
    owner, member, stranger = await library.people(3)
    public = await library.room("Chaconne", owner, about="Slow dances")
    private = await library.room("Chaconne secret", owner, member, kind="private", about="Slow dances")
    for text in ("chaconne", "chacone", "slow dances"):
        assert await library.found("rooms", text, stranger) == [public], text
        assert await library.found("rooms", text) == [public], text
        assert set(await library.found("rooms", text, member)) == {public, private}, text
    room = (await library.ask("/search", member, q="secret", type="rooms"))["rooms"][0]
    assert (room["id"], room["role"], room["is_private"], room["member_count"]) == (
        private,
        "member",
        True,
        2,
    )
    await library.letters(owner, member)
    assert await library.found("rooms", owner.username, member) == []


async def test_listings(library: Library) -> None:
    owner, other = await library.people(2)
    states = ("open", "sold", "closed", "removed")
    ids = {state: await library.listing(owner, "Theorbo", status=state) for state in states}
    assert await library.found("listings", "theorbo", other) == [ids["open"]]
    assert await library.found("listings", "theorbo", owner) == [ids["open"]]
    assert len(await library.begun("theor", owner)) == 1
    found = (await library.ask("/search", other, q="theorbo"))["listings"][0]
    assert set(found) == {"id", "title", "status", "price_cents", "currency", "thumb_url", "owner_id"}
    await library.sql("UPDATE users SET banned_until = now() + interval '1 hour' WHERE id = $1", owner.id)
    assert await library.found("listings", "theorbo", other) == []


async def test_people_who_are_gone_or_barred_are_not_found(library: Library) -> None:
    asker = await library.named("asker_of_all")
    states = {
        "here": None,
        "disabled": "is_active = false",
        "deleted": "is_active = false, deleted_at = now()",
        "banned": "banned_until = now() + interval '1 day'",
        "served": "banned_until = now() - interval '1 day'",
    }
    people = {}
    for state, change in states.items():
        people[state] = await library.named(f"ocarina_{state}")
        if change:
            await library.sql(f"UPDATE users SET {change} WHERE id = $1", people[state].id)
    wanted = {people["here"].id, people["served"].id}
    assert set(await library.found("people", "ocarina", asker)) == wanted
    assert set(await library.found("people", "ocarina")) == wanted
    assert len(await library.begun("ocar", asker)) == 2
    for path in ("/users/search?q=ocarina", "/users?search=ocarina"):
        found = (await library.api.get(path, token=asker.token)).json["data"]["users"]
        assert {each["id"] for each in found} == wanted, path
    found = (await library.ask("/search", q="ocarina", type="people"))["people"][0]
    assert "email" not in found and "role" not in found


async def test_a_block_hides_two_from_each_other(library: Library) -> None:
    one, two, third = await library.people(3)
    await library.sql("UPDATE users SET first_name = 'Crumhorn' WHERE id = ANY ($1)", [one.id, two.id])
    for person in (one, two):
        await library.song(person, "Crumhorn")
        await library.listing(person, "Crumhorn")
    await library.sql("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", one.id, two.id)
    for asker, expected in ((one, 1), (two, 1), (third, 2), (None, 2)):
        found = await library.ask("/search", asker, q="crumhorn")
        assert [len(found[kind]) for kind in ("people", "tracks", "listings")] == [expected] * 3, asker
        owners = {each["owner"]["id"] for each in found["tracks"]}
        assert owners == ({one.id, two.id} if expected == 2 else {asker.id if asker else 0})
        begun = await library.begun("crum", asker, limit=20)
        assert [kind for kind, _ in begun].count("tracks") == expected
        assert [kind for kind, _ in begun].count("listings") == expected


@pytest.mark.parametrize("part", [0, 1_000_000])
async def test_pages_of_the_chats_search_hold_everything_once(
    library: Library, monkeypatch: Any, part: int
) -> None:
    monkeypatch.setattr(message_search, "_PART", part)
    owner, other = await library.people(2)
    rooms = [await library.room(f"Pages {n}", owner, kind="private") for n in range(3)]
    said = [await library.said(rooms[n % 3], owner, f"tarantella {n}") for n in range(25)]
    await library.said(await library.room("Not his", other, kind="private"), other, "tarantella")
    pages = await _all(library, owner, "tarantella", 4)
    assert [id for page in pages for id in page] == said[::-1]
    assert [len(page) for page in pages] == [4] * 6 + [1]


async def test_a_search_that_ends_early_goes_on_where_it_ended(library: Library, monkeypatch: Any) -> None:
    """With stretches of three ids and a bound of four candidates, what takes millions of messages otherwise."""
    one, two = await library.people(2)
    mine = [await library.room(f"Mine {n}", one, kind="private") for n in range(3)]
    theirs = await library.room("Theirs", two, kind="private")
    said = []
    for n in range(60):
        if n % 11 == 0:
            said.append(await library.said(mine[n % 3], one, "mazurka, at last"))
        else:
            await library.said(theirs, two, "mazurka again")
    monkeypatch.setattr(message_search, "_LOOKED_AT", 4)
    monkeypatch.setattr(message_search, "_STRETCHES", 1)

    async def narrow(conn: Any, *args: Any) -> Any:
        return await _narrow(conn, *args)

    look = message_search._look

    async def _narrow(
        conn: Any, where: Any, rooms: Any, query: Any, top: int, span: Any, wanted: int, unchecked: int
    ) -> Any:
        if span is not None:  # the same walk over narrower stretches
            low, high = min(span) * 3, max(span) * 3 + 2
            count, _ = await conn.fetchrow(
                "SELECT count(*), 0 FROM messages WHERE content LIKE 'mazurka%' AND id BETWEEN $1 AND $2",
                low,
                min(high, top),
            )
            ids = await conn.fetchval(
                """SELECT ARRAY(SELECT id FROM messages WHERE content LIKE 'mazurka%' AND room_id = ANY ($1)
                                AND id BETWEEN $2 AND $3 ORDER BY id DESC LIMIT $4)""",
                rooms.own,
                low,
                min(high, top),
                wanted,
            )
            return count, ids, 0, None
        return await look(conn, where, rooms, query, top, span, wanted, unchecked)

    monkeypatch.setattr(message_search, "_look", narrow)
    monkeypatch.setattr(message_search, "_stretch_of", lambda id: id // 3)
    monkeypatch.setattr(message_search, "_last_of", lambda stretch: stretch * 3 + 2)
    monkeypatch.setattr(message_search, "_SCANS", 0)  # nobody is in few rooms

    found: list[int] = []
    before, pages = None, 0
    while True:
        page: Heard = await library.db.read(_heard, Where(one.id, before=before), "mazurka", 5)
        found += [message.id for message, _ in page.messages]
        pages += 1
        if page.before is None:
            break
        assert before is None or page.before < before  # it always gets on
        before = page.before
    assert found == said[::-1]
    assert pages > 3


async def _heard(conn: Any, where: Where, text: str, limit: int) -> Heard:
    return await message_search.heard(conn, where, await search_words.read(conn, text), limit)


async def heard(library: Library, by: Person, q: str = "zarzuela", **params: Any) -> list[int]:
    return [each["id"] for each in (await library.ask("/chat/search", by, q=q, **params))["messages"]]


async def _all(library: Library, by: Person, q: str, limit: int) -> list[list[int]]:
    pages: list[list[int]] = []
    before: dict[str, int] = {}
    while True:
        data = await library.ask("/chat/search", by, q=q, limit=limit, **before)
        pages.append([each["id"] for each in data["messages"]])
        assert data["has_more"] == (data["next_before"] is not None)
        if not data["has_more"]:
            return pages
        before = {"before": data["next_before"]}


async def test_of_words_in_a_row_so_many_are_read_and_the_rest_is_asked_for(
    library: Library, monkeypatch: Any
) -> None:
    """Common words that seldom stand in this row: every message that holds them has to be read, page by page."""
    owner, other = await library.people(2)
    room = await library.room("Rows", owner)
    elsewhere = await library.room("Rows elsewhere", other, kind="private")
    spoken = []
    for number in range(23):
        in_row = number % 7 == 0
        text = "bourree gavotte" if in_row else "gavotte and then a bourree"
        spoken += [await library.said(room, owner, text)] * in_row
        await library.said(elsewhere, other, text)

    async def walked(text: str, limit: int) -> tuple[list[int], int]:
        async def unit(conn: Any, before: int | None) -> Heard:
            where = Where(owner.id, before=before)
            return await message_search.heard(conn, where, await search_words.read(conn, text), limit)

        found: list[int] = []
        before, pages = None, 0
        while pages == 0 or before is not None:
            page = await library.db.read(unit, before)
            assert len(page.messages) <= limit and (
                before is None or page.before is None or page.before < before
            )
            found += [message.id for message, _ in page.messages]
            before, pages = page.before, pages + 1
        return found, pages

    for part in (0, 1_000_000):
        monkeypatch.setattr(message_search, "_PART", part)
        monkeypatch.setattr(message_search, "_CHECKED", 2_500)
        for text in (
            '"bourree gavotte"',
            'gavotte -"gavotte bourree" -"gavotte and then"',
            '"bourree gavotte" -minuet',
        ):
            for limit in (1, 3, 20):
                assert (await walked(text, limit))[0] == spoken[::-1], (text, limit)
        monkeypatch.setattr(message_search, "_CHECKED", 3)
        for limit in (1, 3, 20):
            found, pages = await walked('"bourree gavotte"', limit)
            assert found == spoken[::-1] and 8 <= pages <= 13
        found, pages = await walked('"bourree bourree"', 20)
        assert found == [] and pages == 8
