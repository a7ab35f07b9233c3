"""The way to the courier, which carries what lies in the outbox to the people it is for."""

from __future__ import annotations

from typing import Protocol


class Notices(Protocol):
    """What whoever changes something needs of it."""

    def poke(self) -> None:
        """Something may lie in the outbox: look. Never blocks; to be called after the commit, also where nobody
        knows whether it came about."""
        ...
