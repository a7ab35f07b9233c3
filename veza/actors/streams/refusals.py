"""Why a stream does not do what it was asked: codes and sentences, once for all who ask."""

from __future__ import annotations

from typing import Final

from veza.actors.errors import UNAVAILABLE, Refused

NOT_FOUND: Final = "STREAM_NOT_FOUND"
OFFLINE: Final = "STREAM_OFFLINE"
ENDED: Final = "STREAM_ENDED"
BUSY: Final = "STREAM_BUSY"
FULL: Final = "STREAM_FULL"
BARRED: Final = "FORBIDDEN"
KEY_CHANGED: Final = "STREAM_KEY_CHANGED"
UNSUPPORTED: Final = "UNSUPPORTED_MEDIA"
TAKEN_OVER: Final = "STREAM_TAKEN_OVER"


def not_found() -> Refused:
    return Refused(NOT_FOUND, "There is no such stream.")


def offline() -> Refused:
    return Refused(OFFLINE, "This stream is not on air.")


def ended() -> Refused:
    return Refused(ENDED, "This stream has ended; make a new one to broadcast again.")


def over() -> Refused:
    return Refused(ENDED, "This stream has ended.")


def busy() -> Refused:
    return Refused(BUSY, "Somebody broadcasts to this stream already; end that first.")


def full() -> Refused:
    return Refused(
        FULL, "This stream has as many listeners as it may have; try again later.", retry_after=30.0
    )


def barred() -> Refused:
    return Refused(BARRED, "The owner of this stream may not broadcast.")


def key_changed() -> Refused:
    return Refused(KEY_CHANGED, "This stream has another key now.")


def taken_over() -> Refused:
    return Refused(TAKEN_OVER, "Another connection with the same key has taken over.")


def unsupported(reason: str) -> Refused:
    return Refused(UNSUPPORTED, reason)


def going() -> Refused:
    return Refused(UNAVAILABLE, "The server is going away; come back in a moment.", retry_after=5.0)


def given_up() -> Refused:
    return Refused(UNAVAILABLE, "Something went wrong on our side; come back in a moment.", retry_after=2.0)
