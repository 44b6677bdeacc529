"""6. Isolation: what it costs to prove it, to claim what a user owns, and to audit those who are there."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from itertools import count

from dependency_injector import containers, providers

from app.garbage import tune_garbage_collection
from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from benchmarks.client import Crowd
from benchmarks.delivery import burst
from benchmarks.events import API_KEY, AUDITED
from benchmarks.run import Run
from benchmarks.server import Server, all_running, running
from benchmarks.serving import container
from benchmarks.table import Goal, Row, at_least, at_most, number, ratio
from providers import Claims, Fresh, PerKey, Shared, prove
from providers.audit import audit
from providers.sharing import shared_objects

PROVIDERS = 500
NEW_USERS = 1000
OWNED = 5  # objects that are claimed for a new manager: its parts, and itself
AUDIT_GOAL = 2.0  # seconds, for ten thousand managers
LINEAR_GOAL = 1.5  # a manager among the most, as against one among a tenth of them
RATE_GOAL = 0.95  # of the rate without audits: two runs of the same differ by as much
BURST_USERS, BURST_EVENTS, REPETITIONS = 1000, 40_000, 7


class Part:
    """An object that a user owns."""


class Whole:
    """The object of a user, with many parts."""

    def __init__(self, user: str, **parts: object) -> None:
        self.user = user
        self.parts = parts


async def isolation(run: Run) -> list[Row]:
    """Each of the nets alone; then the delivery while one of them is at work."""
    tune_garbage_collection()
    sizes = (100, 1000) if run.quick else (100, 1000, 10_000)
    return [
        *_proofs(run),
        *_claims(run),
        *_audit_rows("idle", {size: run.interleaved(3, {size: partial(_audit_idle, size)})[size] for size in sizes}),
        *_audit_rows("connected", await _audits_of_connected(run, sizes)),
        *await _delivery(run),
    ]


def _proofs(run: Run) -> list[Row]:
    made, large = container(), _large_container()
    probes = {"whole": (("alice",), ("bob",))}
    measures = {
        "the default container": partial(_milliseconds, lambda: prove(made, made.probes())),
        f"a container of {PROVIDERS} providers": partial(_milliseconds, lambda: prove(large, probes)),
    }
    return [Row("proof of the wiring, ms", of, values) for of, values in run.interleaved(5, measures).items()]


def _large_container() -> containers.DynamicContainer:
    made = containers.DynamicContainer()
    parts: dict[str, providers.Provider[Part]] = {
        f"part_{one}": Shared(Part, reason="it keeps no state") if one % 2 else Fresh(Part)
        for one in range(PROVIDERS - 1)
    }
    made.set_providers(**parts, whole=PerKey(Fresh(Whole, **parts), key=lambda user: user))
    return made


def _milliseconds(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return (time.process_time() - start) * 1e3


def _claims(run: Run) -> list[Row]:
    few, many = 10, run.amount(100_000)
    claims = {size: Claims() for size in (few, many)}
    held = {size: [Part() for _ in range(size)] for size in claims}
    for size, parts in held.items():
        for one, part in enumerate(parts):
            claims[size].claim(one, part)
    measured = run.interleaved(11, {size: partial(_claim, claims[size]) for size in claims})
    made, numbers = container(), count()
    users = run.interleaved(11, {"new": partial(_new_users, made.manager, numbers)})["new"]
    share = [claim / user for claim, user in zip(measured[few], users, strict=True)]
    flat = at_most(f"that at {few}", LINEAR_GOAL, ratio(measured[many], measured[few]))
    return [
        Row(f"claims for a new user among {few}, µs", "Bulkhead", measured[few]),
        Row(f"claims for a new user among {many:,}, µs", "Bulkhead", measured[many], flat),
        Row("share of the claims in making a manager", "Bulkhead", share),
    ]


def _claim(claims: Claims) -> float:
    owned = [tuple(Part() for _ in range(OWNED)) for _ in range(NEW_USERS)]
    start = time.process_time()
    for key, (manager, *parts) in enumerate(owned, 10**9):
        claims.claim(key, *parts)
        claims.claim(key, manager)
    return (time.process_time() - start) / NEW_USERS * 1e6


def _new_users(manager: PerKey[UserManager], numbers: count[int]) -> float:
    contexts = [UserContext(user_id=f"user-{next(numbers)}") for _ in range(NEW_USERS)]
    start = time.process_time()
    held = [manager(context) for context in contexts]
    return (time.process_time() - start) / len(held) * 1e6


def _audit_idle(size: int) -> float:
    made = container()
    managers = [made.manager(UserContext(user_id=f"user-{one}")) for one in range(size)]
    shared = shared_objects(made)
    gc.collect()
    start = time.perf_counter()
    report = audit(*managers, shared=shared)
    elapsed = time.perf_counter() - start
    assert report.isolated
    assert report.owners == size
    return elapsed


async def _audits_of_connected(run: Run, sizes: tuple[int, ...]) -> dict[int, list[float]]:
    async with running("gateway", run.cores) as server:
        crowd, connected, measured = Crowd(server), 0, {}
        for size in sizes:
            await crowd.connect(range(connected, size))
            connected = size
            measured[size] = [await asyncio.to_thread(_ask_for_audit, server, size) for _ in range(run.times(3))]
        crowd.leave()
    return measured


def _ask_for_audit(server: Server, size: int) -> float:
    """Seconds of the event loop that it took."""
    url = f"http://127.0.0.1:{server.port}/v1/isolation/audit"
    request = urllib.request.Request(url, method="POST", headers={"X-API-Key": API_KEY})
    with urllib.request.urlopen(request, timeout=60) as response:
        report = json.load(response)
    assert report["isolated"]
    assert report["managers"] == size
    seconds: float = report["seconds"]
    return seconds


def _audit_rows(state: str, measured: dict[int, list[float]]) -> list[Row]:
    rows = [
        Row(f"audit of {size:,} managers, {state}, ms", "Bulkhead", [one * 1e3 for one in values])
        for size, values in measured.items()
    ]
    (fewer, before), (most, values) = list(measured.items())[-2:]
    goal = Goal(f"≤ {AUDIT_GOAL:.0f} s for 10,000: {number(max(values))} s", max(values) <= AUDIT_GOAL)
    rows[-1] = Row(rows[-1].measured, "Bulkhead", rows[-1].values, goal)
    growth = ratio(values, before) / (most / fewer)
    linear = at_most(f"that among {fewer:,}", LINEAR_GOAL, growth)
    return [
        *rows,
        Row(f"audit of one manager among {most:,} as against {fewer:,}, {state}", "Bulkhead", (growth,), linear),
    ]


async def _delivery(run: Run) -> list[Row]:
    users, events = run.amount(BURST_USERS), run.amount(BURST_EVENTS)
    async with all_running(("gateway", AUDITED), run.cores) as servers:
        crowds = {server.subject: Crowd(server) for server in servers}
        for crowd in crowds.values():
            await crowd.connect(range(users))
        bursts = {name: partial(burst, crowd, events, 10) for name, crowd in crowds.items()}
        for each in bursts.values():
            await each()
        measured = await run.interleaved_async(REPETITIONS, bursts)
        for crowd in crowds.values():
            crowd.leave()
    rates = {name: [rate for rate, _ in values] for name, values in measured.items()}
    met = at_least("without", RATE_GOAL, ratio(rates[AUDITED], rates["gateway"]))
    return [
        Row("events delivered, no audits, 1/s", "Bulkhead", rates["gateway"]),
        Row("events delivered, audits within 1 % of a CPU, 1/s", "Bulkhead", rates[AUDITED], met),
    ]
