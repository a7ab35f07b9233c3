"""Keys of live streams: whoever knows one may broadcast. Its owner is shown it once; we keep a SHA-256.

A key has 192 random bits, so a fast hash without salt is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_key() -> str:
    """32 characters of `[A-Za-z0-9_-]`."""
    return secrets.token_urlsafe(24)


def hash_of(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def fits(key: str, key_hash: bytes) -> bool:
    """Is this the key? Takes the same time whatever is wrong with it."""
    return hmac.compare_digest(hash_of(key), key_hash)
