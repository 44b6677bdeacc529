"""Overriding parts of a container, for a context or a test, and leaving nothing behind."""

from __future__ import annotations

from typing import cast

import pytest
from dependency_injector import providers

from app.realtime import UserContext
from app.realtime.broker import Broker, BrokerError, Published
from app.realtime.clock import Clock
from app.realtime.memory import MemoryBroker
from app.realtime.modes import ManagerMode, ModeKind
from app.testing import ManualClock, gateway_container, override, token
from config import ModeName, Settings
from containers import GatewayContainer
from providers import Fresh

ALICE = UserContext(user_id="alice", session_id="phone", claims={"tier": "hipaa"})


class FailingBroker(MemoryBroker):
    """A broker that publishes nothing."""

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
    ) -> Published:
        raise BrokerError("it is not there")


def failing_broker() -> Broker:
    return FailingBroker(
        clock=ManualClock(),
        history_size=1,
        history_ttl=1,
        max_bytes=1,
        max_bytes_per_user=1,
        max_streams_per_user=1,
        idempotency_ttl=1,
        idempotency_keys_per_user=1,
        idempotency_keys=1,
    )


def overridden(container: GatewayContainer) -> set[str]:
    return {name for name, provider in container.providers.items() if provider.last_overriding is not None}


def clock_of(container: GatewayContainer) -> Clock:
    return container.clock()


def test_a_container_of_tests_is_its_own_and_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_MODE", "emergency")
    container = gateway_container(history={"size": 7})
    assert (container.settings().mode, container.settings().history.size) == ("unified", 7)
    assert container.settings().api_keys != gateway_container().settings().api_keys


async def test_an_overridden_clock_is_the_one_that_everything_reads() -> None:
    container = gateway_container()
    with override(container, clock=ManualClock(time=1_000)):
        assert container.manager(ALICE).mode.since == 1_000
        assert container.lifecycle().events(1)[0].at == 1_000
        fresh = token(container, "alice", seconds=60)
        assert (await container.authenticator().authenticate(fresh)).expire_at == 1_060
    assert container.manager(ALICE).mode.since > 1_000


async def test_an_overridden_broker_takes_the_publishes() -> None:
    container = gateway_container()
    with override(container, broker=failing_broker()), pytest.raises(BrokerError):
        await container.manager(ALICE).emit("hello", 1)
    assert (await container.manager(ALICE).emit("hello", 1)).offset == 1


async def test_overridden_settings_reach_what_is_made_of_them() -> None:
    container = gateway_container()

    async def kept() -> int:
        for number in range(3):
            await container.manager(ALICE).emit("count", number)
        (stream,) = await container.broker().streams(ALICE.key)
        return stream.publications

    with override(container, settings=Settings(history={"size": 1})):
        assert await kept() == 1
    assert await kept() == 3


def test_an_overridden_mode_is_everybodys_whatever_their_claims_say() -> None:
    rules = [{"claim": "tier", "equals": "hipaa", "mode": "emergency"}]
    container = gateway_container(mode_rules=rules)
    with override(container, mode="isolated"):
        manager = container.manager(ALICE)
        assert (manager.mode.kind, manager.key) == (ModeKind.ISOLATED, "user-session:alice:phone")
    manager = container.manager(ALICE)
    assert (manager.mode.kind, manager.key) == (ModeKind.EMERGENCY, "user:alice")


def test_the_provider_of_modes_can_be_overridden_as_the_library_documents_it() -> None:
    container = gateway_container()

    def made(context: UserContext) -> ManagerMode:
        return ManagerMode(ModeKind.DEGRADED, 0.0, f"test of {context.user_id}")

    with container.mode.override(Fresh(made)):
        assert container.manager(ALICE).mode.reason == "test of alice"
    assert container.manager(ALICE).mode.reason == "default"


def test_nothing_made_under_an_override_outlives_it() -> None:
    container, clock = gateway_container(), ManualClock()
    with override(container, clock=clock):
        inside = {name: container.providers[name]() for name in ("broker", "publisher", "policy", "lifecycle")}
        manager = container.manager(ALICE)
    assert overridden(container) == {"settings"}
    assert clock_of(container) is not clock
    for name, one in inside.items():
        assert container.providers[name]() is not one, name
    assert container.manager.count() == 0
    assert container.manager(ALICE) is not manager


def test_nothing_made_before_an_override_is_seen_under_it() -> None:
    container = gateway_container()
    before = container.broker()
    with override(container, clock=ManualClock()):
        assert container.broker() is not before


def test_an_error_leaves_no_override_behind() -> None:
    container, given = gateway_container(), Settings()
    before = container.settings()

    def fail() -> None:
        with override(container, clock=ManualClock(), settings=given, mode="degraded"):
            assert container.settings().mode == "degraded"
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert container.settings() is before
    assert overridden(container) == {"settings"}


def test_a_part_that_cannot_be_overridden_leaves_no_override_behind() -> None:
    container = gateway_container()
    sideways = cast(ModeName, "sideways")
    with pytest.raises(ValueError, match="sideways"), override(container, clock=ManualClock(), mode=sideways):
        pytest.fail("there is no such mode")
    assert overridden(container) == {"settings"}


def test_overrides_may_be_nested_and_end_one_by_one() -> None:
    container, outer, inner = gateway_container(), ManualClock(), ManualClock()
    with override(container, clock=outer, mode="isolated"):
        with override(container, clock=inner, mode="emergency"):
            assert clock_of(container) is inner
            assert container.settings().mode == "emergency"
        assert clock_of(container) is outer
        assert container.settings().mode == "isolated"
    assert container.settings().mode == "unified"


def test_overrides_of_others_stay_and_those_left_inside_go() -> None:
    container, theirs, left = gateway_container(), ManualClock(), ManualClock()
    container.clock.override(providers.Object(theirs))
    with override(container, clock=ManualClock()):
        container.clock.override(providers.Object(left))
        assert clock_of(container) is left
    assert clock_of(container) is theirs
    assert len(container.clock.overridden) == 1


def test_parts_that_are_not_named_keep_their_overrides() -> None:
    container, theirs = gateway_container(), ManualClock()
    container.clock.override(providers.Object(theirs))
    with override(container, mode="degraded"):
        assert clock_of(container) is theirs
    assert clock_of(container) is theirs


def test_an_override_of_one_container_is_none_of_another() -> None:
    container, other = gateway_container(), gateway_container()
    with override(container, clock=ManualClock()):
        assert overridden(other) == {"settings"}
        assert overridden(gateway_container()) == {"settings"}
        assert not isinstance(GatewayContainer().clock(), ManualClock)


def test_after_a_reset_of_the_library_nothing_is_left() -> None:
    container = GatewayContainer()
    container.settings.override(providers.Object(Settings(mode="emergency")))
    container.clock.override(providers.Object(ManualClock()))
    assert container.manager(ALICE).mode.kind is ModeKind.EMERGENCY
    container.reset_override()
    container.reset_singletons()
    assert overridden(container) == set()
    assert not isinstance(container.clock(), ManualClock)
    assert container.manager.count() == 0
