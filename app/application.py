"""Puts the edge together: routes, errors and the life of the application around one container."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

from app.gateway import Gateway
from app.guard import RequestGuard, StartGuard
from app.isolation import Auditor
from app.problems import install_problems
from app.routes import events, isolation, operations, users
from app.routes.schemas import install_openapi
from app.shortcut import Shortcut
from app.websocket import WebSocketEndpoint
from containers import GatewayContainer


def create_app(container: GatewayContainer | None = None) -> FastAPI:
    """Build the application of a container.

    Args:
        container: default: one of its own, with settings from files, environment and `.env`, so that this is a uvicorn
            factory without arguments.

    Returns:
        The application. It carries its container as `app.state.container`; nothing is global, so many applications with
        many containers live in one process. It serves while its lifespan runs, and answers 503 before and after.

    Raises:
        config.ConfigurationError: the settings cannot be read.
    """
    container = container or GatewayContainer()
    settings = container.settings()
    gateway = Gateway(container)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.running(), auditor.running():
            yield

    app = FastAPI(
        title="Bulkhead",
        version=version("bulkhead-gateway"),
        summary="Real-time events for signed-in users, each behind a wall of their own.",
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        # FastAPI's own would record paths with user ids, and the text of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        redirect_slashes=False,  # A path is right or wrong: with a slash at its end it would name another user.
    )
    auditor = Auditor(app, container)
    app.state.container = container
    app.state.gateway = gateway
    app.state.auditor = auditor
    app.add_middleware(RequestGuard, body_bytes=settings.limits.body_bytes)
    app.add_middleware(Shortcut, routes=[route for route in events.router.routes if isinstance(route, APIRoute)])
    app.add_middleware(StartGuard, gateway=gateway)
    install_problems(app)
    install_openapi(app, events.Event, events.UserEvent, events.Receipt)
    app.router.routes.insert(0, WebSocketRoute("/connection/websocket", WebSocketEndpoint(container)))
    for router in (events.router, users.router, isolation.router, operations.router):
        app.include_router(router)
    if settings.demo:
        from app.demo import routes

        app.include_router(routes.router)
        app.mount("/demo/static", routes.static_files())
    return app
