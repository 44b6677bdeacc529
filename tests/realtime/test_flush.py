"""What waited in degraded mode goes out once and in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from app.realtime.publisher import Refused
from containers import GatewayContainer
from tests.gateway import build_container
from tests.realtime.gates import Gate, Turnstile
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty


async def publish(container: GatewayContainer, *numbers: int, user: str = "alice", channel: str | None = None) -> None:
    for number in numbers:
        await container.publisher().publish_to_user(user, "tick", number, channel=channel)


async def kept(container: GatewayContainer, user: str = "alice", channel: str | None = None) -> list[int]:
    """What a client that connects now recovers from the beginning."""
    async with Peer(container) as peer:
        name = channel or f"#{user}"
        claims = {} if channel is None else {"channels": [channel]}
        result = await peer.connect(user, subs={name: {"recover": True}}, **claims)
        return [publication["data"]["data"] for publication in result["subs"][name].get("publications", [])]


@asynccontextmanager
async def degraded(container: GatewayContainer) -> AsyncIterator[Peer]:
    """A connection of alice in degraded mode."""
    async with Peer(container) as peer:
        await peer.connect("alice")
        await container.control().set_mode(ModeKind.DEGRADED)
        yield peer


async def test_what_was_delivered_live_is_not_delivered_again(container: GatewayContainer) -> None:
    async with degraded(container) as peer:
        await publish(container, 1, 2, 3)
        await container.control().set_mode(None)
        await publish(container, 4)
        await peer.settle()
        assert peer.data() == [1, 2, 3, 4]
    assert await kept(container) == [1, 2, 3, 4]
    assert container.backlog().size == 0


async def test_who_came_while_it_waited_gets_it_from_the_flush(container: GatewayContainer) -> None:
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1, 2)
    async with Peer(container) as late:
        await late.connect("alice")
        await publish(container, 3)
        await late.settle()
        assert late.data() == [3]
        await container.control().set_mode(None)
        await late.settle()
        assert late.data() == [1, 2]


async def test_a_second_time_in_degraded_mode_is_like_the_first(container: GatewayContainer) -> None:
    async with degraded(container) as first:
        await publish(container, 1)
        async with Peer(container) as second:
            await second.connect("alice")
            await publish(container, 2)
            await container.control().set_mode(None)
            await container.control().set_mode(ModeKind.DEGRADED)
            await publish(container, 3, 4)
            await container.control().set_mode(None)
            await publish(container, 5)
            await second.settle()
            assert second.data() == [2, 1, 3, 4, 5]
        await first.settle()
        assert first.data() == [1, 2, 3, 4, 5]
    assert await kept(container) == [1, 2, 3, 4, 5]


async def test_what_is_published_during_a_flush_comes_after_it_and_once(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    async with degraded(container) as peer:
        await publish(container, *range(10))
        turnstile = faulty.before["publish"] = Turnstile()
        flush = asyncio.ensure_future(container.control().set_mode(None))
        for number in range(10, 14):
            await turnstile.reach(number - 8)
            await publish(container, number)
        await flush
        await publish(container, 14)
        await peer.settle()
        assert peer.data() == list(range(15))
    assert await kept(container) == list(range(15))


async def test_who_comes_during_a_flush_gets_the_rest_of_it_once(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, *range(10))
    turnstile = faulty.before["publish"] = Turnstile()
    flush = asyncio.ensure_future(container.control().set_mode(None))
    await turnstile.reach(4)
    async with Peer(container) as late:
        result = await late.connect("alice", subs={"#alice": {"recover": True}})
        recovered = [publication["data"]["data"] for publication in result["subs"]["#alice"]["publications"]]
        await publish(container, 10, 11)
        await flush
        await publish(container, 12)
        await late.settle()
        assert recovered + late.data() == list(range(13))


@pytest.mark.parametrize("fail_at", range(1, 7))
async def test_a_flush_that_fails_half_way_goes_on_later_and_repeats_nothing(
    fail_at: int, container: GatewayContainer
) -> None:
    faulty = make_faulty(container)
    async with degraded(container) as peer, Peer(container) as late:
        await publish(container, 0, 1, 2, 3)
        turnstile = faulty.before["publish"] = Turnstile(fail_at)
        flush = asyncio.ensure_future(container.control().set_mode(None))
        await turnstile.reach(1)
        await late.connect("alice")
        await publish(container, 4, 5)
        with pytest.raises(BrokerError, match="unplugged"):
            await flush
        await publish(container, 6)
        await peer.settle()
        assert peer.data() == list(range(7))
        await container.control().set_mode(None)
        await publish(container, 7)
        await peer.settle()
        await late.settle()
        assert peer.data() == [7]
        got = late.data()
        assert sorted(got) == sorted(set(got))
        assert {4, 5, 6, 7} <= set(got)
    assert await kept(container) == list(range(8))


async def test_who_is_subscribing_while_a_flush_runs_gets_its_answer_first(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    async with degraded(container) as peer:
        gate = faulty.after["history"] = Gate()
        subscribing = asyncio.ensure_future(peer.call("subscribe", {"channel": "news"}))
        await gate.reached.wait()
        await publish(container, 1, 2, channel="news")
        await container.control().set_mode(None)
        await publish(container, 3, channel="news")
        await peer.settle()
        assert peer.pushes("pub") == []
        gate.opened.set()
        assert (await subscribing)["subscribe"].get("offset", 0) == 0
        assert peer.data() == [1, 2, 3]


async def test_a_flush_gives_others_their_turn(container: GatewayContainer) -> None:
    await container.control().set_mode(ModeKind.DEGRADED)
    for user in range(20):
        for _ in range(3):
            await container.publisher().publish_to_user(f"user-{user}", "tick", "x" * 50_000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.ensure_future(count())
    await container.control().set_mode(None)
    counter.cancel()
    assert container.backlog().size == 0
    assert turns >= 5  # 3 MB, a turn for each 512 KiB


async def test_a_user_whom_an_operator_keeps_degraded_is_not_flushed_with_the_others(
    container: GatewayContainer,
) -> None:
    await container.control().set_mode(ModeKind.DEGRADED, "alice")
    await publish(container, 1)
    await container.control().set_mode(ModeKind.UNIFIED)
    assert "user:alice" in container.backlog()
    await container.control().set_mode(None, "alice")
    assert await kept(container) == [1]


async def test_a_user_whom_an_operator_takes_out_of_degraded_mode_is_flushed_alone(container: GatewayContainer) -> None:
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1)
    await publish(container, 2, user="bob")
    await container.control().set_mode(ModeKind.UNIFIED, "alice")
    assert await kept(container) == [1]
    assert container.backlog().keys() == ["user:bob"]


async def test_a_publish_that_no_stream_takes_holds_up_nobody(container: GatewayContainer) -> None:
    limit = container.settings().broker.max_streams_per_user
    await container.control().set_mode(ModeKind.DEGRADED)
    for number in range(limit + 1):
        await publish(container, number, channel=f"c{number}")
    await publish(container, limit + 1, channel="c0")
    await publish(container, 9, user="bob")
    await container.control().set_mode(None)
    assert container.backlog().size == 0
    sample = container.metrics().registry.get_sample_value
    assert sample("bulkhead_refused_publications_total", {"reason": "streams"}) == 1
    streams = {stream.channel: stream.position.offset for stream in await container.broker().streams("user:alice")}
    assert (len(streams), streams["c0"], streams["c1"]) == (limit, 2, 1)
    assert await kept(container, "bob") == [9]


async def test_the_same_idempotency_key_waits_once_and_goes_out_once(container: GatewayContainer) -> None:
    publisher = container.publisher()
    await container.control().set_mode(ModeKind.DEGRADED)
    first = await publisher.publish_to_user("alice", "tick", 1, idempotency_key="one")
    again = await publisher.publish_to_user("alice", "tick", 1, idempotency_key="one")
    assert (first.queued, first.duplicate) == (True, False)
    assert (again.queued, again.duplicate) == (True, True)
    await container.control().set_mode(None)
    late = await publisher.publish_to_user("alice", "tick", 1, idempotency_key="one")
    assert (late.duplicate, late.offset, late.queued) == (True, 1, False)
    assert await kept(container) == [1]


async def test_what_was_published_before_with_the_same_idempotency_key_is_not_published_again(
    container: GatewayContainer,
) -> None:
    publisher = container.publisher()
    async with Peer(container) as peer:
        await peer.connect("alice")
        await publisher.publish_to_user("alice", "tick", 1, idempotency_key="one")
        await container.control().set_mode(ModeKind.DEGRADED)
        await publisher.publish_to_user("alice", "tick", 1, idempotency_key="one")
        await publish(container, 2)
        await container.control().set_mode(None)
        await publish(container, 3)
    assert await kept(container) == [1, 2, 3]


async def test_a_full_backlog_refuses_and_says_when_to_come_back() -> None:
    container = build_container(modes={"buffer_bytes_per_user": 700, "buffer_bytes": 1000, "retry_after": 7})
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1, 2)
    with pytest.raises(Refused, match=r"700 bytes .*modes\.buffer_bytes_per_user") as refused:
        await publish(container, 3)
    assert refused.value.retry_after == 7
    await publish(container, 1, user="bob")
    with pytest.raises(Refused, match=r"modes\.buffer_bytes\)"):
        await publish(container, 2, user="bob")


async def test_an_event_of_a_local_manager_waits_by_the_mode_of_that_manager(container: GatewayContainer) -> None:
    manager = container.manager(UserContext(user_id="alice"))
    await container.control().set_mode(ModeKind.DEGRADED, "alice")
    published = await manager.emit("tick", 1)
    assert (published.queued, published.connections) == (True, 0)


async def test_two_operators_who_end_degraded_mode_at_once_flush_once(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    async with degraded(container) as peer:
        await publish(container, 1, 2, 3)
        faulty.before["publish"] = Turnstile()
        await asyncio.gather(container.control().set_mode(None), container.control().set_mode(None))
        await peer.settle()
        assert peer.data() == [1, 2, 3]
    assert await kept(container) == [1, 2, 3]


async def test_a_stop_waits_for_a_flush_that_runs(container: GatewayContainer) -> None:
    faulty, gate = make_faulty(container), Gate()
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1, 2)
    faulty.before["publish"] = gate
    flushing = asyncio.create_task(container.control().set_mode(None))
    await gate.reached.wait()
    stopping = asyncio.create_task(container.control().flush(5))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    gate.opened.set()
    await asyncio.gather(flushing, stopping)
    assert container.backlog().size == 0
    assert await kept(container) == [1, 2]


async def test_a_stop_waits_for_a_broker_that_comes_back(container: GatewayContainer) -> None:
    faulty, gate = make_faulty(container), Gate(lambda: BrokerUnavailable("unplugged"))
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1, 2)
    faulty.before["publish"] = gate
    gate.opened.set()
    stopping = asyncio.create_task(container.control().flush(5))
    await gate.reached.wait()
    await asyncio.sleep(0.15)
    assert not stopping.done()
    del faulty.before["publish"]
    await stopping
    await container.control().set_mode(None)
    assert await kept(container) == [1, 2]


async def test_a_stop_gives_up_what_waits_for_a_broker_that_stays_away(
    container: GatewayContainer, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, gate = make_faulty(container), Gate(lambda: BrokerUnavailable("unplugged"))
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1)
    faulty.before["publish"] = gate
    gate.opened.set()
    await container.control().flush(0.15)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "publishes were lost that waited for the broker"
    ]


async def test_a_stop_that_is_cut_short_says_what_is_lost(
    container: GatewayContainer, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = make_faulty(container)
    await container.control().set_mode(ModeKind.DEGRADED)
    await publish(container, 1)
    gate = faulty.before["publish"] = Gate()
    stopping = asyncio.create_task(container.control().flush(5))
    await gate.reached.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    (error,) = (record.getMessage() for record in caplog.records if record.levelname == "ERROR")
    assert error.startswith("publishes were lost that waited for the broker")
