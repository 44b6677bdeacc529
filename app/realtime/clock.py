"""Time, injected: nothing in Bulkhead reads a clock or arms a timer but through one of these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time
from typing import Protocol


class Timer(Protocol):
    """A call that is due; `asyncio.TimerHandle` is one."""

    def cancel(self) -> None:
        """Do not call. Harmless after the call and when repeated."""


class Clock(Protocol):
    """Wall time, steady time and timers."""

    def time(self) -> float:
        """Seconds since the epoch, for what people and other systems see."""

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the running event loop after `delay` seconds."""


class SystemClock:
    """The clocks of the operating system and the timers of the running event loop."""

    # The functions themselves: both are called for every event.
    time = staticmethod(time)
    monotonic = staticmethod(monotonic)

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """See `Clock.call_later`.

        Raises:
            RuntimeError: no event loop runs in this thread.
        """
        return asyncio.get_running_loop().call_later(delay, callback)
