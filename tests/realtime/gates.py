"""What can be awaited around a broker's or an authenticator's calls, to stop the world at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.realtime.broker import BrokerError


class Gate:
    """Holds up whoever passes, until opened."""

    def __init__(self, error: Callable[[], Exception] | None = None) -> None:
        """Closed. Who passes is raised the error, if there is one: a new one each time."""
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._error = error

    def shut(self) -> None:
        """Close it again."""
        self.reached.clear()
        self.opened.clear()

    async def __call__(self) -> None:
        """Pass."""
        self.reached.set()
        await self.opened.wait()
        if self._error is not None:
            raise self._error()

    async def hold(self, passing: Awaitable[object], meanwhile: Callable[[], object]) -> None:
        """Let somebody run into the gate, do something meanwhile, let them through and wait for their end."""
        task = asyncio.ensure_future(passing)
        await self.reached.wait()
        meanwhile()
        self.opened.set()
        await task


class Turnstile:
    """Lets publishes pass one by one, as a broker over a network does; a number is failed on."""

    def __init__(self, fail_at: int = 0) -> None:
        """Nobody has passed."""
        self.passed = 0
        self._fail_at = fail_at

    async def reach(self, number: int) -> None:
        """Wait until so many have passed."""
        while self.passed < number:  # noqa: ASYNC110 - every turn of the event loop counts
            await asyncio.sleep(0)

    async def __call__(self) -> None:
        """Pass, some turns of the event loop later."""
        for _ in range(3):
            await asyncio.sleep(0)
        self.passed += 1
        if self.passed == self._fail_at:
            raise BrokerError("unplugged")
