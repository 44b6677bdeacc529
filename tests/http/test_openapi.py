"""The description of the API: complete, true to the routes, and not for production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute

from app import create_app
from app.routes import events, isolation, users
from app.routes import operations as operators
from app.testing import gateway_container
from tests.gateway import API_KEY, build_container, serving
from tests.ports import free_port

Json = dict[str, Any]


def described() -> Json:
    return create_app(gateway_container(docs=True)).openapi()


def operations(schema: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents(operation: Json) -> Iterator[tuple[str, str, Json]]:
    """Status, media type and description of every body of an operation; the request's status is `request`."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", media_type, content
    for status, response in operation["responses"].items():
        for media_type, content in response.get("content", {}).items():
            yield status, media_type, content


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def has_example(schema: Json, content: Json) -> bool:
    """Whether a body has an example, of its own or in every field that is not itself an object with examples."""
    if "example" in content or "examples" in content:
        return True
    kind = content.get("schema", content)
    if "$ref" in kind:
        kind = schema["components"]["schemas"][kind["$ref"].rpartition("/")[2]]
    if "examples" in kind or "default" in kind or "const" in kind or kind.get("type") == "boolean":
        return True
    if "properties" in kind:
        return all(has_example(schema, field) for field in kind["properties"].values())
    return "items" in kind and has_example(schema, kind["items"])


async def test_it_is_served_where_it_is_switched_on_and_nowhere_else() -> None:
    async with serving(build_container(docs=True, profile="development")) as gateway, gateway.api() as api:
        assert (await api.get("/openapi.json")).json()["openapi"].startswith("3.1")
        assert (await api.get("/docs")).status_code == 200
    async with serving(build_container(profile="production")) as gateway, gateway.api() as api:
        for path in ("/openapi.json", "/docs", "/redoc"):
            response = await api.get(path)
            assert response.status_code == 404
            assert response.headers["content-type"] == "application/problem+json"


def test_every_route_is_described() -> None:
    names = {name for name, _ in operations(described())}
    assert names == {
        f"{method} {route.path.replace(':path', '')}"
        for router in (events.router, users.router, isolation.router, operators.router)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert names >= {
        "POST /v1/users/{user_id}/events",
        "POST /v1/events",
        "GET /v1/users/{user_id}",
        "DELETE /v1/users/{user_id}/connections",
        "PUT /v1/mode",
        "PUT /v1/users/{user_id}/mode",
        "GET /v1/lifecycle",
        "POST /v1/isolation/audit",
        "GET /health",
        "GET /ready",
        "GET /metrics",
    }


def test_every_operation_says_what_it_does_under_a_name_of_its_own() -> None:
    found = dict(operations(described()))
    for name, operation in found.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert operation["tags"], name
        for response in operation["responses"].values():
            assert response["description"], name
    assert len({operation["operationId"] for operation in found.values()}) == len(found)


def test_every_parameter_is_described_with_an_example() -> None:
    for name, operation in operations(described()):
        parameters = operation.get("parameters", ())
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == ({"user_id"} if "{user_id}" in name else set()), name
        for parameter in parameters:
            assert parameter["required"] == (parameter["in"] == "path")
            assert parameter["description"], name
            assert "example" in parameter or "examples" in parameter["schema"], name


def test_every_body_has_a_schema_and_an_example() -> None:
    schema = described()
    for name, operation in operations(schema):
        if name == "GET /metrics":
            continue  # text
        assert any(status == "200" for status, *_ in contents(operation)), name
        for status, _, content in contents(operation):
            assert content["schema"], (name, status)
            assert has_example(schema, content), (name, status)


def test_every_error_is_described_as_a_problem_with_its_own_status() -> None:
    for name, operation in operations(described()):
        for status, media_type, content in contents(operation):
            if status.startswith(("4", "5")) and name != "GET /health":
                assert media_type == "application/problem+json", (name, status)
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert content["example"]["status"] == int(status)


def test_everything_under_v1_needs_a_key_and_says_so() -> None:
    schema = described()
    assert schema["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    for name, operation in operations(schema):
        guarded = "/v1/" in name
        assert operation.get("security", []) == ([{"ApiKey": []}] if guarded else []), name
        assert ("401" in operation["responses"]) == guarded, name
        if guarded:
            assert "422" in operation["responses"], name


def test_every_reference_leads_somewhere_and_nothing_described_is_unused() -> None:
    schema = described()
    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    assert set(references(schema)) == known


def test_every_field_of_an_event_is_described() -> None:
    schemas = described()["components"]["schemas"]
    assert set(schemas["Event"]["properties"]) == {
        "type",
        "data",
        "thread_id",
        "channel",
        "session_id",
        "idempotency_key",
    }
    assert schemas["Event"]["required"] == ["type", "data"]
    assert set(schemas["UserEvent"]["required"]) == {"type", "data", "user_id"}
    assert set(schemas["Receipt"]["properties"]) >= {"epoch", "offset", "connections"}
    for name in ("Event", "UserEvent", "Receipt"):
        assert schemas[name].get("additionalProperties") is False or name == "Receipt"
        for field, kind in schemas[name]["properties"].items():
            assert kind.get("description"), (name, field)


async def test_whatever_is_answered_without_a_broker_is_described() -> None:
    schema, refused = described(), set()
    nowhere = {"url": f"redis://127.0.0.1:{free_port()}", "timeout": 1}
    async with serving(build_container(broker=nowhere)) as gateway, gateway.api() as api:
        for name, operation in operations(schema):
            method, _, path = name.partition(" ")
            examples = [content.get("example") for status, _, content in contents(operation) if status == "request"]
            body = {"mode": "degraded"} if method == "PUT" else next(iter(examples), None)
            response = await api.request(method, path.format(user_id="alice"), json=body)
            assert str(response.status_code) in operation["responses"], name
            if response.status_code == 503:
                refused.add(name)
    assert refused >= {"GET /v1/users/{user_id}", "DELETE /v1/users/{user_id}/connections"}


async def test_the_examples_do_what_they_show() -> None:
    schema = described()
    async with serving() as gateway, gateway.api() as api:
        for path in ("/v1/users/{user_id}/events", "/v1/events"):
            operation = schema["paths"][path]["post"]
            request = operation["requestBody"]["content"]["application/json"]["example"]
            shown = operation["responses"]["200"]["content"]["application/json"]["example"]
            response = await api.post(path.format(user_id="alice"), json=request)
            assert response.status_code == 200
            first, example = (response.json()[0], shown[0]) if isinstance(shown, list) else (response.json(), shown)
            assert first.keys() == example.keys()
        for status in ("401", "404"):
            response = await api.get("/v1/users/nobody", headers={"X-API-Key": API_KEY if status == "404" else "x"})
            answers = schema["paths"]["/v1/users/{user_id}"]["get"]["responses"]
            assert response.json() == answers[status]["content"]["application/problem+json"]["example"]
