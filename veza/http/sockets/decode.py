"""Text in, typed request out: the grammar of the chat socket's client frames. Pure.

Generous on input: fields may stand in `data` or flat beside `type`, older names mean the same, unknown fields are
ignored. Everything else is an INVALID_FORMAT that says what is wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from veza.actors.errors import INVALID_FORMAT, Refused
from veza.actors.requests import TYPES, Request

REF_MAX = 64


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"")
    ref: Any = None


class Incoming(msgspec.Struct, frozen=True):
    """A decoded frame: what it asks and the `ref` its answer carries."""

    request: Request
    ref: str | None


class Malformed(Refused):
    """A frame that asks nothing we know; `ref` is the client's where it could be read."""

    def __init__(self, message: str, ref: str | None = None, **details: Any) -> None:
        super().__init__(INVALID_FORMAT, message, **details)
        self.ref = ref


_envelope = msgspec.json.Decoder(_Envelope).decode
_decoders = {name: msgspec.json.Decoder(type).decode for name, type in TYPES.items()}


def decode(text: str | bytes) -> Incoming:
    """The request a frame holds; raises Malformed."""
    try:
        envelope = _envelope(text)
    except msgspec.ValidationError as error:
        raise Malformed(f"A frame is an object with a `type` (text) and `data`: {error}.") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Malformed("This is not JSON.") from None
    ref = envelope.ref
    if ref is not None and (not isinstance(ref, str) or len(ref) > REF_MAX):
        raise Malformed(f"`ref` is a text of at most {REF_MAX} characters.")
    decoder = _decoders.get(envelope.type)
    if decoder is None:
        raise Malformed("Unknown frame type.", ref, type=envelope.type[:50])
    data = bytes(envelope.data)
    nested = data[:1] == b"{" and data[1:].strip() != b"}"
    if data and data[:1] != b"{" and data != b"null":
        raise Malformed("`data` is an object.", ref)
    try:
        return Incoming(decoder(data if nested else text), ref)
    except msgspec.ValidationError as error:
        raise Malformed(f"`{envelope.type}`: {error}.", ref) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Malformed("This is not JSON.", ref) from None
