"""Those who live in the demonstration talk on, whatever somebody tries out on them."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.client.conftest import settings_for
from veza.app import open_server
from veza.client import ChatSocket, RoomMessage
from veza.commands.demo.living import now_and_then
from veza.commands.demo.talk import NOW_AND_THEN
from veza.commands.demo.town import open_town
from veza.db.pool import Database

PASSWORD = "correct horse"


async def test_they_talk_on_though_some_are_banned(db: Database, tmp_path: Path) -> None:
    with trio.fail_after(300):
        async with open_server(settings_for(tmp_path), db) as server:
            url = f"http://127.0.0.1:{server.port}"
            async with open_town(url, PASSWORD, new=True) as town:
                for room in sorted({room for room, _, _ in NOW_AND_THEN} - {"general"}):
                    await town["radio_veza"].create_room(room)
                await town["radio_veza"].ban("gear", town.ids["old_joe"], reason="trying this out")

            async def disable(conn: object) -> None:
                await conn.execute("UPDATE users SET is_active = false WHERE username = 'yuki_s'")  # type: ignore[attr-defined]

            await db.write(disable)
            async with open_town(url, PASSWORD, new=False) as town, trio.open_nursery() as nursery:
                assert "yuki_s" not in town.clients
                heard = []
                async with ChatSocket(town["radio_veza"]) as socket:
                    for room in {room for room, _, _ in NOW_AND_THEN}:
                        await socket.join(room)
                    nursery.start_soon(now_and_then, town, (0.0, 0.001), 0.0)
                    async for event in socket:
                        if isinstance(event, RoomMessage):
                            heard.append((event.username, event.content))
                        if len(heard) == len(NOW_AND_THEN):
                            break
                nursery.cancel_scope.cancel()
    said = [(name, text) for _, name, text in NOW_AND_THEN if name not in ("yuki_s", "old_joe")]
    assert heard[: len(said)] == said, "each in his turn"
    assert heard[len(said) :] == said[: len(heard) - len(said)], "and then again"
