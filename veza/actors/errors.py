"""What an actor answers when it will not do what it was asked: one error type, one table of codes.

The socket protocol sends `code` as it is; the REST layer maps it to a status in its own single table.
"""

from __future__ import annotations

from typing import Any

from veza.actors.kernel import Refusal

AUTH_FAILED = "AUTH_FAILED"
ROOM_NOT_FOUND = "ROOM_NOT_FOUND"
USER_NOT_FOUND = "USER_NOT_FOUND"
MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
TRACK_NOT_FOUND = "TRACK_NOT_FOUND"
NO_PARTY = "NO_PARTY"
PERMISSION_DENIED = "PERMISSION_DENIED"
RATE_LIMITED = "RATE_LIMITED"
MESSAGE_TOO_LONG = "MESSAGE_TOO_LONG"
INVALID_FORMAT = "INVALID_FORMAT"
NOT_JOINED = "NOT_JOINED"
MUTED = "MUTED"
BANNED = "BANNED"
BLOCKED = "BLOCKED"
ROOM_FULL = "ROOM_FULL"
SLOW_MODE = "SLOW_MODE"
WORD_FILTERED = "WORD_FILTERED"
UNAVAILABLE = "UNAVAILABLE"
INTERNAL = "INTERNAL"
CONFLICT = "CONFLICT"  # REST only: a name that is taken


class Refused(Refusal):
    """A request was understood and is not granted. `message` is a sentence for people and holds no private data."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def room_not_found() -> Refused:
    return Refused(ROOM_NOT_FOUND, "This room does not exist.")


def user_not_found() -> Refused:
    return Refused(USER_NOT_FOUND, "This person does not exist.")


def message_not_found() -> Refused:
    return Refused(MESSAGE_NOT_FOUND, "This message does not exist.")


def not_joined() -> Refused:
    return Refused(NOT_JOINED, "Join the room first.")


def denied(why: str) -> Refused:
    return Refused(PERMISSION_DENIED, why)


def internal() -> Refused:
    return Refused(INTERNAL, "Something went wrong on our side.")


def unavailable(retry_after: float = 2.0) -> Refused:
    return Refused(UNAVAILABLE, "The database does not answer just now; try again.", retry_after=retry_after)
