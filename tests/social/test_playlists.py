"""Playlists: an order without gaps, whoever changes it and whatever becomes of the tracks."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.social.conftest import Person, Town, refused
from veza.db import playlists as playlists_db
from veza.db.playlists import Order


@dataclass
class List:
    """A playlist and who made it."""

    town: Town
    owner: Person
    id: int

    async def add(self, track: int, position: int | None = None) -> int:
        body = {"track_id": track} | ({} if position is None else {"position": position})
        answer = await self.town.api.post(f"/playlists/{self.id}/items", body, token=self.owner.token)
        assert answer.status == 201, answer.raw
        return int(answer.data["id"])

    async def call(self, method: str, path: str = "", body: Any = None, by: Person | None = None) -> Any:
        token = (by or self.owner).token
        return await self.town.api.request(method, f"/playlists/{self.id}{path}", body, token=token)

    async def order(self, by: Person | None = None) -> list[int]:
        """The items as they are shown; their positions are checked."""
        items = (await self.call("GET", by=by)).data["items"]
        assert [item["position"] for item in items] == list(range(len(items)))
        return [item["id"] for item in items]

    async def stored(self) -> list[int]:
        """The tracks as they are stored; without gaps, and counted."""

        async def read(conn: Any) -> Any:
            return await conn.fetch(
                "SELECT position, track_id FROM playlist_items WHERE playlist_id = $1 ORDER BY position",
                self.id,
            ), await conn.fetchval("SELECT item_count FROM playlists WHERE id = $1", self.id)

        rows, count = await self.town.db.read(read)
        assert [row[0] for row in rows] == list(range(len(rows))) and count == len(rows), rows
        return [row[1] for row in rows]


async def make(town: Town, owner: Person | None = None, **fields: Any) -> List:
    owner = owner or await town.person()
    answer = await town.api.post("/playlists", {"title": "Mornings", **fields}, token=owner.token)
    assert answer.status == 201, answer.raw
    assert answer.headers["location"] == f"/api/v1/playlists/{answer.data['id']}"
    return List(town, owner, answer.data["id"])


async def test_a_playlist_from_its_beginning_to_its_end(town: Town) -> None:
    ann, bob = await town.people(2)
    mine = await make(town, ann, title=" Mornings ", description="slow\nthings")
    one, two, three = [await town.track(bob) for _ in range(3)]
    items = [await mine.add(one), await mine.add(two), await mine.add(three, 0), await mine.add(one, 2)]
    a, b, c, d = items
    assert await mine.order() == [c, a, d, b]
    assert await mine.stored() == [three, one, one, two]
    shown = (await mine.call("GET", by=bob)).data
    assert (shown["title"], shown["description"], shown["item_count"]) == ("Mornings", "slow\nthings", 4)
    assert shown["owner"] == {"id": ann.id, "username": ann.username, "avatar": None}
    assert [item["track"]["id"] for item in shown["items"]] == [three, one, one, two]
    assert [i["id"] for i in (await mine.call("PUT", f"/items/{c}", {"position": 3})).data["items"]] == [
        a,
        d,
        b,
        c,
    ]
    assert (await mine.call("PUT", "/items", {"items": [d, c, b, a]})).status == 200
    assert await mine.order() == [d, c, b, a]
    assert [i["id"] for i in (await mine.call("DELETE", f"/items/{c}")).data["items"]] == [d, b, a]
    assert await mine.stored() == [one, two, one]
    changed = (await mine.call("PUT", body={"title": "Evenings", "description": None})).data
    assert (changed["title"], changed["description"], changed["is_public"]) == ("Evenings", None, True)
    assert (await mine.call("DELETE")).status == 200
    refused(await mine.call("GET"), 404, "PLAYLIST_NOT_FOUND")
    assert await town.sql("SELECT count(*) FROM tracks WHERE owner_id = $1", bob.id) == 3


async def test_lists_of_playlists(town: Town) -> None:
    ann, bob = await town.people(2)
    public = [(await make(town, ann)).id for _ in range(3)]
    private = (await make(town, ann, is_public=False)).id
    await make(town, bob)
    own = await town.all_pages("/playlists", "playlists", token=ann.token)
    assert [p["id"] for p in own] == [private, *reversed(public)]
    others = await town.all_pages(f"/playlists?user_id={ann.id}", "playlists", token=bob.token)
    assert [p["id"] for p in others] == list(reversed(public))
    assert await town.all_pages(f"/playlists?user_id={ann.id}", "playlists") == others
    assert (await town.api.get("/playlists")).status == 400
    refused(await town.api.get("/playlists?user_id=987654321", token=bob.token), 404, "USER_NOT_FOUND")


async def test_what_is_somebody_elses_cannot_be_changed(town: Town) -> None:
    ann, bob = await town.people(2)
    track = await town.track(ann)
    public, private = await make(town, ann), await make(town, ann, is_public=False)
    refused(await private.call("GET", by=bob), 404, "PLAYLIST_NOT_FOUND")
    refused(await town.api.get(f"/playlists/{private.id}"), 404, "PLAYLIST_NOT_FOUND")
    assert (await town.api.get(f"/playlists/{public.id}")).status == 200
    for one in (public, private):
        item = await one.add(track)
        for method, path, body in (
            ("PUT", "", {"title": "x"}),
            ("DELETE", "", None),
            ("POST", "/items", {"track_id": track}),
            ("PUT", "/items", {"items": [item]}),
            ("PUT", f"/items/{item}", {"position": 0}),
            ("DELETE", f"/items/{item}", None),
        ):
            refused(await one.call(method, path, body, by=bob), 404, "PLAYLIST_NOT_FOUND")
    # An item is found through its own playlist only.
    other = await make(town, ann)
    refused(await other.call("DELETE", f"/items/{item}"), 404, "ITEM_NOT_FOUND")
    refused(await other.call("PUT", f"/items/{item}", {"position": 0}), 404, "ITEM_NOT_FOUND")


async def test_input_that_cannot_be(town: Town) -> None:
    mine = await make(town)
    track = await town.track(mine.owner)
    a, b = await mine.add(track), await mine.add(track)
    for body, name in (
        ({"title": ""}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": None}, "title"),
        ({"description": "x" * 1001}, "description"),
        ({"description": "a\x07"}, "description"),
        ({"is_public": "yes"}, "is_public"),
    ):
        answer = await mine.call("PUT", body=body)
        refused(answer, 400, "VALIDATION_ERROR")
        assert list(answer.details) == [name]
    for position in (-1, 3, 2**80, "1"):
        answer = await mine.call("POST", "/items", {"track_id": track, "position": position})
        refused(answer, 400, "VALIDATION_ERROR")
    for position in (-1, 2):
        refused(await mine.call("PUT", f"/items/{a}", {"position": position}), 400, "VALIDATION_ERROR")
    for items in ([a], [a, b, b], [a, a], [a, b + 10**6], []):
        refused(await mine.call("PUT", "/items", {"items": items}), 409, "CONFLICT")
    refused(await mine.call("PUT", "/items", {"items": "all"}), 400, "VALIDATION_ERROR")
    hidden = await town.track(await town.person(), public=False)
    for missing in (hidden, 10**12):
        refused(await mine.call("POST", "/items", {"track_id": missing}), 404, "TRACK_NOT_FOUND")
    assert await mine.order() == [a, b] and await mine.stored() == [track, track]


async def test_limits(town: Town) -> None:
    ann = await town.person()
    mine = await make(town, ann)
    track = await town.track(ann)
    for _ in range(2):
        assert not isinstance(await town.db.write(playlists_db.add, mine.id, ann.id, track, None, 2), str)
    assert await town.db.write(playlists_db.add, mine.id, ann.id, track, 0, 2) == "full"
    assert await town.db.write(playlists_db.create, ann.id, "x", None, True, 1) is None
    assert await mine.stored() == [track, track]


async def test_tracks_of_others_that_are_private_now_are_not_shown_and_keep_their_place(town: Town) -> None:
    mine = await make(town)
    other = await town.person()
    songs = [await town.track(other) for _ in range(4)]
    a, b, c, d = [await mine.add(song) for song in songs]
    await town.sql("UPDATE tracks SET is_public = false WHERE id = $1", songs[1])
    assert await mine.order() == [a, c, d]
    assert (await mine.call("PUT", "/items", {"items": [d, c, a]})).status == 200
    assert await mine.order() == [d, c, a]
    assert await mine.order(by=other) == [d, b, c, a]  # the owner of the track sees it in its old place
    assert (await mine.call("PUT", f"/items/{a}", {"position": 0})).status == 200
    assert await mine.order() == [a, d, c]
    assert len(set(await mine.stored())) == 4
    await town.sql("UPDATE tracks SET is_public = true WHERE id = $1", songs[1])
    assert await mine.order() == [a, b, d, c]


async def test_a_track_that_is_deleted_leaves_no_gap_anywhere(town: Town) -> None:
    other = await town.person()
    songs = [await town.track(other) for _ in range(3)]
    lists = [await make(town) for _ in range(3)]
    for each in lists:
        for song in (songs[0], songs[1], songs[0], songs[2]):
            await each.add(song)
    await town.sql("DELETE FROM tracks WHERE id = $1", songs[0])
    for each in lists:
        assert await each.stored() == [songs[1], songs[2]]
    await town.sql("DELETE FROM users WHERE id = $1", other.id)
    for each in lists:
        assert await each.stored() == []


async def test_all_at_once(town: Town) -> None:
    """Adding, moving, arranging, taking out, and the deletion of a track: one after the other, whoever waits."""
    mine = await make(town)
    songs = [await town.track(mine.owner) for _ in range(4)]
    items = [await mine.add(song) for song in songs]

    async def expect(method: str, path: str, body: Any, *statuses: int) -> None:
        answer = await mine.call(method, path, body)
        assert answer.status in statuses, answer.raw

    async with trio.open_nursery() as nursery:
        for turn in range(3):
            nursery.start_soon(expect, "POST", "/items", {"track_id": songs[turn], "position": turn}, 201)
            nursery.start_soon(expect, "PUT", f"/items/{items[turn]}", {"position": 2}, 200)
            nursery.start_soon(expect, "PUT", "/items", {"items": items}, 200, 409)
        nursery.start_soon(expect, "DELETE", f"/items/{items[3]}", None, 200, 404)
        nursery.start_soon(town.sql, "DELETE FROM tracks WHERE id = $1", songs[3])
    assert sorted(await mine.stored()) == sorted(songs[:3] * 2)


# The order, against a plain list ---------------------------------------------------------------------


class Model:
    """A playlist as a plain list of (item, shown)."""

    def __init__(self) -> None:
        self.items: list[tuple[int, bool]] = []

    @property
    def shown(self) -> list[int]:
        return [id for id, shown in self.items if shown]

    def arrange(self, order: list[int]) -> None:
        places = [at for at, (_, shown) in enumerate(self.items) if shown]
        for at, id in zip(places, order, strict=True):
            self.items[at] = (id, True)


@given(st.lists(st.booleans(), max_size=8), st.data())
def test_whatever_is_done_to_the_order_the_hidden_ones_stay(shown: list[bool], data: st.DataObject) -> None:
    items = list(enumerate(shown))
    order = Order(items)
    visible = [id for id, seen in items if seen]
    assert order.shown == visible
    wanted = data.draw(st.permutations(visible))
    arranged = order.arranged(wanted)
    assert arranged is not None and [id for id in arranged if shown[id]] == wanted
    assert all(arranged[at] == at for at, seen in items if not seen)
    assert order.arranged([*visible, 99]) is None
    if visible:
        id, to = data.draw(st.sampled_from(visible)), data.draw(st.integers(0, len(visible) - 1))
        moved = order.moved(id, to)
        assert moved is not None and [each for each in moved if shown[each]].index(id) == to
        assert order.moved(id, len(visible)) is None
    place = data.draw(st.integers(0, len(visible)))
    grown = order.with_new(99, place)
    assert grown is not None and [each for each in grown if each == 99 or shown[each]].index(99) == place
    assert [each for each in grown if each != 99] == [id for id, _ in items]
    assert order.with_new(99, len(visible) + 1) is None


@pytest.mark.parametrize("seed", range(2))
async def test_the_stored_order_is_that_of_a_plain_list(town: Town, seed: int) -> None:
    """A few long runs of random steps through the database, compared after every one."""
    random_ = random.Random(seed)
    ann, other = await town.people(2)
    mine = await make(town, ann)
    tracks = {await town.track(other): True for _ in range(4)}
    model = Model()
    of_item: dict[int, int] = {}

    def add(position: int | None) -> Any:
        return playlists_db.add, random_.choice([t for t, seen in tracks.items() if seen]), position, 100

    for _ in range(40):
        shown, kind = model.shown, random_.choice(["add", "append", "move", "take", "arrange", "hide", "add"])
        if kind in ("add", "append"):
            position = None if kind == "append" else random_.randint(0, len(shown))
            unit, track, *rest = add(position)
            made = await town.db.write(unit, mine.id, ann.id, track, *rest)
            of_item[made.id] = track
            at = len(model.items)
            if position is not None and position < len(shown):
                at = model.items.index((shown[position], True))
            model.items.insert(at, (made.id, True))
        elif kind == "hide":
            track = random_.choice(list(tracks))
            if tracks[track] and sum(tracks.values()) == 1:
                continue
            tracks[track] = not tracks[track]
            await town.sql("UPDATE tracks SET is_public = $2 WHERE id = $1", track, tracks[track])
            model.items = [(id, tracks[of_item[id]]) for id, _ in model.items]
        elif shown and kind == "move":
            id, to = random_.choice(shown), random_.randrange(len(shown))
            assert await town.db.write(playlists_db.move, mine.id, ann.id, id, to) is None
            rest_ = [each for each in shown if each != id]
            model.arrange([*rest_[:to], id, *rest_[to:]])
        elif shown and kind == "take":
            id = random_.choice(shown)
            assert await town.db.write(playlists_db.take_out, mine.id, ann.id, id) is None
            model.items.remove((id, True))
        elif kind == "arrange":
            wanted = random_.sample(shown, len(shown))
            assert await town.db.write(playlists_db.arrange, mine.id, ann.id, wanted) is None
            model.arrange(wanted)
        opened = await town.db.read(playlists_db.opened, mine.id, ann.id)
        assert opened is not None and [item.id for item in opened.items] == model.shown
        assert await mine.stored() == [of_item[id] for id, _ in model.items]
