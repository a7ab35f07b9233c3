"""Structured logs: one line an event, for people (`console`) or machines (`json`).

What is logged carries the request or session it belongs to by itself (`bound`), so no caller passes ids around.
Never logged: secrets, tokens, query strings, message bodies. Callers do not hand them over; `redact` is the net below
them. Logging must never raise, block on the network, or cost much: below the level an event is dropped at once.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

HIDDEN: Final = "[hidden]"
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# Keys whose values nobody should read in a log, whatever they hold.
_PRIVATE_KEY: Final = re.compile(
    r"passw|secret|token|authorization|cookie|(^|_)(content|body|query|query_string|dsn|database_url|invite_code)$",
    re.I,
)
# Shapes of secrets inside other text: JSON Web Tokens, bearer headers, passwords in URLs, query strings of paths, and
# the signatures that stand in paths.
_PRIVATE_TEXT: Final = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+\.?[\w-]*"
    r"|(?<=bearer )[^\s,;]+"
    r"|(?<=://)[^\s/@:]*:[^\s/]+(?=@)"
    r"|(?<=\?)[^\s?\"']+=[^\s\"']*"
    r"|(?<=[0-9]\.)[0-9a-f]{64}",
    re.I,
)
_PRIVATE_HINT: Final = re.compile(
    r"eyJ|bearer |://|\?|/(?:hls|live)/[0-9]", re.I
)  # cheap: most lines hold none of these


def setup(log_format: str = "console", level: str = "info", stream: TextIO | None = None) -> None:
    """Make every log line of the process, the standard library's included, come out in this form.

    May be called again; the last call counts. `stream` is stderr unless given.
    """
    out = stream or sys.stderr
    threshold = _LEVELS[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    structlog.configure(
        processors=[*shared, *_render(log_format, out)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Out(out),
        cache_logger_on_first_use=stream is None,
    )
    bridge = logging.StreamHandler(out)
    bridge.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_render(log_format, out),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [bridge]
    root.setLevel(max(threshold, logging.INFO))  # the libraries' debug lines quote what passes through them
    for name in ("asyncio", "httpx", "httpcore", "hypercorn.access", "quart.serving"):
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def get(name: str, **ids: Any) -> FilteringBoundLogger:
    """A logger that says which part of the program speaks; cheap, made at import."""
    return cast(FilteringBoundLogger, structlog.get_logger(part=name, **ids))


@contextmanager
def bound(**ids: Any) -> Iterator[None]:
    """Every line logged inside, by this task and those it starts, carries these ids."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def frames(error: BaseException) -> list[str]:
    """Where it happened, the innermost last, without any value: an error's text may quote what a client sent."""
    found = traceback.extract_tb(error.__traceback__)[-12:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in found]


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: hide what looks like a secret, whoever let it through."""
    for key, value in event.items():
        event[key] = _hidden(key, value)
    return event


def _hidden(key: str, value: Any, depth: int = 4) -> Any:
    if isinstance(value, (int, float)) or value is None:
        return value  # "tokens=3" is a count, not a token
    if _PRIVATE_KEY.search(key):
        return HIDDEN
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return _PRIVATE_TEXT.sub(HIDDEN, value) if _PRIVATE_HINT.search(value) else value
    if depth == 0:
        return HIDDEN
    if isinstance(value, MutableMapping):
        return {str(name): _hidden(str(name), item, depth - 1) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hidden("", item, depth - 1) for item in value]
    return value


class _Out:
    """Where lines end. A reader that went away must not end the server, so errors of the stream are swallowed."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = exception = log = msg


def _render(log_format: str, out: TextIO) -> list[Processor]:
    last = (
        _json if log_format == "json" else structlog.dev.ConsoleRenderer(colors=out.isatty(), sort_keys=False)
    )
    escape: list[Processor] = [] if log_format == "json" else [_one_line]
    return [structlog.processors.ExceptionRenderer(_traceback), *escape, last]


def _traceback(exc_info: Any) -> str:
    """Frames without locals; the exception's own text may quote data, so it goes through the net as well."""
    lines = traceback.TracebackException(*exc_info, compact=True).format()
    return _PRIVATE_TEXT.sub(HIDDEN, "".join(lines).rstrip())


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """On a console one event is one line, whatever control characters its values hold."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception" and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    ordered = {key: event.pop(key, None) for key in ("timestamp", "level", "event")} | dict(event)
    try:
        return msgspec.json.encode(ordered, enc_hook=repr).decode()
    except (TypeError, ValueError):  # a lone surrogate, a key that is no string
        return json.dumps({str(key): value for key, value in ordered.items()}, default=repr)
