"""Each planted leak is caught by the nets that are stated for it, by no other, and no byte gets to the wrong user."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial

import httpx
import pytest

from app import create_app
from app.realtime.codes import DisconnectCode
from app.realtime.connection import ClientConnection
from app.realtime.violation import IsolationViolation
from containers import GatewayContainer
from providers import NotFreshError, ProofError
from providers.audit import audit
from providers.sharing import shared_objects
from tests.clock import ManualClock
from tests.gateway import QUIET, Client, build_container, serving, token
from tests.http.modes import metric

from . import created, parts
from .created import CREATED
from .grown import GROWN
from .kinds import ALICE, BOB, Living, user
from .wired import WIRED

PERIOD = 60.0  # seconds
NETS = ("proof", "fresh", "claim", "token", "audit", "delivery")


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """What a plant of a test before has kept is gone."""
    for module in (created, parts):
        module.KEPT.clear()
    created.cached_mode.cache_clear()


async def starts(container: GatewayContainer) -> bool:
    """Whether a gateway of this container starts; what stops it must name the way from the manager or connection."""
    app = create_app(container)
    try:
        async with app.router.lifespan_context(app):
            return True
    except ProofError as error:
        return any(failure.path[0] not in ("manager", "connection") for failure in error.proof.failures)


def unproved(container: GatewayContainer) -> set[str]:
    """What sees a leak among two users and two clients of a gateway that nobody proved."""
    with ExitStack() as stack:
        try:
            managers = [container.manager(user(name)) for name in (ALICE, BOB)]
            clients = [stack.enter_context(open_connection(container)) for _ in range(2)]
        except IsolationViolation as violation:
            return {violation.net}
        except NotFreshError:
            return {"fresh"}
        report = audit(*managers, *clients, shared=shared_objects(container))
    return {"audit"} if report.shared else set()


@contextmanager
def open_connection(container: GatewayContainer) -> Iterator[ClientConnection]:
    """The connection of a client that has not said yet who it is."""

    async def send(text: str) -> None: ...

    connection = container.connection()
    connection.open(send, lambda reason: partial(send, "closed"))
    yield connection
    connection.close(DisconnectCode.CONNECTION_CLOSED.code)


@pytest.mark.parametrize("kind", WIRED)
async def test_a_gateway_does_not_start_with_a_leak_in_its_container(kind: str) -> None:
    seen = set()
    container = build_container()
    WIRED[kind].plant(container)
    if not await starts(container):
        seen.add("proof")
    container = build_container()
    WIRED[kind].plant(container)
    assert seen | unproved(container) == WIRED[kind].nets


async def test_a_gateway_without_a_leak_starts_and_no_net_sees_anything() -> None:
    assert await starts(build_container())
    assert unproved(build_container()) == set()


async def counted(api: httpx.AsyncClient) -> dict[str, float]:
    """Violations by the net that saw them."""
    found = {net: await metric(api, "bulkhead_isolation_violations_total", net=net) for net in NETS}
    return {net: number for net, number in found.items() if number}


async def publish(api: httpx.AsyncClient, name: str, data: str, channel: str | None = None) -> int:
    """Publish an event for a user; the status."""
    event = {"type": "t", "data": data, "channel": channel}
    return (await api.post(f"/v1/users/{name}/events", json=event)).status_code


async def is_violated(api: httpx.AsyncClient) -> bool:
    response = await api.get("/health")
    return response.status_code == 503 and response.json()["websocket_manager_isolation"]["status"] == "violated"


async def has_both_ways(api: httpx.AsyncClient) -> bool:
    """Whether an audit finds that the two users share something; each finding has the way from each of them."""
    report = (await api.post("/v1/isolation/audit")).json()
    for found in report["shared"]:
        assert {place["key"] for place in found["places"]} == {user(ALICE).key, user(BOB).key}
        assert all(place["path"].startswith("UserManager") for place in found["places"])
    assert "canary" not in str(report)
    return bool(report["shared"])


@pytest.mark.parametrize("kind", CREATED)
async def test_a_user_is_refused_who_would_share_and_the_first_one_is_served_on(kind: str) -> None:
    leak, container = CREATED[kind], build_container()
    if not leak.late:
        leak.plant(container)
    async with serving(container) as gateway, gateway.api() as api:
        if leak.late:
            leak.plant(container)
        async with gateway.connected(ALICE) as alice, gateway.client() as bob:
            assert await counted(api) == {}
            await bob.send({"id": 1, "connect": {"token": token(BOB)}})
            if leak.net == "audit":
                await bob.message()
                assert await has_both_ways(api)
                await bob.nothing()
            else:
                assert await bob.closed() == (3004, "internal server error")
            assert await publish(api, ALICE, "canary") == 200
            assert (await alice.push())["pub"]["data"]["data"] == "canary"
            assert (await alice.result("presence", {"channel": f"#{ALICE}"}))["presence"]
            assert (await counted(api)).keys() == {leak.net}
            assert await is_violated(api)


@asynccontextmanager
async def two_users(
    container: GatewayContainer | None = None,
) -> AsyncIterator[tuple[Living, httpx.AsyncClient, Client, Client]]:
    """Two users who are connected and subscribed, each to a channel of their own of the same name."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(container or build_container()))
        api = await stack.enter_async_context(gateway.api())
        first, second = [await stack.enter_async_context(gateway.connected(name)) for name in (ALICE, BOB)]
        for client in (first, second):
            await client.result("subscribe", {"channel": "news"})
        alice, bob = (gateway.container.manager(user(name)) for name in (ALICE, BOB))
        yield Living(gateway, alice, bob), api, first, second


async def planted(kind: str, living: Living) -> object:
    """Plant a leak; what must be kept for it to last."""
    made = GROWN[kind].plant(living)
    return await made if inspect.iscoroutine(made) else made


@pytest.mark.parametrize("kind", GROWN)
async def test_what_two_connected_users_come_to_share_is_reported_and_nothing_gets_to_the_wrong_one(kind: str) -> None:
    async with two_users() as (living, api, alice, bob):
        made = await planted(kind, living)
        seen = {"audit"} if await has_both_ways(api) else set()
        accepted = [await publish(api, name, f"canary of {name}", "news") == 200 for name in (ALICE, BOB)]
        for name, client, expected in ((ALICE, alice, accepted[0]), (BOB, bob, accepted[1])):
            if expected:
                assert (await client.push())["pub"]["data"]["data"] == f"canary of {name}"
            await client.nothing()
        assert accepted[1]
        assert seen | (await counted(api)).keys() == GROWN[kind].nets
        assert await is_violated(api)
        del made


@pytest.mark.parametrize("kind", [kind for kind, grown in GROWN.items() if "audit" in grown.nets])
async def test_within_one_sample_period_it_is_in_health_in_metrics_and_in_the_log(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    container = build_container(clock=clock, ping=QUIET, isolation={"audit_share": 0.5, "audit_interval": PERIOD})
    async with two_users(container) as (living, api, *_):
        made = await planted(kind, living)
        clock.advance(PERIOD)
        async with asyncio.timeout(10):
            while not await metric(api, "bulkhead_isolation_audit_passes_total"):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert await is_violated(api)
        assert (await counted(api)).keys() == {"audit"}
        del made
    lines = [vars(record) for record in caplog.records if record.name == "app.isolation"]
    assert {(line["levelno"], line["message"]) for line in lines} == {(logging.ERROR, "users share an object")}
    assert all({line["first"], line["second"]} == {user(ALICE).key, user(BOB).key} for line in lines)


async def test_nothing_is_reported_of_two_users_who_share_nothing() -> None:
    async with two_users() as (living, api, *_):
        living.give([], [])
        assert not await has_both_ways(api)
        assert await counted(api) == {}
