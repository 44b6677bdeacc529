"""4. Publishing over HTTP: one event a request, and in batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from benchmarks.client import Crowd, http_request, publish_over_http
from benchmarks.events import API_KEY, event, publish_path, user
from benchmarks.run import Run
from benchmarks.server import all_running
from benchmarks.table import Row, at_least, ratio

USERS, PUBLISHERS, REPETITIONS = 1000, 16, 7
SINGLE, BATCHED, BATCH = 4000, 40_000, 100

KEY = f"X-API-Key: {API_KEY}\r\n"


async def http(run: Run) -> list[Row]:
    """Bulkhead one by one, in batches, and the tutorial's manager behind a plain route, in turns."""
    users, single, batched = run.amount(USERS), run.amount(SINGLE), run.amount(BATCHED)
    async with all_running(("gateway", "tutorial"), run.cores) as (ours, theirs):
        gateway, tutorial = Crowd(ours), Crowd(theirs)
        for crowd in (gateway, tutorial):
            await crowd.connect(range(users))
        measures = {
            "single": partial(_publish, gateway, _singles(ours.subject, single, users), single),
            "tutorial": partial(_publish, tutorial, _singles(theirs.subject, single, users), single),
            "batches": partial(_publish, gateway, _batches(batched, users), batched),
        }
        for measure in measures.values():
            await measure()  # the first one finds cold caches everywhere
        measured = await run.interleaved_async(REPETITIONS, measures)
        for crowd in (gateway, tutorial):
            crowd.leave()
    rates = {name: [rate for rate, _ in values] for name, values in measured.items()}
    costs = {name: [cost for _, cost in values] for name, values in measured.items()}
    one_by_one = at_least("the tutorial", 2.0, ratio(rates["single"], rates["tutorial"]))
    in_batches = at_least("the tutorial", 15.0, ratio(rates["batches"], rates["tutorial"]))
    return [
        Row("events published, one a request, 1/s", "Bulkhead", rates["single"], one_by_one),
        Row("events published, one a request, 1/s", "tutorial, plain route", rates["tutorial"]),
        Row(f"events published in batches of {BATCH}, 1/s", "Bulkhead", rates["batches"], in_batches),
        Row("CPU of the server for an event, one a request, µs", "Bulkhead", costs["single"]),
        Row("CPU of the server for an event, one a request, µs", "tutorial, plain route", costs["tutorial"]),
        Row(f"CPU of the server for an event, in batches of {BATCH}, µs", "Bulkhead", costs["batches"]),
    ]


def _singles(subject: str, events: int, users: int) -> list[bytes]:
    headers = KEY if subject == "gateway" else ""
    return [http_request(publish_path(subject, n % users), event(time.time_ns()), headers) for n in range(events)]


def _batches(events: int, users: int) -> list[bytes]:
    items = [{"user_id": user(number % users), **event(time.time_ns())} for number in range(events)]
    return [http_request("/v1/events", items[first : first + BATCH], KEY) for first in range(0, events, BATCH)]


async def _publish(crowd: Crowd, requests: Sequence[bytes], events: int) -> tuple[float, float]:
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
