"""Puts the edge together: routes, errors and the life of the application around one container."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute

from app.guard import RequestGuard
from app.isolation import Auditor
from app.problems import install_problems
from app.realtime.broker import BrokerUnavailable
from app.routes import events, isolation, operations, users
from app.routes.schemas import install_openapi
from app.shortcut import Shortcut
from app.websocket import WebSocketEndpoint
from config import ConfigurationError, find_problems
from containers import GatewayContainer
from providers import prove_async


class Gateway:
    """The running gateway of one application, in `app.state.gateway`.

    Args:
        container: what it is made of.
    """

    def __init__(self, container: GatewayContainer) -> None:
        """Nothing runs yet."""
        self._container = container

    async def drain(self) -> None:
        """Take no new connections and end all with 3001, over `shutdown.drain_seconds`."""
        await self._container.control().drain(self._container.settings().shutdown.drain_seconds)

    async def _prove(self) -> None:
        lifecycle = self._container.lifecycle()
        untouched = lifecycle.total == 0
        await prove_async(self._container, self._container.probes())
        if untouched:
            lifecycle.clear()  # the proof's own two users, whom nobody should look for

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to stop. Connections end before the broker: a slow broker must not keep a dead socket open.

        Raises:
            config.ConfigurationError: the settings are not fit for production.
            providers.ProofError: the wiring does not keep users apart, or cannot be shown to.
        """
        settings = self._container.settings()
        # `bulkhead serve` has said it already; whoever runs the application otherwise must be stopped as well.
        if settings.profile == "production" and (problems := find_problems(settings)):
            raise ConfigurationError(problems)
        await self._prove()
        broker, control = self._container.broker(), self._container.control()
        await broker.start(control)
        try:
            with contextlib.suppress(BrokerUnavailable):  # then it is done as soon as it can be
                await control.synchronize()
            async with self._container.emergency().running():
                yield
        finally:
            try:
                await control.drain(0)
                # Half of what draining leaves of the grace period: connections and the server want some of it, too.
                await control.flush(max(0, settings.shutdown.grace_seconds - settings.shutdown.drain_seconds) / 2)
            finally:
                await broker.close()


def create_app(container: GatewayContainer | None = None) -> FastAPI:
    """Build the application of a container.

    Args:
        container: default: one of its own, with settings from files, environment and `.env`, so that this is a uvicorn
            factory without arguments.

    Returns:
        The application. It carries its container as `app.state.container`; nothing is global, so many applications with
        many containers live in one process.

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
