"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


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
