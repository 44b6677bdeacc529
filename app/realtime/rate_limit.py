"""A token bucket: so many commands a second, and a burst of so many at once."""

from __future__ import annotations

from app.realtime.clock import Clock


class TokenBucket:
    """Starts full, refills steadily.

    Args:
        clock: for the time that has passed.
        rate: tokens a second.
        burst: tokens it holds.
    """

    __slots__ = ("_burst", "_clock", "_rate", "_taken_at", "_tokens")

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        """Start full."""
        self._clock = clock
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._taken_at = clock.monotonic()

    def take(self) -> bool:
        """Take a token; False when there is none."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._taken_at) * self._rate)
        self._taken_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
