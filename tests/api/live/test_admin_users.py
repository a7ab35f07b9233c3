"""What administrators do to accounts: downwards only, at once, and written down."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.conftest import Api, Person
from tests.api.live.conftest import Listener
from tests.api.live.people import staff
from veza.app import Core


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/users"),
        ("GET", "/admin/users/1"),
        ("PUT", "/admin/users/1"),
        ("POST", "/admin/users/1/ban"),
        ("DELETE", "/admin/users/1/ban"),
        ("GET", "/admin/reports"),
        ("PUT", "/admin/reports"),
        ("PUT", "/admin/reports/1"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/dashboard"),
        ("GET", "/admin/actors"),
        ("GET", "/admin/actors/platform%2Fledger"),
        ("POST", "/admin/actors/platform%2Fledger/restart"),
    ],
)
async def test_nobody_without_the_role_gets_in(api: Api, method: str, path: str) -> None:
    assert (await api.request(method, path)).status == 401
    user = await api.person("user")
    assert (await api.request(method, path, token=user.token)).status == 403
    if "reports" not in path:
        moderator = await staff(api, "moderator")
        assert (await api.request(method, path, token=moderator.token)).status == 403


async def test_accounts_are_listed_searched_and_paged(api: Api) -> None:
    admin = await staff(api, "admin", "zadmin")
    people = [await api.person(f"player{n}") for n in range(5)]
    all_ = await api.get("/admin/users?limit=4", token=admin.token)
    assert len(all_.data["users"]) == 4 and all_.json["meta"]["total"] == 6
    assert all_.data["users"][0]["email"] == "zadmin@example.org"
    cursor = all_.json["meta"]["next_cursor"]
    rest = await api.get(f"/admin/users?limit=4&cursor={cursor}", token=admin.token)
    assert [u["username"] for u in rest.data["users"]] == ["player3", "player4"]
    assert "next_cursor" not in rest.json["meta"]
    second = await api.get("/admin/users?limit=4&page=2", token=admin.token)
    assert second.data == rest.data
    found = await api.get("/admin/users?search=layer3", token=admin.token)
    assert [u["id"] for u in found.data["users"]] == [people[3].id]
    by_mail = await api.get("/admin/users?search=Player2@example.org", token=admin.token)
    assert [u["id"] for u in by_mail.data["users"]] == [people[2].id]
    admins_only = await api.get("/admin/users?role=admin", token=admin.token)
    assert [u["id"] for u in admins_only.data["users"]] == [admin.id]
    for bad in (
        "limit=0",
        "limit=101",
        "limit=-1",
        "page=0",
        "page=99999999999999999999",
        "role=god",
        "cursor=-1",
    ):
        assert (await api.get(f"/admin/users?{bad}", token=admin.token)).status == 400, bad


async def test_roles_go_downwards_only(api: Api) -> None:
    super_, admin = await staff(api, "super_admin"), await staff(api, "admin")
    other, moderator = await staff(api, "admin", "admin2"), await staff(api, "moderator")
    user = await api.person("user")

    async def give(by: Person, to: Person, role: str) -> int:
        return (await api.put(f"/admin/users/{to.id}", {"role": role}, token=by.token)).status

    assert await give(admin, user, "super_admin") == 403
    assert await give(admin, admin, "super_admin") == 403
    assert await give(admin, admin, "user") == 403
    assert await give(admin, other, "user") == 403
    assert await give(admin, super_, "user") == 403
    assert await give(admin, user, "moderator") == 200
    assert await give(admin, moderator, "user") == 200
    assert await give(super_, other, "user") == 200
    assert (await api.get("/admin/users", token=other.token)).status == 403, "demoted a moment ago"
    assert await give(super_, user, "super_admin") == 200
    assert await give(super_, user, "user") == 403, "on one's own level"
    assert await give(admin, Person(10**9, "", "", "", ""), "user") == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"role": "god"},
        {"role": 1},
        {"role": None},
        {"is_active": "no"},
        {"role": "user\x00"},
        [],
        "x",
        None,
    ],
)
async def test_malformed_changes(api: Api, body: Any) -> None:
    admin, user = await staff(api, "admin"), await api.person("user")
    answer = await api.put(f"/admin/users/{user.id}", body, token=admin.token)
    assert answer.status == 400 and answer.code


async def test_switching_an_account_off_acts_at_once(api: Api, core: Core) -> None:
    admin, user = await staff(api, "admin"), await api.person("user")
    closed: list[int] = []
    api.services.registry.on_revoked(lambda user_id, sids: closed.append(user_id))
    off = await api.put(f"/admin/users/{user.id}", {"is_active": False}, token=admin.token)
    assert off.data["is_active"] is False
    assert closed == [user.id]
    assert (await api.get("/auth/me", token=user.token)).status == 401
    assert (await api.login(user)).status == 423
    refreshed = await api.post("/auth/refresh", {"refresh_token": user.refresh_token})
    assert refreshed.status == 401
    on = await api.put(f"/admin/users/{user.id}", {"is_active": True}, token=admin.token)
    assert on.data["is_active"] is True
    assert (await api.login(user)).status == 200


async def test_a_ban_closes_sockets_and_says_why(api: Api, core: Core) -> None:
    admin, user = await staff(api, "admin"), await api.person("user")
    ear = Listener(core, user)
    await ear.connect()
    answer = await api.post(
        f"/admin/users/{user.id}/ban", {"duration": 3600, "reason": "noise"}, token=admin.token
    )
    assert answer.status == 200 and answer.data["is_banned"] and answer.data["banned_until"]
    assert await ear.ear.ended() == 4003
    assert ear.ear.of("error")[0]["details"]["reason"] == "noise"
    assert (await api.get("/auth/me", token=user.token)).status == 401
    assert (await api.login(user)).status == 423
    lifted = await api.delete(f"/admin/users/{user.id}/ban", token=admin.token)
    assert lifted.data["is_banned"] is False
    assert (await api.login(user)).status == 200


async def test_a_ban_for_good_and_its_bad_forms(api: Api) -> None:
    admin, user = await staff(api, "admin"), await api.person("user")
    path = f"/admin/users/{user.id}/ban"
    for bad in (
        {"until": "yesterday"},
        {"until": "2001-01-01T00:00:00Z"},
        {"until": 5},
        {"duration": -1},
        {"duration": 10**30},
        {"duration": 5, "until": "2100-01-01T00:00:00Z"},
        {"reason": "x" * 501},
        {"reason": "two\nlines"},
        {"reason": "nul\x00"},
        {"until": "9999-12-31T23:59:59-12:00"},
    ):
        assert (await api.post(path, bad, token=admin.token)).status == 400, bad
    good = await api.post(path, token=admin.token)
    assert good.data["is_banned"] and good.data["banned_until"] is None
    assert (await api.post(f"/admin/users/{admin.id}/ban", token=admin.token)).status == 403
    assert (await api.post("/admin/users/999999/ban", token=admin.token)).status == 404


async def test_every_act_is_in_the_audit_log_and_nothing_else(api: Api) -> None:
    admin, user = await staff(api, "admin"), await api.person("user")
    other = await staff(api, "admin", "admin2")
    assert (await api.put(f"/admin/users/{user.id}", {"role": "moderator"}, token=admin.token)).status == 200
    assert (await api.put(f"/admin/users/{user.id}", {"role": "moderator"}, token=admin.token)).status == 200
    assert (await api.put(f"/admin/users/{other.id}", {"role": "user"}, token=admin.token)).status == 403
    assert (await api.post(f"/admin/users/{user.id}/ban", {"reason": "x"}, token=admin.token)).status == 200
    log = await api.get(f"/admin/audit?actor_id={admin.id}", token=admin.token)
    assert [entry["action"] for entry in log.data["entries"]] == ["user.ban", "user.change"]
    change = log.data["entries"][1]
    assert change["details"] == {"role": {"before": "user", "after": "moderator"}}
    assert (change["actor"], change["target"], change["ip"]) == ("admin", "user", "192.0.2.1")
    first = await api.get("/admin/audit?limit=1", token=admin.token)
    assert len(first.data["entries"]) == 1
    cursor = first.json["meta"]["next_cursor"]
    second = await api.get(f"/admin/audit?limit=1&cursor={cursor}", token=admin.token)
    assert second.data["entries"][0]["id"] < first.data["entries"][0]["id"]
    on_user = await api.get(f"/admin/audit?target_type=user&target_id={user.id}", token=admin.token)
    assert len(on_user.data["entries"]) == 2
    assert "example.org" not in log.raw.decode()


async def test_two_admins_who_demote_each_other(api: Api) -> None:
    """By a super_admin's leave both may; the one who comes second has no powers any more."""
    one, two = await staff(api, "super_admin", "one"), await staff(api, "admin", "two")
    user = await api.person("user")
    answers: list[int] = []

    async def put(by: Person, to: Person, role: str) -> None:
        answers.append((await api.put(f"/admin/users/{to.id}", {"role": role}, token=by.token)).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, one, two, "user")
        nursery.start_soon(put, two, user, "admin")
    assert answers.count(200) >= 1
    accounts = {
        u["username"]: u["role"] for u in (await api.get("/admin/users", token=one.token)).data["users"]
    }
    assert accounts["two"] == "user"
