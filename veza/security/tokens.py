"""Access tokens (signed, short) and opaque secrets (random, stored only as hashes).

An access token says who its holder claims to be; whether that is still so is the registry's to say. Only HS256 is
read, whatever the token's own header asks for (RFC 8725 §3.1), `exp` must be there, and a refresh token or anything
else that is not `typ: access` is refused. Nothing here ever logs a token, or keeps more than its digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec

_ALGORITHM: Final = "HS256"
_LONGEST: Final = 4096  # characters; ours are under 500, and what is longer costs work before it is refused
_KEPT: Final = 20_000  # tokens whose signature need not be checked again
_REQUIRED: Final = ["exp", "iat", "sid", "jti", "typ", "user_id"]


class TokenRefused(Exception):
    """The token proves nothing. `expired` tells an honest client that a refresh will help."""

    def __init__(self, expired: bool = False) -> None:
        super().__init__("expired" if expired else "not valid")
        self.expired = expired


class AccessClaims(msgspec.Struct, frozen=True):
    """What a valid access token says. Times are seconds since 1970."""

    user_id: int
    username: str
    role: str
    sid: str
    jti: str
    iat: float
    exp: float


class AccessTokens:
    """Issues and reads access tokens under one secret."""

    def __init__(self, secret: str, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        if len(secret.encode()) < 32:  # RFC 7518 §3.2: a key at least as long as the hash
            raise ValueError("the token secret needs at least 32 bytes")
        self._secret = secret
        self._clock = clock
        self._good: dict[bytes, AccessClaims] = {}  # by digest, the oldest first; bounded
        self.lifetime = lifetime

    def __repr__(self) -> str:
        return "<AccessTokens>"

    def issue(self, user_id: int, username: str, role: str, sid: str) -> tuple[str, int]:
        """A new token and when it expires (whole seconds since 1970)."""
        now = int(self._clock())
        expires = now + max(1, int(self.lifetime))
        claims = {
            "user_id": user_id,
            "username": username,
            "role": role,
            "iat": now,
            "exp": expires,
            "sid": sid,
            "jti": secrets.token_urlsafe(12),
            "typ": "access",
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM), expires

    def read(self, token: str) -> AccessClaims:
        """The claims of a token of ours that has not expired; raises TokenRefused for anything else."""
        if len(token) > _LONGEST:
            raise TokenRefused
        # A client sends the same token with every request; its signature is checked once.
        known = digest(token)
        read = self._good.get(known)
        if read is None:
            read = self._good[known] = self._verified(token)
            if len(self._good) > _KEPT:
                del self._good[next(iter(self._good))]
        if read.exp <= self._clock():
            self._good.pop(known, None)
            raise TokenRefused(expired=True)
        return read

    def _verified(self, token: str) -> AccessClaims:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                # The times are compared below, against our clock, so that tests can turn it.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            if claims["typ"] != "access":
                raise TokenRefused
            return msgspec.convert(claims, AccessClaims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError):
            raise TokenRefused from None


def new_secret() -> str:
    """An opaque token of 256 random bits: a refresh token, or one that travels by mail."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is stored of an opaque token. Its 256 bits cannot be guessed, so one SHA-256 without salt is enough, and
    looking a row up by it tells an attacker's stopwatch nothing about the token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def same(left: bytes, right: bytes) -> bool:
    """Compare digests in a time that does not depend on where they differ."""
    return hmac.compare_digest(left, right)
