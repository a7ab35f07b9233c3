"""Who may act on whom, looked at in the transaction of the act; and how to whom it is done is told.

The accounts an act is about are locked first, the actor's too, in id order: who is promoted, demoted or banned at the
same moment comes before the act or after it, never in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from veza.db.outbox import Event
from veza.db.users import BANNED

# (the actor's role, the target's role as they are now); raises what forbids the act. '' are no powers: the actor is
# gone, disabled or banned.
Check = Callable[[str, str], None]


async def hold(conn: Any, actor_id: int, target_id: int | None, check: Check) -> bool:
    """Lock both, and have `check` look at their roles. False: there is no such target, or its account was deleted.

    `target_id` None: it is about nobody any more, who is below everybody.
    """
    rows = await conn.fetch(
        f"""SELECT u.id, CASE WHEN u.is_active AND NOT {BANNED} THEN u.role ELSE '' END AS powers, u.role,
                   u.deleted_at IS NULL AS lives
            FROM users u WHERE u.id = ANY ($1::bigint[]) ORDER BY u.id FOR NO KEY UPDATE""",
        [actor_id, target_id],
    )
    found = {row["id"]: row for row in rows}
    powers = found[actor_id]["powers"] if actor_id in found else ""
    if target_id is None:
        check(powers, "")
        return True
    if target_id not in found:
        return False
    check(powers, found[target_id]["role"])
    return bool(found[target_id]["lives"])


def moderation(user_id: int, action: str, key: str, **details: Any) -> Event:
    """What somebody is told of an act: never by whom.

    Args:
        key: names the act among all acts of moderation.
        details: what is None is left out.
    """
    told = {"action": action, **{name: value for name, value in details.items() if value is not None}}
    return Event("moderation", user_id, None, f"moderation:{key}", told)
