"""What a crash's log line says: enough to find the fault, and nothing private.

Exceptions' texts are left out: they quote values (`KeyError('the content')`, a database's DETAIL).
"""

import traceback
from collections.abc import Sized
from typing import Any
from uuid import UUID

import msgspec

DEEPEST = 25  # frames


def crash_report(error: BaseException, message: Any) -> dict[str, Any]:
    """Fields for the log: the error's type, the message's ids and sizes, and where it happened."""
    report: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(message, msgspec.Struct):
        ids: dict[str, Any] = {}
        sizes: dict[str, int] = {}
        for name in message.__struct_fields__:
            value = getattr(message, name)
            if isinstance(value, int | UUID) and (name == "id" or name.endswith("_id")):
                ids[name] = value if isinstance(value, int) else str(value)
            elif isinstance(value, Sized):
                sizes[name] = len(value)
        report |= {"ids": ids, "sizes": sizes}
    report["where"] = _where(error)
    return report


def _where(error: BaseException) -> list[str]:
    """The chain of exceptions, the first cause first, each with its frames: file, line, function."""
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines += _where(cause)
    frames = traceback.extract_tb(error.__traceback__, limit=-DEEPEST)
    lines += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    lines.append(type(error).__qualname__)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            lines += _where(part)
    return lines
