"""For tests of applications that use the gateway: containers, overrides that end, tokens, a server, a clock by hand.

    container = gateway_container(history={"size": 10})
    with override(container, clock=ManualClock()):
        async with serve(create_app(container)) as url:
            ...

Nothing here needs pytest. `docs/testing.md` shows each in use.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any

from dependency_injector import providers
from fastapi import FastAPI

from app.gateway import gateway_of
from app.listening import listen
from app.realtime.broker import Broker
from app.realtime.clock import Clock
from app.realtime.modes import ModeKind
from app.server import Server
from app.tokens import issue_token
from config import ModeName, Settings
from containers import GatewayContainer


def gateway_container(**settings: Any) -> GatewayContainer:
    """A container of its own, with settings for tests: nothing is read from files or the environment.

    Args:
        settings: of `config.Settings`. A random API key and, without `auth`, a random secret for tokens are added.

    Raises:
        pydantic.ValidationError: a setting is not acceptable.
    """
    defaults = {"auth": {"hmac_secret": secrets.token_hex(32)}, "api_keys": (secrets.token_hex(16),)}
    container = GatewayContainer()
    container.settings.override(providers.Object(Settings(**{**defaults, **settings})))
    return container


@contextmanager
def override(
    container: GatewayContainer,
    *,
    settings: Settings | None = None,
    clock: Clock | None = None,
    broker: Broker | None = None,
    mode: ModeName | None = None,
) -> Iterator[GatewayContainer]:
    """Replace parts of a container for the length of a `with` block; may be nested.

    All that is shared is built anew in the block, from these parts, and again after it, so that nothing which was made
    in the block outlives it. So enter the block before anything is taken from the container, `create_app` included. At
    the end each part has the overrides that it had before, whatever happened in the block.

    Args:
        container: whose parts.
        settings: instead of the container's.
        clock: such as a `ManualClock`.
        broker: such as one that fails.
        mode: of every user; rules on claims do not count.

    Raises:
        ValueError: there is no such mode.
    """
    if mode is not None:
        everybody = {"mode": ModeKind(mode).value, "mode_rules": ()}
        settings = (settings or container.settings()).model_copy(update=everybody)
    replaced = [
        (provider, part, provider.overridden)
        for provider, part in ((container.settings, settings), (container.clock, clock), (container.broker, broker))
        if part is not None
    ]
    container.reset_singletons()
    try:
        for provider, part, _ in replaced:
            provider.override(providers.Object(part))
        yield container
    finally:
        for provider, _, before in replaced:
            provider.reset_override()
            for one in before:
                provider.override(one)
        container.reset_singletons()


def token(
    container: GatewayContainer, user_id: str, *, seconds: float = 3600, session_id: str | None = None, **claims: Any
) -> str:
    """A connection token that this container accepts, from now on its clock; a random session unless one is named.

    Raises:
        app.tokens.TokenError: see `app.tokens.issue_token`.
    """
    auth, now = container.settings().auth, container.clock().time()
    return issue_token(auth, user_id, seconds=seconds, session_id=session_id, claims=claims, now=now)


def api_headers(container: GatewayContainer) -> dict[str, str]:
    """The header with which a back end or an operator calls the HTTP API of this container."""
    return {"X-API-Key": container.settings().api_keys[0].get_secret_value()}


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application of `create_app`, or one that mounts it, on a free port of 127.0.0.1.

    It runs in the event loop of the caller, and drains connections at the end of the block as `bulkhead serve` does.

    Yields:
        Its address, such as `http://127.0.0.1:40123`; WebSockets are at `ws` instead of `http`.

    Raises:
        RuntimeError: the application does not start; the log says why.
    """
    gateway = gateway_of(app)
    server = _Server(app, gateway.container.settings(), gateway.drain)
    listener = listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listener]))
    started = asyncio.create_task(server.listens.wait())
    try:
        await asyncio.wait((serving, started), return_when=asyncio.FIRST_COMPLETED)
        if not server.started:
            raise RuntimeError("the application did not start; its log says why")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        started.cancel()
        server.stops.set()
        await serving
        listener.close()


class _Server(Server):
    """Leaves signals to the tests, says when it listens, and stops at once instead of at uvicorn's next look."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.listens = asyncio.Event()
        self.stops = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, *arguments: Any, **keywords: Any) -> None:
        try:
            await super().startup(*arguments, **keywords)
        except SystemExit:  # it would end the event loop of the test
            self.should_exit = True
        self.listens.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # Sets the headers that every response has.
        await self.stops.wait()


def _nothing() -> None:
    """Stands for a call that was cancelled."""


class ManualTimer:
    """A call that a `ManualClock` makes when its time comes."""

    def __init__(self, due: float, number: int, callback: Callable[[], object]) -> None:
        """Due at `due`; of two due at once the lower number goes first."""
        self.due = due
        self.number = number
        self.callback = callback
        self.cancelled = False

    def __lt__(self, other: ManualTimer) -> bool:
        """Whether it goes before `other`."""
        return (self.due, self.number) < (other.due, other.number)

    def cancel(self) -> None:
        """See `Timer.cancel`."""
        self.cancelled = True
        self.callback = _nothing  # As asyncio does: what it would have called is not kept alive.


class ManualClock:
    """`Clock` for tests: nothing is due until `advance` says so, and then in the order in which it is due.

    Args:
        time: wall time at the start, in seconds since the epoch. The steady time starts at 1000.
    """

    def __init__(self, time: float = 1_700_000_000.0) -> None:
        """See the class."""
        self._now = 1000.0
        self._wall = time - self._now
        self._timers: list[ManualTimer] = []
        self._numbers = count()

    @property
    def pending(self) -> int:
        """Timers that are neither called nor cancelled."""
        return sum(not timer.cancelled for timer in self._timers)

    def time(self) -> float:
        """See `Clock.time`."""
        return self._wall + self._now

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object]) -> ManualTimer:
        """See `Clock.call_later`. Needs no running event loop."""
        timer = ManualTimer(self._now + max(delay, 0.0), next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what becomes due, each at its own time; timers armed meanwhile count too.

        Tasks that the calls start run when the test next awaits. An error of a call ends the advance.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        end = self._now + seconds
        while self._timers and self._timers[0].due <= end:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self._now = max(self._now, timer.due)
                timer.callback()
        self._now = end
