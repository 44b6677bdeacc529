"""What every broker promises (`app.realtime.broker.Broker`), tried on each engine of `tests.broker.engines`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from app.realtime.broker import (
    Broker,
    BrokerError,
    History,
    Position,
    Publication,
    Published,
    StreamLimitExceeded,
    UnrecoverablePosition,
)
from tests.broker.engines import Bounds, Inbox

ALICE, BOB = "user:alice", "user:bob"
Advance = Callable[[float], Awaitable[None]]


async def publish(broker: Broker, *data: str, key: str = ALICE, channel: str = "news") -> list[Position]:
    return [(await broker.publish(key, channel, text)).position for text in data]


async def top(broker: Broker, key: str = ALICE, channel: str = "news") -> Position:
    return (await broker.history(key, channel, limit=0)).position


def offsets(history: History) -> list[int]:
    return [publication.offset for publication in history.publications]


async def test_offsets_count_from_one_without_gaps_in_one_epoch(broker: Broker) -> None:
    positions = await publish(broker, "1", "2", "3")
    assert [position.offset for position in positions] == [1, 2, 3]
    assert len({position.epoch for position in positions}) == 1
    assert positions[0].epoch


async def test_history_keeps_the_order_of_publishing(broker: Broker) -> None:
    positions = await publish(broker, '"a"', '"b"', '"c"')
    history = await broker.history(ALICE, "news")
    assert [json.loads(publication.text)["data"] for publication in history.publications] == ["a", "b", "c"]
    assert offsets(history) == [1, 2, 3]
    assert history.position == positions[-1]


async def test_concurrent_publishes_get_an_offset_each_and_arrive_in_that_order(broker: Broker) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    results = await asyncio.gather(*(broker.publish(ALICE, "news", str(number)) for number in range(20)))
    assert sorted(result.position.offset for result in results) == list(range(1, 21))
    await inbox.wait(20)
    assert inbox.offsets == list(range(1, 21))


@pytest.mark.parametrize(
    ("data", "info", "text"),
    [
        ('{"a": 1,  "b":[ ]}', "", '{"data":{"a": 1,  "b":[ ]},"offset":1}'),
        ('"ü😀"', "", '{"data":"ü😀","offset":1}'),
        ("1", '{"user":"alice"}', '{"data":1,"info":{"user":"alice"},"offset":1}'),
    ],
)
async def test_a_publication_carries_the_data_as_it_is(broker: Broker, data: str, info: str, text: str) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    await broker.publish(ALICE, "news", data, info=info)
    await inbox.wait(1)
    (kept,) = (await broker.history(ALICE, "news")).publications
    assert inbox.publications == [kept]
    assert (kept.key, kept.channel, kept.offset, kept.text) == (ALICE, "news", 1, text)
    assert kept.size == len(text.encode())


async def test_a_stream_keeps_its_newest_publications(broker: Broker, bounds: Bounds) -> None:
    await publish(broker, *map(str, range(bounds.history_size + 3)))
    history = await broker.history(ALICE, "news")
    assert offsets(history) == list(range(4, bounds.history_size + 4))
    assert history.position.offset == bounds.history_size + 3


async def test_since_is_exclusive(broker: Broker) -> None:
    positions = await publish(broker, "1", "2", "3", "4")
    assert offsets(await broker.history(ALICE, "news", since=positions[1])) == [3, 4]
    assert offsets(await broker.history(ALICE, "news", since=positions[3])) == []
    assert offsets(await broker.history(ALICE, "news", since=Position(0, positions[0].epoch))) == [1, 2, 3, 4]
    assert offsets(await broker.history(ALICE, "news", since=Position(9, positions[0].epoch))) == []


@pytest.mark.parametrize("offset", [2**53, 2**53 + 1, 2**63 - 1])
async def test_since_may_be_far_behind_the_top(broker: Broker, offset: int) -> None:
    epoch = (await publish(broker, "1", "2"))[0].epoch
    for since in (Position(offset, epoch), Position(offset, "")):
        for limit in (-1, 2**31 - 1):
            assert offsets(await broker.history(ALICE, "news", since=since, limit=limit)) == []
            assert offsets(await broker.history(ALICE, "news", since=since, limit=limit, reverse=True)) == [2, 1]
    with pytest.raises(UnrecoverablePosition):
        await broker.history(ALICE, "news", since=Position(offset, "elsewhere \n\0" * 1000))


async def test_since_before_what_is_kept_gives_all_that_is_kept(broker: Broker, bounds: Bounds) -> None:
    positions = await publish(broker, *map(str, range(bounds.history_size + 3)))
    assert offsets(await broker.history(ALICE, "news", since=positions[0])) == list(range(4, bounds.history_size + 4))


async def test_reverse_reads_newest_first_and_before_since(broker: Broker) -> None:
    positions = await publish(broker, "1", "2", "3", "4")
    epoch = positions[0].epoch
    assert offsets(await broker.history(ALICE, "news", reverse=True)) == [4, 3, 2, 1]
    assert offsets(await broker.history(ALICE, "news", since=positions[2], reverse=True)) == [2, 1]
    assert offsets(await broker.history(ALICE, "news", since=positions[0], reverse=True)) == []
    assert offsets(await broker.history(ALICE, "news", since=Position(9, epoch), reverse=True)) == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("limit", "reverse", "expected"),
    [
        (0, False, []),
        (1, False, [2]),
        (2, False, [2, 3]),
        (9, False, [2, 3, 4]),
        (-1, False, [2, 3, 4]),
        (0, True, []),
        (1, True, [1]),
        (9, True, [1]),
        (-1, True, [1]),
    ],
)
async def test_limit_takes_the_first_in_reading_order(
    broker: Broker, limit: int, reverse: bool, expected: list[int]
) -> None:
    positions = await publish(broker, "1", "2", "3", "4")
    since = positions[1] if reverse else positions[0]
    history = await broker.history(ALICE, "news", since=since, limit=limit, reverse=reverse)
    assert offsets(history) == expected
    assert history.position == positions[-1]


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_position_of_another_epoch_is_unrecoverable(broker: Broker, limit: int) -> None:
    await publish(broker, "1")
    with pytest.raises(UnrecoverablePosition):
        await broker.history(ALICE, "news", since=Position(0, "elsewhere"), limit=limit)


async def test_an_empty_epoch_matches_any(broker: Broker) -> None:
    await publish(broker, "1", "2")
    assert offsets(await broker.history(ALICE, "news", since=Position(1, ""))) == [2]


async def test_reading_a_position_starts_the_stream(broker: Broker) -> None:
    before = await top(broker)
    (after,) = await publish(broker, "1")
    assert before == Position(0, after.epoch)
    assert offsets(await broker.history(ALICE, "news", since=before)) == [1]


async def test_the_same_channel_under_two_keys_is_two_streams(broker: Broker) -> None:
    (alice,) = await publish(broker, '"for alice"', key=ALICE)
    (bob,) = await publish(broker, '"for bob"', key=BOB)
    assert (alice.offset, bob.offset) == (1, 1)
    assert alice.epoch != bob.epoch
    (publication,) = (await broker.history(BOB, "news")).publications
    assert "for bob" in publication.text


async def test_key_and_channel_do_not_run_into_each_other(broker: Broker) -> None:
    for key, channel in (("a", "b:c"), ("a:b", "c"), ("a:b:c", ""), ("", "a:b:c")):
        (position,) = await publish(broker, "1", key=key, channel=channel)
        assert position.offset == 1


async def test_publications_expire_after_the_last_one_and_the_position_stays_for_a_subscriber(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    await broker.subscribe(ALICE, Inbox())
    await publish(broker, "1")
    await advance(bounds.history_ttl * 0.75)
    (second,) = await publish(broker, "2")
    await advance(bounds.history_ttl * 0.75)
    assert offsets(await broker.history(ALICE, "news")) == [1, 2]
    await advance(bounds.history_ttl * 0.5)
    history = await broker.history(ALICE, "news")
    assert offsets(history) == []
    assert history.position == second
    await advance(bounds.history_ttl * 2)
    (third,) = await publish(broker, "3")
    assert third == Position(3, second.epoch)
    assert offsets(await broker.history(ALICE, "news", since=second)) == [3]


async def test_a_position_that_was_only_read_stays_for_a_subscriber(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    await broker.subscribe(ALICE, Inbox())
    before = await top(broker)
    await advance(bounds.history_ttl * 2)
    assert await top(broker) == before


@pytest.mark.parametrize("publications", [0, 1])
async def test_a_stream_that_nobody_came_for_starts_anew_after_its_time(
    broker: Broker, bounds: Bounds, advance: Advance, publications: int
) -> None:
    await publish(broker, *["1"] * publications)
    before = await top(broker)
    await advance(bounds.history_ttl * 1.5)
    (after,) = await publish(broker, "2")
    assert after.offset == 1
    assert after.epoch != before.epoch
    with pytest.raises(UnrecoverablePosition):
        await broker.history(ALICE, "news", since=before)


async def test_a_quiet_user_who_comes_back_in_time_recovers(broker: Broker, bounds: Bounds, advance: Advance) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    (before,) = await publish(broker, "1")
    await advance(bounds.history_ttl * 2)
    broker.unsubscribe(ALICE, inbox)
    await advance(bounds.history_ttl * 0.5)
    await publish(broker, "2")
    await broker.subscribe(ALICE, inbox)
    assert offsets(await broker.history(ALICE, "news", since=before)) == [2]


async def test_a_user_who_came_back_keeps_positions_for_as_long_as_they_stay(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    before = await top(broker)
    await advance(bounds.history_ttl * 0.5)
    broker.unsubscribe(ALICE, inbox)
    await broker.subscribe(ALICE, inbox)
    await advance(bounds.history_ttl * 2)
    assert await top(broker) == before


async def test_a_quiet_user_who_comes_back_too_late_is_told_so(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    (before,) = await publish(broker, "1")
    await advance(bounds.history_ttl * 2)
    broker.unsubscribe(ALICE, inbox)
    await advance(bounds.history_ttl * 1.5)
    await broker.subscribe(ALICE, inbox)
    with pytest.raises(UnrecoverablePosition):
        await broker.history(ALICE, "news", since=before)


async def test_a_subscriber_gets_what_is_published_under_its_key_from_then_on(broker: Broker) -> None:
    inbox, other = Inbox(), Inbox()
    await publish(broker, "0")
    await broker.subscribe(ALICE, inbox)
    await broker.subscribe(BOB, other)
    await publish(broker, "1")
    await publish(broker, "2", channel="further")
    await publish(broker, "3", key=BOB)
    await other.wait(1)
    await inbox.wait(2)
    assert [(got.key, got.channel, got.offset) for got in inbox.publications] == [
        (ALICE, "news", 2),
        (ALICE, "further", 1),
    ]
    assert [(got.key, got.channel) for got in other.publications] == [(BOB, "news")]


async def test_a_publish_tells_how_many_connections_it_reached(broker: Broker) -> None:
    assert (await broker.publish(ALICE, "news", "1")).connections == 0
    await broker.subscribe(ALICE, Inbox(connections=3))
    assert (await broker.publish(ALICE, "news", "2")).connections == 3


async def test_nothing_is_delivered_after_unsubscribe(broker: Broker) -> None:
    inbox, later = Inbox(), Inbox()
    await broker.subscribe(ALICE, inbox)
    broker.unsubscribe(ALICE, inbox)
    await publish(broker, "1")
    broker.notify(ALICE, "news", "{}")
    await broker.subscribe(ALICE, later)
    await publish(broker, "2")
    await later.wait(1)
    assert later.offsets == [2]
    assert (inbox.publications, inbox.pushes) == ([], [])


async def test_a_new_subscriber_replaces_the_one_before_whose_unsubscribe_then_does_nothing(broker: Broker) -> None:
    first, second = Inbox(), Inbox()
    await broker.subscribe(ALICE, first)
    await broker.subscribe(ALICE, second)
    broker.unsubscribe(ALICE, first)
    await publish(broker, "1")
    await second.wait(1)
    assert (first.offsets, second.offsets) == ([], [1])


async def test_unsubscribe_of_a_stranger_does_nothing(broker: Broker) -> None:
    broker.unsubscribe(ALICE, Inbox())
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    broker.unsubscribe(BOB, inbox)
    await publish(broker, "1")
    await inbox.wait(1)


async def test_a_subscriber_may_leave_and_publish_while_it_is_handed_something(broker: Broker) -> None:
    loop = asyncio.get_running_loop()
    handed: asyncio.Future[asyncio.Task[Published]] = loop.create_future()

    class Leaving(Inbox):
        def deliver(self, publication: Publication) -> int:
            broker.unsubscribe(ALICE, self)
            broker.remove_presence(ALICE, "news", "c1")
            handed.set_result(loop.create_task(broker.publish(ALICE, "news", '"from within"')))
            return 1

    await broker.add_presence(ALICE, "news", "c1", "{}")
    await broker.subscribe(ALICE, Leaving())
    await publish(broker, "1")
    async with asyncio.timeout(5):
        await (await handed)
    assert offsets(await broker.history(ALICE, "news")) == [1, 2]
    assert await broker.presence(ALICE, "news") == {}


async def test_a_notification_reaches_the_subscriber_of_the_key_and_no_stream(broker: Broker) -> None:
    inbox, other = Inbox(), Inbox()
    await broker.subscribe(ALICE, inbox)
    await broker.subscribe(BOB, other)
    broker.notify(ALICE, "news", '{"join":{}}')
    broker.notify("user:nobody", "news", "{}")
    await inbox.wait(1)
    broker.notify(BOB, "news", '{"leave":{}}')
    await other.wait(1)
    assert inbox.pushes == [(ALICE, "news", '{"join":{}}')]
    assert other.pushes == [(BOB, "news", '{"leave":{}}')]
    assert (await top(broker)).offset == 0


async def test_a_repeated_idempotency_key_publishes_nothing_and_gives_the_first_position(broker: Broker) -> None:
    inbox = Inbox(connections=2)
    await broker.subscribe(ALICE, inbox)
    first = await broker.publish(ALICE, "news", "1", idempotency_key="k")
    await publish(broker, "2")
    again = await broker.publish(ALICE, "news", "3", idempotency_key="k")
    assert (first.duplicate, first.connections) == (False, 2)
    assert (again.duplicate, again.connections, again.position) == (True, 0, first.position)
    await inbox.wait(2)
    assert offsets(await broker.history(ALICE, "news")) == inbox.offsets == [1, 2]


async def test_an_idempotency_key_is_forgotten_after_its_time(broker: Broker, bounds: Bounds, advance: Advance) -> None:
    await broker.publish(ALICE, "news", "1", idempotency_key="k")
    await advance(bounds.idempotency_ttl * 0.5)
    # A repeat does not prolong it.
    assert (await broker.publish(ALICE, "news", "1", idempotency_key="k")).duplicate
    await broker.publish(ALICE, "news", "2", idempotency_key="other")
    await advance(bounds.idempotency_ttl * 0.75)
    assert not (await broker.publish(ALICE, "news", "1", idempotency_key="k")).duplicate
    assert (await broker.publish(ALICE, "news", "1", idempotency_key="k")).duplicate


async def test_an_idempotency_key_holds_for_its_stream_alone(broker: Broker) -> None:
    await broker.publish(ALICE, "news", "1", idempotency_key="k")
    assert not (await broker.publish(ALICE, "further", "1", idempotency_key="k")).duplicate
    assert not (await broker.publish(BOB, "news", "1", idempotency_key="k")).duplicate
    assert (await broker.publish(ALICE, "news", "1", idempotency_key="k")).duplicate


async def test_idempotency_keys_of_one_user_push_out_only_that_users_oldest(broker: Broker, bounds: Bounds) -> None:
    await broker.publish(BOB, "news", "1", idempotency_key="k0")
    for number in range(bounds.idempotency_keys + 1):
        await broker.publish(ALICE, "news", "1", idempotency_key=f"k{number}")
    assert (await broker.publish(ALICE, "news", "1", idempotency_key="k1")).duplicate
    assert not (await broker.publish(ALICE, "news", "1", idempotency_key="k0")).duplicate
    assert (await broker.publish(BOB, "news", "1", idempotency_key="k0")).duplicate


async def test_presence_is_who_was_added_and_not_removed(broker: Broker) -> None:
    await broker.add_presence(ALICE, "news", "c1", '{"client":"c1"}')
    await broker.add_presence(ALICE, "news", "c2", '{"client":"c2"}')
    await broker.add_presence(ALICE, "news", "c2", '{"client":"c2","v":2}')
    await broker.add_presence(ALICE, "further", "c3", '{"client":"c3"}')
    await broker.add_presence(BOB, "news", "c4", '{"client":"c4"}')
    assert await broker.presence(ALICE, "news") == {"c1": '{"client":"c1"}', "c2": '{"client":"c2","v":2}'}
    broker.remove_presence(ALICE, "news", "c1")
    broker.remove_presence(ALICE, "news", "c1")
    broker.remove_presence(ALICE, "news", "c4")
    broker.remove_presence(ALICE, "nowhere", "c1")
    assert list(await broker.presence(ALICE, "news")) == ["c2"]
    broker.remove_presence(ALICE, "news", "c2")
    assert await broker.presence(ALICE, "news") == {}
    assert list(await broker.presence(BOB, "news")) == ["c4"]


async def test_what_presence_gives_is_the_callers_own(broker: Broker) -> None:
    await broker.add_presence(ALICE, "news", "c1", "{}")
    (await broker.presence(ALICE, "news")).clear()
    assert list(await broker.presence(ALICE, "news")) == ["c1"]


async def test_streams_of_a_user_are_listed_with_position_and_count(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    assert await broker.streams(ALICE) == ()
    await broker.subscribe(ALICE, Inbox())
    positions = await publish(broker, "1", "2")
    further = await top(broker, channel="further")
    await publish(broker, "3", key=BOB)
    listed = {info.channel: (info.position, info.publications) for info in await broker.streams(ALICE)}
    assert listed == {"news": (positions[-1], 2), "further": (further, 0)}
    await advance(bounds.history_ttl * 1.5)
    assert [info.publications for info in await broker.streams(ALICE)] == [0, 0]
    assert await broker.streams(BOB) == ()


async def test_one_stream_too_many_is_refused_with_limit_and_remedy(broker: Broker, bounds: Bounds) -> None:
    for number in range(bounds.streams):
        await publish(broker, "1", channel=f"c{number}")
    with pytest.raises(StreamLimitExceeded, match=rf"{bounds.streams} streams.*max_streams_per_user"):
        await publish(broker, "1", channel="further")
    with pytest.raises(StreamLimitExceeded):
        await top(broker, channel="further")
    # What exists goes on, and so do others.
    assert (await publish(broker, "2", channel="c0"))[0].offset == 2
    assert (await publish(broker, "1", key=BOB))[0].offset == 1
    assert len(await broker.streams(ALICE)) == bounds.streams


async def test_expired_streams_make_room(broker: Broker, bounds: Bounds, advance: Advance) -> None:
    for number in range(bounds.streams):
        await publish(broker, "1", channel=f"c{number}")
    await advance(bounds.history_ttl * 1.5)
    await publish(broker, "1", channel="further")
    assert [info.channel for info in await broker.streams(ALICE)] == ["further"]


async def test_a_refused_publish_leaves_its_idempotency_key_unused(
    broker: Broker, bounds: Bounds, advance: Advance
) -> None:
    for number in range(bounds.streams):
        await publish(broker, "1", channel=f"c{number}")
    with pytest.raises(StreamLimitExceeded):
        await broker.publish(ALICE, "further", "1", idempotency_key="k")
    await advance(bounds.history_ttl * 1.5)
    assert not (await broker.publish(ALICE, "further", "1", idempotency_key="k")).duplicate


async def test_a_closed_broker_is_unhealthy_and_refuses_what_would_add_something(broker: Broker) -> None:
    inbox = Inbox()
    await broker.subscribe(ALICE, inbox)
    await broker.add_presence(ALICE, "news", "c1", "{}")
    await publish(broker, "1")
    assert broker.healthy()
    await broker.close()
    await broker.close()
    assert not broker.healthy()
    for call in (
        broker.publish(ALICE, "news", "2"),
        broker.history(ALICE, "news"),
        broker.subscribe(ALICE, inbox),
        broker.add_presence(ALICE, "news", "c1", "{}"),
    ):
        with pytest.raises(BrokerError, match="closed"):
            await call
    # Clean-up that comes late is harmless.
    broker.unsubscribe(ALICE, inbox)
    broker.remove_presence(ALICE, "news", "c1")
    broker.notify(ALICE, "news", "{}")
    assert inbox.pushes == []
