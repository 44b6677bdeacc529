"""5. The ASGI server's WebSocket implementation and event loop: why these were chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks.client import Crowd
from benchmarks.delivery import TURNS, burst
from benchmarks.run import Run
from benchmarks.server import SANSIO, UVLOOP, running
from benchmarks.table import Row, at_least, ratio

USERS, EVENTS, REPETITIONS = 500, 20_000, 5
CHOSEN = (SANSIO, UVLOOP)
PACKAGES = {SANSIO: "websockets", "websockets": "websockets.legacy", "wsproto": "wsproto"}  # by implementation
LOOPS = (UVLOOP, "asyncio")


async def servers(run: Run) -> list[Row]:
    """The rate of bare ASGI send on each."""
    kinds = [(ws, loop) for ws in PACKAGES for loop in LOOPS]
    there = [kind for kind in kinds if importlib.util.find_spec(PACKAGES[kind[0]]) is not None]
    async with AsyncExitStack() as stack:
        measures: dict[tuple[str, str], partial[Coroutine[Any, Any, tuple[float, float]]]] = {}
        for ws, loop in there:
            server = await stack.enter_async_context(running("bare", run.cores, ws=ws, loop=loop))
            crowd = Crowd(server)
            await crowd.connect(range(run.amount(USERS)))
            stack.callback(crowd.leave)
            measures[ws, loop] = partial(burst, crowd, run.amount(EVENTS), TURNS["10 a turn"])
        measured = await run.interleaved_async(REPETITIONS, measures)
    rates = {kind: [rate for rate, _ in values] for kind, values in measured.items()}
    rows = []
    for kind in kinds:
        name = f"uvicorn, {kind[0]}, {kind[1]}"
        if kind not in rates:
            rows.append(Row("bare ASGI send, 1/s", name, note=f"{kind[0]} is not installed"))
            continue
        best = max(ratio(rates[other], rates[CHOSEN]) for other in rates)
        goal = at_least("the fastest", 0.95, 1 / best) if kind == CHOSEN else None
        rows.append(Row("bare ASGI send, 1/s", name, rates[kind], goal))
    return rows
