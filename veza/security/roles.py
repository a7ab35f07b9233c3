"""The platform's roles and who stands above whom."""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["user", "moderator", "admin", "super_admin"]

ROLES: Final[tuple[Role, ...]] = ("user", "moderator", "admin", "super_admin")
_RANK: Final[dict[str, int]] = {role: rank for rank, role in enumerate(ROLES)}


def at_least(role: str, wanted: Role) -> bool:
    """Whether `role` is `wanted` or above it; a role nobody knows is below all."""
    return _RANK.get(role, -1) >= _RANK[wanted]


def above(role: str, other: str) -> bool:
    """Whether `role` is strictly above `other`: sanctions and role changes act downwards only."""
    return _RANK.get(role, -1) > _RANK.get(other, -1)
