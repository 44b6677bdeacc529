"""8. A rolling restart: every node is replaced in turn, while users are connected and back ends publish."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.client import percentile
from benchmarks.load import Load
from benchmarks.machine import everywhere
from benchmarks.nodes import Balancer, Node
from benchmarks.run import Run
from benchmarks.table import Goal, Row
from benchmarks.valkey import stand_alone
from benchmarks.visitors import Journal, Visitor

NODES = 2
RATE, PER_USER = 500, 1.0  # events a second in all, and to one user, at most
BEFORE, BETWEEN = 5.0, 3.0
DRAIN_RATE, DRAIN_SECONDS = 250, 2.0  # users of a node who are sent away in a second, and for how long at least
AT_ONCE = 64
SECONDS, LAST_SECONDS = 90.0, 5.0
QUIET, RESTART = "before", "meanwhile"


class Stuck(Exception):
    """Something did not happen in time; the run says nothing."""


@dataclass
class Outcome:
    """What became of it.

    Attributes:
        published: events that were acknowledged.
        lost, twice, disordered: events that a user never saw, saw again, or saw after a later one.
        terminated: when each node was told to end.
        back: seconds from then until everybody was connected again, for each node.
        replaced: seconds from then until the new process was ready.
    """

    journal: Journal
    users: int
    drain: float
    published: int = 0
    repeated: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    terminated: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    replaced: list[float] = field(default_factory=list)

    def peaks(self) -> list[float]:
        """For each restart, how many users came back in its busiest second."""
        ends = [*self.terminated[1:], float("inf")]
        spans = zip(self.terminated, ends, strict=True)
        return [
            max(Counter(int(at - start) for at in self.journal.returns if start <= at < end).values(), default=0)
            for start, end in spans
        ]


async def rolling(run: Run) -> list[Row]:
    """Nodes, users and back ends share the machine; nothing is pinned."""
    users = run.users or run.amount(10_000)
    with everywhere(run.cores):
        return _rows(await restart(users))


async def restart(users: int) -> Outcome:
    """Connect users to two nodes, and replace one node after the other under load.

    Raises:
        Stuck: users do not connect, or do not come back.
    """
    journal = Journal()
    outcome = Outcome(journal, users, max(DRAIN_SECONDS, users / NODES / DRAIN_RATE))
    with ExitStack() as stack:
        engine = stack.enter_context(stand_alone())
        nodes = [Node(engine.url, outcome.drain) for _ in range(NODES)]
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        balancer = Balancer(nodes)
        async with _running(balancer.watch):
            await balancer.until_ready(nodes)
            visitors = [Visitor(number, journal, balancer.choose) for number in range(users)]
            await _arrive(visitors, journal)
            load = Load(users, min(RATE, users * PER_USER), balancer.choose)
            async with _running(load.run) as publishing:
                journal.phase = QUIET
                await asyncio.sleep(BEFORE)
                journal.phase = RESTART
                for node in nodes:
                    await _replace(node, balancer, outcome)
                load.running = False
                await publishing
            with contextlib.suppress(Stuck):  # then some are lost, which is a result
                await _until(lambda: journal.received >= load.published.total(), "events do not arrive", LAST_SECONDS)
            await asyncio.sleep(0.5)  # one that came twice
            for visitor in visitors:
                visitor.end()
    outcome.repeated = load.repeated
    _compare(outcome, visitors, load)
    return outcome


async def _arrive(visitors: Sequence[Visitor], journal: Journal) -> None:
    for number, visitor in enumerate(visitors):
        visitor.open()
        await _until(lambda seen=number: journal.online > seen - AT_ONCE, "users do not connect")  # type: ignore[misc]
    await _until(lambda: journal.online == len(visitors), "users do not connect")


async def _replace(node: Node, balancer: Balancer, outcome: Outcome) -> None:
    """SIGTERM, the end, a new process, and everybody back."""
    journal = outcome.journal
    start = time.perf_counter()
    outcome.terminated.append(start)
    node.terminate()
    await node.ended()
    node.start()
    await balancer.until_ready([node])
    outcome.replaced.append(time.perf_counter() - start)
    await _until(lambda: journal.online == outcome.users, "users do not come back")
    outcome.back.append(max((at for at in journal.returns if at > start), default=start) - start)
    await asyncio.sleep(BETWEEN)


def _compare(outcome: Outcome, visitors: Sequence[Visitor], load: Load) -> None:
    outcome.published = load.published.total()
    for number, visitor in enumerate(visitors):
        seen = visitor.seen
        outcome.lost += load.published[number] - len(set(seen))
        outcome.twice += len(seen) - len(set(seen))
        outcome.disordered += sum(later < earlier for earlier, later in pairwise(seen))


async def _until(condition: Callable[[], bool], failure: str, seconds: float = SECONDS) -> None:
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            raise Stuck(failure)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _running(work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.get_running_loop().create_task(work())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _rows(outcome: Outcome) -> list[Row]:
    journal = outcome.journal
    of = f"{NODES} nodes, {outcome.users:,} users"
    wrong = {
        "events lost": outcome.lost,
        "events received twice": outcome.twice,
        "events received behind a later one": outcome.disordered,
        "returns without all that was missed": journal.unrecovered,
        "errors and final disconnects": len(journal.unforeseen),
    }
    return [
        Row("rolling restart: events published", of, [outcome.published]),
        *(
            Row(f"rolling restart: {name}", of, [count], Goal(f"0: {count}", not count))
            for name, count in wrong.items()
        ),
        Row("rolling restart: publishes repeated elsewhere", of, [outcome.repeated]),
        Row("rolling restart: SIGTERM to everybody connected, s", of, outcome.back),
        Row("rolling restart: SIGTERM to the new process ready, s", of, outcome.replaced),
        Row("rolling restart: users back, in the busiest second", of, outcome.peaks()),
        Row("rolling restart: a user's absence, p50, s", of, [percentile(journal.absences, 50)]),
        Row("rolling restart: a user's absence, p99, s", of, [percentile(journal.absences, 99)]),
        Row("latency over HTTP, before, p50, ms", of, [percentile(journal.live[QUIET], 50) / 1e6]),
        Row("latency over HTTP, before, p99, ms", of, [percentile(journal.live[QUIET], 99) / 1e6]),
        Row("latency over HTTP, meanwhile, p50, ms", of, [percentile(journal.live[RESTART], 50) / 1e6]),
        Row("latency over HTTP, meanwhile, p99, ms", of, [percentile(journal.live[RESTART], 99) / 1e6]),
        Row("latency of what was recovered, p99, ms", of, [_p99(journal.recovered[RESTART]) / 1e6]),
        Row("events recovered", of, [len(journal.recovered[RESTART])]),
    ]


def _p99(values: Sequence[int]) -> float:
    return percentile(values, 99) if len(values) > 1 else max(values, default=0)
