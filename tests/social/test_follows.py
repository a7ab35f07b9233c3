"""Following and blocking: what they promise, also to who comes at the same moment."""

from __future__ import annotations

import pytest
import trio

from tests.api.live.conftest import Listener
from tests.social.conftest import Person, Town, refused
from veza.actors.room import blocking
from veza.app import Core
from veza.db import follows
from veza.db.errors import Unavailable


async def test_following_is_counted_and_shown(town: Town) -> None:
    ann, bob, carl = await town.people(3)
    for _ in range(2):  # once is enough, twice is no error
        answer = await town.api.put(f"/users/{bob.id}/follow", token=ann.token)
        assert answer.data == {"is_following": True, "follower_count": 1}
    answer = await town.api.put(f"/users/{bob.id}/follow", token=carl.token)
    assert answer.data == {"is_following": True, "follower_count": 2}
    followers = await town.api.get(f"/users/{bob.id}/followers")
    assert [u["id"] for u in followers.data["users"]] == [carl.id, ann.id]
    assert not {"email", "role"} & set(followers.data["users"][0])
    following = await town.api.get(f"/users/{ann.id}/following", token=bob.token)
    assert [u["id"] for u in following.data["users"]] == [bob.id]
    await town.track(bob)
    await town.track(bob, public=False)
    await town.track(bob, status="processing")
    profile = (await town.api.get(f"/users/{bob.id}", token=ann.token)).data
    assert profile["username"] == bob.username
    assert (profile["follower_count"], profile["following_count"], profile["track_count"]) == (2, 0, 1)
    assert (profile["is_following"], profile["follows_me"], profile["is_blocked"]) == (True, False, False)
    profile = (await town.api.get(f"/users/{ann.id}", token=bob.token)).data
    assert (profile["is_following"], profile["follows_me"], profile["following_count"]) == (False, True, 1)
    for _ in range(2):
        answer = await town.api.delete(f"/users/{bob.id}/follow", token=ann.token)
        assert answer.data == {"is_following": False, "follower_count": 1}


async def test_lists_go_page_by_page_also_where_many_came_at_the_same_moment(town: Town) -> None:
    star, *fans = await town.people(8)
    await town.sql(  # all in one transaction, so at one time
        "INSERT INTO follows (follower_id, followed_id) SELECT f, $1 FROM unnest($2::bigint[]) AS f",
        star.id,
        [fan.id for fan in fans],
    )
    first = await town.api.get(f"/users/{star.id}/followers?limit=3")
    late = await town.person()
    await town.api.put(f"/users/{star.id}/follow", token=late.token)  # moves nothing behind the cursor
    rest = await town.api.get(
        f"/users/{star.id}/followers?limit=4&cursor={first.json['meta']['next_cursor']}"
    )
    assert "next_cursor" not in rest.json["meta"]
    seen = [u["id"] for u in first.data["users"] + rest.data["users"]]
    assert seen == sorted((fan.id for fan in fans), reverse=True)
    assert len(await town.all_pages(f"/users/{star.id}/followers", "users", limit=3)) == 8


async def test_a_cursor_that_nobody_gave(town: Town) -> None:
    ann = await town.person()
    far = "1-99999999999999999999"
    for cursor in ("x", "1", "1-2-3", "-1-2", far, "9" * 18 + "-1", "%D9%A1-%D9%A2"):
        for path in (f"/users/{ann.id}/followers", "/users/me/blocks", "/users/me/likes"):
            answer = await town.api.get(f"{path}?cursor={cursor}", token=ann.token)
            refused(answer, 400, "VALIDATION_ERROR")
            assert set(answer.details) == {"cursor"}


async def test_who_cannot_be_followed(town: Town) -> None:
    ann, gone = await town.people(2)
    await town.sql("UPDATE users SET is_active = false WHERE id = $1", gone.id)
    for user in (0, 10**12, 2**63, gone.id):
        for method in ("PUT", "DELETE"):
            answer = await town.api.request(method, f"/users/{user}/follow", token=ann.token)
            refused(answer, 404, "USER_NOT_FOUND")
        refused(await town.api.get(f"/users/{user}/followers"), 404, "USER_NOT_FOUND")
        refused(await town.api.get(f"/users/{user}/tracks"), 404, "USER_NOT_FOUND")
    refused(await town.api.put(f"/users/{ann.id}/follow", token=ann.token), 400, "INVALID_FORMAT")
    refused(await town.api.put(f"/users/{ann.id}/block", token=ann.token), 400, "INVALID_FORMAT")
    refused(await town.api.put(f"/users/{ann.id}/follow"), 401, "AUTH_REQUIRED")


async def test_nobody_follows_or_blocks_without_end(town: Town) -> None:
    ann, *others = await town.people(4)
    for other in others[:2]:
        assert await town.db.write(follows.follow, ann.id, other.id, 2) == "done"
    assert await town.db.write(follows.follow, ann.id, others[2].id, 2) == "full"
    assert await town.db.write(follows.follow, ann.id, others[0].id, 2) == "already"
    for other in others[:2]:
        assert await town.db.write(follows.block, ann.id, other.id, 2) == "done"
    assert await town.db.write(follows.block, ann.id, others[2].id, 2) == "full"
    assert await town.db.write(follows.block, ann.id, others[0].id, 2) == "already"


async def test_a_block_ends_following_both_ways_and_forbids_it(town: Town) -> None:
    ann, bob = await town.people(2)
    await town.api.put(f"/users/{bob.id}/follow", token=ann.token)
    await town.api.put(f"/users/{ann.id}/follow", token=bob.token)
    for _ in range(2):
        assert (await town.api.put(f"/users/{ann.id}/block", token=bob.token)).data == {"is_blocked": True}
    for one in (ann, bob):
        assert (await town.api.get(f"/users/{one.id}/followers")).data == {"users": []}
        assert (await town.api.get(f"/users/{one.id}/following")).data == {"users": []}
    refused(await town.api.put(f"/users/{bob.id}/follow", token=ann.token), 403, "BLOCKED")
    refused(await town.api.put(f"/users/{ann.id}/follow", token=bob.token), 403, "BLOCKED")
    assert (await town.api.get(f"/users/{ann.id}", token=bob.token)).data["is_blocked"] is True
    assert (await town.api.get(f"/users/{bob.id}", token=ann.token)).data["is_blocked"] is False
    assert [u["id"] for u in await town.all_pages("/users/me/blocks", "users", token=bob.token)] == [ann.id]
    assert await town.all_pages("/users/me/blocks", "users", token=ann.token) == []
    for _ in range(2):
        answer = await town.api.delete(f"/users/{ann.id}/block", token=bob.token)
        assert answer.data == {"is_blocked": False}
    assert (await town.api.put(f"/users/{bob.id}/follow", token=ann.token)).data["is_following"] is True


async def test_a_follow_on_its_way_does_not_outlive_the_block(town: Town) -> None:
    """Whichever comes first, in the end there is the block and no follow."""
    pairs = [await town.people(2) for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for ann, bob in pairs:
            nursery.start_soon(town.db.write, follows.follow, ann.id, bob.id, 100)
            nursery.start_soon(town.db.write, follows.block, bob.id, ann.id, 100)
            nursery.start_soon(town.db.write, follows.follow, bob.id, ann.id, 100)
    for ann, bob in pairs:
        assert await town.sql("SELECT count(*) FROM blocks WHERE blocker_id = $1", bob.id) == 1
        assert (
            await town.sql("SELECT count(*) FROM follows WHERE $1 IN (follower_id, followed_id)", ann.id) == 0
        )


async def _write(town: Town, by: Person, to: Person) -> int:
    return (await town.api.post(f"/chat/dm/{to.id}", {"content": "hello"}, token=by.token)).status


async def test_a_block_acts_at_once_on_the_conversation_that_is_running(town: Town, core: Core) -> None:
    ann, bob = await town.people(2)
    ears = Listener(core, bob)  # type: ignore[arg-type]
    await ears.connect()
    assert await _write(town, ann, bob) == 201
    await ears.ear.heard("direct_message")
    await town.api.put(f"/users/{ann.id}/block", token=bob.token)
    assert (await _write(town, ann, bob), await _write(town, bob, ann)) == (403, 403)
    await town.api.delete(f"/users/{ann.id}/block", token=bob.token)
    assert (await _write(town, ann, bob), await _write(town, bob, ann)) == (201, 201)
    await ears.ear.heard("direct_message", 3)  # who sent it may have been told so a moment before
    assert len(ears.ear.of("direct_message")) == 3


async def test_of_many_changes_at_once_the_last_one_counts_in_the_room(town: Town) -> None:
    """The room reads what is so, and never acts on news that come in another order than they were stored."""
    ann, bob = await town.people(2)
    assert await _write(town, ann, bob) == 201

    async def change(method: str) -> None:
        assert (await town.api.request(method, f"/users/{ann.id}/block", token=bob.token)).status == 200

    async with trio.open_nursery() as nursery:
        for turn in range(8):
            nursery.start_soon(change, "PUT" if turn % 2 else "DELETE")
    blocked = await town.sql("SELECT count(*) FROM blocks WHERE blocker_id = $1", bob.id)
    assert await _write(town, ann, bob) == (403 if blocked else 201)


async def test_a_request_that_was_given_up_is_heard_of_all_the_same(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled does not mean not stored: whoever blocks and leaves at once is protected."""
    ann, bob = await town.people(2)
    assert await _write(town, ann, bob) == 201
    write = town.db.write

    async def stored_but_cancelled(*args: object) -> object:
        done = await write(*args)  # type: ignore[arg-type]
        if args[0] is not follows.block:
            return done  # what the courier writes beside it
        scope.cancel()
        await trio.lowlevel.checkpoint()
        raise AssertionError

    monkeypatch.setattr(town.db, "write", stored_but_cancelled)
    with trio.CancelScope() as scope:
        await town.api.put(f"/users/{ann.id}/block", token=bob.token)
    monkeypatch.undo()
    assert scope.cancelled_caught
    assert await _write(town, ann, bob) == 403


async def test_a_block_waits_until_the_database_is_back(
    town: Town, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room could not read it at first: it asks again, and who waits for it is answered then."""
    monkeypatch.setattr(blocking, "_AGAIN", 0.01)  # who waits does so for five seconds
    ann, bob = await town.people(2)
    assert await _write(town, ann, bob) == 201
    room = core.rooms.running(await core.rooms.direct(ann.id, bob.id))
    assert room is not None
    actor = core.rooms._shown[await core.rooms.direct(ann.id, bob.id)]
    real, fails = actor.db, 2

    class Flaky:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def read(self, *args: object) -> object:
            nonlocal fails
            if fails:
                fails -= 1
                raise Unavailable("away")
            return await real.read(*args)  # type: ignore[arg-type]

    actor.db = Flaky()  # type: ignore[assignment]
    await town.db.write(follows.block, bob.id, ann.id, 10)
    with trio.fail_after(60):
        await core.rooms.blocks_changed(bob.id, ann.id)
    assert fails == 0
    assert await _write(town, ann, bob) == 403
