"""The form of every answer, and the one table from errors to statuses and codes.

Success is `{"success": true, "message"?, "data", "meta"?}`, failure
`{"success": false, "error", "code", "details"?, "request_id"}`. Nothing that leaves here holds a trace or a text of the
database's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Response, g

from veza.actors import errors as actor_errors
from veza.actors.errors import Refused
from veza.actors.kernel import ActorCrashed, ActorStopped, AskTimeout, CircularAsk, MailboxFull
from veza.actors.registry import AuthFailed
from veza.actors.streams import refusals
from veza.db.errors import Conflict, DataRefused, Unavailable
from veza.security.passwords import Busy

_encode = msgspec.json.Encoder().encode
_JSON: Final = "application/json"


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a page of a list stands. `total` of long lists is counted up to a bound."""

    page: int | None = None
    per_page: int | None = None
    total: int | None = None
    total_pages: int | None = None
    next_cursor: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """What went wrong: `error` for people, `code` for machines, `details` by field where the input is to blame."""

    success: bool
    error: str
    code: str
    request_id: str
    details: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ApiError(Exception):
    """Raised anywhere under a view to answer with a failure.

    Args:
        retry_after: seconds; becomes the `Retry-After` header (whole seconds, at least 1).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(min(retry_after, 86_400))))


def invalid(details: Mapping[str, str], message: str = "Some of the values sent are not right.") -> ApiError:
    """400 with a sentence by field."""
    return ApiError(400, "VALIDATION_ERROR", message, details=details)


def bad_request(message: str, code: str = "INVALID_FORMAT") -> ApiError:
    return ApiError(400, code, message)


def not_found(what: str = "This", code: str = "NOT_FOUND") -> ApiError:
    """`what` begins the sentence: "This room"."""
    return ApiError(404, code, f"{what} does not exist.")


def forbidden(message: str = "You may not do this.", code: str = "FORBIDDEN") -> ApiError:
    return ApiError(403, code, message)


def conflict(code: str, message: str) -> ApiError:
    return ApiError(409, code, message)


def rate_limited(retry_after: float, message: str = "Too many requests; wait a little.") -> ApiError:
    return ApiError(429, "RATE_LIMITED", message, retry_after=retry_after)


def ok(
    data: Any = None,
    *,
    message: str | None = None,
    meta: Meta | None = None,
    status: int = 200,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A success. `data` is anything msgspec encodes; `extra` stands beside the envelope's own fields."""
    body: dict[str, Any] = {"success": True}
    if message is not None:
        body["message"] = message
    body["data"] = data
    if meta is not None:
        body["meta"] = meta
    if extra:
        body.update(extra)
    return Response(_encode(body), status=status, headers=dict(headers or {}), content_type=_JSON)


def created(data: Any, *, message: str | None = None, location: str | None = None) -> Response:
    """201."""
    return ok(data, message=message, status=201, headers={"Location": location} if location else None)


def page_meta(page: int, limit: int, total: int, next_cursor: str | None = None) -> Meta:
    """`meta` of a numbered page."""
    return Meta(
        page=page,
        per_page=limit,
        total=total,
        total_pages=max(0, -(-total // limit)),
        next_cursor=next_cursor,
    )


def failure(error: ApiError) -> Response:
    """The answer an ApiError becomes."""
    body: dict[str, Any] = {"success": False, "error": error.message, "code": error.code}
    if error.details is not None:
        body["details"] = error.details
    body["request_id"] = request_id()
    return Response(_encode(body), status=error.status, headers=error.headers, content_type=_JSON)


def request_id() -> str:
    """The id of the request being answered."""
    return str(g.get("request_id", ""))


# The table -------------------------------------------------------------------------------------------

_BUSY_AGAIN: Final = 2.0
INTERNAL: Final = ApiError(500, "INTERNAL", "Something went wrong on our side. It has been noted.")

# What actors refuse with (they know no HTTP) → status.
_REFUSALS: Final[dict[str, int]] = {
    actor_errors.AUTH_FAILED: 401,
    actor_errors.ROOM_NOT_FOUND: 404,
    actor_errors.USER_NOT_FOUND: 404,
    actor_errors.MESSAGE_NOT_FOUND: 404,
    refusals.NOT_FOUND: 404,
    actor_errors.PERMISSION_DENIED: 403,
    actor_errors.RATE_LIMITED: 429,
    actor_errors.MESSAGE_TOO_LONG: 400,
    actor_errors.INVALID_FORMAT: 400,
    actor_errors.NOT_JOINED: 403,
    actor_errors.MUTED: 403,
    actor_errors.BANNED: 403,
    actor_errors.BLOCKED: 403,
    actor_errors.ROOM_FULL: 409,
    actor_errors.SLOW_MODE: 429,
    actor_errors.WORD_FILTERED: 400,
    actor_errors.UNAVAILABLE: 503,
    actor_errors.INTERNAL: 500,
    actor_errors.CONFLICT: 409,
    actor_errors.TRACK_NOT_FOUND: 404,
    actor_errors.NO_PARTY: 404,
}


def translate(error: BaseException) -> ApiError | None:
    """What an error below us looks like from outside; None for a defect of ours (500, logged by the caller)."""
    match error:
        case ApiError():
            return error
        case AuthFailed():
            # RFC 6750 §3: say how to authenticate, and whether a token was the matter.
            challenge = "Bearer" if error.code == "AUTH_REQUIRED" else 'Bearer error="invalid_token"'
            return ApiError(401, error.code, error.message, headers={"WWW-Authenticate": challenge})
        case Refused():
            return _refused(error)
        case Busy():
            return ApiError(
                503, "BUSY", "Too many logins at once; try again in a moment.", retry_after=_BUSY_AGAIN
            )
        case Unavailable() | AskTimeout() | MailboxFull() | ActorStopped() | ActorCrashed():
            return ApiError(
                503, "UNAVAILABLE", "The server cannot do this just now; try again.", retry_after=_BUSY_AGAIN
            )
        case Conflict():
            return ApiError(409, "CONFLICT", "This is taken already.")
        case DataRefused():
            return ApiError(400, "INVALID_FORMAT", "Some of the values sent cannot be stored.")
        case CircularAsk():
            return None
        case _:
            return None


def _refused(error: Refused) -> ApiError:
    details = {name: value for name, value in error.details.items() if name not in ("retry_after", "field")}
    if (field := error.details.get("field")) is not None:
        details[str(field)] = error.message
    retry_after = error.details.get("retry_after")
    if retry_after is not None:
        details["retry_after"] = retry_after
    return ApiError(
        _REFUSALS.get(error.code, 400),
        error.code,
        error.message,
        details=details or None,
        retry_after=float(retry_after) if isinstance(retry_after, (int, float)) else None,
    )
