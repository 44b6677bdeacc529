"""1. The registry: one manager per user, found and made. In seconds of CPU: nothing here waits."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from app.garbage import tune_garbage_collection
from app.realtime.identity import UserContext
from benchmarks.plan import PlanRegistry
from benchmarks.run import Run
from benchmarks.serving import container
from benchmarks.table import Goal, Row, number
from providers import PerKey

EXISTING_GOAL = 1.0  # microseconds
NEW_GOAL = 15.0
FLAT_GOAL = 1.5  # a new user at the most users, as against one at the fewest

EXISTING_CALLS, NEW_CALLS = 1000, 100
PLAN_COMPARISONS = 20_000  # that the baseline may do for one value: one insertion at many users, a hundred at few


class Trivial:
    """The least that can be managed."""

    def __init__(self, context: UserContext) -> None:
        self.context = context


class Registry:
    """A registry under test, and the managers that it holds or that are held for it."""

    def __init__(self, get: Callable[[UserContext], Any]) -> None:
        self.get = get
        self.held: list[Any] = []

    def grow(self, users: int) -> float:
        """Hold so many managers; microseconds for each that was added."""
        added = list(contexts(len(self.held), users))
        start = time.process_time()
        self.held += map(self.get, added)
        return (time.process_time() - start) / len(added) * 1e6

    def existing(self) -> float:
        """Microseconds to find a manager."""
        asked = [manager.context for manager in self.held[:EXISTING_CALLS]]
        asked *= EXISTING_CALLS // len(asked)
        get = self.get
        start = time.process_time()
        for context in asked:
            get(context)
        return (time.process_time() - start) / len(asked) * 1e6

    def new(self) -> float:
        """Microseconds to make a manager; it goes again when it was measured."""
        asked = list(contexts(len(self.held), len(self.held) + NEW_CALLS))
        start = time.process_time()
        made = list(map(self.get, asked))
        elapsed = time.process_time() - start
        return elapsed / len(made) * 1e6


class Plan(Registry):
    """The original plan's, which keeps all managers itself, and is filled without its validation."""

    def __init__(self) -> None:
        self._registry = PlanRegistry()
        super().__init__(self._registry.get)

    def grow(self, users: int) -> float:
        """See `Registry.grow`; not a cost of the plan."""
        self.held += map(self._registry.fill, contexts(len(self.held), users))
        return 0.0

    def new(self) -> float:
        """See `Registry.new`."""
        users, elapsed = len(self.held), 0.0
        calls = max(1, min(NEW_CALLS, PLAN_COMPARISONS // users))
        for context in contexts(users, users + calls):
            start = time.process_time()
            self.get(context)
            elapsed += time.process_time() - start
            self._registry.remove(context)
        return elapsed / calls * 1e6


def contexts(first: int, end: int) -> Iterator[UserContext]:
    """The identities of some users."""
    return (UserContext(user_id=f"user-{one:06}") for one in range(first, end))


def _gateway() -> Registry:
    return Registry(container().manager)


def _alone() -> Registry:
    return Registry(PerKey(Trivial, key=lambda context: context.key))


async def registry(run: Run) -> list[Row]:
    """Find and make managers at more and more users."""
    tune_garbage_collection()  # as `bulkhead serve` does; for the plan, too
    subjects = {"Bulkhead": _gateway(), "PerKey alone": _alone(), "plan": Plan()}
    sizes = (10, 1000) if run.quick else (10, 1000, 10_000, 100_000)
    existing: list[Row] = []
    new: list[Row] = []
    fewest = median = 0.0
    filling: dict[str, float] = {}
    for size in sizes:
        filling = {name: subject.grow(size) for name, subject in subjects.items()}
        gc.collect()
        found = run.interleaved(11, {n: s.existing for n, s in subjects.items()})
        made = run.interleaved(11, {n: s.new for n, s in subjects.items()})
        median = statistics.median(made["Bulkhead"])
        fewest = fewest or median
        for name in subjects:
            # The goals are the registry's. What a gateway builds for a user is on top of it, and shown beside it.
            judged = name == "PerKey alone"
            found_goal = _goal(found[name], EXISTING_GOAL) if judged else None
            made_goal = _goal(made[name], NEW_GOAL) if judged else None
            existing.append(Row(f"existing user at {size:,}, µs", name, found[name], found_goal))
            new.append(Row(f"new user at {size:,}, µs", name, made[name], made_goal))
    flat = Goal(f"≤ {FLAT_GOAL} × that at {sizes[0]}: {median / fewest:.2f} ×", median / fewest <= FLAT_GOAL)
    rest = [
        Row(f"new user at {sizes[-1]:,} as against {sizes[0]}", "Bulkhead", (median / fewest,), flat),
        Row(f"new user while {sizes[-1]:,} come, mean, µs", "Bulkhead", (filling["Bulkhead"],)),
    ]
    return [*existing, *new, *rest, *_memory()]


def _goal(values: list[float], most: float) -> Goal:
    median = statistics.median(values)
    return Goal(f"≤ {most:.0f} µs: {number(median)} µs", median <= most)


def _memory(users: int = 2000) -> list[Row]:
    rows = []
    for name, subject in {"Bulkhead": _gateway(), "PerKey alone": _alone(), "plan": Plan()}.items():
        subject.grow(10)
        gc.collect()
        tracemalloc.start()
        subject.grow(10 + users)
        rows.append(
            Row("memory of a user without connections, bytes", name, (tracemalloc.get_traced_memory()[0] / users,))
        )
        tracemalloc.stop()
    return rows
