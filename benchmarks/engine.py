"""7. The engine: streams in the process, in one Valkey and in a cluster of three, with one node and with two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.machine import everywhere
from benchmarks.outage import outages
from benchmarks.run import Run
from benchmarks.setups import Burst, Setup, setup
from benchmarks.table import Goal, Row, ratio
from benchmarks.valkey import Engine, cluster, stand_alone

USERS, EVENTS, AT_ONCE, REPETITIONS = 1000, 12_000, 500, 3
RATE, SECONDS = 1000, 2.0
JOINING, SETTLE_SECONDS = 10_000, 1.0
IDLE_SECONDS = 20.0  # in which a node says all its users once: a third of broker.presence_ttl
KEPT = 20
LOSERS, LOSSES = 1000, 2

MEMORY, ALONE, CLUSTER = "memory", "Valkey", "cluster of three"
# What a node asks of the engine by itself; what scripts do inside is part of these.
ASKED = ("evalsha", "spublish", "ssubscribe", "sunsubscribe", "hget", "hdel", "ping")


async def engine(run: Run) -> list[Row]:
    """All on all cores: with two nodes and three servers there are more processes than cores."""
    with everywhere(run.cores):
        rows = await _delivery(run)
        rows += await _joining(run)
        lost = await outages(run.amount(LOSERS), 1 if run.quick else LOSSES)
    of = f"Valkey, 2 nodes, {run.amount(LOSERS):,} users"
    return rows + [Row(measured, of, seconds) for measured, seconds in lost.items()]


async def _delivery(run: Run) -> list[Row]:
    """Bursts on each, in turns; then a steady rate."""
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine | None] = {
            MEMORY: None,
            ALONE: stack.enter_context(stand_alone()),
            CLUSTER: stack.enter_context(cluster()),
        }
        kinds = [(name, nodes) for name in engines for nodes in ((1,) if name == MEMORY else (1, 2))]
        setups: dict[tuple[str, int], Setup] = {}
        for name, nodes in kinds:
            setups[name, nodes] = made = await stack.enter_async_context(setup(nodes, engines[name]))
            await made.connect(run.amount(USERS))
            await made.burst(run.amount(EVENTS) // 2, AT_ONCE)  # the first one finds cold caches everywhere
        bursts = await run.interleaved_async(
            REPETITIONS, {kind: partial(made.burst, run.amount(EVENTS), AT_ONCE) for kind, made in setups.items()}
        )
        paced = {kind: partial(made.steady, RATE, run.seconds(SECONDS)) for kind, made in setups.items()}
        latencies = await run.interleaved_async(REPETITIONS, paced)
    return [*_burst_rows(bursts), *_latency_rows(latencies)]


def _of(kind: tuple[str, int]) -> str:
    name, nodes = kind
    return f"{name}, {nodes} node{'s' if nodes > 1 else ''}"


def _burst_rows(bursts: dict[tuple[str, int], list[Burst]]) -> list[Row]:
    memory = bursts[MEMORY, 1]
    rows = [Row("events over the engine, 1/s", _of(kind), [each.rate for each in of]) for kind, of in bursts.items()]
    others = {kind: of for kind, of in bursts.items() if kind[0] != MEMORY}
    rows += [Row("rate as against memory", _of(kind), [_ratio(of, memory)]) for kind, of in others.items()]
    for name in ("p50", "p99"):
        text = f"latency with {AT_ONCE} on their way, {name}, ms"
        rows += [Row(text, _of(kind), [getattr(each, name) for each in of]) for kind, of in bursts.items()]
    text = "CPU of the nodes for an event over the engine, µs"
    rows += [Row(text, _of(kind), [each.node for each in of]) for kind, of in bursts.items()]
    text = "CPU of the servers of the engine for an event, µs"
    rows += [Row(text, _of(kind), [each.engine for each in of]) for kind, of in others.items()]
    for kind, of in others.items():
        share = [1 - base.node / each.node for base, each in zip(memory, of, strict=True)]
        rows.append(Row("share of the engine's client in that CPU of the nodes", _of(kind), share))
    for kind, of in others.items():
        rows.append(Row("messages that nodes decode for an event", _of(kind), [each.messages for each in of]))
        strays = sum(each.strays for each in of)
        goal = Goal(f"0: {strays:.0f}", not strays)
        rows.append(Row("messages decoded for no user of the node", _of(kind), [strays], goal))
    return rows


def _ratio(ours: Sequence[Burst], theirs: Sequence[Burst]) -> float:
    return ratio([each.rate for each in ours], [each.rate for each in theirs])


def _latency_rows(latencies: dict[tuple[str, int], list[tuple[float, float]]]) -> list[Row]:
    return [
        Row(f"latency at {RATE:,}/s over the engine, p{percent}, ms", _of(kind), [each[place] for each in of])
        for place, percent in enumerate((50, 99))
        for kind, of in latencies.items()
    ]


async def _joining(run: Run) -> list[Row]:
    """Many users who come and do nothing: how fast, and what each costs the engine."""
    async with setup(1, None) as made:
        rows = await _join(run, made, f"{MEMORY}, 1 node")
    for name, there in ((ALONE, stand_alone()), (CLUSTER, cluster())):
        with there as servers:
            async with setup(1, servers) as made:
                rows += await _join(run, made, f"{name}, 1 node")
    return rows


async def _join(run: Run, made: Setup, of: str) -> list[Row]:
    users, there = run.amount(JOINING), made.engine
    subscribed = users / (await made.servers[0].ask("join", users=users))["seconds"]
    await asyncio.sleep(run.seconds(SETTLE_SECONDS))
    before = 0 if there is None else there.memory()
    joined = users / await made.crowds[0].connect(range(users))
    rows = [
        Row("users who join, 1/s", of, [joined]),
        Row("subscriptions of the engine, 1/s", of, [subscribed]),
    ]
    if there is None:
        return rows
    await asyncio.sleep(run.seconds(SETTLE_SECONDS))
    rows.append(Row("memory of the engine for an idle user, bytes", of, [(there.memory() - before) / users]))
    rows += await _idle(run, there, of, users)
    before, streams = there.memory(), users // 10
    await made.servers[0].ask("flood", events=KEPT * streams, users=streams, at_once=AT_ONCE)
    kept = (there.memory() - before) / (KEPT * streams)
    return [*rows, Row(f"memory of the engine for one of {KEPT} events of a user, bytes", of, [kept])]


async def _idle(run: Run, there: Engine, of: str, users: int) -> list[Row]:
    asked, cpu, start = there.commands(*ASKED), there.cpu(), time.perf_counter()
    await asyncio.sleep(run.seconds(IDLE_SECONDS))
    seconds = time.perf_counter() - start
    asked, cpu = there.commands(*ASKED) - asked, there.cpu() - cpu
    return [
        Row("commands for 1,000 idle users, 1/s", of, [asked / seconds / users * 1000]),
        Row("CPU of the engine for 1,000 idle users, %", of, [cpu / seconds / users * 1000 * 100]),
    ]
