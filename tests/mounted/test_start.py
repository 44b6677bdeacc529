"""A gateway that has not started serves nobody: nothing is proved of it yet."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.types import ASGIApp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app import create_app, mount_gateway
from app.dependencies import CurrentManager
from app.gateway import NoGateway
from app.testing import token
from containers import GatewayContainer
from tests.gateway import RunningGateway, build_container
from tests.mounted.application import uvicorn_serving

PATHS = ("/ready", "/health", "/metrics", "/openapi.json", "/v1/users/alice", "/nowhere", "/demo/static/chat.js", "/")


def mounted_by_hand(gateway: FastAPI) -> FastAPI:
    """As anybody would do it who knows the framework."""
    app = FastAPI()
    app.mount("/rt", gateway)
    return app


async def refuses(container: GatewayContainer, url: str) -> None:
    """See that every request is refused, and how."""
    gateway = RunningGateway(container, url)
    async with gateway.api() as api:
        answers = [await api.get(path) for path in PATHS]
        answers.append(await api.post("/v1/users/alice/events", json={"type": "a", "data": 1}))
        answers.append(await api.post("/v1/events", json=[]))
    for answer in answers:
        assert answer.status_code == 503, answer.url
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:bulkhead:problem:not-started"
        assert "app.mount_gateway" in answer.json()["detail"]
    async with gateway.client() as client:
        code, reason = await client.closed()
    assert (code, reason[:43]) == (3004, "The gateway has not started, or has stopped")
    assert container.lifecycle().total == 0


async def test_a_gateway_that_is_mounted_without_its_lifespan_refuses_everything() -> None:
    container = build_container(docs=True, demo=True, profile="development")
    async with uvicorn_serving(mounted_by_hand(create_app(container))) as url:
        await refuses(container, f"{url}/rt")


@pytest.mark.parametrize("mounted", [False, True])
async def test_a_server_that_leaves_the_lifespan_out_gets_no_gateway(mounted: bool) -> None:
    container = build_container()
    gateway = create_app(container)
    app: ASGIApp = gateway
    if mounted:
        mount_gateway(parent := FastAPI(), "/rt", gateway)
        app = parent
    async with uvicorn_serving(app, lifespan="off") as url:
        await refuses(container, f"{url}/rt" if mounted else url)


async def test_after_the_lifespan_nobody_is_served() -> None:
    container = build_container()
    app = create_app(container)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await http.get("/ready")).status_code == 503
        async with app.router.lifespan_context(app):
            assert (await http.get("/ready")).status_code == 200
        assert (await http.get("/ready")).json()["type"] == "urn:bulkhead:problem:not-started"


async def test_a_gateway_whose_start_fails_serves_nobody() -> None:
    app = create_app(build_container(profile="production", docs=True))
    with pytest.raises(Exception, match="docs"):
        async with app.router.lifespan_context(app):
            pytest.fail("docs are not for production")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await http.get("/ready")).status_code == 503


def with_endpoints() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(manager: CurrentManager) -> str:
        return manager.key

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, manager: CurrentManager) -> None:
        await websocket.accept()

    return app


async def test_an_endpoint_of_an_application_without_a_gateway_says_how_to_get_one() -> None:
    app = with_endpoints()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        with pytest.raises(NoGateway, match=r"app\.create_app gives.*app\.mount_gateway"):
            await http.get("/me")


async def test_an_endpoint_beside_a_gateway_that_has_not_started_is_refused() -> None:
    container = build_container()
    mount_gateway(app := with_endpoints(), "/rt", create_app(container))
    headers = {"Authorization": f"Bearer {token(container, 'alice')}"}
    async with uvicorn_serving(app, lifespan="off") as url, httpx.AsyncClient() as http:
        answer = await http.get(f"{url}/me", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:bulkhead:problem:not-started")
        async with connect(f"{url.replace('http', 'ws')}/socket", additional_headers=headers) as socket:
            with pytest.raises(ConnectionClosed, match="3004"):
                await socket.recv()
    assert container.lifecycle().total == 0


def test_only_a_gateway_can_be_mounted_and_only_one() -> None:
    app = FastAPI()
    with pytest.raises(NoGateway):
        mount_gateway(app, "/rt", FastAPI())
    mount_gateway(app, "/rt", create_app(build_container()))
    with pytest.raises(ValueError, match="has a gateway already"):
        mount_gateway(app, "/other", create_app(build_container()))
