"""Row: validation is light: it was linear in the users, 11 µs at 10 and 35 ms at 50,000 for each new user.

Compared here are medians at two sizes, with room for a busy machine; `make bench` has the numbers.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from types import FrameType
from typing import Any

from app.realtime.identity import UserContext
from containers import GatewayContainer
from tests.origin.test_event_loop import STALL, measured


def new_user_calls(container: GatewayContainer, name: str) -> int:
    """Calls of Python functions for one new user."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    context = UserContext(user_id=name)
    before = sys.getprofile()
    gc.disable()  # what it ends calls those who watch over it
    sys.setprofile(count)
    try:
        container.manager(context)
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


def new_user_seconds(container: GatewayContainer, label: str) -> float:
    """Median time that a new user takes."""
    contexts = [UserContext(user_id=f"{label}-{number}") for number in range(300)]
    times = []
    for context in contexts:
        start = time.perf_counter()
        held = container.manager(context)
        times.append(time.perf_counter() - start)
        del held
    return statistics.median(times)


def test_a_new_user_costs_the_same_among_a_hundred_and_among_twenty_thousand(container: GatewayContainer) -> None:
    managers = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(100)]
    new_user_calls(container, "warm-up")
    few_calls, few_seconds = new_user_calls(container, "few"), new_user_seconds(container, "few")
    managers += [container.manager(UserContext(user_id=f"user-{number}")) for number in range(100, 20_000)]
    many_calls, many_seconds = new_user_calls(container, "many"), new_user_seconds(container, "many")
    assert container.manager.count() == len(managers) == 20_000
    assert many_calls == few_calls > 10
    assert many_seconds < 5 * few_seconds  # the original: 1,000 times


def test_an_existing_user_costs_the_same_among_a_hundred_and_among_twenty_thousand(
    container: GatewayContainer,
) -> None:
    context = UserContext(user_id="user-0")
    managers = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(100)]

    def seconds() -> float:
        times = []
        for _ in range(2000):
            start = time.perf_counter()
            container.manager(context)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    few = seconds()
    managers += [container.manager(UserContext(user_id=f"user-{number}")) for number in range(100, 20_000)]
    assert seconds() < 5 * few
    assert len(managers) == 20_000


async def test_a_hundred_new_users_at_once_among_twenty_thousand_stall_nobody(container: GatewayContainer) -> None:
    held = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(20_000)]

    async def come(number: int) -> None:
        held.append(container.manager(UserContext(user_id=f"new-{number}")))

    async with measured() as gaps:
        await asyncio.gather(*(come(number) for number in range(100)))
    assert max(gaps) < STALL  # the original: 4.6 s at 50,000
    assert container.manager.count() == 20_100
