"""The letters accounts cause. Plain text; links lead to the web app, the bare token serves other clients."""

from __future__ import annotations

from urllib.parse import quote

from veza.config import Settings
from veza.mail import Letter


def base_url(settings: Settings) -> str:
    """Where links lead: PUBLIC_URL, or this machine while developing. Never what a request's `Host` says."""
    return (settings.public_url or f"http://localhost:{settings.port}").rstrip("/")


def verification(settings: Settings, username: str, to: str, token: str) -> Letter:
    return Letter(
        "verification",
        to,
        "Confirm your e-mail address",
        f"""Hello {username},

please confirm that this is your e-mail address:

{base_url(settings)}/verify-email?token={quote(token)}

Token: {token}

The link works once, within a day. If you did not open an account at Veza, ignore this mail.
""",
    )


def reset(settings: Settings, username: str, to: str, token: str) -> Letter:
    return Letter(
        "password reset",
        to,
        "Set a new password",
        f"""Hello {username},

somebody, hopefully you, asked for a new password. Set it here:

{base_url(settings)}/reset-password?token={quote(token)}

Token: {token}

The link works once, within an hour. If it was not you, ignore this mail: your password stays as it is.
""",
    )


def password_changed(settings: Settings, username: str, to: str) -> Letter:
    return Letter(
        "password changed",
        to,
        "Your password was changed",
        f"""Hello {username},

the password of your account was changed just now, and you were logged out elsewhere.

If it was not you, ask for a new password at once: {base_url(settings)}/forgot-password
""",
    )
