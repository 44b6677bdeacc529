"""What is bounded by number: commands a second, bytes that wait, events that are kept."""

from __future__ import annotations

import pytest

from app.realtime.backlog import WAITING_OVERHEAD, Backlog, BacklogFull
from app.realtime.lifecycle import LifecycleLog, LifecycleRecord
from app.realtime.rate_limit import TokenBucket
from tests.clock import ManualClock


def taken(bucket: TokenBucket) -> int:
    """Tokens that can be taken now."""
    count = 0
    while bucket.take():
        count += 1
    return count


def test_a_bucket_starts_full_and_refills_steadily_up_to_its_burst() -> None:
    clock = ManualClock()
    bucket = TokenBucket(clock, rate=8, burst=5)
    assert taken(bucket) == 5
    clock.advance(0.0625)
    assert not bucket.take()
    clock.advance(0.0625)
    assert taken(bucket) == 1
    clock.advance(0.375)
    assert taken(bucket) == 3
    clock.advance(1000)
    assert taken(bucket) == 5


def test_trying_does_not_put_off_the_refill() -> None:
    clock = ManualClock()
    bucket = TokenBucket(clock, rate=1, burst=1)
    assert bucket.take()
    tries = []
    for _ in range(8):
        clock.advance(0.125)
        tries.append(bucket.take())
    assert tries == [False] * 7 + [True]


def test_a_backlog_keeps_the_order_of_each_user_and_forgets_what_went_out() -> None:
    backlog = Backlog(max_bytes=10_000, max_bytes_per_user=10_000)
    assert [backlog.append("a", "x", "1"), backlog.append("b", "x", "2"), backlog.append("a", "y", "3")] == [1, 2, 3]
    assert "a" in backlog
    assert "c" not in backlog
    assert backlog.keys() == ["a", "b"]
    assert [waiting.data for waiting in backlog.waiting("a")] == ["1", "3"]
    assert backlog.waiting("c") == ()
    first = backlog.first("a")
    assert first is not None
    assert (first.channel, first.data, first.serial) == ("x", "1", 1)
    backlog.done("a")
    backlog.done("a")
    assert backlog.first("a") is None
    assert backlog.keys() == ["b"]
    backlog.done("b")
    assert (backlog.size, backlog.keys(), backlog.serial) == (0, [], 3)


def test_an_idempotency_key_waits_once_for_each_channel_and_user() -> None:
    backlog = Backlog(max_bytes=10_000, max_bytes_per_user=10_000)
    assert backlog.append("a", "x", "1", idempotency_key="k") == 1
    assert backlog.append("a", "x", "2", idempotency_key="k") is None
    assert backlog.append("a", "y", "3", idempotency_key="k") == 2
    assert backlog.append("b", "x", "4", idempotency_key="k") == 3
    backlog.done("a")
    assert backlog.append("a", "x", "5", idempotency_key="k") == 4


@pytest.mark.parametrize(
    ("text", "width"), [("a", 1), ("\u00e9", 4), ("\U0001f512", 4)], ids=["ASCII", "two bytes", "four bytes"]
)
def test_a_backlog_counts_memory_and_refuses_what_does_not_fit(text: str, width: int) -> None:
    one = WAITING_OVERHEAD + 1 + 100 * width
    backlog = Backlog(max_bytes=3 * one, max_bytes_per_user=2 * one)
    for _ in range(2):
        backlog.append("a", "x", text * 100)
    assert backlog.size == 2 * one
    with pytest.raises(BacklogFull, match=rf"^{2 * one} bytes wait .*\(modes\.buffer_bytes_per_user\)$") as of_user:
        backlog.append("a", "x", "")
    backlog.append("b", "x", text * 100)
    with pytest.raises(BacklogFull, match=rf"^{3 * one} bytes wait .*\(modes\.buffer_bytes\)$") as of_all:
        backlog.append("c", "x", "")
    assert (of_user.value.limit, of_user.value.setting) == (2 * one, "modes.buffer_bytes_per_user")
    assert (of_all.value.limit, of_all.value.setting) == (3 * one, "modes.buffer_bytes")
    assert backlog.keys() == ["a", "b"]
    backlog.done("a")
    assert backlog.append("c", "x", "") == 4


class Manager:
    """What a log tracks."""

    def __init__(self, log: LifecycleLog[Manager], key: str, events: int = 3) -> None:
        """With a record of its own."""
        self.key = key
        self.record = LifecycleRecord(log, events)


def test_a_log_keeps_the_newest_events_and_counts_them_all() -> None:
    clock = ManualClock()
    log: LifecycleLog[Manager] = LifecycleLog(clock, 4)
    manager = Manager(log, "user:a")
    log.track(manager)
    for number in range(5):
        clock.advance(1)
        manager.record.append("connected", manager.key, f"client-{number}")
    assert log.total == 6
    assert [event.detail for event in manager.record.events] == ["client-2", "client-3", "client-4"]
    assert [event.detail for event in log.events(100)] == ["client-1", "client-2", "client-3", "client-4"]
    assert [event.detail for event in log.events(1)] == ["client-4"]
    assert log.events(0) == []
    assert log.events(1)[0].at == clock.time()


def test_a_log_holds_managers_weakly_and_says_when_they_close() -> None:
    log: LifecycleLog[Manager] = LifecycleLog(ManualClock(), 10)
    one, two = Manager(log, "user:a"), Manager(log, "user:b")
    log.track(one)
    log.track(two)
    assert set(log.living()) == {one, two}
    assert len(log) == 2
    del one
    assert log.living() == [two]
    assert len(log) == 1
    assert [(event.event, event.key) for event in log.events(10)] == [
        ("created", "user:a"),
        ("created", "user:b"),
        ("closed", "user:a"),
    ]
