"""OpenAPI of bodies that msgspec reads and writes: described from the same types, so that they cannot drift apart."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.problems import MEDIA_TYPE, Problem, ProblemError

REF = "#/components/schemas/{name}"


def ref(kind: Any) -> dict[str, Any]:
    """The schema of a type, by reference where it has a name."""
    (schema,), _ = msgspec.json.schema_components((kind,), ref_template=REF)
    return schema


def json_body(kind: Any, example: Any) -> dict[str, Any]:
    """A request body of this type, for `openapi_extra`."""
    return {"required": True, "content": {"application/json": {"schema": ref(kind), "example": example}}}


def json_answer(kind: Any, example: Any, description: str) -> dict[str, Any]:
    """A response of this type, for `responses`."""
    return {"description": description, "content": {"application/json": {"schema": ref(kind), "example": example}}}


def problem_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses that are problem details (RFC 9457)."""
    return {status: _problem_answer(*_PROBLEMS[status]) for status in statuses}


def _problem_answer(description: str, problem: Problem) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": ref(Problem), "example": msgspec.to_builtins(problem)}}
    return {"description": description, "content": content}


def install_openapi(app: FastAPI, *kinds: Any) -> None:
    """Describe the application, these types among its schemas."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
            )
            _, components = msgspec.json.schema_components((*kinds, Problem), ref_template=REF)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _example(status: int, kind: str, detail: str) -> Problem:
    return ProblemError(status, kind, detail).problem


_PROBLEMS = MappingProxyType(
    {
        400: (
            "The body cannot be read.",
            Problem("about:blank", "Bad Request", 400, "There was an error parsing the body"),
        ),
        401: (
            "No key or token, or none that is valid.",
            _example(401, "invalid-api-key", "Send one of the configured keys in X-API-Key."),
        ),
        404: (
            "There is nothing of this name.",
            _example(404, "unknown-user", "This user has no connection, request or stream here."),
        ),
        409: (
            "A limit on what is kept is reached, or an audit runs already.",
            _example(409, "mode-limit-exceeded", "modes are set for 10000 users already; clear some."),
        ),
        413: (
            "The body or the event is too large.",
            _example(413, "body-too-large", "The body has more than 8388608 bytes (limits.body_bytes)."),
        ),
        422: (
            "A field breaks a rule; see detail and errors.",
            _example(422, "invalid-id", "user_id contains control characters, which are not allowed."),
        ),
        503: (
            "Not now: the mode or the broker does not allow it; see Retry-After.",
            _example(503, "broker-unavailable", "The broker cannot be reached."),
        ),
    }
)
