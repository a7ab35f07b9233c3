"""Signed addresses: who holds one may fetch what it names until it expires, and needs nothing else.

A signature is HMAC-SHA256 under `SECRET_KEY` over `{message}:{expires}`, in lower-case hex; `expires` is in seconds
since 1970, in decimal. The messages of different doors never meet: a track's is its bare name, the others begin with a
word and a slash, which no name holds. Nothing here logs or shows a signature.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

LONGEST: Final = 24 * 3600  # seconds an address may be good for
SKEW: Final = 5  # seconds by which the clocks of two machines of ours may differ
_SHORTEST_KEY: Final = 32  # bytes, as much as the hash
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXPIRES: Final = re.compile(r"[1-9][0-9]{0,11}")  # one way to write a time, so that nobody signs two


class SignatureRefused(Exception):
    """The address opens nothing."""


class Forged(SignatureRefused):
    """The signature is not ours, or signs something else."""


class Expired(SignatureRefused):
    """It was good once: an honest client asks for a new one."""


class TooFarAhead(SignatureRefused):
    """It would be good for longer than any address of ours."""


class Signer:
    """Signs and checks addresses under one key. Raises ValueError for a key under 32 bytes."""

    def __init__(self, secret_key: str) -> None:
        self._key = secret_key.encode()
        if len(self._key) < _SHORTEST_KEY:
            raise ValueError("the key that signs addresses needs at least 32 bytes")

    def __repr__(self) -> str:
        return "<Signer>"

    def sign(self, message: str, expires: int) -> str:
        """The signature of a message that is good until `expires`."""
        return hmac.digest(self._key, f"{message}:{expires}".encode(), "sha256").hex()

    def verify(self, message: str, expires: int | str, sig: str, now: float) -> int:
        """Check a signature; until when it is good.

        Args:
            expires: as it stands in the address, or read already.
            sig: as it stands in the address.
            now: seconds since 1970.

        Raises:
            Forged: always asked first, so that only a true signature learns that it is late.
            Expired: more than 5 s ago.
            TooFarAhead: more than 24 h (and those 5 s) from now.
        """
        text = str(expires)
        if not _EXPIRES.fullmatch(text):
            raise Forged
        right = self.sign(message, int(text))
        if not hmac.compare_digest(right.encode(), sig.encode("utf-8", "surrogatepass")):
            raise Forged
        until = int(text)
        if until + SKEW < now:
            raise Expired
        if until - SKEW > now + LONGEST:
            raise TooFarAhead
        return until

    # The addresses of the doors: all relative, the caller knows the host.

    def stream_url(self, name: str, expires: int) -> str:
        """Where a track's own file is fetched. Raises ValueError: that is no name."""
        return f"/stream/{_checked(name)}?expires={expires}&sig={self.sign(name, expires)}"

    def hls_url(self, name: str, expires: int) -> str:
        """The list of a track's renditions; addresses relative to it carry the signature along.

        Raises:
            ValueError: that is no name.
        """
        return f"/hls/{self._prefix(f'hls/{_checked(name)}', expires)}/{name}/master.m3u8"

    def live_url(self, slug: str, expires: int, user_id: int | None = None) -> str:
        """Where a private stream is listened to; `/index.m3u8` behind it is its playlist.

        Args:
            user_id: it is good only as long as this person may listen.

        Raises:
            ValueError: that is no slug.
        """
        if user_id is None:
            return f"/live/{self._prefix(f'live/{_checked(slug)}', expires)}/{slug}"
        return f"/live/{self._prefix(f'live/{_checked(slug)}/{user_id}', expires)}.{user_id}/{slug}"

    def _prefix(self, message: str, expires: int) -> str:
        return f"{expires}.{self.sign(message, expires)}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("no name that can be signed")
    return name
