"""A gateway in an application that exists already: it starts and stops with it, and serves its endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.from_thread
import httpx
from fastapi import APIRouter, FastAPI, Request, WebSocket
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from websockets.asyncio.client import connect

from app import create_app, mount_gateway
from app.dependencies import CurrentManager, CurrentSettings, CurrentUser, Publisher
from app.realtime import UserContext
from app.testing import api_headers, serve, token
from containers import GatewayContainer
from tests.gateway import RunningGateway, build_container
from tests.mounted.application import uvicorn_serving


def shop(container: GatewayContainer, ends: list[str]) -> FastAPI:
    """An application with a lifespan, state, middleware and endpoints of its own."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await container.publisher().publish_to_user("alice", "opened", 1)
        ends.append("opened")
        yield {"shop": "ours"}
        await container.publisher().publish_to_user("alice", "closed", 1)
        ends.append("closed")

    @asynccontextmanager
    async def of_the_gateway(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"gateway": "ours, too"}

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])
    app.add_middleware(GZipMiddleware)

    gateway = create_app(container)
    gateway.include_router(APIRouter(lifespan=of_the_gateway))

    @gateway.get("/state")
    async def state(request: Request) -> list[str]:
        return [request.state.gateway, request.state.shop]

    @app.get("/me")
    async def me(request: Request, user: CurrentUser, settings: CurrentSettings) -> dict[str, str]:
        return {"user": user.user_id or "", "mode": settings.mode, "state": request.state.shop}

    @app.post("/orders")
    async def order(manager: CurrentManager) -> int:
        return (await manager.emit("order_received", 1)).connections

    @app.post("/gifts/{friend}")
    def gift(friend: str, publisher: Publisher) -> int:
        return anyio.from_thread.run(publisher.publish_to_user, friend, "gift", 1).connections

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, manager: CurrentManager) -> None:
        await websocket.accept()
        await websocket.send_text(manager.key)
        await websocket.close()

    mount_gateway(app, "/rt", gateway)
    return app


def bearer(container: GatewayContainer, user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(container, user)}"}


async def test_endpoints_beside_a_gateway_have_its_users_and_managers() -> None:
    container = build_container()
    async with (
        uvicorn_serving(shop(container, [])) as url,
        RunningGateway(container, f"{url}/rt").connected("alice") as alice,
        httpx.AsyncClient(base_url=url, headers=bearer(container, "alice")) as http,
    ):
        assert (await http.get("/me")).json() == {
            "user": "alice",
            "mode": "unified",
            "state": "ours",
        }
        assert (await http.get("/rt/state")).json() == ["ours, too", "ours"]
        assert (await http.post("/orders")).json() == 1
        assert (await http.post("/gifts/alice")).json() == 1
        assert [each["data"]["type"] for each in await alice.publications(2)] == ["order_received", "gift"]
        async with connect(
            f"{url.replace('http', 'ws')}/socket", additional_headers=bearer(container, "alice")
        ) as socket:
            assert await socket.recv() == "user:alice"


async def test_errors_of_the_gateway_are_problems_in_the_application_and_its_own_are_as_they_were() -> None:
    container = build_container()
    async with uvicorn_serving(shop(container, [])) as url, httpx.AsyncClient(base_url=url) as http:
        refused = await http.get("/me")
        assert (refused.status_code, refused.json()["type"]) == (401, "urn:bulkhead:problem:unauthorized")
        assert (await http.get("/nowhere")).json() == {"detail": "Not Found"}
        too_long = await http.post(f"/gifts/{'x' * 256}")
        assert (too_long.status_code, too_long.json()["type"]) == (422, "urn:bulkhead:problem:invalid-id")


async def test_the_gateway_starts_before_the_application_and_stops_after_it() -> None:
    container = build_container()
    ends: list[str] = []
    alice = UserContext(user_id="alice").key
    app = shop(container, ends)
    async with app.router.lifespan_context(app):
        assert ends == ["opened"]
        (stream,) = await container.broker().streams(alice)
        assert stream.position.offset == 1
    assert ends == ["opened", "closed"]
    assert container.control().draining


async def test_users_of_a_mounted_gateway_share_nothing_by_its_audit() -> None:
    container = build_container()
    async with uvicorn_serving(shop(container, [])) as url:
        gateway = RunningGateway(container, f"{url}/rt")
        async with gateway.connected("alice"), gateway.connected("bob"), gateway.api() as api:
            assert (await api.get("/ready")).status_code == 200
            report = (await api.post("/v1/isolation/audit")).json()
            assert (report["isolated"], report["managers"], report["shared"]) == (True, 2, [])


async def test_users_of_a_gateway_share_nothing_under_uvicorn_as_it_comes() -> None:
    container = build_container()
    async with uvicorn_serving(create_app(container)) as url:
        gateway = RunningGateway(container, url)
        async with gateway.connected("alice"), gateway.connected("bob"), gateway.api() as api:
            report = (await api.post("/v1/isolation/audit")).json()
            assert (report["isolated"], report["managers"], report["shared"]) == (True, 2, [])


async def test_the_server_for_tests_drains_a_mounted_gateway() -> None:
    container = build_container()
    async with serve(shop(container, [])) as url:
        client = RunningGateway(container, f"{url}/rt").connected("alice")
        alice = await client.__aenter__()
        async with httpx.AsyncClient(headers=api_headers(container)) as http:
            event = {"type": "a", "data": 1}
            assert (await http.post(f"{url}/rt/v1/users/alice/events", json=event)).json()["connections"] == 1
    assert await alice.closed() == (3001, "shutdown")
    await client.__aexit__(None, None, None)
