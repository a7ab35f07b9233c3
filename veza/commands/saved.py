"""Logins that outlive a command: one per server, in a file only their owner can read.

`$XDG_CONFIG_HOME/veza/sessions.json` (usually `~/.config/veza/`). Several terminals share it, so each reads it again
before it renews, and takes what another one wrote.
"""

import os
import secrets
from pathlib import Path

import msgspec

from veza.client import Tokens


class Saved(msgspec.Struct, frozen=True):
    """Who is logged in at one server. Its `repr` shows no token."""

    username: str
    tokens: Tokens


class Logins:
    """The file."""

    def __init__(self, path: Path | None = None) -> None:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        self.path = path or Path(home) / "veza" / "sessions.json"

    def of(self, server: str) -> Saved | None:
        """The login at a server; None if there is none, or the file cannot be read."""
        return self._all().get(server)

    def keep(self, server: str, saved: Saved | None) -> None:
        """Remember a login, or forget it. A directory that cannot be written costs the memory, nothing else."""
        everything = self._all()
        if saved is None:
            everything.pop(server, None)
        else:
            everything[server] = saved
        draft = self.path.with_name(f".sessions-{secrets.token_hex(6)}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(everything))
            draft.replace(self.path)
        except OSError:
            pass

    def _all(self) -> dict[str, Saved]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, Saved])
        except (OSError, msgspec.MsgspecError):
            return {}
