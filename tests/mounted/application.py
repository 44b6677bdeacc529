"""A gateway below a path: behind a proxy that strips a prefix (`root_path`), mounted in an application, or both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import create_app, mount_gateway
from app.listening import listen
from containers import GatewayContainer
from tests.gateway import RunningGateway


@asynccontextmanager
async def uvicorn_serving(
    app: ASGIApp, root_path: str = "", lifespan: Literal["on", "off"] = "on"
) -> AsyncIterator[str]:
    """Serve by uvicorn as it comes, on a free port."""
    config = uvicorn.Config(app, root_path=root_path, lifespan=lifespan, ws="websockets-sansio", log_config=None)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        await server_started(server, serving := asyncio.create_task(server.serve([listener])))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def server_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        while not server.started:
            assert not serving.done(), "it did not start"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def below(container: GatewayContainer, root_path: str, mounted_at: str) -> AsyncIterator[RunningGateway]:
    """Serve a gateway with a root path and, if a path is given, mounted there in another application."""
    gateway = create_app(container)
    app = gateway
    if mounted_at:
        app = FastAPI()
        mount_gateway(app, mounted_at, gateway)
    async with uvicorn_serving(app, root_path) as url:
        yield RunningGateway(container, f"{url}{mounted_at}")
