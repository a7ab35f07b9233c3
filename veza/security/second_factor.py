"""The second factor: codes of an authenticator (TOTP, RFC 6238), recovery codes, and how its secret is kept.

Pure: no clock of its own, no I/O. Whether a code was used before is the database's to say (`veza.db.two_factor`): what
is found here is only *which* time step a code belongs to. Secrets and codes are never put into an error or a repr.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

import pyotp
import segno
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

STEP: Final = 30  # seconds; what every authenticator assumes
DIGITS: Final = 6
DRIFT: Final = 1  # steps a clock may be off, either way
RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 10  # 80 bits: nobody guesses one, so a plain hash keeps it
_CODE: Final = re.compile(r"\d{6}", re.ASCII)
_RECOVERY: Final = re.compile(r"[a-z2-7]{16}", re.ASCII)
_SPACES: Final = re.compile(r"[\s-]+")


class Unreadable(Exception):
    """A secret that cannot be decrypted: it was made under another SECRET_KEY, or for somebody else."""


class SecretBox:
    """Encrypts authenticators' secrets under a key made of SECRET_KEY, bound to the person they are for."""

    def __init__(self, secret_key: str) -> None:
        key = HKDF(SHA256(), 32, salt=None, info=b"veza second factor v1").derive(secret_key.encode())
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, user_id: int, secret: str) -> bytes:
        return self._fernet.encrypt(f"{user_id}:{secret}".encode())

    def open(self, user_id: int, sealed: bytes) -> str:
        """The secret. Raises Unreadable."""
        try:
            owner, _, secret = self._fernet.decrypt(sealed).decode().partition(":")
        except InvalidToken:
            raise Unreadable from None
        if owner != str(user_id):  # copied from another row
            raise Unreadable
        return secret


def new_secret() -> str:
    """160 bits, in the base32 that people type into an authenticator."""
    return pyotp.random_base32()


def uri(secret: str, account: str, issuer: str) -> str:
    """The `otpauth://` address that authenticators read."""
    return pyotp.TOTP(secret, digits=DIGITS, interval=STEP).provisioning_uri(name=account, issuer_name=issuer)


def qr_code(text: str) -> str:
    """A QR code of the text, as a `data:` address of an SVG."""
    address: str = segno.make(text, error="m").svg_data_uri(scale=4, border=4)
    return address


def step_of(secret: str, code: str, now: float) -> int | None:
    """The time step this code belongs to, of the present one and its neighbours; None: of none of them.

    All of them are computed, whichever fits.
    """
    if not _CODE.fullmatch(code):
        return None
    totp = pyotp.TOTP(secret, digits=DIGITS, interval=STEP)
    present = int(now // STEP)
    found = None
    for step in (present - DRIFT, present + DRIFT, present):
        if hmac.compare_digest(totp.generate_otp(step), code):
            found = step
    return found


def plain(typed: str) -> str:
    """A code without the blanks and dashes people put in, in small letters."""
    return _SPACES.sub("", typed).lower()


def is_recovery(code: str) -> bool:
    """Has this (plain) text the form of a recovery code?"""
    return _RECOVERY.fullmatch(code) is not None


def new_recovery_codes() -> list[str]:
    """Ten codes such as `abcd-efgh-2345-mnop`, each good once."""
    codes = []
    for _ in range(RECOVERY_CODES):
        text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower()
        codes.append("-".join(text[at : at + 4] for at in range(0, len(text), 4)))
    return codes


def recovery_hash(code: str) -> bytes:
    """What is stored of a recovery code, however it was typed."""
    return hashlib.sha256(b"veza recovery code " + plain(code).encode()).digest()
