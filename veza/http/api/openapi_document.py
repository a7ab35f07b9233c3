"""The OpenAPI document: made by quart-schema from the routes, with our envelope around every model.

This module only turns the notes of `openapi.py` into OpenAPI 3.1. Models become components once, by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from quart import Quart
from quart_schema import Info, QuartSchema, Tag
from quart_schema.openapi import HttpSecurityScheme, OpenAPIProvider
from werkzeug.routing.rules import Rule

from veza import __version__
from veza.http.api.envelope import ErrorAnswer, Meta
from veza.http.api.openapi import NOTE, Description, Raw, describe
from veza.http.api.schemas import components

_PARAMETER: Final = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")

_STATUS: Final[dict[int, str]] = {
    400: "Malformed, or a value that does not fit; `details` says which",
    401: "No valid access token",
    403: "Not allowed",
    404: "Does not exist, or not for you",
    405: "Another method",
    409: "Conflicts with what is there",
    410: "It was there, and has expired",
    412: "Another version of the protocol",
    413: "Too large",
    415: "Not application/json",
    423: "The account is disabled",
    429: "Too many requests; see `Retry-After`",
    503: "Not just now; see `Retry-After`",
    507: "No room on the disk",
}
_STATUS_OF_FILES: Final[dict[int, str]] = {
    415: "Not what is expected here, or no audio or video: the reason is in `error`",
    423: "Another request is at it",
    460: "The checksum is another one",
}


def written(app: Quart, tags: list[tuple[str, str]], raw: tuple[Raw, ...]) -> bytes:
    """The document of this application, and of the handlers `raw` beside it.

    quart-schema's extension is only configured, never installed: it would wrap every answer, and add pages that load
    scripts from elsewhere.
    """
    extension = QuartSchema(
        info=Info(
            title="Veza", version=__version__, description="The REST API. Sockets speak at `/ws/chat`."
        ),
        tags=[Tag(name=name, description=text) for name, text in tags],
        security_schemes={"bearer": HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
    )
    provider = Provider(app, extension)
    provider.raw = raw
    return msgspec.json.encode(provider.schema())


class Provider(OpenAPIProvider):
    """quart-schema's walk over the routes, with components gathered for the whole document at once."""

    raw: tuple[Raw, ...] = ()

    def schema(self) -> dict[str, Any]:
        models: list[Any] = [ErrorAnswer, Meta]
        notes = [describe(self._app.view_functions[rule.endpoint]) for rule in self.generate_rules()]
        for note in (*notes, *(describe(route.handler) for route in self.raw)):
            models += [
                model
                for model in (note.data, note.body, note.beside, note.query, note.form)
                if model is not None
            ]
        self._schemas, self._components = components(models)
        document = super().schema()
        for route in self.raw:
            path = _PARAMETER.sub(r"{\1}", route.path)
            operation = self._raw_operation(route, path)
            document["paths"].setdefault(path, {})[route.method.lower()] = operation
        document["paths"] = {path: document["paths"][path] for path in sorted(document["paths"])}
        document["components"]["schemas"] = dict(sorted(self._components.items()))
        return document

    def generate_rules(self) -> Iterator[Rule]:
        for rule in super().generate_rules():
            if hasattr(self._app.view_functions[rule.endpoint], NOTE):
                yield rule

    def build_paths(self, rule: Rule) -> tuple[dict[str, Any], dict[str, Any]]:
        view = self._app.view_functions[rule.endpoint]
        note = describe(view)
        operation: dict[str, Any] = {
            "parameters": [self.build_path_parameter(name, c) for name, c in rule._converters.items()],
            "responses": self._responses(note),
        }
        _tell(operation, view)
        blueprint, _, _ = rule.endpoint.rpartition(".")
        if blueprint:
            operation["tags"] = [blueprint]
        operation["security"] = {True: [{"bearer": []}], None: [{}, {"bearer": []}], False: []}[note.login]
        if note.query is not None:
            operation["parameters"] += self._query(note.query)
        if note.body is not None:
            operation["requestBody"] = {
                "required": not note.body_optional,
                "content": {"application/json": {"schema": self._schemas[note.body]}},
            }
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        methods = {}
        for method in sorted(self.generate_methods(rule)):
            operation_id = f"{method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', path).rstrip('_')}"
            methods[method.lower()] = {**operation, "operationId": operation_id}
        return {path: methods}, {}

    def _raw_operation(self, route: Raw, path: str) -> dict[str, Any]:
        note = describe(route.handler)
        text = {"type": "string"}
        parameters: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": text}
            for name in _PARAMETER.findall(route.path)
        ]
        parameters += [
            {"name": name, "in": "header", "required": False, "description": says, "schema": text}
            for name, says in note.headers_in.items()
        ]
        operation: dict[str, Any] = {
            "parameters": parameters,
            "responses": self._responses(note, _STATUS | _STATUS_OF_FILES),
            "tags": [route.tag],
            "security": [{"bearer": []}] if note.login else [],
            "operationId": f"{route.method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', path).rstrip('_')}",
        }
        if route.method == "HEAD":
            operation["responses"][str(note.status)].pop("content", None)
        _tell(operation, route.handler)
        content: dict[str, Any] = {}
        if note.files:
            fields = self._components[self._schemas[note.form]["$ref"].rpartition("/")[2]]["properties"]
            binary = {"type": "string", "contentMediaType": "application/octet-stream"}
            content["multipart/form-data"] = {
                "schema": {
                    "type": "object",
                    "properties": {**dict.fromkeys(note.files, binary), **fields},
                    "anyOf": [{"required": [name]} for name in note.files],
                }
            }
        if note.bytes_of is not None:
            content[note.bytes_of] = {}
        if content:
            operation["requestBody"] = {"required": bool(note.files), "content": content}
        return operation

    def _responses(self, note: Description, says: Mapping[int, str] = _STATUS) -> dict[str, Any]:
        if note.content_type is not None:
            content: dict[str, Any] = {note.content_type: {}}
        else:
            content = {"application/json": {"schema": self._success(note)}}
        if note.status == 204:
            content = {}
        answers: dict[str, Any] = {str(note.status): {"description": "Success", "content": content}}
        if note.headers_out:
            answers[str(note.status)]["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in note.headers_out.items()
            }
        statuses = set(note.fails)
        if note.content_type is None:
            statuses |= {429, 503}
        if note.body is not None:
            statuses |= {400, 413, 415}
        if note.query is not None:
            statuses.add(400)
        if note.login:
            statuses.add(401)
        for status in sorted(statuses):
            answers[str(status)] = {
                "description": says.get(status, "Failure"),
                "content": {"application/json": {"schema": self._schemas[ErrorAnswer]}},
            }
        return answers

    def _success(self, note: Description) -> dict[str, Any]:
        properties: dict[str, Any] = {
            "success": {"const": True},
            "message": {"type": "string"},
            "data": {"type": "null"} if note.data is None else self._schemas[note.data],
        }
        required = ["success", "data"]
        if note.listing:
            properties["meta"] = self._schemas[Meta]
            required.append("meta")
        envelope = {"type": "object", "properties": properties, "required": required}
        return envelope if note.beside is None else {"allOf": [envelope, self._schemas[note.beside]]}

    def _query(self, model: type[msgspec.Struct]) -> list[dict[str, Any]]:
        schema = self._components[self._schemas[model]["$ref"].rpartition("/")[2]]
        return [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": shape}
            for name, shape in schema["properties"].items()
        ]


def _tell(operation: dict[str, Any], view: Callable[..., Any]) -> None:
    """Take summary and description from the docstring."""
    if text := inspect.getdoc(view):
        summary, _, description = text.partition("\n")
        operation["summary"] = summary.rstrip(".")
        if description.strip():
            operation["description"] = description.strip()
