"""JSON Schemas of our models, each a named component, made by msgspec from the types themselves.

msgspec describes only what it could also read. Our answers hold one kind of thing it would not: unions of structs
without tags ("a room's message or a private one"). Those are described here as `anyOf`, which is what they are.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from typing import Any, Final, Union, get_args, get_origin

import msgspec

_TEMPLATE: Final = "#/components/schemas/{name}"


def components(models: Iterable[Any]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """A schema for each model (a reference where it is a struct), and the components these refer to."""
    unique = list(dict.fromkeys(models))
    eithers: list[type[_Either]] = []
    shown = [_without_struct_unions(model, eithers) for model in unique]
    shown += [struct for either in eithers for struct in either.structs]
    schemas, found = msgspec.json.schema_components(shown, schema_hook=_either_schema, ref_template=_TEMPLATE)
    for component in found.values():
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"])
    return dict(zip(unique, schemas, strict=False)), dict(sorted(found.items()))


def reference(name: str) -> dict[str, str]:
    """A reference to a component."""
    return {"$ref": _TEMPLATE.format(name=name)}


class _Either:
    """Stands for a union of structs without tags: it can be sent and described, but msgspec would not read it."""

    structs: tuple[type[msgspec.Struct], ...] = ()


def _without_struct_unions(model: Any, eithers: list[type[_Either]]) -> Any:
    """The model as it is, or a copy that has an `_Either` wherever a field's type is such a union."""
    if not (isinstance(model, type) and issubclass(model, msgspec.Struct)):
        return model
    infos = msgspec.structs.fields(model)
    shown = [_replaced(info.type, eithers) for info in infos]
    if all(new is info.type for new, info in zip(shown, infos, strict=True)):
        return model
    fields: list[Any] = []
    for info, new in zip(infos, shown, strict=True):
        options: dict[str, Any] = {"name": info.encode_name}
        if info.default is not msgspec.NODEFAULT:
            options["default"] = info.default
        elif info.default_factory is not msgspec.NODEFAULT:
            options["default_factory"] = info.default_factory
        fields.append((info.name, new, msgspec.field(**options)))
    copy = msgspec.defstruct(model.__name__, fields, kw_only=True)
    copy.__doc__ = model.__doc__
    return copy


def _replaced(annotation: Any, eithers: list[type[_Either]]) -> Any:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is list:
        part = _replaced(parts[0], eithers)
        return annotation if part is parts[0] else list[part]  # type: ignore[valid-type]
    if origin in (Union, types.UnionType):
        structs = tuple(p for p in parts if isinstance(p, type) and issubclass(p, msgspec.Struct))
        if len(structs) > 1:
            either = type("Either", (_Either,), {"structs": structs})
            eithers.append(either)
            rest = [part for part in parts if part not in structs]
            return Union[(either, *rest)] if rest else either
    return annotation


def _either_schema(kind: type) -> dict[str, Any]:
    if issubclass(kind, _Either):
        return {"anyOf": [reference(struct.__name__) for struct in kind.structs]}
    raise NotImplementedError
