"""What moderators take away goes at once, wherever it is; its owner is told why, and a report keeps what it said."""

from __future__ import annotations

import trio

from tests.api.conftest import Answer
from tests.chat.conftest import Person
from tests.live.radio import mp3
from tests.moderation.conftest import Court, refused


async def remove(court: Court, by: Person, kind: str, target: int, **more: object) -> Answer:
    return await court.post("/moderation/remove", {"target_type": kind, "target_id": target, **more}, by)


async def test_each_kind_of_thing_goes_and_its_owner_is_told(court: Court) -> None:
    owner, friend, fan = await court.people(3)
    private = await court.house.room(owner, friend, kind="private")
    message = await court.say(private.id, owner, "nobody should read this")
    track, played = await court.track(owner), await court.track(friend)
    name = await court.sql("SELECT name FROM tracks WHERE id = $1", track)
    files = trio.Path(court.house.app.services.library.track(name))
    await files.mkdir(parents=True)
    await (files / "original.mp3").write_bytes(b"x")
    comment = await court.comment(played, owner)
    listing = await court.listing(owner)
    offered = await court.post(f"/listings/{listing}/offers", {"amount_cents": 50}, fan)
    assert offered.status == 201, offered.raw
    stream = await court.air.stream(owner=owner)
    source = await court.air.source(stream)
    listener = await court.air.listener(stream.path)
    await court.sql(
        "UPDATE users SET bio = 'buy now', avatar = '/x.webp', last_name = 'Buynow' WHERE id = $1", owner.id
    )
    playlist = (await court.post("/playlists", {"title": "buy now"}, owner)).data["id"]
    ear = await court.house.connect(owner)
    room = await court.house.enter(friend, private.id)
    evidence = await court.report(friend, "message", message)

    for kind, target in (
        ("message", message),
        ("track", track),
        ("comment", comment),
        ("listing", listing),
        ("stream", stream.id),
        ("playlist", playlist),
        ("name", owner.id),
        ("bio", owner.id),
        ("avatar", owner.id),
    ):
        gone = await remove(
            court, court.moderator, kind, target, reason="spam", report_id=evidence.data["report_id"]
        )
        assert gone.status == 200, (kind, gone.raw)
        told = await court.notified(ear, "removed")
        assert (told["target_type"], told["target_id"], told["reason"]) == (kind, target, "spam")
        assert "report_id" not in told, "who complained is nobody's business"
        again = await remove(court, court.moderator, kind, target)
        assert again.status == 404 and again.code.endswith("_NOT_FOUND"), (kind, again.raw)
        act = "stream.end" if kind == "stream" else f"{kind}.delete"
        assert await court.acts(act, target=target) == [(act, court.moderator.id)]

    deleted = await room.expect("message_deleted", id=message)
    assert deleted["deleted_by"] == court.moderator.id
    assert not await files.exists()
    assert (await court.get(f"/tracks/{track}", owner)).status == 404
    assert (await court.get(f"/listings/{listing}", owner)).status == 404
    offer = (await court.get(f"/offers/{offered.data['id']}", fan)).data
    assert offer["status"] == "rejected"
    assert await listener.hear_all() == mp3(0, 10)
    while await source.more():
        pass
    await court.air.stored(stream, "ended")
    assert await court.sql("SELECT bio IS NULL AND avatar IS NULL FROM users WHERE id = $1", owner.id) is True
    assert await court.sql(
        "SELECT first_name IS NULL AND last_name IS NULL FROM users WHERE id = $1", owner.id
    )
    assert (await court.get(f"/playlists/{playlist}", owner)).status == 404
    assert len(ear.seen("notification", kind="moderation")) == 9
    report = (await court.get(f"/admin/reports/{evidence.data['report_id']}", court.moderator)).data["report"]
    assert (report["snapshot"]["content"], report["content"]) == ("nobody should read this", None)


async def test_only_from_people_below_and_only_by_moderators(court: Court) -> None:
    peer, user = await court.person(role="moderator"), await court.person()
    for owner in (court.admin, peer, court.moderator):
        room = await court.house.room(owner, user)
        message, track = await court.say(room.id, owner, "mine"), await court.track(owner)
        comment = await court.comment(track, owner)
        listing, stream = await court.listing(owner), await court.air.stream(owner=owner)
        await court.sql("UPDATE users SET bio = 'b', avatar = '/x', first_name = 'F' WHERE id = $1", owner.id)
        things = {
            "message": message,
            "track": track,
            "comment": comment,
            "listing": listing,
            "stream": stream.id,
            "playlist": (await court.post("/playlists", {"title": "t"}, owner)).data["id"],
            "name": owner.id,
            "bio": owner.id,
            "avatar": owner.id,
        }
        for kind, target in things.items():
            for by in (court.moderator, user):
                refused(await remove(court, by, kind, target), 403, "FORBIDDEN")
        assert await court.sql("SELECT content FROM messages WHERE id = $1", message) == "mine"
        assert (await court.get(f"/listings/{listing}", user)).status == 200
    for bad in (
        {},
        {"target_type": "room", "target_id": 1},
        {"target_type": "track", "target_id": "x"},
        {"target_type": "track", "target_id": 1, "reason": "two\nlines"},
    ):
        refused(await court.post("/moderation/remove", bad, court.moderator), 400, "VALIDATION_ERROR")


async def test_what_belongs_to_nobody_any_more(court: Court) -> None:
    owner, friend = await court.people(2)
    room = await court.house.room(friend, owner)
    message = await court.say(room.id, owner, "left behind")
    comment = await court.comment(await court.track(friend), owner)
    await court.sql("UPDATE messages SET user_id = NULL WHERE id = $1", message)
    await court.sql("UPDATE track_comments SET user_id = NULL WHERE id = $1", comment)
    for kind, target in (("message", message), ("comment", comment)):
        assert (await remove(court, court.moderator, kind, target)).status == 200


async def test_the_nearer_ways_lead_the_same_way(court: Court) -> None:
    """What moderators may delete where it is: below them only, written down, and its owner told."""
    owner, friend = await court.people(2)
    peer = await court.person(role="moderator")
    room = await court.house.room(friend, owner, court.admin, peer, court.moderator)
    ear = await court.house.enter(owner, room.id)

    async def things(of: Person) -> list[tuple[str, str, str, int]]:
        track, played = await court.track(of), await court.track(friend)
        comment, message = await court.comment(played, of), await court.say(room.id, of, "mine")
        stream, other = await court.air.stream(owner=of), await court.air.stream(owner=of)
        return [
            ("DELETE", f"/tracks/{track}", "track", track),
            ("DELETE", f"/tracks/{played}/comments/{comment}", "comment", comment),
            ("POST", f"/streams/{stream.slug}/end", "stream", stream.id),
            ("DELETE", f"/streams/{other.slug}", "stream", other.id),
            ("DELETE", f"/chat/messages/{message}", "message", message),
        ]

    for above in (peer, court.admin):
        for method, path, _, _ in await things(above):
            answer = await court.api.request(method, path, token=court.moderator.token)
            assert answer.status == 403, (path, answer.raw)
    for method, path, kind, target in await things(owner):
        answer = await court.api.request(method, path, token=court.moderator.token)
        assert answer.status == 200, (path, answer.raw)
        told = await court.notified(ear, "removed")
        assert (told["target_type"], told["target_id"]) == (kind, target)
        act = "stream.end" if kind == "stream" else f"{kind}.delete"
        assert (act, court.moderator.id) in await court.acts(act, target=target), path
    # What one deletes oneself is nobody's business.
    mine = await court.say(room.id, owner, "mine")
    assert (await court.delete(f"/chat/messages/{mine}", owner)).status == 200
    assert await court.acts("message.delete", target=mine) == []
