"""What somebody who is muted on the whole platform may still ask for: he reads, and takes back what he said.

The rule is the other way round from what one would write first: whatever changes something is refused, but for what is
named here. So a view that is added one day does not let the muted speak because nobody thought of them. Rooms know of
mutes themselves, as sockets do not come by here.
"""

from __future__ import annotations

from typing import Final

from veza.actors.registry import Identity
from veza.actors.rules import refuse_silenced

# Reading, and taking back.
_HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
# One's own account and peace; moderating, where the role decides.
_BLUEPRINTS: Final = frozenset(
    {
        "auth",
        "two_factor",
        "social",
        "notifications",
        "invites",
        "moderation",
        "reports",
        "sanctions",
        "removals",
        "room_words",
        "admin",
    }
)
_VIEWS: Final = frozenset(
    {
        "users.change_password",
        "rooms.join_room",
        "rooms.leave_room",
        "messages.report",
        "streams.enter_chat",
        "streams.end_stream",
        "streams.change_key",
        "tracks.play",
    }
)
# Answers to what others offered are no words of his own.
_ENDINGS: Final = ("/accept", "/reject", "/withdraw", "/favorite")


def refuse(identity: Identity, method: str, endpoint: str | None, rule: str) -> None:
    """Raise Refused (MUTED) where this person is muted and the request would be heard by others.

    Args:
        endpoint: the view's name with its blueprint's; None for handlers beside the application.
        rule: the path as it is registered.
    """
    if identity.muted_until is None or method in _HARMLESS:
        return
    if endpoint is not None and (endpoint in _VIEWS or endpoint.partition(".")[0] in _BLUEPRINTS):
        return
    if not rule.endswith(_ENDINGS):
        refuse_silenced(identity.muted_until)
