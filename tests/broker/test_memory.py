"""What the broker in memory promises beyond the contract: bounds that hold, and costs that do not grow."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime import memory, stream
from app.realtime.broker import Position, Publication, UnrecoverablePosition
from app.realtime.clock import SystemClock
from app.realtime.memory import SWEEP_BATCH, MemoryBroker, MemoryStats
from app.realtime.stream import KEEPING_OVERHEAD, PUBLICATION_OVERHEAD, STREAM_OVERHEAD
from tests.broker.engines import Bounds, Inbox, memory_broker
from tests.clock import ManualClock, ManualTimer

EMPTY = MemoryStats(users=0, subscribers=0, streams=0, bytes=0, idempotency_keys=0, presences=0)
WIDE = Bounds(history_size=1000, streams=1000, idempotency_keys=1000)
STREAM = STREAM_OVERHEAD + KEEPING_OVERHEAD
HEAD = len('{"data":,"offset":1}')


def data(weight: int) -> str:
    """JSON whose publication, at an offset of one digit, weighs so many bytes."""
    return '"' + "x" * (weight - PUBLICATION_OVERHEAD - HEAD - 2) + '"'


async def kept(broker: MemoryBroker, key: str, channel: str = "news") -> list[int]:
    return [publication.offset for publication in (await broker.history(key, channel)).publications]


async def test_ten_thousand_users_who_are_gone_leave_nothing() -> None:
    clock, inbox = ManualClock(), Inbox()
    broker = memory_broker(clock, max_bytes=100_000_000)
    for number in range(10_000):
        key = f"user:{number}"
        await broker.subscribe(key, inbox)
        await broker.publish(key, "news", "1", idempotency_key="k")
        await broker.history(key, "only read", limit=0)
        await broker.add_presence(key, "news", "c1", "{}")
    held = broker.stats()
    assert held.bytes > 10_000 * (PUBLICATION_OVERHEAD + STREAM)
    assert (held.users, held.subscribers, held.streams, held.idempotency_keys, held.presences) == (
        (10_000, 10_000, 20_000, 10_000, 10_000)
    )
    clock.advance(Bounds().history_ttl * 2)
    assert broker.stats() == MemoryStats(
        users=10_000, subscribers=10_000, streams=20_000, bytes=0, idempotency_keys=0, presences=10_000
    )
    for number in range(10_000):
        broker.unsubscribe(f"user:{number}", inbox)
        broker.remove_presence(f"user:{number}", "news", "c1")
    clock.advance(Bounds().history_ttl)
    assert broker.stats() == EMPTY
    assert clock.pending == 0


async def test_users_who_never_came_leave_nothing() -> None:
    clock = ManualClock()
    broker = memory_broker(clock)
    await broker.publish("user:a", "news", "1")
    await broker.history("user:b", "news", limit=0)
    assert broker.stats().streams == 2
    clock.advance(Bounds().history_ttl)
    assert broker.stats() == EMPTY
    assert clock.pending == 0


async def test_a_user_who_left_keeps_what_was_published_since_for_its_own_time() -> None:
    clock, inbox, ttl = ManualClock(), Inbox(), Bounds().history_ttl
    broker = memory_broker(clock)
    await broker.subscribe("user:a", inbox)
    await broker.history("user:a", "quiet", limit=0)
    await broker.publish("user:a", "news", "1")
    broker.unsubscribe("user:a", inbox)
    clock.advance(ttl / 2)
    await broker.publish("user:a", "news", "2")
    clock.advance(ttl / 2)
    assert [info.channel for info in await broker.streams("user:a")] == ["news"]
    assert await kept(broker, "user:a") == [1, 2]
    clock.advance(ttl / 2)
    assert broker.stats() == EMPTY


async def test_a_user_who_comes_and_goes_holds_positions_from_the_last_time() -> None:
    clock, inbox, ttl = ManualClock(), Inbox(), Bounds().history_ttl
    broker = memory_broker(clock)
    await broker.subscribe("user:a", inbox)
    before = (await broker.history("user:a", "news", limit=0)).position
    for _ in range(4):
        broker.unsubscribe("user:a", inbox)
        clock.advance(ttl * 0.75)
        await broker.subscribe("user:a", inbox)
    broker.unsubscribe("user:a", inbox)
    clock.advance(ttl * 0.75)
    assert (await broker.history("user:a", "news", limit=0)).position == before


async def test_closing_lets_go_of_everything_and_the_timer() -> None:
    clock = ManualClock()
    broker = memory_broker(clock)
    await broker.subscribe("user:a", Inbox())
    await broker.publish("user:a", "news", "1", idempotency_key="k")
    await broker.add_presence("user:a", "news", "c1", "{}")
    assert clock.pending == 1
    await broker.close()
    assert broker.stats() == EMPTY
    assert clock.pending == 0


async def test_the_timers_of_the_event_loop_do_as_well() -> None:
    broker = memory_broker(SystemClock(), Bounds(history_ttl=0.01, idempotency_ttl=0.02))
    inbox = Inbox()
    await broker.publish("user:a", "news", "1", idempotency_key="k")

    def look() -> None:
        if broker.stats() == EMPTY:
            inbox.notify("", "", "")
        else:
            SystemClock().call_later(0.01, look)

    look()
    await inbox.wait(1)


class LateClock(ManualClock):
    """As in an event loop so busy that its timers never get their turn."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> ManualTimer:
        return ManualTimer(delay, 0, callback)


async def test_what_expired_is_neither_read_nor_revived_before_the_timer_gets_its_turn() -> None:
    clock, inbox, ttl = LateClock(), Inbox(), Bounds().history_ttl
    broker = memory_broker(clock)
    await broker.subscribe("user:a", inbox)
    before = {
        channel: (await broker.publish("user:a", channel, "1")).position for channel in ("read", "published", "listed")
    }
    await broker.publish("user:b", "news", "1")
    gone = (await broker.publish("user:b", "further", "1")).position
    clock.advance(ttl)
    assert broker.stats().streams == 5
    assert await kept(broker, "user:a", "read") == []
    assert (await broker.publish("user:a", "published", "2")).position == Position(2, before["published"].epoch)
    assert await kept(broker, "user:a", "published") == [2]
    assert [info.publications for info in await broker.streams("user:a")] == [0, 1, 0]
    after = (await broker.publish("user:b", "further", "2")).position
    assert after.offset == 1
    assert after.epoch != gone.epoch
    assert [info.channel for info in await broker.streams("user:b")] == ["further"]


async def test_history_of_size_zero_counts_offsets_and_keeps_nothing() -> None:
    clock, inbox = ManualClock(), Inbox()
    broker = memory_broker(clock, Bounds(history_size=0))
    await broker.publish("user:a", "news", "1")
    await broker.subscribe("user:a", inbox)
    result = await broker.publish("user:a", "news", "2")
    assert result.position.offset == 2
    assert inbox.offsets == [2]
    assert await kept(broker, "user:a") == []
    assert broker.stats().bytes == STREAM_OVERHEAD
    broker.unsubscribe("user:a", inbox)
    clock.advance(Bounds().history_ttl)
    assert broker.stats() == EMPTY


async def test_beyond_all_bytes_the_stream_published_to_longest_ago_loses_its_publications_first() -> None:
    broker = memory_broker(ManualClock(), WIDE, max_bytes=4000 + 2 * STREAM, max_bytes_per_user=4000)
    for key in ("user:a", "user:b"):
        await broker.subscribe(key, Inbox())
    (a1, *_) = [await broker.publish("user:a", "news", data(1000)) for _ in range(2)]
    await broker.publish("user:b", "news", data(1000))
    await broker.publish("user:a", "news", data(1000))
    await broker.publish("user:c", "news", data(1000))
    assert [await kept(broker, f"user:{name}") for name in "abc"] == [[1, 2, 3], [], [1]]
    await broker.publish("user:c", "news", data(1500))
    assert [await kept(broker, f"user:{name}") for name in "abc"] == [[3], [], [1, 2]]
    assert broker.stats().bytes == 3500 + 2 * STREAM
    # Positions stay comparable for those who are subscribed.
    assert (await broker.history("user:a", "news", since=a1.position)).position.offset == 3
    assert (await broker.history("user:b", "news")).position.offset == 1


async def test_a_stream_emptied_for_want_of_memory_ends_when_nobody_is_there() -> None:
    broker = memory_broker(ManualClock(), WIDE, max_bytes=1000 + STREAM + STREAM_OVERHEAD)
    first = (await broker.publish("user:a", "news", data(1000))).position
    await broker.history("user:b", "only read", limit=0)
    await broker.publish("user:c", "news", data(1000))
    assert broker.stats().users == 2
    await broker.publish("user:d", "news", data(1000))
    assert broker.stats().users == 1
    with pytest.raises(UnrecoverablePosition):
        await broker.history("user:a", "news", since=first)


async def test_a_user_beyond_their_bytes_loses_their_own_oldest_and_nobody_elses() -> None:
    broker = memory_broker(ManualClock(), WIDE, max_bytes=100_000, max_bytes_per_user=3000 + 2 * KEEPING_OVERHEAD)
    await broker.publish("user:b", "news", data(1000))
    await broker.publish("user:a", "one", data(1000))
    await broker.publish("user:a", "two", data(1000))
    await broker.publish("user:a", "one", data(1000))
    await broker.publish("user:a", "one", data(1000))
    assert await kept(broker, "user:a", "two") == []
    assert await kept(broker, "user:a", "one") == [1, 2, 3]
    for _ in range(6):
        await broker.publish("user:a", "one", data(1000))
    assert await kept(broker, "user:a", "one") == [7, 8, 9]
    assert await kept(broker, "user:b") == [1]
    assert broker.stats().bytes == 4000 + 2 * STREAM + STREAM_OVERHEAD
    # The position outlasts what was kept, even with nobody there, until it expires.
    assert (await broker.history("user:a", "two")).position.offset == 1


@pytest.mark.parametrize(("max_bytes", "per_user"), [(100_000, 2000 + KEEPING_OVERHEAD), (2000 + STREAM, 100_000)])
async def test_a_publication_too_heavy_to_keep_is_delivered_and_harms_nobody_else(
    max_bytes: int, per_user: int
) -> None:
    broker, inbox = memory_broker(ManualClock(), WIDE, max_bytes=max_bytes, max_bytes_per_user=per_user), Inbox()
    await broker.subscribe("user:a", inbox)
    before = (await broker.publish("user:a", "news", data(500))).position
    await broker.publish("user:a", "news", data(2001))
    assert inbox.offsets == [1, 2]
    # With a gap before the top, nothing older could be recovered: so nothing older is kept.
    history = await broker.history("user:a", "news", since=before)
    assert (history.publications, history.position) == ((), Position(2, before.epoch))
    await broker.publish("user:a", "news", data(2000))
    assert await kept(broker, "user:a") == [3]


async def test_a_publication_too_heavy_to_keep_takes_no_room_of_others() -> None:
    broker = memory_broker(ManualClock(), WIDE, max_bytes=2000 + 2 * STREAM, max_bytes_per_user=100_000)
    await broker.publish("user:b", "news", data(500))
    await broker.publish("user:a", "news", data(2001 + STREAM))
    assert [await kept(broker, f"user:{name}") for name in "ab"] == [[], [1]]


async def test_bounds_too_small_for_one_stream_leave_the_one_that_is_published_to() -> None:
    broker = memory_broker(ManualClock(), WIDE, max_bytes=1)
    for key in ("user:a", "user:b"):
        await broker.publish(key, "news", "1")
    assert (await broker.publish("user:b", "news", "1")).offset == 2
    assert (broker.stats().streams, broker.stats().bytes) == (1, STREAM_OVERHEAD)


@pytest.mark.parametrize(
    "text", ["1", '"ä"', '"я"', '"' + "x" * 500 + '😀"'], ids=["ascii", "latin", "cyrillic", "emoji"]
)
async def test_kept_publications_take_no_more_memory_than_allowed(text: str) -> None:
    limit = 400_000
    bounds = Bounds(history_size=100_000)
    broker = memory_broker(ManualClock(), bounds, max_bytes=limit, max_bytes_per_user=limit)
    await broker.publish("user:a", "news", text)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3000):
        await broker.publish("user:a", "news", text)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert broker.stats().bytes > limit * 0.95
    assert taken <= limit


Act = Callable[[MemoryBroker, int], Awaitable[Any]]


async def publish_to_another_user(broker: MemoryBroker, number: int) -> None:
    await broker.publish(f"user:user-{number}", f"#user-{number}", '{"type":"token"}')


async def publish_to_another_channel(broker: MemoryBroker, number: int) -> None:
    await broker.publish("user:alice", f"channel-{number}", '{"type":"token"}')


async def read_the_position_of_another_user(broker: MemoryBroker, number: int) -> None:
    await broker.history(f"user:user-{number}", f"#user-{number}", limit=0)


async def publish_thirty_times_to_each_user(broker: MemoryBroker, number: int) -> None:
    await publish_to_another_user(broker, number // 30)


@pytest.mark.parametrize(
    "act",
    [
        publish_to_another_user,
        publish_to_another_channel,
        read_the_position_of_another_user,
        publish_thirty_times_to_each_user,
    ],
)
async def test_what_is_counted_is_what_is_used(act: Act) -> None:
    plenty = 10**9
    broker = memory_broker(ManualClock(), Bounds(1000, streams=plenty), max_bytes=plenty, max_bytes_per_user=plenty)
    taken = await memory_taken(broker, act, 12_000)
    assert broker.stats().bytes * 0.4 < taken < broker.stats().bytes * 1.1


@pytest.mark.parametrize("act", [publish_to_another_user, read_the_position_of_another_user])
async def test_users_without_number_take_no_more_memory_than_allowed(act: Act) -> None:
    limit = 4_000_000
    broker = memory_broker(ManualClock(), max_bytes=limit, max_bytes_per_user=limit)
    taken = await memory_taken(broker, act, 15_000)
    assert broker.stats().bytes > limit * 0.95
    assert taken <= limit * 1.1


async def test_idempotency_keys_without_number_take_no_more_than_a_kilobyte_each_that_is_allowed() -> None:
    async def publish(broker: MemoryBroker, number: int) -> None:
        await broker.publish(
            f"user:user-{number}", "news", "1", idempotency_key=f"0b5c1c1e-7f5a-4f57-9d0c-{number:012d}"
        )

    limit, most = 100_000, 4000
    broker = memory_broker(ManualClock(), max_bytes=limit, max_bytes_per_user=limit, idempotency_keys=most)
    taken = await memory_taken(broker, publish, 12_000)
    assert broker.stats().idempotency_keys == most
    assert taken <= limit + most * 1024


async def memory_taken(broker: MemoryBroker, act: Act, times: int) -> int:
    """Bytes that are in use after so many calls and were not before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(times):
        await act(broker, number)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken


async def test_many_that_expire_at_once_take_turns_with_the_rest_of_the_event_loop() -> None:
    clock = ManualClock()
    broker = memory_broker(clock, Bounds(idempotency_ttl=60))
    for number in range(SWEEP_BATCH * 3):
        await broker.publish(f"user:{number}", "news", "1")
    left: list[int] = []
    # Timers that are due at once go in the order in which they were set, as in asyncio: this one after the first sweep.
    clock.call_later(Bounds().history_ttl, lambda: left.append(broker.stats().streams))
    clock.advance(Bounds().history_ttl)
    assert left == [SWEEP_BATCH * 2]
    assert broker.stats() == EMPTY


@contextmanager
def lines_executed() -> Iterator[Callable[[], int]]:
    """Counts the lines of the broker's modules that run; what traced before (coverage) goes on after."""
    modules = {memory.__file__, stream.__file__, str(Path(memory.__file__).with_name("idempotency.py"))}
    lines, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in modules:
            return None
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        yield lambda: lines
    finally:
        sys.settrace(before)


async def work(users: int, act: Callable[[MemoryBroker, ManualClock], Any]) -> int:
    """Lines that run for `act` in a broker that holds this many users, half of them subscribed, streams due at 60."""
    clock, inbox = ManualClock(), Inbox()
    broker = memory_broker(clock, Bounds(streams=10), max_bytes=100_000_000)
    await broker.publish("user:first", "news", "1", idempotency_key="first")
    clock.advance(1)
    for number in range(users):
        if number % 2:
            await broker.subscribe(f"user:{number}", inbox)
        await broker.publish(f"user:{number}", "news", "1", idempotency_key="k")
    with lines_executed() as lines:
        await act(broker, clock)
        return lines()


async def publish_again(broker: MemoryBroker, clock: ManualClock) -> None:
    await broker.publish("user:1", "news", "2")


async def publish_with_key(broker: MemoryBroker, clock: ManualClock) -> None:
    await broker.publish("user:1", "news", "2", idempotency_key="another")


async def publish_to_a_new_user(broker: MemoryBroker, clock: ManualClock) -> None:
    await broker.publish("user:new", "news", "1")


async def let_one_stream_and_one_key_expire(broker: MemoryBroker, clock: ManualClock) -> None:
    streams, keys = broker.stats().streams, broker.stats().idempotency_keys
    clock.advance(19)
    assert broker.stats().idempotency_keys == keys - 1
    await broker.publish("user:1", "news", "1")
    assert broker.stats().streams == streams


async def read_the_stats(broker: MemoryBroker, clock: ManualClock) -> None:
    broker.stats()


@pytest.mark.parametrize(
    "act",
    [publish_again, publish_with_key, publish_to_a_new_user, let_one_stream_and_one_key_expire, read_the_stats],
)
async def test_the_work_does_not_grow_with_the_number_of_users(
    act: Callable[[MemoryBroker, ManualClock], Any],
) -> None:
    few, many = await work(4, act), await work(2000, act)
    assert few == many > 0


async def test_idempotency_keys_of_a_busy_user_expire_one_by_one() -> None:
    clock = ManualClock()
    broker = memory_broker(clock)
    for number in range(20):
        await broker.publish("user:a", "news", "1", idempotency_key=f"k{number}")
        clock.advance(Bounds().idempotency_ttl / 2)
    assert broker.stats().idempotency_keys == 1
    clock.advance(Bounds().idempotency_ttl)
    assert broker.stats().idempotency_keys == 0


async def test_idempotency_keys_of_a_user_who_stopped_expire_although_another_goes_on() -> None:
    clock, ttl = ManualClock(), Bounds().idempotency_ttl
    broker = memory_broker(clock)
    await broker.publish("user:a", "news", "1", idempotency_key="k0")
    clock.advance(ttl / 4)
    await broker.publish("user:b", "news", "1", idempotency_key="k0")
    clock.advance(ttl / 4)
    await broker.publish("user:a", "news", "1", idempotency_key="k1")
    clock.advance(ttl * 3 / 4)
    assert broker.stats().idempotency_keys == 1
    assert (await broker.publish("user:a", "news", "1", idempotency_key="k1")).duplicate


async def test_beyond_all_idempotency_keys_the_oldest_goes_whosever_it_is() -> None:
    clock = ManualClock()
    broker = memory_broker(clock, idempotency_keys=3)
    for key, name in (("user:a", "k0"), ("user:b", "k0"), ("user:a", "k1"), ("user:c", "k0")):
        await broker.publish(key, "news", "1", idempotency_key=name)
        clock.advance(1)
    assert broker.stats().idempotency_keys == 3
    for key, name in (("user:b", "k0"), ("user:a", "k1"), ("user:c", "k0")):
        assert (await broker.publish(key, "news", "1", idempotency_key=name)).duplicate
    assert not (await broker.publish("user:a", "news", "1", idempotency_key="k0")).duplicate


async def test_an_idempotency_key_used_again_after_its_time_is_the_users_newest() -> None:
    clock, ttl, most = ManualClock(), Bounds().idempotency_ttl, Bounds().idempotency_keys
    broker = memory_broker(clock)
    await broker.publish("user:a", "news", "1", idempotency_key="again")
    clock.advance(ttl / 2)
    await broker.publish("user:a", "news", "1", idempotency_key="other")
    clock.advance(ttl / 2)
    await broker.publish("user:a", "news", "1", idempotency_key="again")
    for number in range(most - 1):
        await broker.publish("user:a", "news", "1", idempotency_key=f"k{number}")
    assert (await broker.publish("user:a", "news", "1", idempotency_key="again")).duplicate
    assert not (await broker.publish("user:a", "news", "1", idempotency_key="other")).duplicate


async def test_channels_that_nobody_is_in_any_more_take_no_memory() -> None:
    broker = memory_broker(ManualClock())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(2000):
        await broker.add_presence("user:a", f"channel {number}", "c1", "{}")
    held = tracemalloc.get_traced_memory()[0] - before
    for number in range(2000):
        broker.remove_presence("user:a", f"channel {number}", "c1")
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # The table itself does not shrink at once.
    assert left < held / 3


async def test_a_repeat_gives_the_first_position_even_of_a_stream_that_is_gone() -> None:
    clock = ManualClock()
    broker = memory_broker(clock, Bounds(history_ttl=10, idempotency_ttl=60))
    first = await broker.publish("user:a", "news", "1", idempotency_key="k")
    clock.advance(30)
    assert broker.stats().streams == 0
    again = await broker.publish("user:a", "news", "1", idempotency_key="k")
    assert (again.duplicate, again.position) == (True, first.position)


async def test_an_error_of_the_subscriber_reaches_the_publisher_and_the_publication_stays() -> None:
    class Broken(Inbox):
        def deliver(self, publication: Publication) -> int:
            raise RuntimeError("no")

    broker = memory_broker(ManualClock())
    await broker.subscribe("user:a", Broken())
    with pytest.raises(RuntimeError):
        await broker.publish("user:a", "news", "1", idempotency_key="k")
    assert await kept(broker, "user:a") == [1]
    assert (await broker.publish("user:a", "news", "1", idempotency_key="k")).duplicate


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(250, 900)), max_size=40),
    st.integers(3000, 12_000),
    st.integers(1500, 7000),
)
async def test_what_is_kept_within_the_bounds_is_what_a_plain_list_would_keep(
    publishes: list[tuple[str, str, int]], max_bytes: int, per_user: int
) -> None:
    size, limit = 4, min(per_user, max_bytes - STREAM_OVERHEAD)
    broker = memory_broker(ManualClock(), Bounds(history_size=size), max_bytes=max_bytes, max_bytes_per_user=per_user)
    for key in "ab":
        await broker.subscribe(key, Inbox())
    # Streams that have not expired, by their last publication; of each, (offset, weight).
    model: dict[tuple[str, str], list[tuple[int, int]]] = {}
    tops: dict[tuple[str, str], int] = {}

    def weight(key: str) -> int:
        keeping = [kept for name, kept in model.items() if name[0].startswith(key) and kept]
        return sum(KEEPING_OVERHEAD + sum(weight for _, weight in kept) for kept in keeping)

    def make_room() -> None:
        while weight("") + len(model) * STREAM_OVERHEAD > max_bytes:
            oldest = next(iter(model))
            del model[oldest][:1]
            if not model[oldest]:
                del model[oldest]

    for key, channel, want in publishes:
        name = key, channel
        if name not in tops:
            model[name] = []
            make_room()
        await broker.publish(key, channel, text := data(want))
        tops[name] = tops.get(name, 0) + 1
        weighs = PUBLICATION_OVERHEAD + len(json.dumps({"data": json.loads(text), "offset": tops[name]})) - 3
        model[name] = [*model.pop(name, []), (tops[name], weighs)][-size:]
        if weighs + KEEPING_OVERHEAD > limit:
            model[name] = []
        while weight(key) > limit:
            next(kept for name, kept in model.items() if name[0] == key and kept).pop(0)
        make_room()
    assert broker.stats().bytes == weight("") + len(model) * STREAM_OVERHEAD
    for (key, channel), top in tops.items():
        history = await broker.history(key, channel)
        expected = [offset for offset, _ in model.get((key, channel), ())]
        assert [publication.offset for publication in history.publications] == expected
        assert history.position.offset == top
