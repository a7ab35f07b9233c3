"""Reports: of what one sees and of nothing else, kept as it was, handled once and by who stands above."""

from __future__ import annotations

import pytest
import trio

from tests.api.conftest import Answer
from tests.chat.conftest import Person
from tests.moderation.conftest import Court, refused


async def queue(court: Court, who: Person, query: str = "") -> list[dict[str, object]]:
    answer = await court.get(f"/admin/reports?limit=100{query}", who)
    assert answer.status == 200, answer.raw
    return list(answer.data["reports"])


async def test_everything_one_sees_can_be_reported(court: Court) -> None:
    """With what it says at that moment, and whose it is."""
    reporter, accused, friend = await court.people(3)
    public = await court.house.room(accused, reporter, friend)
    track = await court.track(accused)
    stream = await court.air.stream(owner=accused)
    unlisted = await court.air.stream(owner=accused, visibility="unlisted")
    targets: list[tuple[str, int | str, str]] = [
        ("message", await court.say(public.id, accused, "rubbish"), "rubbish"),
        ("user", accused.id, accused.name),
        ("room", public.id, public.name or ""),
        ("track", track, "piece"),
        ("comment", await court.comment(await court.track(friend), accused), "out of tune"),
        ("listing", await court.listing(accused), "A bass"),
        ("stream", stream.id, stream.slug),
        ("stream", unlisted.slug, unlisted.slug),
    ]
    for kind, target, says in targets:
        filed = await court.report(reporter, kind, target, category="spam", reason=f"  {kind}!  ")
        assert filed.status == 201, (kind, filed.raw)
        (report,) = [r for r in await queue(court, court.moderator) if r["id"] == filed.data["report_id"]]
        assert (report["accused_id"], report["accused"]) == (accused.id, accused.name), kind
        assert (report["reporter"], report["reason"], report["category"]) == (
            reporter.name,
            f"{kind}!",
            "spam",
        )
        assert says in str(report["snapshot"]), kind
        # Again, while it is open: another reason, no other report.
        again = await court.report(reporter, kind, target, reason="worse")
        assert again.data["report_id"] == filed.data["report_id"], kind
    reasons = {r["reason"] for r in await queue(court, court.moderator, f"&accused_id={accused.id}")}
    categories = {r["category"] for r in await queue(court, court.moderator, f"&accused_id={accused.id}")}
    assert (reasons, categories) == ({"worse"}, {"spam"})


async def test_what_one_does_not_see_does_not_exist(court: Court) -> None:
    reporter, accused = await court.people(2)
    hidden = await court.house.room(accused, kind="private")
    unlisted, private = [
        await court.air.stream(owner=accused, visibility=visibility) for visibility in ("unlisted", "private")
    ]
    message = await court.say(hidden.id, accused, "among us")
    gone = await court.say((await court.house.room(accused, reporter)).id, accused, "soon gone")
    assert (await court.delete(f"/chat/messages/{gone}", accused)).status == 200
    removed = await court.listing(accused)
    assert (await court.delete(f"/listings/{removed}", accused)).status == 200
    own_private = await court.track(accused, public=False)
    comment = await court.comment(own_private, accused)
    disabled = await court.person()
    await court.sql("UPDATE users SET is_active = false WHERE id = $1", disabled.id)
    letters = (await court.post(f"/chat/dm/{reporter.id}", {"content": "hi"}, accused)).data["room_id"]
    for kind, target in (
        ("message", message),
        ("message", gone),
        ("room", hidden.id),
        ("room", letters),
        ("track", own_private),
        ("comment", comment),
        ("listing", removed),
        ("stream", unlisted.id),
        ("stream", private.id),
        ("stream", private.slug),
        ("user", disabled.id),
        *((kind, 10**12) for kind in ("message", "user", "room", "track", "comment", "listing", "stream")),
    ):
        answer = await court.report(reporter, kind, target)
        assert answer.status == 404 and answer.code.endswith("_NOT_FOUND"), (kind, target, answer.raw)
    for kind, target in (("user", reporter.id), ("track", await court.track(reporter))):
        refused(await court.report(reporter, kind, target), 400, "VALIDATION_ERROR")
    for bad in (
        {},
        {"target_type": "planet", "target_id": 1, "reason": "x"},
        {"target_type": "user", "target_id": 0, "reason": "x"},
        {"target_type": "user", "target_id": "me", "reason": "x"},
        {"target_type": "user", "target_id": accused.id, "reason": " "},
        {"target_type": "user", "target_id": accused.id, "reason": "x" * 1001},
        {"target_type": "user", "target_id": accused.id, "reason": "x\x00"},
        {"target_type": "user", "target_id": accused.id, "reason": "x", "category": "boredom"},
    ):
        refused(await court.post("/reports", bad, reporter), 400, "VALIDATION_ERROR")
    assert await court.sql("SELECT count(*) FROM reports WHERE reporter_id = $1", reporter.id) == 0
    assert (await court.api.post("/reports", {})).status == 401


async def test_deleting_the_evidence_does_not_help(court: Court) -> None:
    reporter, accused, other = await court.people(3)
    room = await court.house.room(accused, reporter, other, kind="private")
    before = [await court.say(room.id, other, f"before {n}") for n in range(7)]
    rude = await court.say(room.id, accused, "very rude")
    after = [await court.say(room.id, other, f"after {n}") for n in range(7)]
    path = f"/chat/messages/{rude}/report"
    assert (await court.post(path, {"reason": "rude"}, reporter)).status == 201
    assert (await court.put(f"/chat/messages/{rude}", {"content": "very kind"}, accused)).status == 200
    assert (await court.report(reporter, "message", rude, reason="rude, and now he denies it")).status == 201
    assert (await court.delete(f"/chat/messages/{rude}", accused)).status == 200
    # Open still, it takes another reason, though there is nothing to be seen any more.
    assert (await court.report(reporter, "message", rude, reason="gone")).status == 201
    refused(await court.report(other, "message", rude), 404, "MESSAGE_NOT_FOUND")

    (report,) = await queue(court, court.moderator, f"&target_type=message&target_id={rude}")
    assert report["snapshot"]["content"] == "very rude"  # type: ignore[index]
    assert (report["content"], report["deleted"], report["reason"]) == (None, True, "gone")
    opened = (await court.get(f"/admin/reports/{report['id']}", court.moderator)).data
    assert [m["id"] for m in opened["context"]] == [*before[-5:], rude, *after[:5]]
    assert [m["id"] for m in opened["context"] if m["reported"]] == [rude]
    assert opened["report"]["snapshot"]["content"] == "very rude" and opened["others"] == []
    assert await court.acts("report.view", target=report["id"]) == [("report.view", court.moderator.id)]  # type: ignore[arg-type]
    # The room with all its messages is gone: what it said is not.
    assert (await court.delete(f"/chat/rooms/{room.id}", accused)).status == 200
    opened = (await court.get(f"/admin/reports/{report['id']}", court.moderator)).data
    assert opened["report"]["snapshot"]["content"] == "very rude"
    assert (opened["context"], opened["report"]["message_id"]) == ([], None)


async def test_the_queue_and_its_order(court: Court) -> None:
    reporters, accused = await court.people(3), await court.person()
    track = await court.track(accused)
    filed = [(await court.report(who, "track", track)).data["report_id"] for who in reporters]
    also = (await court.report(reporters[0], "user", accused.id, category="hate")).data["report_id"]
    mine = f"&accused_id={accused.id}"
    assert [r["id"] for r in await queue(court, court.moderator, mine)] == [also, *reversed(filed)]
    assert [r["id"] for r in await queue(court, court.moderator, mine + "&sort=oldest")] == [*filed, also]
    assert [r["id"] for r in await queue(court, court.moderator, mine + "&category=hate")] == [also]
    assert [r["id"] for r in await queue(court, court.moderator, mine + "&target_type=user")] == [also]
    first = await queue(court, court.moderator, mine)
    assert [(r["on_target"], r["open_on_target"]) for r in first] == [(1, 1), (3, 3), (3, 3), (3, 3)]
    for sort, order in (("oldest", [*filed, also]), ("newest", [also, *reversed(filed)])):
        seen, cursor = [], ""
        while True:
            page = await court.get(f"/admin/reports?limit=3&sort={sort}{mine}{cursor}", court.moderator)
            seen += [r["id"] for r in page.data["reports"]]
            if (following := page.json["meta"].get("next_cursor")) is None:
                break
            cursor = f"&cursor={following}"
        assert seen == order
    # One verdict for all of them: each who complained is told once.
    ears = [await court.house.connect(who) for who in reporters]
    body = {"status": "resolved", "outcome": "removed", "note": "a copy", "others": True}
    done = await court.put(f"/admin/reports/{filed[1]}", body, court.moderator)
    assert (done.data["status"], done.data["outcome"], done.data["handler"]) == (
        "resolved",
        "removed",
        court.moderator.name,
    )
    for ear, report_id in zip(ears, filed, strict=True):
        told = await court.notified(ear, "report_handled")
        assert (told["report_id"], told["target_type"], told["target_id"]) == (report_id, "track", track)
    assert [r["id"] for r in await queue(court, court.moderator, mine + "&status=open")] == [also]
    others = (await court.get(f"/admin/reports/{filed[0]}", court.moderator)).data["others"]
    assert {(one["id"], one["status"]) for one in others} == {(filed[1], "resolved"), (filed[2], "resolved")}
    refused(await court.report(reporters[0], "track", track), 409, "REPORT_HANDLED")
    assert len(await court.acts("report.handle", target=filed[0])) == 1


async def test_nobody_handles_reports_about_himself_or_about_who_is_not_below_him(court: Court) -> None:
    reporter = await court.person()
    peer, chief = await court.person(role="moderator"), await court.person(role="super_admin")
    about: dict[int, int] = {}
    for who in (court.moderator, peer, court.admin, chief):
        about[who.id] = (await court.report(reporter, "user", who.id)).data["report_id"]
    # What is said about himself he does not even see.
    assert about[court.moderator.id] not in [r["id"] for r in await queue(court, court.moderator)]
    refused(
        await court.get(f"/admin/reports/{about[court.moderator.id]}", court.moderator),
        404,
        "REPORT_NOT_FOUND",
    )
    close = {"status": "dismissed"}
    for who, ids in (
        (court.moderator, [about[who.id] for who in (peer, court.admin, chief)]),
        (court.admin, [about[chief.id]]),
        (reporter, about.values()),
    ):
        for report_id in ids:
            refused(await court.put(f"/admin/reports/{report_id}", close, who), 403, "FORBIDDEN")
    for himself in (court.moderator, court.admin):
        mine = await court.put(f"/admin/reports/{about[himself.id]}", close, himself)
        refused(mine, 404, "REPORT_NOT_FOUND")
    assert (await court.put(f"/admin/reports/{about[peer.id]}", close, court.admin)).status == 200
    # He becomes one who is not below while it is open: looked at in the transaction.
    accused = await court.person()
    report_id = (await court.report(reporter, "user", accused.id)).data["report_id"]
    await court.sql("UPDATE users SET role = 'moderator' WHERE id = $1", accused.id)
    refused(await court.put(f"/admin/reports/{report_id}", close, court.moderator), 403, "FORBIDDEN")
    assert (
        await court.sql(
            "SELECT count(*) FROM reports WHERE id = ANY ($1::bigint[]) AND status = 'open'",
            [*about.values(), report_id],
        )
        == 4
    )
    for who in (reporter, accused):
        refused(await court.get("/admin/reports", who), 403, "FORBIDDEN") if who is reporter else None


@pytest.mark.parametrize("verdicts", [("resolved", "dismissed"), ("resolved", "resolved")])
async def test_two_moderators_with_one_report(court: Court, verdicts: tuple[str, str]) -> None:
    """One decides, the other hears that it was decided; who complained is told once."""
    reporter, accused = await court.people(2)
    other = await court.person(role="moderator")
    report_id = (await court.report(reporter, "user", accused.id)).data["report_id"]
    ear = await court.house.connect(reporter)
    answers: list[Answer] = []

    async def decide(by: Person, verdict: str) -> None:
        answers.append(await court.put(f"/admin/reports/{report_id}", {"status": verdict}, by))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(decide, court.moderator, verdicts[0])
        nursery.start_soon(decide, other, verdicts[1])
    assert sorted(answer.status for answer in answers) == [200, 409]
    refused(next(answer for answer in answers if answer.status == 409), 409, "REPORT_HANDLED")
    won = next(answer for answer in answers if answer.status == 200).data
    await court.notified(ear, "report_handled")
    # Who decided may think again, the other one may open it again; neither tells anybody twice.
    winner, loser = (
        (court.moderator, other) if won["handled_by"] == court.moderator.id else (other, court.moderator)
    )
    path = f"/admin/reports/{report_id}"
    better = await court.put(path, {"status": won["status"], "outcome": "warned", "note": "talked"}, winner)
    assert (better.data["outcome"], better.data["note"]) == ("warned", "talked")
    opened = await court.put(path, {"status": "open"}, loser)
    assert (opened.data["status"], opened.data["handled_by"], opened.data["outcome"]) == ("open", None, None)
    assert (await court.put(path, {"status": "dismissed"}, loser)).status == 200
    await court.impose(court.moderator, reporter, "warning")  # told behind all that was told before
    await court.notified(ear, "warning")
    assert len(ear.seen("notification", action="report_handled")) == 1


async def test_there_is_an_end_to_complaining(court: Court) -> None:
    reporter, owner = await court.people(2)
    tracks = [await court.track(owner) for _ in range(4)]
    await court.sql(
        "INSERT INTO reports (reporter_id, target_type, target_id, reason) SELECT $1, 'track', -n, 'bad'"
        " FROM generate_series(1, 27) n",
        reporter.id,
    )
    statuses: list[int] = []

    async def complain(track: int) -> None:
        statuses.append((await court.report(reporter, "track", track)).status)

    async with trio.open_nursery() as nursery:
        for track in tracks:
            nursery.start_soon(complain, track)
    assert sorted(statuses) == [201] * 3 + [429]
    filed = await court.sql("SELECT max(target_id) FROM reports WHERE reporter_id = $1", reporter.id)
    assert (await court.report(reporter, "track", filed, reason="again")).status == 201
    await court.sql(
        "UPDATE reports SET created_at = created_at - interval '1 h' WHERE reporter_id = $1", reporter.id
    )
    left = await court.sql(
        "SELECT id FROM tracks WHERE owner_id = $1 AND id NOT IN"
        " (SELECT target_id FROM reports WHERE reporter_id = $2)",
        owner.id,
        reporter.id,
    )
    assert (await court.report(reporter, "track", left)).status == 201


async def test_a_report_outlives_the_people_it_is_about(court: Court) -> None:
    reporter, accused = await court.people(2)
    report_id = (await court.report(reporter, "user", accused.id)).data["report_id"]
    await court.sql("DELETE FROM users WHERE id = ANY ($1::bigint[])", [reporter.id, accused.id])
    (report,) = [r for r in await queue(court, court.moderator) if r["id"] == report_id]
    assert (report["reporter_id"], report["accused_id"]) == (None, None)
    assert accused.name in str(report["snapshot"])
    assert (
        await court.put(f"/admin/reports/{report_id}", {"status": "resolved"}, court.moderator)
    ).status == 200


async def test_what_is_said_about_himself_does_not_exist_for_a_moderator(court: Court) -> None:
    """Neither by its number, nor beside other reports about the same thing, nor in what is counted."""
    reporter, friend = await court.people(2)
    room = await court.house.room(court.moderator, friend, reporter)
    mine = (await court.report(reporter, "room", room.id, reason="he runs it badly")).data["report_id"]
    # It is somebody else's now, and what is reported next is about him.
    given = await court.put(f"/chat/rooms/{room.id}/members/{friend.id}", {"role": "owner"}, court.moderator)
    assert given.status == 200, given.raw
    other = await court.person()
    theirs = (await court.report(other, "room", room.id, reason="so does he")).data["report_id"]
    seen = (await court.get(f"/admin/reports/{theirs}", court.moderator)).data
    assert (seen["others"], seen["report"]["on_target"], seen["report"]["open_on_target"]) == ([], 1, 1)
    seen = (await court.get(f"/admin/reports/{theirs}", court.admin)).data
    assert [one["id"] for one in seen["others"]] == [mine] and seen["report"]["on_target"] == 2
    (listed,) = await queue(court, court.moderator, f"&target_type=room&target_id={room.id}")
    assert (listed["id"], listed["on_target"]) == (theirs, 1)
    close = {"status": "dismissed", "others": True}
    refused(await court.put(f"/admin/reports/{mine}", close, court.moderator), 404, "REPORT_NOT_FOUND")
    handled = await court.put(f"/admin/reports/{theirs}", close, court.moderator)
    assert (handled.status, handled.data["on_target"]) == (200, 1), handled.raw
    # All about the same thing: not those about somebody else, who may be above him.
    assert await court.sql("SELECT status FROM reports WHERE id = $1", mine) == "open"
