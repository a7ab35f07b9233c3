"""What can go wrong for a client, as few types as a caller can act on differently.

ClientError
├── Unreachable      no answer: not connected, cut, timed out; trying again later may help
├── ApiError         REST said no, with a status and a code
│   └── AuthFailed   … because of who we are: log in again
├── FrameRefused     the socket said no to one frame
├── Closed           the socket ended for good, with a close code
├── UploadFailed     what was uploaded cannot be made a track (`tracks`)
├── NotBroadcastable what was to be broadcast is no container that can be (`broadcasting`)
└── ProtocolError    the other side does not speak as documented
"""

import errno
import os
import ssl
from collections.abc import Mapping
from typing import Any

import trio


class ClientError(Exception):
    """All errors of this package; the text is a sentence for people."""


class Unreachable(ClientError):
    """No answer came. Whether the request was carried out is unknown; posts carry nonces, so repeating them is safe."""


class ApiError(ClientError):
    """The server refused a request.

    Attributes:
        status: the HTTP status.
        code: the machine's reason, such as `USERNAME_EXISTS`.
        details: a sentence for each field that is wrong.
        retry_after: seconds after which trying again makes sense, if the server said so.
        request_id: what to quote to whoever runs the server.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.request_id = request_id


class AuthFailed(ApiError):
    """No token, or none that is good any more and none to renew it with."""


class FrameRefused(ClientError):
    """The server refused one frame; the connection goes on.

    Attributes:
        code: such as `RATE_LIMITED` or `ROOM_NOT_FOUND`.
        details: what the code carries.
        retry_after: seconds, for `RATE_LIMITED`, `SLOW_MODE` and `UNAVAILABLE`.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = dict(details or {})
        wait = self.details.get("retry_after")
        self.retry_after = float(wait) if isinstance(wait, (int, float)) else None


class Closed(ClientError):
    """The socket is closed and will not be opened again.

    Attributes:
        code: the WebSocket close code; 1000 when we closed it ourselves.
    """

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(reason or _CLOSE_SENTENCES.get(code, f"the server closed the connection ({code})"))
        self.code = code


class ProtocolError(ClientError):
    """An answer that cannot be understood: this is no Veza server, or a much newer one."""


def reason_of(error: BaseException) -> str:
    """Why something could not be reached, from the deepest cause of what the libraries below us raised."""
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    while (cause := error.__cause__ or error.__context__) is not None:
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        error = cause
    if isinstance(error, ssl.SSLError):
        return f"its certificate is not to be trusted: {getattr(error, 'verify_message', error.reason)}"
    if isinstance(error, OSError) and error.strerror:
        known = error.errno in errno.errorcode
        return (os.strerror(error.errno) if known and error.errno else error.strerror).lower()
    return str(error) or type(error).__name__


_CLOSE_SENTENCES = {
    1000: "the connection is closed",
    1002: "the server understood a frame as broken",
    1003: "the server does not take binary frames",
    1007: "the server understood a frame as no text",
    1009: "a frame was too large for the server",
    4001: "the session has ended: log in again",
    4003: "banned",
    4008: "closed for sending too much",
    4009: "too many connections of this user",
}
