"""The audit of a gateway that serves: when an operator asks, and in the background."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from app.realtime import UserContext
from config import Settings
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import QUIET, build_container, eventually, serving
from tests.http.modes import metric

AT_ONCE = MappingProxyType({"drain_seconds": 0})


class Common:
    """What two users must not share."""

    def __init__(self) -> None:
        """With room for what they write."""
        self.written: list[str] = []


def leak(container: GatewayContainer, common: object, *users: str) -> None:
    """Hand an object to living managers."""
    for user in users:
        manager: Any = container.manager(UserContext(user_id=user))
        manager.record.events.append(common)


async def audit(api: httpx.AsyncClient, *users: str) -> dict[str, Any]:
    response = await api.post("/v1/isolation/audit", json={"users": users} if users else None)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


async def isolation(api: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/health")).json()["websocket_manager_isolation"]
    return found


async def test_users_at_work_share_nothing_as_an_audit_that_was_asked_for_tells() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice, gateway.connected("alice"), gateway.connected("bob") as bob:
            for client in (alice, bob):
                await client.result("subscribe", {"channel": "news"})
                await client.result("publish", {"channel": "news", "data": {"secret": "canary"}})
            await api.post("/v1/users/alice/events", json={"type": "t", "data": "canary"})
            report = await audit(api)
            assert (report["isolated"], report["shared"], report["weak"], report["unread"]) == (True, [], [], [])
            assert (report["managers"], report["truncated"]) == (2, False)
            assert report["objects"] > 100
            assert 0 < report["seconds"] < 5
            assert (await isolation(api))["last_audit"] == {"at": report["at"], "managers": 2, "findings": 0}
            assert (await api.get("/health")).status_code == 200


async def test_what_two_users_share_is_told_with_both_ways_to_it_and_makes_the_node_unhealthy() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice"), gateway.connected("bob"), gateway.connected("carol"):
            leak(gateway.container, Common(), "alice", "bob")
            report = await audit(api)
            assert not report["isolated"]
            (found,) = report["shared"]
            assert (found["type"].rpartition(".")[2], found["managers"]) == ("Common", 2)
            assert {place["key"] for place in found["places"]} == {"user:alice", "user:bob"}
            assert all(place["path"].startswith("UserManager.record.events[") for place in found["places"])
            health = await api.get("/health")
            assert health.status_code == 503
            state = health.json()["websocket_manager_isolation"]
            assert (state["status"], state["violations"], state["last_audit"]["findings"]) == ("violated", 1, 1)
            assert await metric(api, "bulkhead_isolation_violations_total", net="audit") == 1
            assert await metric(api, "bulkhead_isolation_audit_findings") == 1


async def test_an_audit_of_some_users_compares_those_alone() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice"), gateway.connected("bob"), gateway.connected("carol"):
            leak(gateway.container, Common(), "alice", "bob")
            assert (await audit(api, "bob", "carol"))["isolated"]
            assert (await isolation(api))["last_audit"] is None  # that one is of all
            assert not (await audit(api, "alice", "bob"))["isolated"]
            assert (await audit(api, "alice", "bob"))["managers"] == 2
            response = await api.post("/v1/isolation/audit", json={"users": ["alice", "zoe"]})
            assert (response.status_code, response.json()["type"]) == (404, "urn:bulkhead:problem:unknown-user")
            assert response.json()["detail"] == "no manager lives of 'zoe'."


@pytest.mark.parametrize("body", [{"users": []}, {"users": "alice"}, {"user": ["alice"]}])
async def test_a_body_that_says_something_else_is_refused(body: dict[str, Any]) -> None:
    async with serving() as gateway, gateway.api() as api:
        response = await api.post("/v1/isolation/audit", json=body)
        assert (response.status_code, response.json()["type"]) == (422, "urn:bulkhead:problem:invalid-request")


async def test_an_audit_asks_for_an_api_key() -> None:
    async with serving() as gateway, gateway.api(**{"X-API-Key": "no-key"}) as api:
        assert (await api.post("/v1/isolation/audit")).status_code == 401


async def test_one_audit_runs_at_a_time_and_lets_users_be_served_meanwhile() -> None:
    async with serving(build_container(shutdown=AT_ONCE)) as gateway, gateway.api() as api:
        container = gateway.container
        kept = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(3000)]
        async with gateway.connected("alice") as alice:
            running = asyncio.create_task(audit(api))
            longest, refused = 0.0, 0
            while not running.done():
                began = time.perf_counter()
                await alice.result("presence", {"channel": "#alice"})
                longest = max(longest, time.perf_counter() - began)
                response = await api.post("/v1/isolation/audit")
                refused += response.status_code == 409
            report = await running
            assert (report["managers"], report["isolated"]) == (len(kept) + 1, True)
            assert refused
            assert longest < 0.25  # a fraction of this, on a machine with nothing else to do
        assert (await audit(api))["isolated"]


async def test_a_finding_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice"), gateway.connected("bob"):
            leak(gateway.container, Common(), "alice", "bob")
            for _ in range(3):
                await audit(api)
            leak(gateway.container, {}, "alice", "bob")
            await audit(api)
            assert await metric(api, "bulkhead_isolation_violations_total", net="audit") == 2
            assert await metric(api, "bulkhead_isolation_audit_passes_total") == 4
    lines = [vars(record) for record in caplog.records if record.name == "app.isolation"]
    assert [line["type"].rpartition(".")[2] for line in lines] == ["Common", "dict"]
    for line in lines:
        assert (line["levelname"], line["managers"]) == ("ERROR", 2)
        assert {line["first"], line["second"]} == {"user:alice", "user:bob"}
        assert line["first_path"].startswith("UserManager.record.events[")
        assert line["second_path"].startswith("UserManager.record.events[")


async def test_a_finding_counts_again_when_more_users_reach_it_and_when_it_comes_back() -> None:
    async with serving() as gateway, gateway.api() as api:

        async def counted(*, isolated: bool) -> float:
            assert (await audit(api))["isolated"] is isolated
            return await metric(api, "bulkhead_isolation_violations_total", net="audit")

        async with gateway.connected("alice"), gateway.connected("bob"), gateway.connected("carol"):
            common = Common()
            leak(gateway.container, common, "alice", "bob")
            assert await counted(isolated=False) == 1
            leak(gateway.container, common, "carol")
            assert await counted(isolated=False) == 2
            await audit(api, "alice", "bob")  # of fewer: nothing is new
            assert await counted(isolated=False) == 2
        async with gateway.connected("alice"), gateway.connected("bob"):
            assert await counted(isolated=True) == 2
            leak(gateway.container, Common(), "alice", "bob")
            assert await counted(isolated=False) == 3
            leak(gateway.container, Common(), "alice", "bob")  # of the same class, at places that look alike
            assert await counted(isolated=False) == 4


async def test_nothing_is_held_by_an_audit_that_is_over() -> None:
    async with serving() as gateway, gateway.api() as api:
        common = Common()
        gone = weakref.ref(common)
        async with gateway.connected("alice"), gateway.connected("bob"):
            leak(gateway.container, common, "alice", "bob")
            assert not (await audit(api))["isolated"]
            del common
        await eventually(lambda: gateway.container.manager.count() == 0)
        assert gone() is None


async def sampled(api: httpx.AsyncClient, clock: ManualClock) -> None:
    """Let time pass until one more audit has been made in the background."""
    before = await metric(api, "bulkhead_isolation_audit_passes_total")
    clock.advance(60)
    async with asyncio.timeout(10):
        while await metric(api, "bulkhead_isolation_audit_passes_total") == before:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def test_the_sampler_finds_a_leak_within_one_period() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, ping=QUIET, isolation={"audit_share": 0.5})
    async with serving(container) as gateway, gateway.api() as api:
        async with gateway.connected("alice"), gateway.connected("bob"):
            await sampled(api, clock)
            assert await isolation(api) == {
                "status": "healthy",
                "total_managers": 2,
                "registered_users": 2,
                "lifecycle_events": 4,
                "violations": 0,
                "last_audit": {"at": clock.time(), "managers": 2, "findings": 0},
            }
            leak(container, Common(), "alice", "bob")
            await sampled(api, clock)
            found = await isolation(api)
            assert (found["status"], found["violations"], found["last_audit"]["findings"]) == ("violated", 1, 1)
            await sampled(api, clock)
            assert (await isolation(api))["violations"] == 1


async def test_without_a_share_nothing_is_audited_in_the_background() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway, gateway.api() as api:
        clock.advance(3600)
        await asyncio.sleep(0.05)
        assert await metric(api, "bulkhead_isolation_audit_passes_total") == 0
        assert await metric(api, "bulkhead_isolation_audit_age_seconds") == 3600
        await audit(api)
        clock.advance(5)
        assert await metric(api, "bulkhead_isolation_audit_age_seconds") == 5


async def test_the_sampler_takes_its_share_of_the_time_and_no_more() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, shutdown=AT_ONCE, isolation={"audit_share": 0.1})
    async with serving(container) as gateway, gateway.api() as api:
        kept = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(400)]
        began = time.perf_counter()
        await sampled(api, clock)
        elapsed = time.perf_counter() - began
        assert (await isolation(api))["last_audit"]["managers"] == len(kept)
        assert await metric(api, "bulkhead_isolation_audit_seconds") < 0.12 * elapsed


@pytest.mark.parametrize("share", [-0.1, 0.0001, 0.6, float("nan")])
def test_a_share_that_is_more_than_half_or_next_to_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match="audit_share"):
        Settings(isolation={"audit_share": share})


async def test_one_in_the_background_gives_way_to_one_that_is_asked_for_and_begins_again() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, shutdown=AT_ONCE, isolation={"audit_share": 0.02})
    async with serving(container) as gateway, gateway.api() as api:
        kept = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(500)]
        waiting = clock.pending
        clock.advance(60)
        await asyncio.sleep(0.05)  # it has begun, and needs two seconds
        assert (await audit(api))["managers"] == len(kept)
        await eventually(lambda: clock.pending == waiting)  # it has given way, and waits again
        assert await metric(api, "bulkhead_isolation_audit_passes_total") == 1
        del kept[1:]
        await sampled(api, clock)
        assert (await isolation(api))["last_audit"]["managers"] == 1


def failing(container: GatewayContainer) -> list[object]:
    raise LookupError("canary")


async def test_an_audit_that_fails_is_logged_without_its_text_and_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    container = build_container(clock=clock, isolation={"audit_share": 0.5})
    async with serving(container) as gateway, gateway.api() as api:
        with monkeypatch.context() as patch:
            patch.setattr("app.isolation.shared_objects", failing)
            clock.advance(60)
            await eventually(lambda: "an audit failed: LookupError" in caplog.text)
        assert "canary" not in caplog.text
        await sampled(api, clock)


async def test_at_the_end_no_task_and_no_manager_is_left_in_the_middle_of_an_audit() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, shutdown=AT_ONCE, isolation={"audit_share": 0.001})
    before = asyncio.all_tasks()
    gc.disable()  # what is let go must be gone without it
    try:
        async with serving(container):
            kept = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(500)]
            clock.advance(60)
            await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before
        del kept
        assert container.manager.count() == 0
    finally:
        gc.enable()
    assert clock.pending == 0
