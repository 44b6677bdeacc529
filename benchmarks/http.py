"""4. Publishing over HTTP: one event a request, and in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from benchmarks.client import Crowd, http_request, publish_over_http
from benchmarks.events import API_KEY, SUBJECTS, event, publish_path, user
from benchmarks.run import Run
from benchmarks.server import all_running
from benchmarks.table import Row, at_least, ratio

USERS, PUBLISHERS, REPETITIONS = 1000, 16, 7
SINGLE, BATCHED, BATCH = 4000, 40_000, 100

KEY = f"X-API-Key: {API_KEY}\r\n"


async def http(run: Run) -> list[Row]:
    """Bulkhead one by one, in batches, the tutorial's manager behind a plain route, and the bare server, in turns."""
    users, single, batched = run.amount(USERS), run.amount(SINGLE), run.amount(BATCHED)
    async with all_running(SUBJECTS, run.cores) as servers:
        crowds = {server.subject: Crowd(server) for server in servers}
        for crowd in crowds.values():
            await crowd.connect(range(users))
        measures = {
            name: partial(publish, crowd, singles(name, single, users), single) for name, crowd in crowds.items()
        }
        measures["batches"] = partial(publish, crowds["gateway"], _batches(batched, users), batched)
        for measure in measures.values():
            await measure()  # the first one finds cold caches everywhere
        measured = await run.interleaved_async(REPETITIONS, measures)
        for crowd in crowds.values():
            crowd.leave()
    rates = {name: [rate for rate, _ in values] for name, values in measured.items()}
    costs = {name: [cost for _, cost in values] for name, values in measured.items()}
    one_by_one = at_least("the tutorial", 2.0, ratio(rates["gateway"], rates["tutorial"]))
    in_batches = at_least("the tutorial", 15.0, ratio(rates["batches"], rates["tutorial"]))
    of = {"gateway": "Bulkhead", "tutorial": "tutorial, plain route", "bare": "bare ASGI"}
    single_rate, batch_rate = "events published, one a request, 1/s", f"events published in batches of {BATCH}, 1/s"
    single_cost = "CPU of the server for an event, one a request, µs"
    batch_cost = f"CPU of the server for an event in batches of {BATCH}, µs"
    return [
        *(Row(single_rate, of[name], rates[name], one_by_one if name == "gateway" else None) for name in of),
        Row(batch_rate, "Bulkhead", rates["batches"], in_batches),
        *(Row(single_cost, of[name], costs[name]) for name in of),
        Row(batch_cost, "Bulkhead", costs["batches"]),
    ]


def singles(subject: str, events: int, users: int) -> list[bytes]:
    """Requests of one event each, to one user after the other."""
    headers = KEY if subject == "gateway" else ""
    return [http_request(publish_path(subject, n % users), event(time.time_ns()), headers) for n in range(events)]


def _batches(events: int, users: int) -> list[bytes]:
    items = [{"user_id": user(number % users), **event(time.time_ns())} for number in range(events)]
    return [http_request("/v1/events", items[first : first + BATCH], KEY) for first in range(0, events, BATCH)]


async def publish(crowd: Crowd, requests: Sequence[bytes], events: int) -> tuple[float, float]:
    """Events a second until the last is received and the last request answered, and microseconds of CPU for each."""
    before = crowd.readers[0].received
    used = (await crowd.server.ask("cpu"))["seconds"]
    reached = crowd.tally.after(events)
    start = time.perf_counter()
    await publish_over_http(crowd.server, requests, PUBLISHERS)
    answered = time.perf_counter()
    elapsed = max(answered, await crowd.received(reached)) - start
    used = (await crowd.server.ask("cpu"))["seconds"] - used
    await crowd.check(before + events // len(crowd.readers))
    return events / elapsed, used / events * 1e6
