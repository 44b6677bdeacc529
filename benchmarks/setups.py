"""Nodes on one engine, with connected users, as one thing to measure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.client import Crowd, Reader, Tally, percentile
from benchmarks.machine import Cores
from benchmarks.server import Server, running
from benchmarks.valkey import Engine

ANYWHERE = Cores(None, None)


@dataclass(frozen=True)
class Burst:
    """What came out when all nodes published as fast as they could.

    Attributes:
        rate: events a second, until the last one was received.
        p50, p99: milliseconds from an event's making to its receipt.
        node, engine: microseconds of CPU for an event, of all nodes and of all servers of the engine.
        messages: what nodes decoded of what the engine sent them, for each event.
        strays: of these, what was for no user of the node.
    """

    rate: float
    p50: float
    p99: float
    node: float
    engine: float
    messages: float
    strays: float


class Setup:
    """Nodes that share an engine, and users who are spread over them, one connection each.

    Attributes:
        servers: the nodes.
        tally: what all users have received.
        crowds: the users of each node.
        engine: None: streams live in the node.
    """

    def __init__(self, servers: list[Server], engine: Engine | None, reader: Callable[..., Reader] = Reader) -> None:
        """Nobody is connected yet."""
        self.servers = servers
        self.engine = engine
        self.tally = Tally()
        self.crowds = [Crowd(server, self.tally, reader) for server in servers]
        self.users = 0

    async def connect(self, users: int) -> None:
        """Connect users, the first ones to the first node."""
        share = users // len(self.crowds)
        for number, crowd in enumerate(self.crowds):
            await crowd.connect(range(number * share, (number + 1) * share))
        self.users = share * len(self.crowds)

    def leave(self) -> None:
        """Drop all connections."""
        for crowd in self.crowds:
            crowd.leave()

    async def burst(self, events: int, at_once: int) -> Burst:
        """Every node publishes its share of the events to all users in turn, with so many on their way at once."""
        before, nodes, engine = await self._messages(), await self._cpu(), self._engine_cpu()
        self.tally.latencies = []
        elapsed = await self._publish("flood", events, at_once=at_once)
        latencies, self.tally.latencies = self.tally.latencies, None
        after = await self._messages()
        return Burst(
            rate=events / elapsed,
            p50=percentile(latencies, 50) / 1e6,
            p99=percentile(latencies, 99) / 1e6,
            node=(await self._cpu() - nodes) / events * 1e6,
            engine=(self._engine_cpu() - engine) / events * 1e6,
            messages=(after[0] - before[0]) / events,
            strays=after[1] - before[1],
        )

    async def steady(self, rate: float, seconds: float) -> tuple[float, float]:
        """Median and 99th percentile of the time from an event's making to its receipt, in milliseconds."""
        self.tally.latencies = []
        share = self.users * len(self.servers)
        events = max(1, round(rate * seconds / share)) * share
        await self._publish("steady", events, rate=rate / len(self.servers))
        latencies, self.tally.latencies = self.tally.latencies, None
        return percentile(latencies, 50) / 1e6, percentile(latencies, 99) / 1e6

    async def _publish(self, how: str, events: int, **arguments: float) -> float:
        """Let all nodes publish, and wait until everybody has received their share; the seconds it took."""
        each = events // len(self.servers)
        before = self.crowds[0].readers[0].received
        reached = self.tally.after(events)
        start = time.perf_counter()
        asked = (server.ask(how, events=each, users=self.users, **arguments) for server in self.servers)
        await asyncio.gather(*asked)
        elapsed = await self.crowds[0].received(reached) - start
        for crowd in self.crowds:
            await crowd.check(before + events // self.users)
        return elapsed

    async def _cpu(self) -> float:
        return sum([(await server.ask("cpu"))["seconds"] for server in self.servers])

    def _engine_cpu(self) -> float:
        return 0.0 if self.engine is None else self.engine.cpu()

    async def _messages(self) -> tuple[float, float]:
        """What nodes decoded of what the engine sent them, and what of it was for no user of the node."""
        return await self._metric("bulkhead_broker_messages_total"), await self._metric("bulkhead_broker_strays_total")

    async def _metric(self, name: str) -> float:
        return sum([(await server.ask("metric", name=name))["value"] for server in self.servers])


@asynccontextmanager
async def setup(nodes: int, engine: Engine | None, reader: Callable[..., Reader] = Reader) -> AsyncIterator[Setup]:
    """Start nodes on an engine; they run on whichever core the system gives them."""
    url = "memory://" if engine is None else engine.url
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running("gateway", ANYWHERE, broker=url)) for _ in range(nodes)]
        made = Setup(servers, engine, reader)
        stack.callback(made.leave)
        yield made
