"""The gateway that an application carries: it starts, runs and stops with the application's lifespan."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from app.problems import ProblemError
from app.realtime.broker import BrokerUnavailable
from config import ConfigurationError, find_problems
from containers import GatewayContainer
from providers import prove_async


class NoGateway(RuntimeError):
    """An application has no gateway; says how it gets one."""


class Gateway:
    """The gateway of one application, in `app.state.gateway`.

    Args:
        container: what it is made of.
    """

    def __init__(self, container: GatewayContainer) -> None:
        """Nothing runs yet."""
        self.container = container
        self._started = False

    @property
    def started(self) -> bool:
        """Whether it may serve: its wiring is proved, its broker runs, and it has not stopped."""
        return self._started

    def check_started(self) -> None:
        """Let nobody in before the start, nor after the stop.

        Raises:
            ProblemError: 503; a WebSocket is accepted and closed with 3004.
        """
        if not self._started:
            raise ProblemError(
                503,
                "not-started",
                "The gateway has not started, or has stopped. It runs as long as the lifespan of its application: the "
                "server must not leave that out, and who mounts the application does it with app.mount_gateway.",
            )

    async def drain(self) -> None:
        """Take no new connections and end all with 3001, over `shutdown.drain_seconds`."""
        await self.container.control().drain(self.container.settings().shutdown.drain_seconds)

    async def _prove(self) -> None:
        lifecycle = self.container.lifecycle()
        untouched = lifecycle.total == 0
        await prove_async(self.container, self.container.probes())
        if untouched:
            lifecycle.clear()  # the proof's own two users, whom nobody should look for

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to stop. Connections end before the broker: a slow broker must not keep a dead socket open.

        Raises:
            config.ConfigurationError: the settings are not fit for production.
            providers.ProofError: the wiring does not keep users apart, or cannot be shown to.
        """
        settings = self.container.settings()
        # `bulkhead serve` has said it already; whoever runs the application otherwise must be stopped as well.
        if settings.profile == "production" and (problems := find_problems(settings)):
            raise ConfigurationError(problems)
        await self._prove()
        broker, control = self.container.broker(), self.container.control()
        await broker.start(control)
        try:
            with contextlib.suppress(BrokerUnavailable):  # then it is done as soon as it can be
                await control.synchronize()
            async with self.container.emergency().running():
                self._started = True
                yield
        finally:
            try:
                await control.drain(0)
                # Half of what draining leaves of the grace period: connections and the server want some of it, too.
                await control.flush(max(0, settings.shutdown.grace_seconds - settings.shutdown.drain_seconds) / 2)
            finally:
                self._started = False
                await broker.close()


def gateway_of(app: Starlette) -> Gateway:
    """The gateway that an application carries.

    Raises:
        NoGateway: it was neither made by `app.create_app` nor given to `app.mount_gateway`.
    """
    gateway = getattr(app.state, "gateway", None)
    if not isinstance(gateway, Gateway):
        raise NoGateway(
            "this application has no gateway: use the one that app.create_app gives, or mount that one in yours with "
            "app.mount_gateway(yours, path, gateway)"
        )
    return gateway
