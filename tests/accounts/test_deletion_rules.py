"""Who may delete an account, and what stays afterwards: through REST, with nothing running."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.accounts.conftest import Wall, refused, secure
from tests.api.conftest import PASSWORD, Api, Person, Post, outbox
from veza.db import admins, deletion, export, offer_closing, tracks
from veza.db.errors import DataRefused
from veza.db.pool import Database
from veza.http.api.two_factor import factors

__all__ = ["outbox"]


async def sql(db: Database, statement: str, *args: Any) -> Any:
    async def run(conn: Any) -> Any:
        return await conn.fetchval(statement, *args)

    return await db.write(run)


async def leave(api: Api, person: Person, **more: str) -> Any:
    return await api.delete("/users/me", {"password": PASSWORD, **more}, token=person.token)


async def test_only_with_the_password_and_then_for_good(api: Api, outbox: Post) -> None:
    person = await api.person(first_name="Nora", last_name="Lund")
    db = api.services.db
    token = await outbox.token("Confirm your e-mail address")
    await api.post("/auth/verify-email", {"token": token})
    refused(await api.delete("/users/me", {}, token=person.token), 400, "VALIDATION_ERROR")
    refused(
        await api.delete("/users/me", {"password": "wrong"}, token=person.token), 403, "INVALID_CREDENTIALS"
    )
    refused(await api.delete("/users/me", {"password": PASSWORD}), 401, "AUTH_REQUIRED")
    assert (await api.get("/users/me", token=person.token)).status == 200

    assert (await leave(api, person)).status == 200
    letter = await outbox.wait("Your account was deleted")
    assert letter["To"] == person.email and f"Hello {person.username}" in letter.get_content()
    refused(await api.get("/users/me", token=person.token), 401, "SESSION_ENDED")
    refused(await leave(api, person), 401, "SESSION_ENDED")
    refused(await api.login(person), 401, "INVALID_CREDENTIALS")
    refused(
        await api.post("/auth/refresh", {"refresh_token": person.refresh_token}), 401, "INVALID_REFRESH_TOKEN"
    )
    for typed in (f"deleted_{person.id}", person.username):
        body = {"username": typed, "password": PASSWORD}
        refused(await api.post("/auth/login", body), 401, "INVALID_CREDENTIALS")
    row = await sql(db, "SELECT u::text FROM users u WHERE id = $1", person.id)
    assert f"deleted_{person.id}" in row
    assert not any(word in row for word in (person.username, "Nora", "Lund", "example.org", "argon2"))
    assert (
        await sql(
            db, "SELECT count(*) FROM audit_log WHERE action = 'user.delete' AND target_id = $1", person.id
        )
        == 1
    )
    # The name and the address are free again, for somebody else.
    again = await api.person(person.username, email=person.email)
    assert again.id != person.id
    # Nothing that was left is left: the note goes once nothing can come any more.
    await sql(db, "UPDATE deletions SET began_at = now() - interval '1 hour' WHERE user_id = $1", person.id)
    await api.services.departures.finish_all()
    assert await sql(db, "SELECT count(*) FROM deletions WHERE user_id = $1", person.id) == 0
    # An upload that took longer than that becomes nobody's track.
    late = tracks.NewTrack(
        owner_id=person.id,
        name="late",
        title="late",
        kind="audio",
        extension="mp3",
        content_type="audio/mpeg",
        size=1,
    )
    assert await db.write(tracks.create, late, 10) is None
    # Nobody brings it back.
    assert await db.write(admins.promote, f"deleted_{person.id}", "admin") is None
    with pytest.raises(DataRefused):
        await sql(db, "UPDATE users SET is_active = true WHERE id = $1", person.id)


async def test_of_two_at_once_one_does_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await api.person()
    answers: list[Any] = []
    verify, verified, all_here = api.services.passwords.verify, 0, trio.Event()

    async def together(*args: Any) -> Any:
        """Whoever is much slower than another would find no password of his any more."""
        nonlocal verified
        verdict = await verify(*args)
        verified += 1
        if verified == 3:
            all_here.set()
        with trio.fail_after(60):
            await all_here.wait()
        return verdict

    monkeypatch.setattr(api.services.passwords, "verify", together)

    async def go(number: int) -> None:
        answers.append(await leave(api.at(f"198.51.100.{number}"), person))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(go, number)
    assert sorted(answer.status for answer in answers) == [200, 401, 401]
    count = "SELECT count(*) FROM audit_log WHERE action = 'user.delete' AND target_id = $1"
    assert await sql(api.services.db, count, person.id) == 1


async def test_the_second_factor_is_asked_for_too(api: Api, wall: Wall) -> None:
    person = await api.person()
    phone, codes = await secure(api, person, wall)
    refused(await leave(api, person), 403, "TWO_FACTOR_REQUIRED")
    refused(await leave(api, person, totp_code="000000"), 403, "INVALID_CODE")
    used = phone.code()
    assert (
        await api.post("/auth/login", {"email": person.email, "password": PASSWORD, "totp_code": used})
    ).status == 200
    refused(await leave(api, person, totp_code=used), 403, "INVALID_CODE")
    assert (await leave(api, person, recovery_code=codes[2])).status == 200
    assert await api.services.db.read(factors.of, person.id) is None


async def test_the_last_super_admin_stays_and_admins_delete_those_below(api: Api) -> None:
    db = api.services.db
    chief, second, admin, user = [await api.person() for _ in range(4)]
    await sql(db, "UPDATE users SET role = 'user' WHERE role = 'super_admin'")
    await sql(db, "UPDATE users SET role = 'super_admin' WHERE id = ANY ($1)", [chief.id, second.id])
    await sql(db, "UPDATE users SET role = 'admin' WHERE id = $1", admin.id)
    for person in (chief, second, admin):
        api.services.registry.changed_user(person.id)
    # Two of two at the same moment: one of them stays.
    answers: list[Any] = []

    async def go(person: Person) -> None:
        answers.append(await leave(api, person))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go, chief)
        nursery.start_soon(go, second)
    assert sorted(answer.status for answer in answers) == [200, 409]
    left = chief if (await api.get("/users/me", token=chief.token)).status == 200 else second
    refused(await leave(api, left), 409, "LAST_SUPER_ADMIN")

    path = f"/admin/users/{user.id}"
    refused(await api.delete(path, token=user.token), 403, "FORBIDDEN")
    refused(await api.delete(f"/admin/users/{left.id}", token=admin.token), 403, "FORBIDDEN")
    refused(await api.delete(f"/admin/users/{admin.id}", token=admin.token), 403, "FORBIDDEN")
    refused(await api.delete("/admin/users/999999999", token=admin.token), 404, "USER_NOT_FOUND")
    assert (await api.delete(path, {"reason": "spam"}, token=admin.token)).status == 200
    refused(await api.get("/users/me", token=user.token), 401, "SESSION_ENDED")
    refused(await api.delete(path, token=admin.token), 404, "USER_NOT_FOUND")
    entry = await sql(
        db,
        "SELECT actor_id || details::text FROM audit_log WHERE action = 'user.delete' AND target_id = $1",
        user.id,
    )
    assert entry.startswith(str(admin.id)) and "spam" in entry


async def test_nobody_acts_on_who_is_gone(api: Api) -> None:
    """Least of all brings him back, or gives him a role."""
    db = api.services.db
    admin, gone = await api.person(), await api.person()
    await sql(db, "UPDATE users SET role = 'super_admin' WHERE id = $1", admin.id)
    api.services.registry.changed_user(admin.id)
    assert (await leave(api, gone)).status == 200
    before = await sql(db, "SELECT u::text FROM users u WHERE id = $1", gone.id)
    acts = "SELECT count(*) FROM audit_log"
    noted = await sql(db, acts)
    sanctions = f"/moderation/users/{gone.id}/sanctions"
    for answer in (
        await api.put(f"/admin/users/{gone.id}", {"is_active": True}, token=admin.token),
        await api.put(f"/admin/users/{gone.id}", {"role": "admin"}, token=admin.token),
        await api.post(sanctions, {"kind": "mute", "duration": 60}, token=admin.token),
        await api.post(sanctions, {"kind": "warning", "reason": "hello?"}, token=admin.token),
        await api.delete(f"{sanctions}/mute", token=admin.token),
    ):
        refused(answer, 404, "USER_NOT_FOUND")
    assert await sql(db, "SELECT u::text FROM users u WHERE id = $1", gone.id) == before
    assert await sql(db, acts) == noted
    assert await sql(db, "SELECT count(*) FROM sanctions WHERE user_id = $1", gone.id) == 0


async def test_a_transaction_that_fails_leaves_everything(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    person = await api.person()

    async def broken(conn: Any, user_id: int) -> int:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(offer_closing, "leave", broken)
        assert (await leave(api, person)).status == 500
    assert (await api.get("/users/me", token=person.token)).data["username"] == person.username
    assert (await api.login(person)).status == 200
    assert await sql(api.services.db, "SELECT count(*) FROM deletions WHERE user_id = $1", person.id) == 0


async def test_somebody_may_have_the_name_already(api: Api) -> None:
    person = await api.person()
    await api.person(f"Deleted_{person.id}")
    assert (await leave(api, person)).status == 200
    name = await api.services.db.read(deletion.tombstone, person.id)
    assert name.startswith(f"deleted_{person.id}_")


async def test_however_much_there_is_it_goes_in_small_pieces(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    star, *fans = [await api.person() for _ in range(8)]
    db = api.services.db
    for fan in fans:
        await sql(db, "INSERT INTO follows (follower_id, followed_id) VALUES ($1, $2)", fan.id, star.id)
        await sql(db, "INSERT INTO playlists (owner_id, title) VALUES ($1, 'x')", star.id)
    monkeypatch.setattr(deletion, "BATCH", 3)
    real, pieces = deletion.sweep, 0

    async def counted(conn: Any, user_id: int, step: int) -> bool:
        nonlocal pieces
        pieces += 1
        return await real(conn, user_id, step)

    monkeypatch.setattr(deletion, "sweep", counted)
    assert (await leave(api, star)).status == 200
    assert pieces == deletion.SWEEPS + 2 * 2  # seven of each, three at a time
    left = "SELECT count(*) FROM follows WHERE followed_id = $1"
    assert await sql(db, left, star.id) == 0
    assert await sql(db, "SELECT count(*) FROM playlists WHERE owner_id = $1", star.id) == 0


async def test_what_is_left_is_found_by_indexes(api: Api) -> None:
    """Also in tables of millions: with scans of whole tables off, only what has no index at all still scans one."""
    person = await api.person()

    class Explained:
        """A connection that tells how it would do it."""

        def __init__(self, conn: Any) -> None:
            self.conn = conn
            self.plans: list[str] = []

        async def fetch(self, statement: str, *args: Any) -> list[Any]:
            rows = await self.conn.fetch(f"EXPLAIN {statement}", *args)
            self.plans.append("\n".join(row[0] for row in rows))
            return []

        async def execute(self, statement: str, *args: Any) -> str:
            await self.fetch(statement, *args)
            return "DELETE 0"

    async def look(conn: Any) -> list[str]:
        await conn.execute("SET LOCAL enable_seqscan = off")
        seen = Explained(conn)
        for step in range(deletion.SWEEPS):
            await deletion.sweep(seen, person.id, step)
        for unit in (
            deletion.streams,
            deletion.spoke_in,
            deletion.uploads,
            deletion.listings,
            deletion.take_tracks,
        ):
            await unit(seen, person.id)
        await deletion.rooms(seen, person.id, 0)
        for section in export.SECTIONS:
            for after in (None, tuple(None for _ in section.key)):
                await seen.fetch(section.query(after is None), person.id, 10, *(after or ()))
        return seen.plans

    plans = await api.services.db.write(look)
    assert len(plans) > 70
    for plan in plans:
        assert "Seq Scan" not in plan, plan
