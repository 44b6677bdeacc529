"""What a client that comes back gets: everything it missed once and in order, or the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.realtime.broker import BrokerError
from app.realtime.modes import ModeKind
from tests.clock import ManualClock
from tests.gateway import QUIET, Client, RunningGateway, build_container, serving, token
from tests.wire.faulty import make_faulty
from tests.wire.pings import first_ping, pinged


def data(result: dict[str, Any]) -> list[Any]:
    """Data of the publications of a result."""
    return [publication["data"] for publication in result.get("publications", ())]


async def publish(gateway: RunningGateway, *values: int, channel: str = "news") -> None:
    """Publish to a channel of alice as a back end does, but with bare data."""
    for value in values:
        await gateway.container.broker().publish("user:alice", channel, str(value))


@pytest.mark.parametrize("channel", ["news", "#alice"])
async def test_recovery_in_every_case(channel: str) -> None:
    container = build_container(history={"size": 3, "ttl": 300})
    async with serving(container) as gateway:

        async def recover(**position: Any) -> dict[str, Any]:
            position = {"recover": True, **position}
            async with gateway.client() as client:
                request = {"token": token("alice"), "subs": {channel: position} if channel == "#alice" else {}}
                connected = await client.result("connect", request)
                if channel == "#alice":
                    result: dict[str, Any] = connected["subs"][channel]
                    return result
                return await client.result("subscribe", {"channel": channel, **position})

        empty = await recover()
        epoch = empty["epoch"]
        fixed = {"recoverable": True, "positioned": True, "epoch": epoch, "was_recovering": True}
        assert empty == {**fixed, "recovered": True}

        await publish(gateway, 1, 2, 3, 4, 5, channel=channel)
        nothing_newer = await recover(epoch=epoch, offset=5)
        assert nothing_newer == {**fixed, "recovered": True, "offset": 5}
        missed = await recover(epoch=epoch, offset=3)
        assert missed == {
            **fixed,
            "recovered": True,
            "offset": 3,
            "publications": [{"data": 4, "offset": 4}, {"data": 5, "offset": 5}],
        }
        all_that_is_kept = await recover(epoch=epoch, offset=2)
        assert (all_that_is_kept["recovered"], data(all_that_is_kept)) == (True, [3, 4, 5])
        lost = {**fixed, "offset": 5}
        assert await recover(epoch=epoch, offset=1) == lost, "a gap"
        assert await recover(epoch=epoch) == lost, "from the start, a gap"
        assert await recover(epoch="other", offset=4) == lost, "another epoch"
        assert await recover(epoch="other", offset=5) == lost, "another epoch at the same offset"
        assert await recover(epoch=epoch, offset=6) == lost, "a client that is ahead"
        assert await recover(epoch=epoch, offset=2**62) == lost, "a client that is far ahead"
        any_epoch = await recover(offset=4)
        assert (any_epoch["recovered"], data(any_epoch)) == (True, [5])
        assert "was_recovering" not in await recover(recover=False, epoch=epoch, offset=3)


async def test_a_client_that_asks_for_it_gets_error_112_instead_of_a_gap_and_stays_unsubscribed() -> None:
    async with serving(build_container(history={"size": 1, "ttl": 300})) as gateway:
        async with gateway.connected("alice") as client:
            await publish(gateway, 1, 2, 3)
            request = {"channel": "news", "recover": True, "offset": 1, "flag": 3}
            assert await client.error("subscribe", request) == {"code": 112, "message": "unrecoverable position"}
            await publish(gateway, 4)
            await client.nothing()
            assert (await client.result("subscribe", {**request, "offset": 3}))["recovered"]
            await client.result("unsubscribe", {"channel": "news"})
            assert "recovered" not in await client.result("subscribe", {"channel": "news", "flag": 3})


async def test_a_server_side_subscription_is_never_refused_for_its_position() -> None:
    async with serving() as gateway, gateway.client() as client:
        subs = {"#alice": {"recover": True, "epoch": "other", "offset": 7, "flag": 2}}
        result = await client.result("connect", {"token": token("alice"), "subs": subs})
        assert "recovered" not in result["subs"]["#alice"]


async def test_positions_of_channels_that_the_server_does_not_subscribe_are_ignored() -> None:
    async with serving() as gateway, gateway.client() as client:
        subs = {"news": {"recover": True, "epoch": "x", "offset": 7}, "#bob": {"recover": True}}
        result = await client.result("connect", {"token": token("alice"), "subs": subs})
        assert list(result["subs"]) == ["#alice"]


async def test_the_epoch_survives_a_user_who_was_quiet_and_away_and_ends_with_the_history() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock, ping=QUIET, history={"size": 10, "ttl": 60})) as gateway:

        async def connect(position: dict[str, Any]) -> dict[str, Any]:
            async with gateway.client() as client:
                subs = {"#alice": {"recover": True, **position}}
                result = await client.result("connect", {"token": token("alice"), "subs": subs})
                sub: dict[str, Any] = result["subs"]["#alice"]
                return sub

        epoch = (await connect({}))["epoch"]
        clock.advance(59)
        assert (await connect({"epoch": epoch}))["recovered"]
        clock.advance(61)
        assert "recovered" not in await connect({"epoch": epoch})


async def test_recovery_answers_the_truth_in_degraded_mode() -> None:
    async with serving() as gateway:
        await publish(gateway, 1, channel="#alice")
        await gateway.container.control().set_mode(ModeKind.DEGRADED)
        async with gateway.client() as client:
            result = await client.result("connect", {"token": token("alice"), "subs": {"#alice": {"recover": True}}})
            assert "recovered" not in result["subs"]["#alice"]
            assert result["subs"]["#alice"]["was_recovering"]


async def test_recoveries_that_together_would_not_fit_the_queue_do_not_end_the_connection() -> None:
    limits = {"queue_bytes": 100_000, "event_bytes": 30_000}
    async with serving(build_container(limits=limits)) as gateway:
        channels = ["a", "b", "c"]
        for channel in channels:
            await gateway.container.broker().publish("user:alice", channel, f'"{"x" * 30_000}"')
        async with gateway.client() as client:
            subs = {channel: {"recover": True} for channel in channels}
            result = await client.result("connect", {"token": token("alice", channels=channels), "subs": subs})
            assert [result["subs"][channel].get("recovered") for channel in channels] == [True, None, None]
            assert result["subs"]["c"]["offset"] == 1
        async with gateway.connected("alice") as client:
            asked = [{"id": 50 + n, "subscribe": {"channel": c, "recover": True}} for n, c in enumerate(channels)]
            await client.send(*asked)
            replies = [await client.message() for _ in asked]
            assert replies[0]["subscribe"]["recovered"]
            assert all("subscribe" in reply for reply in replies)
            await client.nothing()


def gate() -> tuple[Callable[[], Awaitable[None]], asyncio.Event, asyncio.Event]:
    """A fault that says that it was reached, and waits until it is opened."""
    reached, opened = asyncio.Event(), asyncio.Event()

    async def pass_through() -> None:
        reached.set()
        await opened.wait()

    return pass_through, reached, opened


@pytest.mark.parametrize("step", ["before history", "after history", "before add_presence", "after add_presence"])
@pytest.mark.parametrize("server_side", [False, True])
async def test_what_is_published_while_a_slow_broker_answers_is_merged_once_and_in_order(
    step: str, server_side: bool
) -> None:
    container = build_container()
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as client, gateway.client() as late:
        await publish(gateway, 1, 2, 3)
        epoch = (await client.result("history", {"channel": "news"}))["epoch"]
        moment, method = step.split()
        fault, reached, opened = gate()
        position = {"recover": True, "epoch": epoch, "offset": 1}
        if server_side:
            getattr(faulty, moment)[method] = reach_second(fault)
            request = {"token": token("alice", channels=["news"]), "subs": {"news": position}}
            answer = asyncio.create_task(late.result("connect", request))
        else:
            await late.result("connect", {"token": token("alice")})
            getattr(faulty, moment)[method] = fault
            answer = asyncio.create_task(late.result("subscribe", {"channel": "news", **position}))
        await asyncio.wait_for(reached.wait(), 5)
        await publish(gateway, 4, 5, 6)
        opened.set()
        result = await answer
        result = result["subs"]["news"] if server_side else result
        await publish(gateway, 7, 8)
        assert result["recovered"]
        missed = result["publications"]
        live = await late.publications(8 - 1 - len(missed))
        assert [publication["data"] for publication in (*missed, *live)] == [2, 3, 4, 5, 6, 7, 8]
        assert [publication["offset"] for publication in (*missed, *live)] == [2, 3, 4, 5, 6, 7, 8]
        await late.nothing()


async def noop() -> None:
    """No fault."""


def reach_second(fault: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """The fault, but not for the first call: that is the personal channel's."""
    calls = iter((noop,))

    async def count() -> None:
        await next(calls, fault)()

    return count


async def test_what_comes_while_a_subscribe_runs_is_held_within_bounds() -> None:
    limits = {"queue_bytes": 10_000, "event_bytes": 5_000}
    container = build_container(limits=limits)
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as client:
        fault, reached, opened = gate()
        faulty.after["history"] = fault
        answer = asyncio.create_task(client.error("subscribe", {"channel": "news"}))
        await asyncio.wait_for(reached.wait(), 5)
        for _ in range(4):
            await gateway.container.broker().publish("user:alice", "news", f'"{"x" * 4000}"')
        faulty.after.clear()
        opened.set()
        assert (await answer)["temporary"]
        unsubscribed = {"code": 2500, "reason": "insufficient state"}
        assert await client.push() == {"channel": "news", "unsubscribe": unsubscribed}
        result = await client.result("subscribe", {"channel": "news"})
        assert result["offset"] == 4
        assert len((await client.result("presence", {"channel": "news"}))["presence"]) == 1
        await publish(gateway, 5)
        assert (await client.push())["pub"]["offset"] == 5


async def next_pong(clock: ManualClock, client: Client) -> None:
    """Let time pass until the next ping, and answer it."""
    clock.advance(25)
    assert await pinged(client) == 1
    await client.send("{}")
    assert not await pinged(client)


async def test_a_client_side_subscription_that_lost_something_ends_with_2500_and_recovers_it() -> None:
    clock = ManualClock()
    container = build_container(clock=clock)
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as client:
        epoch = (await client.result("subscribe", {"channel": "news"}))["epoch"]
        await publish(gateway, 1)
        await client.publications(1)
        await first_ping(clock, client)
        await client.send("{}")
        assert not await pinged(client)
        faulty.lose = 1
        await publish(gateway, 2)
        await next_pong(clock, client)
        await next_pong(clock, client)
        unsubscribed = {"code": 2500, "reason": "insufficient state"}
        assert await client.push() == {"channel": "news", "unsubscribe": unsubscribed}
        result = await client.result("subscribe", {"channel": "news", "recover": True, "epoch": epoch, "offset": 1})
        assert data(result) == [2]


async def test_a_server_side_subscription_that_lost_something_ends_the_connection_with_3010() -> None:
    clock = ManualClock()
    # Positions are checked with a pong, 40 seconds after the last time or later: here with every one but the first.
    container = build_container(clock=clock, ping={"interval": 45, "timeout": 8})
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as client:
        await first_ping(clock, client, within=45)
        await client.send("{}")
        assert not await pinged(client)
        faulty.lose = 1
        await publish(gateway, 1, channel="#alice")
        clock.advance(45)
        await client.ping()
        await client.send("{}")
        assert await client.closed() == (3010, "insufficient state")


async def test_a_gap_is_noticed_at_once_by_the_next_publication() -> None:
    container = build_container()
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news"})
        faulty.lose = 1
        await publish(gateway, 1, 2)
        assert (await client.push())["unsubscribe"]["code"] == 2500
        faulty.lose = 1
        await publish(gateway, 1, 2, channel="#alice")
        assert await client.closed() == (3010, "insufficient state")


async def test_positions_that_agree_or_cannot_be_read_harm_nobody() -> None:
    clock = ManualClock()
    container = build_container(clock=clock)
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unreachable")

    async with serving(container) as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news"})
        await first_ping(clock, client)
        await client.send("{}")
        assert not await pinged(client)
        for fault in (noop, fail, noop):
            faulty.before["history"] = fault
            await publish(gateway, 1)
            await client.publications(1)
            await next_pong(clock, client)
            await next_pong(clock, client)
        await client.nothing()


async def test_a_client_that_comes_and_goes_while_events_flow_misses_none_and_sees_none_twice() -> None:
    async with serving(build_container(limits={"commands_per_second": 1e6, "command_burst": 10_000})) as gateway:
        seen: list[int] = []
        stop = 400

        async def flow() -> None:
            for number in range(1, stop + 1):
                await gateway.container.publisher().publish_to_user("alice", "note", number)
                await asyncio.sleep(0)

        flowing = asyncio.create_task(flow())
        position: dict[str, Any] = {}
        while len(seen) < stop:
            async with gateway.client() as client:
                subs = {"#alice": {"recover": True, **position}}
                sub = (await client.result("connect", {"token": token("alice"), "subs": subs}))["subs"]["#alice"]
                assert sub.get("recovered"), sub
                got = sub.get("publications", [])
                if len(seen) + len(got) < stop:
                    got += await client.publications(1)
                seen += [publication["data"]["data"] for publication in got]
                position = {"epoch": sub["epoch"], "offset": got[-1]["offset"] if got else sub.get("offset", 0)}
        await flowing
        assert seen == list(range(1, stop + 1))
        assert gateway.container.manager.count() <= 1
