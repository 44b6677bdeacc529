"""The clock of the tests does what the real one does, at the time the test says."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.realtime.clock import Clock, SystemClock
from tests.clock import ManualClock


def test_timers_are_called_in_the_order_in_which_they_are_due_each_at_its_time() -> None:
    clock = ManualClock()
    start, calls = clock.monotonic(), list[tuple[str, float]]()

    def note(name: str) -> None:
        calls.append((name, clock.monotonic() - start))

    clock.call_later(3, lambda: note("third"))
    clock.call_later(1, lambda: clock.call_later(1, lambda: note("second, armed by the first")))
    clock.call_later(3, lambda: note("third too, later"))
    clock.call_later(5, lambda: note("not yet"))
    clock.advance(4)
    assert calls == [("second, armed by the first", 2), ("third", 3), ("third too, later", 3)]
    assert (clock.monotonic() - start, clock.pending) == (4, 1)


def test_a_cancelled_timer_is_not_called() -> None:
    clock = ManualClock()
    calls: list[int] = []
    timer = clock.call_later(1, lambda: calls.append(1))
    timer.cancel()
    timer.cancel()
    assert clock.pending == 0
    clock.advance(2)
    assert calls == []


def test_wall_time_and_steady_time_pass_together() -> None:
    clock = ManualClock(time=1_000_000)
    assert clock.time() == 1_000_000
    clock.advance(1.5)
    assert clock.time() == 1_000_001.5


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)


async def test_the_system_clock_reads_the_system_and_uses_the_running_loop() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.time() - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()
    called = asyncio.Event()
    clock.call_later(0.01, called.set)
    clock.call_later(0, lambda: pytest.fail("cancelled")).cancel()
    async with asyncio.timeout(5):
        await called.wait()


def test_the_system_clock_arms_no_timer_without_a_loop() -> None:
    with pytest.raises(RuntimeError):
        SystemClock().call_later(1, lambda: None)
