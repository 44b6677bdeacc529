"""A gateway in an application that exists already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette

from app.gateway import gateway_of
from app.problems import install_gateway_problems


def mount_gateway(app: Starlette, path: str, gateway: FastAPI) -> None:
    """Mount a gateway in an application, before that starts.

    The gateway starts before the application's own lifespan and stops after it, so that both ends of that can publish.
    Endpoints of the application ask for `CurrentUser`, `CurrentManager`, `Publisher` and `CurrentSettings` as those of
    the gateway do, and answer the gateway's errors with problems (RFC 9457). `app.server.serve` serves the application.

    Args:
        app: the application; its middleware is before the gateway, too.
        path: where the gateway is, such as `/realtime`: WebSockets at `/realtime/connection/websocket`.
        gateway: an application of `create_app`. One lifespan is enough for it: it cannot be mounted twice.

    Raises:
        NoGateway: `gateway` is none.
        ValueError: `app` has a `state.gateway` already.
    """
    carried = gateway_of(gateway)
    if hasattr(app.state, "gateway"):
        raise ValueError("the application has a gateway already (state.gateway)")
    app.state.gateway = carried
    gateway.state.auditor.count_in(app)
    own = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: Any) -> AsyncIterator[Any]:
        async with gateway.router.lifespan_context(gateway) as given, own(running) as state:
            yield {**given, **(state or {})} if given else state

    app.router.lifespan_context = lifespan
    install_gateway_problems(app)
    app.mount(path, gateway)
