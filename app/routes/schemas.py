"""OpenAPI of bodies that msgspec reads and writes: described from the same types, so that they cannot drift apart."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.problems import MEDIA_TYPE, Problem

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
    content = {MEDIA_TYPE: {"schema": ref(Problem), "example": dict(_EXAMPLE)}}
    return {status: {"description": _DESCRIPTIONS[status], "content": content} for status in statuses}


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


_DESCRIPTIONS = MappingProxyType(
    {
        401: "No key or token, or none that is valid.",
        404: "There is nothing of this name.",
        409: "A limit on what is kept is reached.",
        413: "The body or the event is too large.",
        422: "A field breaks a rule; see detail and errors.",
        503: "Not now: the mode or the broker does not allow it; see Retry-After.",
    }
)
_EXAMPLE = MappingProxyType(
    msgspec.to_builtins(
        Problem("urn:bulkhead:problem:invalid-id", "Invalid id", 422, "user_id contains control characters.")
    )
)
