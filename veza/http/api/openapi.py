"""What is noted of views, where they are written (`@answers`, `@fails`, and by the decorators that read bodies and
check tokens): how they answer and fail, and to whom. `openapi_document.py` makes the OpenAPI document of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar

import msgspec
import trio
from quart import Quart, current_app

View = TypeVar("View", bound=Callable[..., Any])

NOTE: Final = "_veza_description"


@dataclass
class Description:
    """What is known of one view."""

    data: Any = None
    status: int = 200
    beside: Any = None
    listing: bool = False
    content_type: str | None = None
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    query: type[msgspec.Struct] | None = None
    fails: set[int] = field(default_factory=set)
    login: bool | None = False  # None: a token may be sent, and need not be
    form: Any = None  # a struct: the fields of a multipart body
    files: tuple[str, ...] = ()  # its parts that may be the file; one of them must be there
    bytes_of: str | None = None  # content type of a body that is read as it comes
    headers_in: dict[str, str] = field(default_factory=dict)  # name → what it says
    headers_out: dict[str, str] = field(default_factory=dict)


def describe(view: Any) -> Description:
    """The notes of this view, to read or to add to."""
    note: Description | None = getattr(view, NOTE, None)
    if note is None:
        note = Description()
        setattr(view, NOTE, note)
    return note


def answers(
    data: Any = None,
    status: int = 200,
    *,
    beside: Any = None,
    listing: bool = False,
    content_type: str | None = None,
) -> Callable[[View], View]:
    """Document the success: the type under `data`, fields `beside` the envelope, whether `meta` comes along."""

    def decorator(view: View) -> View:
        note = describe(view)
        note.data, note.status, note.beside = data, status, beside
        note.listing, note.content_type = listing, content_type
        return view

    return decorator


def fails(*statuses: int) -> Callable[[View], View]:
    """Document failures besides those every view may have (400 with input, 401 with login, 429, 503)."""

    def decorator(view: View) -> View:
        describe(view).fails.update(statuses)
        return view

    return decorator


class Raw(Protocol):
    """A handler beside the application, see `veza.http.rawasgi`."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def handler(self) -> Callable[..., Any]: ...
    @property
    def tag(self) -> str: ...


def provide(app: Quart, tags: list[tuple[str, str]], raw: Iterable[Raw] = ()) -> None:
    """Make `document()` work for this application, and tell of the handlers `raw` beside it."""
    app.extensions["openapi"] = (app, tags, tuple(raw))


async def document() -> bytes:
    """The document of the current application, made at the first call: routes do not change while it runs.

    What makes it is loaded then, in a thread: it takes a fifth of the whole program's time to start, and most servers
    are never asked.
    """
    extensions = current_app.extensions
    if "openapi_document" not in extensions:
        module = await trio.to_thread.run_sync(import_module, "veza.http.api.openapi_document")
        extensions["openapi_document"] = module.written(*extensions["openapi"])
    made: bytes = extensions["openapi_document"]
    return made
