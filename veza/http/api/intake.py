"""What clients send, made into typed values or into one clear sentence per field.

A body or a query string is described by a `msgspec.Struct`; only its fields are ever looked at, so whatever else a
client sends (`role`, `is_active`…) goes nowhere. Fields are converted one by one, so that an answer names everything
that is wrong at once. A field's type says what fits; `Meta(extra={"says": …})` says it to people.
No text with a NUL passes: PostgreSQL cannot hold one. Of what is trimmed, a text of invisible characters is empty.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec
from quart import Response, request
from werkzeug.datastructures import MultiDict

from veza.actors import rules
from veza.http.api.envelope import ApiError, bad_request, invalid
from veza.http.api.openapi import describe

T = TypeVar("T", bound=msgspec.Struct)
View = Callable[..., Awaitable[Response]]

NUL_SENTENCE: Final = "Must not hold NUL characters."
MISSING_SENTENCE: Final = "This field is required."

_KINDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_EXPECTED: Final = re.compile(
    r"Expected `([^`]+)`(?:, got `[^`]+`)?(?: of length)?(?: (>=|<=|==|>|<) (-?[\d.]+))?"
)


class _Field(msgspec.Struct, frozen=True):
    name: str
    encoded: str
    type: Any
    required: bool
    says: str | None
    trim: bool


class Form(Generic[T]):
    """Reads one kind of struct. Made once per struct (`form_of`)."""

    def __init__(self, model: type[T]) -> None:
        self._model = model
        self._fields = [
            _Field(
                name=info.name,
                encoded=info.encode_name,
                type=info.type,
                required=info.required,
                says=_extra(info.type, "says"),
                trim=bool(_extra(info.type, "trim")),
            )
            for info in msgspec.structs.fields(model)
        ]

    def read(self, raw: Mapping[str, Any], *, strict: bool = True) -> T:
        """The value; raises ApiError (400, `details` by field). Not strict: numbers may come as text."""
        values: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for field in self._fields:
            if field.encoded not in raw:
                if field.required:
                    wrong[field.encoded] = MISSING_SENTENCE
                continue
            value = raw[field.encoded]
            if _holds_nul(value):
                wrong[field.encoded] = NUL_SENTENCE
                continue
            if field.trim and isinstance(value, str):
                value = value.strip() if rules.shows(value) else ""
            try:
                values[field.name] = msgspec.convert(value, field.type, strict=strict)
            except msgspec.ValidationError as error:
                wrong[field.encoded] = field.says or sentence(str(error))
        if wrong:
            raise invalid(wrong)
        made = self._model(**values)
        check = getattr(made, "check", None)
        if check is not None and (wrong := dict(check())):
            raise invalid(wrong)
        return made


@functools.cache
def form_of(model: type[T]) -> Form[T]:
    return Form(model)


def takes(model: type[msgspec.Struct], *, optional: bool = False) -> Callable[[View], View]:
    """The view takes a JSON body of this kind as `data`. `optional`: no body means all defaults."""
    form = form_of(model)

    def decorator(view: View) -> View:
        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Response:
            raw = await json_object(optional=optional)
            return await view(*args, data=form.read(raw), **kwargs)

        describe(wrapper).body = model
        describe(wrapper).body_optional = optional
        return wrapper

    return decorator


def takes_query(model: type[msgspec.Struct]) -> Callable[[View], View]:
    """The view takes the query string as `query`."""
    form = form_of(model)

    def decorator(view: View) -> View:
        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Response:
            return await view(*args, query=form.read(_flat(request.args), strict=False), **kwargs)

        describe(wrapper).query = model
        return wrapper

    return decorator


async def json_object(*, optional: bool = False) -> dict[str, Any]:
    """The request's body as a JSON object; raises ApiError 400 or 415."""
    raw = await request.get_data(as_text=False)
    if not raw:
        if optional:
            return {}
        raise bad_request("A JSON object is expected as the body.")
    if request.content_type and not request.is_json:
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json.")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("The body is not valid JSON.", "INVALID_JSON") from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.")
    return value


def sentence(problem: str) -> str:
    """A sentence for people from a message of msgspec's."""
    found = _EXPECTED.match(problem)
    if found is None:
        return "This value is not valid."
    kind, comparison, bound = found.groups()
    kinds = [name for name in kind.split(" | ") if name != "null"]
    if comparison is None:
        if "matching regex" in problem:
            return "This text has characters or a form that cannot be used here."
        return f"Must be {' or '.join(_KINDS.get(name, 'of another kind') for name in kinds)}."
    if "of length" in problem:
        what = "items" if "array" in kinds else "characters"
        return f"Must have {'at least' if comparison.startswith('>') else 'at most'} {bound} {what}."
    return {
        ">=": f"Must be {bound} or more.",
        "<=": f"Must be {bound} or less.",
        ">": f"Must be more than {bound}.",
        "<": f"Must be less than {bound}.",
    }.get(comparison, "This value is not valid.")


def _flat(args: MultiDict[str, str]) -> dict[str, str]:
    """The last value of each parameter; an empty one counts as not sent."""
    return {key: values[-1] for key, values in args.lists() if values[-1] != ""}


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, list):
        return any(_holds_nul(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return False


def _extra(annotation: Any, key: str) -> Any:
    """What the `Meta` of a type, or of a part of a union, says under `key`."""
    if get_origin(annotation) is Annotated:
        for note in get_args(annotation)[1:]:
            if isinstance(note, msgspec.Meta) and note.extra and key in note.extra:
                return note.extra[key]
        return _extra(get_args(annotation)[0], key)
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            if (found := _extra(part, key)) is not None:
                return found
    return None
