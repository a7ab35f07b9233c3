"""Texts of people in patterns of LIKE."""

from __future__ import annotations


def literal(text: str) -> str:
    """The text as LIKE takes it to the letter: none of its characters stands for others."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
