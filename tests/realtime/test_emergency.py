"""Emergency by rule: when it begins, when it ends, and that neither flickers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import jwt
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.broker import BrokerError
from app.realtime.control import BATCH
from app.realtime.emergency import Alarm, EmergencyOptions, Reading
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from app.realtime.pushes import message_push
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import QUIET, build_container, serving, token
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty

LIMIT = 100_000


def options(**rules: Any) -> EmergencyOptions:
    """All rules off but those given; ends 30 s after everything is below 80 %."""
    off = {"memory_bytes": 0, "queue_bytes": 0, "error_share": 0, "error_seconds": 60, "error_samples": 10}
    leave = {"leave_share": 0.8, "leave_seconds": 30, "check_interval": 1}
    return EmergencyOptions(**{**off, **leave, **rules})


def rule_after(alarm: Alarm, reading: Reading, now: float) -> str | None:
    """The rule that holds after a reading."""
    alarm.judge(alarm.values(reading, now), now)
    return alarm.rule


def test_a_value_over_its_limit_begins_an_emergency_and_one_at_its_limit_does_not() -> None:
    alarm = Alarm(options(queue_bytes=100))
    assert rule_after(alarm, Reading(queue_bytes=100), 0) is None
    assert rule_after(alarm, Reading(queue_bytes=101), 1) == "queue_bytes"


def test_of_several_rules_the_one_furthest_over_its_limit_is_named() -> None:
    alarm = Alarm(options(memory_bytes=1000, queue_bytes=100))
    assert rule_after(alarm, Reading(memory_bytes=1500, queue_bytes=300), 0) == "queue_bytes"


def test_a_rule_that_is_off_says_nothing() -> None:
    alarm = Alarm(options())
    assert rule_after(alarm, Reading(10**12, 10**12, 1000, 1000), 0) is None
    assert rule_after(Alarm(options(memory_bytes=10)), Reading(queue_bytes=10**12), 0) is None


def test_an_emergency_ends_after_everything_was_well_below_its_limit_for_long_enough() -> None:
    alarm = Alarm(options(memory_bytes=100, queue_bytes=100))
    assert rule_after(alarm, Reading(queue_bytes=101), 0) == "queue_bytes"
    steps = (
        (10, Reading(queue_bytes=90)),  # below the limit, and not by far enough
        (20, Reading(queue_bytes=79)),
        (45, Reading(queue_bytes=80)),  # a break: it begins anew
        (50, Reading(queue_bytes=10)),
        (79, Reading(memory_bytes=80)),  # whichever it is
        (80, Reading()),
        (109.9, Reading()),
    )
    for now, reading in steps:
        assert rule_after(alarm, reading, now) == "queue_bytes", now
    assert rule_after(alarm, Reading(), 110) is None
    assert rule_after(alarm, Reading(memory_bytes=101), 111) == "memory_bytes"


def test_without_seconds_to_wait_it_ends_with_the_first_good_reading() -> None:
    alarm = Alarm(options(queue_bytes=100, leave_seconds=0))
    rule_after(alarm, Reading(queue_bytes=101), 0)
    assert rule_after(alarm, Reading(queue_bytes=79), 1) is None


def test_the_share_of_errors_is_taken_over_the_window_alone() -> None:
    alarm = Alarm(options(error_share=0.1))
    assert rule_after(alarm, Reading(attempts=1000, failures=900), 0) is None, "what was before the first look"
    assert rule_after(alarm, Reading(attempts=1100, failures=910), 30) is None, "10 of 100"
    assert rule_after(alarm, Reading(attempts=1200, failures=960), 60) == "error_share"
    for now in (90, 120):
        assert rule_after(alarm, Reading(attempts=1400, failures=960), now) == "error_share"
    assert rule_after(alarm, Reading(attempts=1400, failures=960), 150) is None, "nothing failed since 90"


def test_too_few_samples_are_no_share() -> None:
    alarm = Alarm(options(error_share=0.1, error_samples=10))
    rule_after(alarm, Reading(), 0)
    assert rule_after(alarm, Reading(attempts=9, failures=9), 1) is None
    assert rule_after(alarm, Reading(attempts=10, failures=10), 2) == "error_share"


@given(st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 200), st.integers(0, 200))))
def test_no_emergency_begins_below_a_limit_or_ends_before_its_time(readings: list[tuple[float, int, int]]) -> None:
    alarm, now, bad_at, before = Alarm(options(memory_bytes=100, queue_bytes=100)), 0.0, 0.0, None
    for step, memory, queue in readings:
        now += step
        if max(memory, queue) >= 80:
            bad_at = now
        rule = rule_after(alarm, Reading(memory, queue), now)
        if before is None:
            assert (rule is not None) == (max(memory, queue) > 100)
        elif rule is None:
            assert now - bad_at >= 30
        before = rule


def watched(clock: ManualClock, **rules: Any) -> GatewayContainer:
    rules = {"leave_seconds": 10, "check_interval": 5, **rules}
    return build_container(clock=clock, ping=QUIET, modes={"emergency": rules})


def fill(container: GatewayContainer, user: str, size: int) -> None:
    """Queue so many bytes for the connections of a user."""
    for manager in container.publisher().connected(user):
        for connection in manager.connections:
            connection.tell(message_push({"note": "x" * size}))


def is_told(message: dict[str, Any]) -> bool:
    """Whether it is a message to the connection."""
    return "message" in message.get("push", {})


def sample(container: GatewayContainer, name: str, **labels: str) -> float | None:
    return container.metrics().registry.get_sample_value(name, labels)


async def test_queues_that_grow_over_the_limit_make_an_emergency_for_all_until_they_are_read(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    container = watched(clock, queue_bytes=LIMIT)
    watch = container.emergency()
    async with Peer(container) as slow, Peer(container) as bob:
        await slow.connect("alice")
        await bob.connect("bob")
        await watch.check()
        slow.reads.clear()
        fill(container, "alice", LIMIT)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                await watch.check()
        assert caplog.messages == ["emergency by rule queue_bytes: queue_bytes 0.1 MiB of 0.1 MiB"]
        assert container.policy().for_all.reason == "rule: queue_bytes"
        assert sample(container, "bulkhead_emergency") == 1
        assert sample(container, "bulkhead_emergencies_total", rule="queue_bytes") == 1
        assert await bob.error("history", {"channel": "#bob"}) == 1503
        slow.reads.set()
        await slow.settle()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                await watch.check()
                clock.advance(4)
        assert caplog.messages == ["emergency over: queue_bytes 0.0 MiB of 0.1 MiB"]
        assert sample(container, "bulkhead_emergency") == 0
        await bob.settle()
        assert [(push["data"]["mode"], push["data"]["reason"]) for push in bob.pushes("message")] == [
            ("emergency", "rule: queue_bytes"),
            ("unified", "default"),
        ]
        await bob.result("history", {"channel": "#bob"})
    assert sample(container, "bulkhead_emergencies_total", rule="queue_bytes") == 1


async def test_what_waits_for_the_broker_counts_as_queued(clock: ManualClock) -> None:
    container = watched(clock, queue_bytes=LIMIT)
    await container.control().broker_lost("no answer")
    await container.publisher().publish_to_user("alice", "tick", "x" * 60_000)
    await container.emergency().check()
    assert container.policy().decide("alice").kind is ModeKind.DEGRADED
    await container.publisher().publish_to_user("alice", "tick", "x" * 60_000)
    await container.emergency().check()
    assert container.policy().incidents == {
        ModeKind.DEGRADED: "broker lost",
        ModeKind.EMERGENCY: "rule: queue_bytes",
    }


async def test_memory_is_the_resident_memory_of_the_process(clock: ManualClock) -> None:
    used = psutil.Process().memory_info().rss
    for limit, kind in ((used // 2, ModeKind.EMERGENCY), (used * 2, ModeKind.UNIFIED)):
        container = watched(clock, memory_bytes=limit)
        await container.emergency().check()
        assert container.policy().decide("alice").kind is kind


async def test_publishes_and_commands_that_fail_make_an_emergency(clock: ManualClock) -> None:
    container = watched(clock, error_share=0.5, error_samples=4)
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unplugged")

    async with Peer(container) as alice:
        await alice.connect("alice")
        await container.emergency().check()
        for _ in range(2):
            assert await alice.result("publish", {"channel": "news", "data": 1}) == {}
        await container.emergency().check()
        assert container.policy().decide("alice").kind is ModeKind.UNIFIED
        faulty.before["publish"] = faulty.before["history"] = fail
        for _ in range(2):
            assert await alice.error("publish", {"channel": "news", "data": 1}) == 100
        assert await alice.error("history", {"channel": "news"}) == 100
        async with Peer(container) as bob:
            await bob.call("connect", {})
            assert bob.close_code == 3500, "a fault of the client is none of the gateway"
        with pytest.raises(BrokerError):
            await container.publisher().publish_to_user("alice", "tick", 1)
        await container.emergency().check()
        assert container.policy().decide("alice").reason == "rule: error_share"


async def test_who_cannot_connect_because_the_broker_fails_counts_as_an_error(clock: ManualClock) -> None:
    container = watched(clock, error_share=0.5)
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unplugged")

    faulty.before["subscribe"] = fail
    async with Peer(container) as alice:
        await alice.call("connect", {"token": token("alice")})
        assert alice.close_code == 3004
    assert (container.metrics().failures(), container.metrics().attempts()) == (1, 1)


async def test_whoever_has_shown_no_token_cannot_make_an_emergency() -> None:
    auth = {"algorithm": "ES256", "jwks_url": "http://127.0.0.1:1/nobody-listens.json"}
    container = build_container(auth=auth, modes={"emergency": {"error_share": 0.5, "error_samples": 1}})
    await container.emergency().check()
    forged = jwt.encode({"sub": "alice"}, "x" * 32, algorithm="HS256", headers={"kid": "one"})
    async with Peer(container) as mallory:
        await mallory.call("connect", {"token": forged})
        assert mallory.close_code == 3004
    await container.emergency().check()
    assert container.policy().decide("alice").kind is ModeKind.UNIFIED
    assert (container.metrics().failures(), container.metrics().attempts()) == (0, 0)


async def test_a_look_at_many_managers_gives_others_their_turn(clock: ManualClock) -> None:
    container = watched(clock, queue_bytes=LIMIT)
    held = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(2 * BATCH + 1)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await container.emergency().check()
    counter.cancel()
    assert turns >= 2
    assert len(held) == len(container.lifecycle())


async def test_a_gateway_looks_in_the_background_and_goes_on_after_a_look_that_failed(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    container = build_container(
        clock=clock,
        ping=QUIET,
        modes={"emergency": {"queue_bytes": 1000, "leave_seconds": 0, "check_interval": 5}},
    )
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unplugged")

    async with serving(container) as gateway, gateway.connected("alice") as alice:
        await container.control().set_mode(ModeKind.DEGRADED)
        await container.publisher().publish_to_user("alice", "tick", "x" * 1000)
        faulty.before["publish"] = fail
        clock.advance(5)
        while "a look for emergencies failed: BrokerError" not in caplog.messages:  # noqa: ASYNC110
            await asyncio.sleep(0)
        faulty.before.clear()
        await container.control().refresh_modes()
        assert not container.backlog().size
        clock.advance(5)
        told = [(await alice.message(is_told))["push"]["message"]["data"] for _ in range(3)]
        assert [(data["mode"], data["reason"]) for data in told] == [
            ("degraded", "operator"),
            ("emergency", "rule: queue_bytes"),
            ("degraded", "operator"),
        ]
    assert clock.pending == 0


async def test_without_a_rule_nothing_runs(clock: ManualClock) -> None:
    container = build_container(clock=clock)
    async with container.emergency().running():
        await asyncio.sleep(0)
        assert clock.pending == 0
    await container.emergency().check()
    assert not container.policy().incidents
