"""Every error is a problem detail (RFC 9457), and none says what it must not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from pydantic import BaseModel
from starlette.requests import Request

from app import create_app
from app.realtime.broker import BrokerError
from app.realtime.identity import check_id
from app.testing import gateway_container, serve
from tests.gateway import API_KEY, SECONDS, serving

SECRET = "the password is swordfish"


def check(response: httpx.Response, status: int, kind: str = "about:blank") -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == kind
    assert problem["title"]
    assert problem.keys() <= {"type", "title", "status", "detail", "errors"}
    return problem


async def test_what_is_not_there_is_a_problem() -> None:
    async with serving() as gateway, gateway.api() as api:
        for route in (
            "GET /",
            "GET /v1",
            "POST /v2/events",
            "GET /connection/websocket/",
            "POST /v1/events/",
            "GET /docs",
            "GET /metrics/x",
        ):
            problem = check(await api.request(*route.split()), 404)
            assert problem == {"type": "about:blank", "title": "Not Found", "status": 404}


async def test_a_method_that_is_not_allowed_is_a_problem_that_says_which_are() -> None:
    async with serving() as gateway, gateway.api() as api:
        for method, path, allowed in (
            ("GET", "/v1/events", "POST"),
            ("POST", "/v1/users/alice/events/", "GET"),
            ("DELETE", "/v1/mode", "PUT"),
            ("POST", "/health", "GET"),
            ("PATCH", "/v1/lifecycle", "GET"),
        ):
            response = await api.request(method, path)
            assert check(response, 405)["title"] == "Method Not Allowed"
            assert response.headers["allow"] == allowed


async def test_fields_at_fault_are_named_and_their_values_are_not() -> None:
    async with serving() as gateway, gateway.api() as api:
        response = await api.put("/v1/mode", json={"mode": SECRET, "more": SECRET})
        problem = check(response, 422, "urn:bulkhead:problem:invalid-request")
        assert [error["at"] for error in problem["errors"]] == ["body.mode", "body.more"]
        assert all(error["message"] for error in problem["errors"])
        assert "swordfish" not in response.text
        response = await api.get("/v1/lifecycle", params={"limit": SECRET})
        problem = check(response, 422, "urn:bulkhead:problem:invalid-request")
        assert [error["at"] for error in problem["errors"]] == ["query.limit"]
        assert "swordfish" not in response.text


@pytest.mark.parametrize("path", ["/v1/users/alice/events", "/v1/events", "/own"])
async def test_a_client_that_goes_away_within_its_body_leaves_no_line_in_the_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(gateway_container(api_keys=[API_KEY]))

    @app.post("/own")
    async def own(request: Request) -> None:
        await request.body()

    caplog.set_level(logging.INFO)
    async with serve(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = {"Host": "x", "X-API-Key": API_KEY, "Content-Length": "9", "Expect": "100-continue"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode())
        async with asyncio.timeout(SECONDS):
            assert b"100 Continue" in await reader.readline()  # it waits for the body
        writer.write(b"{")
        writer.close()
        await writer.wait_closed()
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


class Answer(BaseModel):
    number: int


async def test_errors_of_an_applications_own_routes_are_problems_too_and_leak_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(gateway_container())

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError(SECRET)

    @app.get("/boom-in-a-thread")
    def boom_in_a_thread() -> None:
        raise KeyError(SECRET)

    @app.get("/wrong-answer")
    async def wrong_answer() -> Answer:
        return {"number": SECRET}  # type: ignore[return-value]

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "Short and stout.", headers={"X-Tea": "yes"})

    @app.get("/broker")
    async def broker() -> None:
        raise BrokerError(SECRET)

    @app.get("/id")
    async def bad_id() -> None:
        check_id("room", "swordfish\0")

    caplog.set_level(logging.INFO, "app")
    async with serve(app) as url, httpx.AsyncClient(base_url=url) as http:
        for path in ("/boom", "/boom-in-a-thread", "/wrong-answer"):
            response = await http.get(path)
            problem = check(response, 500)
            assert problem == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
            assert "swordfish" not in response.text + str(response.headers)
        response = await http.get("/teapot")
        assert check(response, 418)["detail"] == "Short and stout."
        assert response.headers["x-tea"] == "yes"
        response = await http.get("/broker")
        check(response, 503, "urn:bulkhead:problem:broker-unavailable")
        assert response.headers["retry-after"] == "1"
        assert "swordfish" not in response.text
        problem = check(await http.get("/id"), 422, "urn:bulkhead:problem:invalid-id")
        assert problem["detail"] == "room contains control characters, which are not allowed."
        assert (await http.get("/ready")).status_code == 200
    assert "a request failed: ValueError" in caplog.messages
    assert not any("swordfish" in message for message in caplog.messages)
