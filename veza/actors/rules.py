"""What a message may be and who may do what to whom: pure functions, no state, no I/O."""

from __future__ import annotations

import itertools
import math
import secrets
import unicodedata
from datetime import UTC, datetime
from typing import Any

import regex

from veza.actors.errors import INVALID_FORMAT, MESSAGE_TOO_LONG, MUTED, Refused

CONTENT_MAX = 4000
NONCE_MAX = 64
OWN = "\x01"  # begins the nonces we make
HOUSE_TYPES = frozenset({"offer"})  # of messages only the program itself says

# Everything of category Cc but newline and tab. Marks that steer right-to-left text are not in it, and are welcome.
_CONTROL = regex.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BLANK = regex.compile(r"[\p{Cc}\p{Z}]")
_MENTION = regex.compile(r"(?<![\w@])@(\w{1,50})")
# Invisible, and good for passing one name off as another. Joiners are not in it: scripts and emoji need them.
_UNSEEN = regex.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# U+2800 is Braille without a dot. Control characters are refused elsewhere, with a reason.
_SHOWN = regex.compile(r"[^\p{Default_Ignorable_Code_Point}\p{Z}\p{Cf}\u2800]")
_TYPE = regex.compile(r"[a-z][a-z_]{0,19}")
_EMOJI = regex.compile(
    r"(?!\p{RI}\Z)(?=.*?(?:\p{Emoji_Presentation}|\p{Extended_Pictographic}|\p{RI}\p{RI}|[0-9#*]\uFE0F?\u20E3))\X",
    regex.DOTALL,
)

_LEVELS = {"user": 0, "member": 0, "moderator": 1, "owner": 2, "admin": 3, "super_admin": 4}


def holds_control(text: str) -> bool:
    """Does it hold a control character that is neither a newline nor a tab?"""
    return _CONTROL.search(text) is not None


def content(text: str) -> str:
    """The text as it is stored: trimmed, newlines as `\\n`; raises Refused where it may not be said."""
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise Refused(INVALID_FORMAT, "A message needs some text.", field="content")
    if len(text) > CONTENT_MAX:
        raise Refused(
            MESSAGE_TOO_LONG,
            f"A message has at most {CONTENT_MAX} characters.",
            field="content",
            limit=CONTENT_MAX,
        )
    if holds_control(text):
        raise Refused(INVALID_FORMAT, "A message must not hold control characters.", field="content")
    return text


def shows(text: str) -> bool:
    """Is anything in it that can be seen?"""
    return _SHOWN.search(text) is not None


def is_line(text: str, most: int) -> bool:
    """Is it a text of at most `most` characters, without control characters or line breaks?"""
    return len(text) <= most and not regex.search(r"[\p{Cc}\p{Zl}\p{Zp}]", text)


def nonce(text: str) -> str:
    if not 1 <= len(text) <= NONCE_MAX or holds_control(text):
        raise Refused(INVALID_FORMAT, f"A nonce has 1 to {NONCE_MAX} plain characters.", field="nonce")
    return text


_PROCESS = secrets.token_hex(16)  # no two processes' counts meet
_count = itertools.count()


def own_nonce() -> str:
    """For a post that came without: told from every client's by a character they may not use, and never shown.

    Counted, not drawn: at thousands of posts a second drawing them was 3 % of the server's work.
    """
    return f"{OWN}{_PROCESS}{next(_count):x}"


def shown_nonce(text: str | None) -> str | None:
    """The nonce as clients see it: theirs, or none."""
    return None if text is None or text.startswith(OWN) else text


def message_type(text: str, *, house: bool = False) -> str:
    if not _TYPE.fullmatch(text) or (text in HOUSE_TYPES and not house):
        raise Refused(INVALID_FORMAT, "A message type is a short lower-case word.", field="message_type")
    return text


def media_url(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) > 2000 or _BLANK.search(text) or not text.startswith(("https://", "http://", "/")):
        raise Refused(
            INVALID_FORMAT, "A media URL is an http(s) address of at most 2000 characters.", field="media_url"
        )
    return text


def media_type(text: str | None) -> str | None:
    if text is not None and not (text and is_line(text, 100)):
        raise Refused(INVALID_FORMAT, "A media type has 1 to 100 characters.", field="media_type")
    return text


def duration(seconds: float | None) -> float | None:
    if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= 1e7):
        raise Refused(INVALID_FORMAT, "A duration is a number of seconds, 0 or more.", field="duration")
    return seconds


def emoji(text: str) -> str:
    """One emoji grapheme, any: flags, skin tones, families and keycaps included (UAX #29, UTS #51)."""
    if len(text) > 32 or not _EMOJI.fullmatch(text):
        raise Refused(INVALID_FORMAT, "A reaction is one emoji.", field="emoji")
    return text


def room_name(text: str) -> str:
    """A room's name in its stored form: NFC, 1 to 50 characters, not digits alone, no slash."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= 50 or not shows(name):
        raise Refused(INVALID_FORMAT, "A room's name has 1 to 50 characters.", field="name")
    if name.isdecimal():
        raise Refused(INVALID_FORMAT, "A room's name needs something besides digits.", field="name")
    if "/" in name or regex.search(r"[\p{Cc}\p{Zl}\p{Zp}]", name):
        raise Refused(INVALID_FORMAT, "A room's name holds no slash and no control characters.", field="name")
    if _UNSEEN.search(name):
        raise Refused(INVALID_FORMAT, "A room's name holds no invisible characters.", field="name")
    return name


def mentioned(text: str) -> set[str]:
    """The names behind `@`, lower case."""
    return {name.lower() for name in _MENTION.findall(text)} if "@" in text else set()


def level(room_role: str | None, platform_role: str = "user") -> int:
    """How high somebody stands in a room; platform moderators count as moderators everywhere they may be."""
    return max(_LEVELS.get(room_role or "member", 0), _LEVELS.get(platform_role, 0))


def refuse_silenced(muted_until: datetime | None) -> None:
    """Raise MUTED for who is muted on the whole platform at this moment; the far end of time means for good."""
    if muted_until is not None and muted_until > datetime.now(UTC):
        raise Refused(MUTED, "You are muted.", **ends(muted_until))


def ends(until: datetime | None) -> dict[str, Any]:
    """The end of a sanction as details tell it: none where it holds for good."""
    if until is None or until.year == datetime.max.year:
        return {}
    return {"until": until.isoformat().replace("+00:00", "Z")}


MODERATOR = 1
OWNER = 2
