"""2. Delivery: publish in the process, receive in another."""

from __future__ import annotations

import time
from functools import partial

from app.realtime.identity import UserContext
from benchmarks.client import Crowd, percentile
from benchmarks.events import SUBJECTS, event
from benchmarks.run import Run
from benchmarks.server import all_running
from benchmarks.serving import container
from benchmarks.table import Row, at_least, ratio

USERS, EVENTS, REPETITIONS = 1000, 40_000, 7
STEADY_RATE, STEADY_SECONDS = 2000, 3
EMITS = 20_000

# Ten in a turn of the event loop: as events come in a program that also reads from somewhere. In one go: a program that
# does nothing but publish; the event loop has no chance to write before the end, and can then write together what is
# for one user.
TURNS = {"10 a turn": 10, "in one go": 10**9}


async def delivery(run: Run) -> list[Row]:
    """Bursts to all users in turn; then a steady rate, for the latency; then `manager.emit` alone."""
    users = run.amount(USERS)
    async with all_running(SUBJECTS, run.cores) as servers:
        crowds = {server.subject: Crowd(server) for server in servers}
        for crowd in crowds.values():
            await crowd.connect(range(users))
        bursts = {
            (name, turn): partial(burst, crowd, run.amount(EVENTS), events)
            for turn, events in TURNS.items()
            for name, crowd in crowds.items()
        }
        for each in bursts.values():
            await each()  # the first one finds cold caches everywhere
        measured = await run.interleaved_async(REPETITIONS, bursts)
        paced = {name: partial(_steady, run, crowds[name]) for name in ("gateway", "tutorial")}
        latencies = await run.interleaved_async(3, paced)
        for crowd in crowds.values():
            crowd.leave()
    of = {"gateway": "Bulkhead", "tutorial": "tutorial", "bare": "bare ASGI send"}
    rows = []
    for turn in TURNS:
        rates = {name: [rate for rate, _ in measured[name, turn]] for name in of}
        costs = {name: [cost for _, cost in measured[name, turn]] for name in of}
        met = at_least("the tutorial", 1.0, ratio(rates["gateway"], rates["tutorial"]))
        share = [ours / bare for ours, bare in zip(rates["gateway"], rates["bare"], strict=True)]
        rows += [
            Row(f"events delivered, {turn}, 1/s", of[name], rates[name], met if name == "gateway" else None)
            for name in of
        ]
        rows.append(Row(f"share of the rate of bare ASGI send, {turn}", "Bulkhead", share))
        rows += [Row(f"CPU of the server for an event, {turn}, µs", of[name], costs[name]) for name in of]
    for place, percent in enumerate((50, 99)):
        rows += [
            Row(f"latency at {STEADY_RATE:,}/s, p{percent}, ms", of[name], [each[place] for each in latencies[name]])
            for name in paced
        ]
    emits = await run.interleaved_async(REPETITIONS, {"emit": partial(_emit, run.amount(EMITS))})
    return [*rows, Row("manager.emit, nobody connected, µs", "Bulkhead", emits["emit"])]


async def burst(crowd: Crowd, events: int, turn: int) -> tuple[float, float]:
    """Events a second until the last one is received, and microseconds of CPU of the server for each."""
    users, server, before = len(crowd.readers), crowd.server, crowd.readers[0].received
    reached = crowd.tally.after(events)
    used = (await server.ask("cpu"))["seconds"]
    start = time.perf_counter()
    await server.ask("burst", events=events, users=users, turn=turn)
    elapsed = await crowd.received(reached) - start
    used = (await server.ask("cpu"))["seconds"] - used
    await crowd.check(before + events // users)
    return events / elapsed, used / events * 1e6


async def _steady(run: Run, crowd: Crowd) -> tuple[float, float]:
    """Median and 99th percentile of the time from an event's making to its reader, in milliseconds."""
    users, before = len(crowd.readers), crowd.readers[0].received
    events = run.amount(STEADY_RATE * STEADY_SECONDS) // users * users
    crowd.tally.latencies = []
    reached = crowd.tally.after(events)
    await crowd.server.ask("steady", events=events, users=users, rate=STEADY_RATE)
    await crowd.received(reached)
    await crowd.check(before + events // users)
    latencies, crowd.tally.latencies = crowd.tally.latencies, None
    return percentile(latencies, 50) / 1e6, percentile(latencies, 99) / 1e6


async def _emit(events: int) -> float:
    """Microseconds of CPU to emit an event to a user who has no connection."""
    manager = container().manager(UserContext(user_id="alice"))
    data = event(10**18)["data"]
    start = time.process_time()
    for _ in range(events):
        await manager.emit("token", data)
    elapsed = time.process_time() - start
    return elapsed / events * 1e6
