"""The living tree over REST, the dashboard's counts, and reports."""

from __future__ import annotations

import json

import pytest
import trio

from tests.api.conftest import Api
from tests.api.live.conftest import Listener
from tests.api.live.people import staff
from veza.app import Core


async def test_the_tree_shows_what_runs(api: Api, core: Core) -> None:
    admin, alice = await staff(api, "admin"), await api.person("alice")
    ear = Listener(core, alice)
    await ear.connect()
    await ear.join(1)
    await api.post("/chat/rooms/general/messages", {"content": "a secret tune"}, token=alice.token)
    answer = await api.get("/admin/actors", token=admin.token)
    supervisors = {child["path"]: child for child in answer.data["children"]}
    assert set(supervisors) >= {"platform", "rooms"}
    assert {child["path"] for child in supervisors["platform"]["children"]} == {
        "platform/presence",
        "platform/ledger",
        "platform/people",
    }
    room = supervisors["rooms"]["children"][0]
    assert room["path"] == "rooms/1" and room["kind"] == "RoomActor" and room["state"] == "running"
    assert room["summary"]["online"] == 1 and room["summary"]["last_seq"] == 1
    assert room["mailbox"]["capacity"] > 0 and room["handled"] > 0 and room["handler_ms"]["mean"] > 0
    for secret in ("secret tune", alice.token, alice.email, alice.refresh_token):
        assert secret not in answer.raw.decode()


async def test_the_tree_is_cut_as_asked(api: Api, core: Core) -> None:
    admin = await staff(api, "admin")
    for n in range(5):
        made = await api.post("/chat/rooms", {"name": f"room {n}"}, token=admin.token)
        await api.post(f"/chat/rooms/{made.data['id']}/messages", {"content": "x"}, token=admin.token)
    shallow = await api.get("/admin/actors?depth=0", token=admin.token)
    assert shallow.data["children"] == [] and shallow.data["child_count"] >= 2
    part = await api.get("/admin/actors?path=rooms&limit=3", token=admin.token)
    assert part.data["path"] == "rooms" and part.data["child_count"] == 5 and len(part.data["children"]) == 3
    for bad in ("depth=-1", "depth=21", "limit=0", "limit=1001", "limit=x", "path=a%00"):
        assert (await api.get(f"/admin/actors?{bad}", token=admin.token)).status == 400, bad
    assert (await api.get("/admin/actors?path=no/such", token=admin.token)).code == "NO_SUCH_ACTOR"


@pytest.mark.parametrize("path", ["platform%2Fledger", "platform/ledger"])
async def test_one_actor_by_its_path_in_one_segment_or_several(api: Api, path: str) -> None:
    admin = await staff(api, "admin")
    one = await api.get(f"/admin/actors/{path}", token=admin.token)
    assert one.status == 200 and one.data["kind"] == "LedgerActor"
    done = await api.post(f"/admin/actors/{path}/restart", token=admin.token)
    assert done.status == 200
    with trio.fail_after(60):
        while (await api.get(f"/admin/actors/{path}", token=admin.token)).data["restarts"] == 0:
            await trio.lowlevel.checkpoint()
    log = (await api.get("/admin/audit?action=actor.restart", token=admin.token)).data["entries"]
    assert [entry["details"] for entry in log] == [{"path": "platform/ledger"}]


async def test_what_cannot_be_restarted(api: Api) -> None:
    admin = await staff(api, "admin")
    assert (await api.post("/admin/actors/rooms/restart", token=admin.token)).status == 409
    assert (await api.post("/admin/actors/rooms%2F999/restart", token=admin.token)).status == 404
    assert (await api.post("/admin/actors/%2E%2E%2Fetc/restart", token=admin.token)).status == 404
    assert (await api.get("/admin/audit", token=admin.token)).data["entries"][0]["action"] != "actor.restart"


async def test_a_restarted_room_goes_on(api: Api, core: Core) -> None:
    admin, alice = await staff(api, "admin"), await api.person("alice")
    ear = Listener(core, alice)
    await ear.connect()
    await ear.join(1)
    assert (await api.post("/admin/actors/rooms%2F1/restart", token=admin.token)).status == 200
    said = await api.post("/chat/rooms/1/messages", {"content": "still here"}, token=alice.token)
    assert said.status == 201
    assert (await ear.ear.heard("room_message"))["content"] == "still here"
    assert (await api.get("/chat/rooms/1", token=alice.token)).data["online"] == 1


async def test_the_dashboard_counts_what_there_is(api: Api, core: Core) -> None:
    admin, alice, bob = await staff(api, "admin"), await api.person("alice"), await api.person("bob")
    ear = Listener(core, alice)
    await ear.connect()
    await api.post("/chat/rooms/general/join", token=alice.token)
    for _ in range(3):
        await api.post("/chat/rooms/general/messages", {"content": "x"}, token=alice.token)
    await api.post(f"/chat/dm/{bob.id}", {"content": "x"}, token=alice.token)
    await api.post("/chat/rooms", {"name": "p", "is_private": True}, token=alice.token)
    seen = (await api.get("/admin/dashboard", token=admin.token)).data
    assert seen["users"] == {"total": 3, "active": 3, "banned": 0, "online": 1}
    assert seen["sessions"] == 3 and seen["connections"] == 1
    assert seen["rooms"] == {"public": 1, "private": 1, "direct": 1, "running": 2}
    assert seen["messages"] == 4 and seen["posts_committed"] == 4 and seen["reports"] == 0
    assert seen["pool"]["open"] > 0 and seen["storage"]["database"] > 0 and seen["uptime_s"] > 0
    assert json.dumps(seen)


async def test_reports_reach_moderators(api: Api) -> None:
    moderator, alice, bob = await staff(api, "moderator"), await api.person("alice"), await api.person("bob")
    letter = (await api.post(f"/chat/dm/{bob.id}", {"content": "rude"}, token=alice.token)).data["id"]
    path = f"/chat/messages/{letter}/report"
    assert (await api.post(path, {"reason": "rude"}, token=moderator.token)).status == 404, "not his letter"
    for bad in (
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": "x" * 1001},
        {"reason": 5},
        {"reason": "\x00"},
    ):
        assert (await api.post(path, bad, token=bob.token)).status == 400, bad
    assert (await api.post(path, {"reason": "rude"}, token=bob.token)).status == 201
    assert (await api.post(path, {"reason": "very rude"}, token=bob.token)).status == 201
    found = (await api.get("/admin/reports?status=open", token=moderator.token)).data["reports"]
    assert len(found) == 1
    report = found[0]
    assert (report["reporter"], report["author"], report["content"]) == ("bob", "alice", "rude")
    assert report["reason"] == "very rude"
    for bad in ({}, {"status": "gone"}, {"status": 1}):
        assert (await api.put(f"/admin/reports/{report['id']}", bad, token=moderator.token)).status == 400
    closed = await api.put(
        f"/admin/reports/{report['id']}", {"status": "resolved", "note": "talked"}, token=moderator.token
    )
    assert closed.data["status"] == "resolved" and closed.data["handled_by"] == moderator.id
    assert (await api.get("/admin/reports?status=open", token=moderator.token)).data["reports"] == []
    reopened = await api.put("/admin/reports", {"id": report["id"], "status": "open"}, token=moderator.token)
    assert reopened.data["handled_by"] is None
    assert (await api.put("/admin/reports/999", {"status": "open"}, token=moderator.token)).status == 404
    assert (await api.get("/admin/reports?status=x", token=moderator.token)).status == 400
