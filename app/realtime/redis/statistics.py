"""What a node counts of its engine, for operators."""

from __future__ import annotations

from collections.abc import Callable


class Statistics:
    """Plain numbers, as one of them grows with every event.

    Args:
        clock: seconds that only grow.

    Attributes:
        losses: how often the engine was lost; a start without it is one.
        messages: what was decoded of what other nodes and this one published.
        strays: messages for no user of this node: few, of users who just left.
        echo_seconds: what the last check took, from its publish to its echo on every server.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nothing happened yet; the engine has yet to be reached."""
        self.losses = 0
        self.messages = 0
        self.strays = 0
        self.echo_seconds = 0.0
        self._clock = clock
        self._lost_seconds = 0.0
        self._lost_at: float | None = None

    def lost(self) -> None:
        """The engine is lost; harmless when repeated."""
        if self._lost_at is None:
            self.losses += 1
            self._lost_at = self._clock()

    def reached(self) -> None:
        """It is back."""
        self._lost_seconds, self._lost_at = self.lost_seconds(), None

    def lost_seconds(self) -> float:
        """For how long it was lost, in all, and up to now if it is."""
        return self._lost_seconds + (0.0 if self._lost_at is None else self._clock() - self._lost_at)
