"""What the broker refused, tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.realtime.broker import BrokerError, BrokerUnavailable


class Again:
    """Tries something again, time after time, until the broker does not refuse it any more.

    Args:
        work: what is tried.
        seconds: between two times.
    """

    def __init__(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Nothing was refused."""
        self._work = work
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Something was refused."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def end(self) -> None:
        """Try no more; harmless when repeated."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._work()
            except BrokerUnavailable:
                return  # it is done when the broker is back
            except BrokerError:
                continue
            return
