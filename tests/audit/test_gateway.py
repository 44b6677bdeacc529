"""The audit of a gateway: connected users share nothing, and a leak among them is found while they are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from dependency_injector.providers import Provider
from fastapi import FastAPI
from fastapi.datastructures import DefaultPlaceholder
from starlette.datastructures import State

from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from app.realtime.memory import MemoryBroker
from containers import GatewayContainer
from providers.audit import Audit, audit
from providers.reach import reachable
from providers.report import Report
from providers.sharing import shared_objects
from tests.gateway import Client, RunningGateway, build_container, serving

USERS = ("alice", "alice", "bob", "carol", "dave")


def parts_of_the_application(container: GatewayContainer, managers: list[UserManager]) -> list[object]:
    """What belongs to the ASGI application, which the tasks of all connections run through."""
    reached = (found.object for found in reachable(managers[0], shared=shared_objects(container)))
    app = next(value for value in reached if isinstance(value, FastAPI))
    shared = shared_objects(container)
    return [found.object for found in reachable(app, shared=shared, stop=(State, type)) if found.mutable]


class Audited:
    """A gateway with connected users, and what it takes to audit them."""

    def __init__(self, gateway: RunningGateway, clients: list[Client]) -> None:
        """Read what is shared."""
        self.gateway = gateway
        self.clients = clients
        self.managers = sorted(gateway.container.lifecycle().living(), key=lambda manager: manager.key)
        container = gateway.container
        self.options: dict[str, Any] = {
            "shared": [*shared_objects(container), *parts_of_the_application(container, self.managers)],
            "stop": (DefaultPlaceholder,),
            "name": lambda manager: manager.key,
        }

    def audit(self) -> Report:
        """Audit all managers."""
        return audit(*self.managers, **self.options)

    def connection(self, number: int) -> Any:
        """The connection of a manager, as the manager sees it."""
        return next(iter(self.managers[number].connections))


@asynccontextmanager
async def connected() -> AsyncIterator[Audited]:
    """Users of a served gateway who have subscribed, published and received."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(build_container(channels={"client_publish": True})))
        clients = [await stack.enter_async_context(gateway.connected(user, channels=["news"])) for user in USERS]
        for client in clients:
            await client.result("subscribe", {"channel": "room"})
            await client.result("publish", {"channel": "room", "data": {"secret": "canary"}})
        async with gateway.api() as api:
            for user in set(USERS):
                (await api.post(f"/v1/users/{user}/events", json={"type": "t", "data": "canary"})).raise_for_status()
        yield Audited(gateway, clients)


async def test_connected_users_share_nothing() -> None:
    async with connected() as audited:
        report = audited.audit()
        assert [*map(str, report.shared), *map(str, report.weak)] == []
        assert (report.owners, report.unread, report.truncated) == (4, (), False)


async def test_the_walk_goes_through_a_connection_into_its_tasks_and_frames() -> None:
    async with connected() as audited:
        found = list(reachable(audited.managers[0], shared=audited.options["shared"]))
        kinds = {type(reached.object).__name__ for reached in found}
        assert kinds >= {"ClientConnection", "Subscription", "OutboundQueue", "Task", "coroutine", "Context"}
        paths = [reached.path for reached in found]
        assert any("._coro.cr_await" in path and "<local self>" in path for path in paths)
        assert "canary" not in "".join(paths)


def on_the_manager(audited: Audited, common: Any) -> None:
    audited.managers[0].record.events.append(common)
    audited.managers[1].record.events.append(common)


def on_a_session(audited: Audited, common: Any) -> None:
    audited.connection(0).info = common
    audited.connection(1).subscriptions["leak"] = common


def a_subscription_of_another_user(audited: Audited, common: Any) -> None:
    audited.managers[0].connections.subscribe(audited.managers[2].subscriptions()[0])


def a_method_of_another_connection(audited: Audited, common: Any) -> None:
    audited.connection(0).disconnect = audited.connection(3).disconnect


def a_task_that_serves_two(audited: Audited, common: Any) -> None:
    async def work() -> None:
        await asyncio.sleep(60)
        common.append(audited)

    task = asyncio.create_task(work())
    for number in range(2):
        audited.connection(number).subscriptions["task"] = task


LEAKS: tuple[Callable[[Audited, Any], None], ...] = (
    *(on_the_manager, on_a_session, a_subscription_of_another_user, a_method_of_another_connection),
    a_task_that_serves_two,
)


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
async def test_a_leak_among_connected_users_is_found_with_the_way_from_each(
    leak: Callable[[Audited, Any], None],
) -> None:
    async with connected() as audited:
        leak(audited, [])
        report = audited.audit()
        assert report.shared
        for finding in report.shared:
            assert finding.first.owner.startswith("user:")
            assert finding.first.path.startswith("UserManager")
            assert finding.second.path.startswith("UserManager")
            assert finding.first.owner != finding.second.owner
        assert "canary" not in "".join(map(str, report.shared))


async def test_an_audit_in_steps_lets_users_be_served_and_finds_no_leak_while_they_come_and_go() -> None:
    async with connected() as audited:
        longest = 0.0
        for _ in range(5):
            managers = audited.gateway.container.lifecycle().living()
            running = Audit(managers, **audited.options)
            del managers
            over = False
            while not over:
                began = time.perf_counter()
                over = running.step(0.001)
                longest = max(longest, time.perf_counter() - began)
                await asyncio.sleep(0)
            async with audited.gateway.connected("erin") as client:
                await client.result("subscribe", {"channel": "room"})
            assert [*map(str, running.report().shared)] == []
        assert longest < 0.25  # a fraction of this, on a machine with nothing else to do


def test_two_thousand_managers_are_audited_in_a_moment() -> None:
    container = build_container()
    managers = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(2000)]
    began = time.perf_counter()
    report = audit(*managers, shared=shared_objects(container))
    assert time.perf_counter() - began < 2
    assert (report.shared, report.weak, report.owners) == ((), (), 2000)
    assert report.objects < 15 * 2000


def test_what_the_container_shares_is_what_managers_reach_in_common() -> None:
    container = build_container()
    managers = [container.manager(UserContext(user_id=user)) for user in ("alice", "bob")]
    shared = shared_objects(container)
    assert any(isinstance(value, MemoryBroker) for value in shared)
    wiring = [one for one in shared if isinstance(one, Provider)]
    types = {finding.type for finding in audit(*managers, shared=wiring).shared}
    assert types == {
        "app.realtime.publisher.Publisher",
        "app.realtime.metrics.Metrics",
        "app.realtime.lifecycle.LifecycleLog",
        "providers.claims.Claims",
    }
    assert audit(*managers, shared=shared).isolated
