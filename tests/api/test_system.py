"""Health, readiness, measurements, and the OpenAPI document against the routes it describes."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import PASSWORD, Api
from veza import __version__
from veza.http.api.app import RAW, create_app
from veza.http.api.services import assemble


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is ready all the same."""
    monkeypatch.setattr("veza.http.api.system.READY_SECONDS", 60.0)


async def test_alive_and_ready(api: Api) -> None:
    assert (await api.get("/health")).data == {"status": "ok", "version": __version__}
    assert (await api.get("/ready")).data == {"status": "ok", "database": "ok", "actors": "ok"}


@pytest.mark.parametrize("kind", ["says no", "fails", "hangs"])
async def test_not_ready_without_actors(
    api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async def not_ready() -> bool:
        if kind == "fails":
            raise RuntimeError
        if kind == "hangs":
            await trio.sleep_forever()
        return False

    async def at_once() -> None:
        return None

    if kind == "hangs":
        monkeypatch.setattr("veza.http.api.system.READY_SECONDS", 0.05)
        monkeypatch.setattr(api.services.db, "ping", at_once)
    services = assemble(settings, api.services.db, api.services.mailer, actors_ready=not_ready)
    answer = await Api(create_app(services), services).get("/ready")
    assert (answer.status, answer.code) == (503, "NOT_READY")
    assert answer.details == {"database": "ok", "actors": "unavailable"}
    assert answer.headers["retry-after"] == "2"


async def test_a_database_that_hangs_is_not_ready(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veza.http.api.system.READY_SECONDS", 0.05)
    monkeypatch.setattr(api.services.db, "ping", trio.sleep_forever)
    answer = await api.get("/ready")
    assert (answer.status, answer.details["database"]) == (503, "unavailable")


async def metric(api: Api, name: str, **labels: str) -> float:
    text = (await api.get("/metrics")).raw.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return 0.0


async def test_metrics_are_measured(api: Api) -> None:
    before = await metric(api, "veza_http_requests_total", route="/api/v1/auth/me", status="401")
    for _ in range(3):
        await api.get("/auth/me")
    after = await metric(api, "veza_http_requests_total", route="/api/v1/auth/me", status="401", method="GET")
    assert after - before == 3
    assert await metric(api, "veza_http_request_seconds_count", route="/api/v1/auth/me") == after
    assert await metric(api, "process_resident_memory_bytes") > 1_000_000
    assert await metric(api, "veza_db_connections_open") >= 1
    person = await api.person()
    await api.get("/auth/me", token=person.token)
    await api.get("/auth/me", token=person.token)
    assert await metric(api, "veza_sessions_cached") == 1
    assert await metric(api, "veza_session_cache_hits_total") == 1


async def test_scanners_do_not_grow_the_metrics(api: Api) -> None:
    for number in range(1, 21):
        await api.get(f"/nothing/{number}")
        await api.get(f"/users/{number}")
        await api.request(f"WEIRD{number}", "/auth/me")
    text = (await api.get("/metrics")).raw.decode()
    assert "nothing" not in text and "WEIRD" not in text
    assert await metric(api, "veza_http_requests_total", route="unmatched", method="GET") == 20
    assert "password" not in text.replace("veza_passwords", "") and "@" not in text


async def test_two_applications_share_nothing(api: Api, settings: Any) -> None:
    services = assemble(settings, api.services.db, api.services.mailer)
    other = Api(create_app(services), services)
    await api.get("/auth/me")
    assert await metric(other, "veza_http_requests_total", route="/api/v1/auth/me") == 0


async def test_addresses_can_be_built_all_the_same(api: Api) -> None:
    """`LateRule` leans on how werkzeug's rules build theirs, which it does not document."""
    rule = next(rule for rule in api.app.url_map.iter_rules() if rule.rule == "/api/v1/users/<id:user_id>")
    assert rule.build({"user_id": 7, "x": "ü"}) == ("", "/api/v1/users/7?x=%C3%BC")
    assert rule.build({"user_id": 7, "x": 1}, append_unknown=False) == ("", "/api/v1/users/7")


# The OpenAPI document --------------------------------------------------------------------------------


@pytest.fixture
async def document(api: Api) -> Any:
    answer = await api.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


async def test_the_document_is_complete(api: Api, document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Veza" and document["info"]["version"] == __version__
    described = {
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    }
    routes = {
        (method, re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule))
        for rule in api.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    beside = {(route.method, re.sub(r"<([^<>]+)>", r"{\1}", route.path)) for route in RAW}
    assert described == routes | beside and beside
    for path in (
        "/auth/register",
        "/auth/login",
        "/auth/refresh",
        "/auth/logout",
        "/auth/logout-all",
        "/auth/me",
    ):
        assert f"/api/v1{path}" in document["paths"]
    components = document["components"]["schemas"]
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in components


async def test_every_operation_says_what_it_needs_and_how_it_fails(document: Any) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    seen = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["tags"] and set(operation["tags"]) <= tags, where
            assert operation["operationId"] not in seen, where
            seen.add(operation["operationId"])
            if operation["security"] == [{"bearer": []}]:
                assert "401" in operation["responses"], where
            if "requestBody" in operation:
                assert "400" in operation["responses"] and "415" in operation["responses"], where
            names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert names == set(re.findall(r"{([^}]+)}", path)), where
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, where
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


async def test_bodies_never_offer_privileges(document: Any) -> None:
    for name in ("Registration", "ProfileForm", "Login"):
        fields = set(document["components"]["schemas"][name]["properties"])
        assert not fields & {"role", "is_active", "is_verified", "banned_until", "id"}


async def test_answers_hold_what_the_document_says(api: Api, document: Any) -> None:
    """The real answers, checked against the schemas (those keywords of JSON Schema that msgspec uses)."""
    person = await api.person("nina", first_name="Nina")
    calls = [
        ("get", "/auth/me", None),
        ("get", "/auth/sessions", None),
        ("get", "/users", None),
        ("get", "/users/profile", None),
        ("get", f"/users/{person.id}", None),
        ("put", "/users/me", {"bio": "x"}),
        ("post", "/auth/login", {"email": person.email, "password": PASSWORD}),
        ("post", "/auth/refresh", {"refresh_token": person.refresh_token}),
        ("get", "/health", None),
        ("get", "/ready", None),
        ("post", "/auth/logout-all", None),
        ("get", "/auth/me", None),  # now a failure
        ("post", "/auth/login", {}),
    ]
    for method, path, body in calls:
        answer = await api.request(method.upper(), path, body, token=person.token)
        template = path.replace(f"/users/{person.id}", "/users/{user_id}")
        full = template if template in document["paths"] else f"/api/v1{template}"
        operation = document["paths"][full][method]
        schema = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
        check(answer.json, schema, document["components"]["schemas"], f"{method} {path}")


def check(value: Any, schema: Any, components: Any, where: str) -> None:
    """Enough of JSON Schema for what our models use; an unknown keyword fails the test."""
    known = {"$ref", "allOf", "anyOf", "const", "enum", "type", "properties", "required", "items"}
    notes = {
        "title",
        "description",
        "default",
        "format",
        "additionalProperties",
        "pattern",
        "maxLength",
        "minLength",
    }
    assert set(schema) <= known | notes, (where, schema)
    if "$ref" in schema:
        check(value, components[schema["$ref"].rpartition("/")[2]], components, where)
    for part in schema.get("allOf", ()):
        check(value, part, components, where)
    if "anyOf" in schema:
        failures = 0
        for part in schema["anyOf"]:
            try:
                check(value, part, components, where)
            except AssertionError:
                failures += 1
        assert failures < len(schema["anyOf"]), (where, value, schema)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
        "number": (int, float),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (where, value, schema)
    for name in schema.get("required", ()):
        assert name in value, (where, name)
    if isinstance(value, dict):
        for name, shape in schema.get("properties", {}).items():
            if name in value:
                check(value[name], shape, components, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for item in value:
            check(item, schema["items"], components, where)


async def test_times_end_in_z(api: Api) -> None:
    person = await api.person()
    raw = (await api.get("/auth/me", token=person.token)).raw
    times = re.findall(rb'"[a-z_]+_at":"([^"]+)"', raw)
    assert len(times) >= 3
    for time in times:
        assert msgspec.json.decode(b'"' + time + b'"') and time.endswith(b"Z")
