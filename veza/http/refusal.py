"""What the door answers when it will not serve a request: one table from status to code and sentence, one envelope.

These answers are made before, or instead of, the application, and look exactly like its own. A sentence here is for
people and never quotes what the client sent.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

CODES: Final[dict[int, tuple[str, str]]] = {
    400: ("BAD_REQUEST", "The request is malformed."),
    401: ("AUTH_REQUIRED", "Log in first."),
    403: ("FORBIDDEN", "This is not allowed."),
    404: ("NOT_FOUND", "There is nothing at this address."),
    405: ("METHOD_NOT_ALLOWED", "This address does not take that method."),
    408: ("REQUEST_TIMEOUT", "The request took too long to arrive."),
    413: ("BODY_TOO_LARGE", "The request body is too large."),
    414: ("URI_TOO_LONG", "The address is too long."),
    416: ("RANGE_NOT_SATISFIABLE", "The range lies outside the file."),
    417: ("EXPECTATION_FAILED", "The expectation cannot be met."),
    426: ("UPGRADE_REQUIRED", "This address speaks WebSocket, version 13."),
    429: ("TOO_MANY_CONNECTIONS", "Too many connections from your address."),
    431: ("HEADERS_TOO_LARGE", "The request headers are too large."),
    500: ("INTERNAL", "Something went wrong on our side."),
    501: ("NOT_IMPLEMENTED", "The server does not know this method."),
    503: ("UNAVAILABLE", "The server is busy; try again."),
    505: ("HTTP_VERSION_NOT_SUPPORTED", "The server speaks HTTP/1.1."),
}

Headers = Iterable[tuple[bytes, bytes]]


class Refused(Exception):
    """A request will not be served.

    Args:
        status: the HTTP status; without more, the table above gives code and sentence.
        code: the machine's code in the envelope.
        sentence: the sentence for people.
        headers: what the answer carries besides the usual, names in lower case.
    """

    def __init__(
        self, status: int, code: str | None = None, sentence: str | None = None, headers: Headers = ()
    ) -> None:
        usual_code, usual_sentence = CODES.get(status, CODES[400 if status < 500 else 500])
        self.status = status
        self.code = code or usual_code
        self.sentence = sentence or usual_sentence
        self.headers = tuple(headers)
        super().__init__(status, self.code, self.sentence)

    def envelope(self, request_id: str) -> bytes:
        """The body: what every failure of the API looks like."""
        return msgspec.json.encode(
            {"success": False, "error": self.sentence, "code": self.code, "request_id": request_id}
        )
