"""The letters accounts cause. Plain text; links lead to the web app, the bare token serves other clients."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from veza.config import Settings
from veza.db.digests import Digest
from veza.db.notifications import Notification
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


def second_factor(settings: Settings, username: str, to: str, on: bool) -> Letter:
    what = (
        "a code of your authenticator is asked for at login"
        if on
        else "no code is asked for at login any more"
    )
    # A new password opens no second factor that somebody else has set up.
    back = (
        "\nTo get in again, ask whoever runs this server to switch this second factor off; they will ask who you are."
        if on
        else ""
    )
    return Letter(
        "second factor",
        to,
        "Your second factor was switched " + ("on" if on else "off"),
        f"""Hello {username},

from now on {what}.

If it was not you, somebody knows your password: set another one at once, at {base_url(settings)}/forgot-password{back}
""",
    )


def goodbye(username: str, to: str, himself: bool) -> Letter:
    by = "as you asked for" if himself else "by an administrator"
    return Letter(
        "account deleted",
        to,
        "Your account was deleted",
        f"""Hello {username},

your account at Veza was deleted, {by}. This is the last letter you get from us.
""",
    )


def digest(settings: Settings, of: Digest) -> Letter:
    """What somebody has not read. Nobody's messages are quoted: mails lie about in many places."""
    base = base_url(settings)
    lines = "\n".join(f"- {_line(each)}" for each in of.notifications)
    rest = of.count - len(of.notifications)
    more = f"\n… and {rest} more." if rest else ""
    return Letter(
        "digest",
        of.email,
        "1 thing you have not read" if of.count == 1 else f"{of.count} things you have not read",
        f"""Hello {of.username},

while you were away:

{lines}{more}

All of it: {base}/notifications

On the same page you choose what you are mailed: switch everything off there, and no such mail comes any more.
""",
    )


_DID: Final = {
    "reply": "answered you",
    "direct_message": "wrote to you",
    "follow": "follows you",
}
_DID_WITH: Final = {
    "like": "likes {}",
    "repost": "passed {} on",
    "comment": "said something about {}",
    "listing": "offers {}",
    "stream_started": "went on air with {}",
}
_STEPS: Final = {
    "received": "made you an offer for {}",
    "countered": "made a counter-offer for {}",
    "accepted": "accepted the offer for {}",
    "rejected": "rejected the offer for {}",
    "withdrawn": "took the offer for {} back",
}


def _line(n: Notification) -> str:
    """One notification as a line of text."""
    who = n.username or "Somebody"
    what = f"“{n.data['title']}”" if n.data.get("title") else "something"
    step = n.data.get("step", "")
    if n.kind == "mention":
        return f"{who} mentioned you" + (f" in {n.room}" if isinstance(n.room, str) else "")
    if n.kind in _DID:
        return f"{who} {_DID[n.kind]}"
    if n.kind in _DID_WITH:
        return f"{who} {_DID_WITH[n.kind].format(what)}"
    if n.kind == "offer" and step in _STEPS and n.username:
        return f"{who} {_STEPS[step].format(what)}"
    if n.kind == "offer":
        return f"The offer for {what} {'expired' if step == 'expired' else 'is over'}"
    if n.kind == "track_ready":
        return f"{what} {'can be heard' if n.data.get('status') == 'ready' else 'could not be made ready'}"
    return "The moderators decided something that concerns you"
