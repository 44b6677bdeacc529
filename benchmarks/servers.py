"""5. The ASGI server's WebSocket implementation and event loop: why these were chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from benchmarks.client import Crowd
from benchmarks.delivery import TURNS, burst
from benchmarks.http import publish, singles
from benchmarks.run import Run
from benchmarks.server import SANSIO, UVLOOP, running
from benchmarks.table import Row, at_least, ratio

USERS, EVENTS, POSTS, REPETITIONS = 500, 20_000, 4000, 5
NEARLY = 0.9  # what is chosen may be slower than another by what one run differs from the next
CHOSEN = (SANSIO, UVLOOP)
PACKAGES = {SANSIO: "websockets", "websockets": "websockets.legacy", "wsproto": "wsproto"}  # by implementation
LOOPS = (UVLOOP, "asyncio")

Measure = Callable[[], Awaitable[tuple[float, float]]]


async def servers(run: Run) -> list[Row]:
    """The rate of bare ASGI send on each, and that of bare HTTP on each loop."""
    users, events, posts = run.amount(USERS), run.amount(EVENTS), run.amount(POSTS)
    sending, posting = "bare ASGI send, 1/s", "bare ASGI, an event for each POST, 1/s"
    kinds = [(sending, ws, loop) for ws in PACKAGES for loop in LOOPS] + [(posting, SANSIO, loop) for loop in LOOPS]
    there = [kind for kind in kinds if importlib.util.find_spec(PACKAGES[kind[1]]) is not None]
    async with AsyncExitStack() as stack:
        crowds: dict[tuple[str, str], Crowd] = {}
        measures: dict[tuple[str, str, str], Measure] = {}
        for what, ws, loop in there:
            if (ws, loop) not in crowds:
                server = await stack.enter_async_context(running("bare", run.cores, ws=ws, loop=loop))
                crowds[ws, loop] = crowd = Crowd(server)
                await crowd.connect(range(users))
                stack.callback(crowd.leave)
            crowd = crowds[ws, loop]
            measures[what, ws, loop] = (
                partial(burst, crowd, events, TURNS["10 a turn"])
                if what == sending
                else partial(publish, crowd, singles("bare", posts, users), posts)
            )
        measured = await run.interleaved_async(REPETITIONS, measures)
    rates = {kind: [rate for rate, _ in values] for kind, values in measured.items()}
    return [_row(kind, rates) for kind in kinds]


def _row(kind: tuple[str, str, str], rates: dict[tuple[str, str, str], list[float]]) -> Row:
    what, ws, loop = kind
    name = f"uvicorn, {ws}, {loop}"
    if kind not in rates:
        return Row(what, name, note=f"{ws} is not installed")
    goal = None
    if (ws, loop) == CHOSEN:
        slowest = min(ratio(rates[kind], rates[other]) for other in rates if other[0] == what)
        goal = at_least("the fastest", NEARLY, slowest)
    return Row(what, name, rates[kind], goal)
