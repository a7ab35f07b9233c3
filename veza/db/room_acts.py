"""What is done to people in a room by its owner and moderators: stored, in the audit log, and told to whom it is done.

All in the transaction of the act. Who may do it was asked before; this is what it leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from veza.db import audit, messages, outbox, rooms
from veza.db.audit import Act
from veza.db.messages import Message
from veza.db.powers import moderation


async def sanction(
    conn: Any, room_id: int, user_id: int, kind: str, until: datetime | None, reason: str | None, by: int
) -> int | None:
    """Mute or ban; see `rooms.sanction`. Who does not belong to the room is not told: such a notice passes every block,
    and whoever has a room would have a way to write to anybody."""
    belongs = await rooms.belongs(conn, room_id, user_id)
    heir = await rooms.sanction(conn, room_id, user_id, kind, until, reason, by)
    entry = await _record(conn, room_id, user_id, kind, by, {"until": until, "reason": reason})
    if belongs:
        await _tell(conn, room_id, user_id, kind, str(entry), {"until": until, "reason": reason})
    return heir


async def lift(conn: Any, room_id: int, user_id: int, kind: str, by: int) -> bool:
    """Lift a mute or ban; False where there was none. Told once a day, however often it is imposed and lifted."""
    if not await rooms.lift(conn, room_id, user_id, kind):
        return False
    await _record(conn, room_id, user_id, f"un{kind}", by, {})
    await _tell(conn, room_id, user_id, f"un{kind}", f"{room_id}:{datetime.now(UTC):%Y-%m-%d}", {})
    return True


async def delete(
    conn: Any, room_id: int, message_id: int, by: int, check: Callable[[Message], None]
) -> Message | None:
    """Delete a message, see `messages.delete`; somebody else's is an act of moderation."""
    author = await author_of(conn, room_id, message_id)
    gone = await messages.delete(conn, room_id, message_id, by, check)
    if gone is not None and author not in (None, by):
        details = {"room_id": room_id, "owner_id": author}
        entry = await audit.record(conn, Act(by, None), "message.delete", "message", message_id, details)
        told = moderation(author, "removed", f"removed:{entry}", target_type="message", target_id=message_id)
        await outbox.put(conn, told)
    return gone


async def author_of(conn: Any, room_id: int, message_id: int) -> Any:
    """Whose message it is; None: nobody's any more, or there is none."""
    return await conn.fetchval(
        "SELECT user_id FROM messages WHERE room_id = $1 AND id = $2", room_id, message_id
    )


async def kick(conn: Any, room_id: int, user_id: int, by: int) -> int | None:
    """End a membership; see `rooms.remove_member`."""
    heir = await rooms.remove_member(conn, room_id, user_id)
    await _record(conn, room_id, user_id, "kick", by, {})
    return heir


async def set_role(conn: Any, room_id: int, user_id: int, role: str, by: int) -> None:
    await rooms.set_role(conn, room_id, user_id, role)
    await _record(conn, room_id, user_id, "role", by, {"role": role})


async def _record(conn: Any, room_id: int, user_id: int, what: str, by: int, details: dict[str, Any]) -> int:
    return await audit.record(
        conn, Act(by, None), f"room.{what}", "user", user_id, {"room_id": room_id, **details}
    )


async def _tell(
    conn: Any, room_id: int, user_id: int, action: str, key: str, details: dict[str, Any]
) -> None:
    told = moderation(
        user_id, action, f"room_{action}:{key}", target_type="room", target_id=room_id, **details
    )
    await outbox.put(conn, told)
