"""What the system finds: a lost broker and an emergency by rule, apart and at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.control import BATCH
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from app.realtime.publisher import Refused
from containers import GatewayContainer
from tests.realtime.gates import Gate
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty


async def publish(container: GatewayContainer, type_: str = "tick", data: Any = 0) -> bool:
    """Whether it waits."""
    return (await container.publisher().publish_to_user("alice", type_, data)).queued


def told(peer: Peer) -> list[tuple[str, str]]:
    return [(push["data"]["mode"], push["data"]["reason"]) for push in peer.pushes("message")]


async def enter_emergency(container: GatewayContainer) -> None:
    container.policy().set_incident(ModeKind.EMERGENCY, "rule: queue_bytes")
    await container.control().refresh_modes()


async def leave_emergency(container: GatewayContainer) -> None:
    container.policy().clear_incident(ModeKind.EMERGENCY)
    await container.control().refresh_modes()


def unplug(container: GatewayContainer, error: type[BrokerError] = BrokerError) -> Callable[[], object]:
    """Make every publish fail; what is returned plugs it in again."""
    faulty = make_faulty(container)

    async def fail() -> None:
        raise error("unplugged")

    faulty.before["publish"] = fail
    return faulty.before.clear


async def test_a_lost_broker_degrades_all_and_what_waited_goes_out_when_it_is_back(
    container: GatewayContainer, caplog: pytest.LogCaptureFixture
) -> None:
    plug_in = unplug(container)
    async with Peer(container) as alice:
        await alice.connect("alice", sid="phone")
        manager = container.publisher().connected("alice")[0]
        with caplog.at_level(logging.WARNING):
            await container.control().broker_lost("no answer from 10.0.0.7:6379")
        await alice.settle()
        assert told(alice) == [("degraded", "broker lost")]
        assert [await publish(container, data=number) for number in (1, 2)] == [True, True]
        plug_in()
        with caplog.at_level(logging.WARNING):
            await container.control().broker_restored()
        assert caplog.messages == ["broker lost: no answer from 10.0.0.7:6379", "broker restored"]
        await alice.settle()
        events = alice.messages
        assert [push["push"]["pub"]["data"]["data"] for push in events if "pub" in push["push"]] == [1, 2]
        assert told(alice) == [("unified", "default")]
        assert container.publisher().connected("alice") == [manager]
        assert not await publish(container)
    assert container.backlog().size == 0


async def test_while_the_broker_is_lost_no_change_of_mode_tries_to_publish_what_waits(
    container: GatewayContainer,
) -> None:
    plug_in = unplug(container)
    await container.control().broker_lost("no answer")
    assert await publish(container)
    for kind in (ModeKind.EMERGENCY, ModeKind.UNIFIED, None):
        await container.control().set_mode(kind)
    await enter_emergency(container)
    await leave_emergency(container)
    assert container.backlog().size
    plug_in()
    await container.control().broker_restored()
    assert not container.backlog().size


@pytest.mark.parametrize("lost_first", [True, False])
async def test_in_emergency_with_no_broker_what_is_critical_waits_and_all_else_is_refused(
    container: GatewayContainer, lost_first: bool
) -> None:
    plug_in = unplug(container)
    async with Peer(container) as alice:
        await alice.connect("alice")
        if lost_first:
            await container.control().broker_lost("no answer")
            await enter_emergency(container)
        else:
            await enter_emergency(container)
            await container.control().broker_lost("no answer")
        assert await publish(container, "security_alert", 1)
        with pytest.raises(Refused):
            await publish(container)
        await alice.settle()
        assert alice.data()[-1] == 1
        plug_in()
        await container.control().broker_restored()
        assert not container.backlog().size
        assert not await publish(container, "security_alert", 2)
        await leave_emergency(container)
        await alice.settle()
        assert alice.data()[0] == 2
        assert not await publish(container)


async def test_a_broker_that_goes_away_again_keeps_what_waits_and_says_so(container: GatewayContainer) -> None:
    plug_in = unplug(container, BrokerUnavailable)
    await container.control().broker_lost("no answer")
    await publish(container)
    with pytest.raises(BrokerUnavailable):
        await container.control().broker_restored()
    assert not container.control().ready()
    await container.control().broker_lost("no answer")
    assert container.backlog().size
    plug_in()
    await container.control().broker_restored()
    assert not container.backlog().size


async def test_a_node_is_ready_when_everybody_has_been_brought_up_to_date(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    control = container.control()
    async with Peer(container) as alice:
        await alice.connect("alice")
        assert control.ready()
        await control.broker_lost("no answer")
        assert not control.ready()
        container.publisher().connected("alice")[0].interrupt()
        gate = faulty.before["history"] = Gate()
        during: list[bool] = []
        await gate.hold(control.broker_restored(), lambda: during.append(control.ready()))
        assert during == [False]
        assert control.ready()


async def test_a_refusal_of_one_user_is_nothing_to_the_others_and_is_tried_again(
    container: GatewayContainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.realtime.control.REFUSED_AGAIN_SECONDS", 0.01)
    faulty, calls = make_faulty(container), 0

    async def refuse_two() -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise BrokerError("full")

    async with Peer(container) as alice:
        await alice.connect("alice")
        await container.control().broker_lost("no answer")
        for user in ("alice", "bob", "carol"):
            await container.publisher().publish_to_user(user, "tick", user)
        faulty.before["publish"] = refuse_two
        await container.control().broker_restored()
        assert [user for user in ("alice", "bob", "carol") if f"user:{user}" in container.backlog()] == ["alice"]
        assert "the broker refuses what waited for it, which is tried again: full" in caplog.messages
        assert container.control().ready()
        assert (await container.control().report("alice"))[0].mode is ModeKind.UNIFIED
        assert await publish(container, data="behind it"), "what is first goes out first"
        async with asyncio.timeout(5):
            while container.backlog().size:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        assert not await publish(container, data="last")
        await alice.settle()
        assert alice.data() == ["alice", "behind it", "last"]


async def test_a_stream_that_cannot_be_read_ends_its_own_subscriptions_alone(container: GatewayContainer) -> None:
    faulty = make_faulty(container)

    async def refuse_once() -> None:
        faulty.before.clear()
        raise BrokerError("full")

    async with Peer(container) as alice, Peer(container) as bob:
        for peer, user in ((alice, "alice"), (bob, "bob")):
            await peer.connect(user)
            await peer.call("subscribe", {"channel": "news"})
        await container.control().broker_lost("no answer")
        for user in ("alice", "bob"):
            container.publisher().connected(user)[0].interrupt()
        faulty.before["history"] = refuse_once
        await container.control().broker_restored()
        for user in ("alice", "bob"):
            await container.publisher().publish_to_user(user, "tick", 1)
        await alice.settle()
        await bob.settle()
        assert [alice.close_code, bob.close_code] == [3010, None]
        assert bob.data() == [1]


async def test_nodes_are_told_of_a_mode_also_if_what_waited_is_refused(container: GatewayContainer) -> None:
    unplug(container)
    await container.control().set_mode(ModeKind.DEGRADED)
    assert await publish(container)
    with pytest.raises(BrokerError):
        await container.control().set_mode(ModeKind.UNIFIED)
    assert '"unified"' in (await container.broker().stored())["mode"]


async def test_an_incident_that_holds_on_is_the_reason_when_the_operators_mode_ends(
    container: GatewayContainer,
) -> None:
    async with Peer(container) as alice:
        await alice.connect("alice")
        await container.control().set_mode(ModeKind.DEGRADED)
        await container.control().broker_lost("no answer")
        assert (await container.control().report("alice"))[0].reason == "operator"
        await container.control().set_mode(None)
        (report,) = await container.control().report("alice")
        assert (report.mode, report.reason) == (ModeKind.DEGRADED, "broker lost")
        await alice.settle()
        assert told(alice) == [("degraded", "operator")]


async def test_an_incident_reaches_managers_in_batches_and_gives_others_their_turn(container: GatewayContainer) -> None:
    held = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(2 * BATCH + 1)]
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append(sum(manager.mode.kind is ModeKind.DEGRADED for manager in held))
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    await container.control().broker_lost("no answer")
    watcher.cancel()
    assert {BATCH, 2 * BATCH} <= set(seen)
    assert {manager.mode.kind for manager in held} == {ModeKind.DEGRADED}
    assert container.manager(UserContext(user_id="new")).mode.kind is ModeKind.DEGRADED


async def test_publishes_that_end_in_an_error_of_the_broker_are_counted(container: GatewayContainer) -> None:
    unplug(container)
    for _ in range(2):
        with pytest.raises(BrokerError):
            await publish(container)
    assert container.metrics().registry.get_sample_value("bulkhead_failed_publications_total") == 2
