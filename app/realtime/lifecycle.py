"""The lives of managers: created, connected, disconnected, mode changed, closed."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from functools import partial
from operator import length_hint
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from app.realtime.clock import Clock


class LifecycleEvent(msgspec.Struct, frozen=True, gc=False):
    """One event in the life of a manager.

    Attributes:
        at: seconds since the epoch.
        event: `created`, `connected`, `disconnected`, `mode_changed` or `closed`.
        key: user key of the manager.
        detail: client id, mode or close code; never content.
    """

    at: float
    event: str
    key: str
    detail: str = ""


class LifecycleRecord:
    """The events of one manager: its own, bounded, and gone with it.

    Args:
        log: where events of all managers are kept as well.
        size: events kept here; the oldest go first.
    """

    __slots__ = ("__weakref__", "_log", "_size", "events")

    def __init__(self, log: LifecycleLog[Any], size: int) -> None:
        """Start empty."""
        self._log = log
        self._size = size
        # A list: most records hold two or three events, for which a deque would take ten times the memory.
        self.events: list[LifecycleEvent] = []

    def append(self, event: str, key: str, detail: str = "") -> None:
        """Record an event here and in the log."""
        if len(self.events) == self._size:
            del self.events[0]
        self.events.append(self._log.append(event, key, detail))


class Tracked(Protocol):
    """What is tracked: a manager."""

    @property
    def key(self) -> str:
        """Its user key."""

    @property
    def record(self) -> LifecycleRecord:
        """Its record."""


T = TypeVar("T", bound=Tracked)


class LifecycleLog(Generic[T]):
    """Events of all managers, bounded, and the managers that live, held weakly.

    Safe among threads: managers close wherever their last holder lets go. Every step is one atomic operation on a
    dictionary or a deque, and reports read copies.

    Args:
        clock: for timestamps.
        size: events kept in all; the oldest go first.
    """

    def __init__(self, clock: Clock, size: int) -> None:
        """Start empty."""
        self._clock = clock
        self._events: deque[LifecycleEvent] = deque(maxlen=size)
        self._serials = itertools.count(1)
        # How far it has come is read in one step; a number counted up in two would lose events among threads.
        self._numbers = iter(range(sys.maxsize))
        self._living: dict[int, weakref.ref[T]] = {}

    @property
    def total(self) -> int:
        """Events since the start, kept or not."""
        return sys.maxsize - length_hint(self._numbers)

    def append(self, event: str, key: str, detail: str = "") -> LifecycleEvent:
        """Record an event."""
        record = LifecycleEvent(self._clock.time(), event, key, detail)
        self._events.append(record)
        next(self._numbers)
        return record

    def track(self, manager: T) -> None:
        """Record that a manager was created, and, when its last holder lets go, that it closed."""
        serial, key = next(self._serials), manager.key
        self._living[serial] = weakref.ref(manager, partial(self._closed, serial, key))
        manager.record.append("created", key)

    def living(self) -> list[T]:
        """The managers that live now. Holding the list keeps them alive."""
        return list(self.each())

    def each(self) -> Iterator[T]:
        """The managers that live now, one after the other: only the last one given is kept alive."""
        for ref in list(self._living.values()):
            manager = ref()
            if manager is not None:
                yield manager
            del manager

    def __len__(self) -> int:
        """How many managers live."""
        return len(self._living)

    def events(self, limit: int) -> list[LifecycleEvent]:
        """The newest events, oldest of them first."""
        events = self._events.copy()
        return list(itertools.islice(events, max(0, len(events) - limit), None))

    def clear(self) -> None:
        """Forget all events; managers that live stay known."""
        self._events.clear()
        self._numbers = iter(range(sys.maxsize))

    def _closed(self, serial: int, key: str, _: weakref.ref[T]) -> None:
        self._living.pop(serial, None)
        self.append("closed", key)
