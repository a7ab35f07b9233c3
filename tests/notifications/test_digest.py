"""The mail a day: to whom, of what, never twice; and what is thrown away in the end."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Post, outbox
from tests.chat.conftest import Person
from tests.notifications.conftest import Hall, event
from veza.actors.notices import digest
from veza.actors.notices.digest import write_digests
from veza.db import notifications
from veza.db.digests import Digest
from veza.http.api import letters

__all__ = ["outbox"]
DAY = 86_400.0


async def written(hall: Hall, *people: Person) -> dict[int, Digest]:
    """A round, and what of it went to these."""
    found: dict[int, Digest] = {}

    def take(digest: Digest) -> None:
        assert digest.user_id not in found
        found[digest.user_id] = digest

    await write_digests(hall.house.db, take, DAY)
    return {person.id: found[person.id] for person in people if person.id in found}


async def age(hall: Hall, *people: Person, hours: int = 1) -> None:
    await hall.sql(
        "UPDATE notifications SET created_at = created_at - make_interval(hours => $2) WHERE user_id = ANY ($1)",
        [person.id for person in people],
        hours,
    )


async def test_who_gets_a_mail_of_what_and_when_again(hall: Hall, outbox: Post, monkeypatch: Any) -> None:
    monkeypatch.setattr(digest, "_PAUSE", 0.0)
    me, unconfirmed, gone, reader, you = people = await hall.people(5)
    await hall.sql(
        "UPDATE users SET is_verified = true WHERE id = ANY ($1)", [p.id for p in people if p != unconfirmed]
    )
    mine = [event(you, me, "offer", data={"title": f"Piano {n}", "step": "received"}) for n in range(22)]
    others = [event(you, who, "offer", data={"title": "x"}) for who in (unconfirmed, gone, reader)]
    await hall.cause(*mine, *others, event(you, me, "like", data={"title": "not by mail"}))
    ears = [await hall.connect(person) for person in (me, unconfirmed, gone, reader)]
    await hall.until_unread(ears[0], 23)
    for ear in ears[1:]:
        await hall.until_unread(ear, 1)
    await hall.sql("UPDATE users SET is_active = false WHERE id = $1", gone.id)
    assert (await hall.api.post("/notifications/read-all", token=reader.token)).status == 200
    assert await written(hall, *people) == {}, "not before some minutes are over"
    await age(hall, *people)
    found = await written(hall, *people)
    assert set(found) == {me.id} and found[me.id].count == 22 and len(found[me.id].notifications) == 20
    assert await written(hall, *people) == {}, "a day has to pass"
    await hall.sql("UPDATE digests SET sent_at = sent_at - interval '25 hours' WHERE user_id = $1", me.id)
    assert await written(hall, *people) == {}, "and something new to have come"
    wish = {"like": {"email": True}, "offer": {"email": False}}
    assert (await hall.api.put("/notifications/preferences", wish, token=me.token)).status == 200
    await hall.cause(event(you, me, "like", data={"title": "A song"}), event(you, me, "offer"))
    await hall.until_unread(ears[0], 25)
    await age(hall, me)
    again = (await written(hall, me))[me.id]
    assert [(n.kind, n.data) for n in again.notifications] == [("like", {"title": "A song"})]

    services = hall.house.app.services
    for each in (found[me.id], again):
        services.mailer.post(letters.digest(services.settings, each))
    letter = await outbox.wait("22 things you have not read")
    text = letter.get_content()
    assert letter["To"] == f"{me.name}@example.org"
    assert f"- {you.name} made you an offer for “Piano 21”" in text and text.count("\n- ") == 20
    assert "… and 2 more." in text and "https://veza.example/notifications" in text
    small = await outbox.wait("1 thing you have not read")
    assert f"- {you.name} likes “A song”" in small.get_content()


async def test_every_kind_has_a_line_that_quotes_nobody(hall: Hall) -> None:
    """What a mail says of each kind, whether or not its fields are there."""
    settings = hall.house.app.services.settings
    for kind in notifications.DEFAULTS:
        for who in ("ann", None):
            for data in ({}, {"title": "T", "step": "expired", "status": "ready"}):
                one = notifications.Notification(1, kind, None, None, None, who, None, "den", "secret", data)  # type: ignore[arg-type]
                text = letters.digest(settings, Digest(1, "bob", "bob@example.org", 1, [one])).text
                line = next(line for line in text.splitlines() if line.startswith("- "))
                assert len(line) > 10 and "secret" not in text and "{}" not in line, line


async def test_what_was_read_long_ago_goes_and_so_does_what_is_too_much(hall: Hall) -> None:
    me, you, other = await hall.people(3)
    await hall.sql(
        """INSERT INTO notifications (user_id, kind, key, actor_id, created_at, read_at)
           SELECT p, 'follow', n::text, $3::bigint, now() - interval '91 days', CASE WHEN n % 2 = 0 THEN now() END
           FROM generate_series(1, 10) AS n, unnest($1::bigint[]) AS p
           UNION ALL SELECT $2::bigint, 'follow', n::text, $3::bigint, now(), NULL
           FROM generate_series(11, 1030) AS n""",
        [me.id, other.id],
        me.id,
        you.id,
    )
    while await hall.house.db.write(notifications.purge):
        pass
    left = await hall.sql(
        "SELECT user_id, count(*), min(key::int), max(key::int) FROM notifications WHERE user_id = ANY ($1)"
        " GROUP BY user_id ORDER BY user_id",
        [me.id, other.id],
    )
    assert [tuple(row) for row in left] == [(me.id, 1000, 31, 1030), (other.id, 5, 1, 9)]
