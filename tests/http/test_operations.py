"""What load balancers and monitoring ask: health, readiness and metrics."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from importlib.metadata import version

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.realtime import UserContext
from app.realtime.broker import Publication
from app.realtime.manager import ForeignPublication
from tests.gateway import RunningGateway, build_container, eventually, serving, token


async def health(gateway: RunningGateway) -> tuple[int, dict[str, object]]:
    async with gateway.api() as api:
        response = await api.get("/health")
        body: dict[str, object] = response.json()
        return response.status_code, body


async def test_health_says_what_a_load_balancer_and_an_operator_need() -> None:
    async with serving() as gateway, gateway.connected("alice"), gateway.connected("alice"), gateway.connected("bob"):
        assert await health(gateway) == (
            200,
            {
                "status": "healthy",
                "version": version("bulkhead-gateway"),
                "mode": "unified",
                "draining": False,
                "broker": {"status": "up"},
                "websocket_manager_isolation": {
                    "status": "healthy",
                    "total_managers": 2,
                    "registered_users": 2,
                    "lifecycle_events": 5,
                    "violations": 0,
                    "last_audit": None,
                },
            },
        )


async def test_health_names_no_user() -> None:
    async with serving() as gateway, gateway.connected("mallory-7", sid="session-7"):
        assert "7" not in json.dumps((await health(gateway))[1]).replace(version("bulkhead-gateway"), "")


@pytest.mark.parametrize("what", ["publication", "join"])
async def test_what_belongs_to_another_user_is_refused_counted_and_makes_the_node_unhealthy(what: str) -> None:
    async with serving() as gateway, gateway.connected("alice") as alice:
        manager = gateway.container.manager(UserContext(user_id="alice"))
        hand_over: dict[str, Callable[[], object]] = {
            "publication": lambda: manager.deliver(
                Publication("user:bob", "#alice", 1, "epoch", '{"data":1,"offset":1}', 30)
            ),
            "join": lambda: manager.notify("user:bob", "#alice", '{"push":{"channel":"#alice","join":{"info":{}}}}'),
        }
        with pytest.raises(ForeignPublication, match="'user:alice' refused what belongs to 'user:bob'"):
            hand_over[what]()
        await alice.nothing()
        status, body = await health(gateway)
        assert (status, body["status"]) == (503, "unhealthy")
        isolation = body["websocket_manager_isolation"]
        assert isinstance(isolation, dict)
        assert (isolation["status"], isolation["violations"]) == ("violated", 1)
        async with gateway.api() as api:
            assert 'bulkhead_isolation_violations_total{net="delivery"} 1.0' in (await api.get("/metrics")).text


async def test_two_managers_of_one_user_are_a_violation_though_nobody_noticed() -> None:
    container = build_container()
    async with serving(container) as gateway:
        first = container.manager(UserContext(user_id="alice"))
        container.manager.reset()
        second = container.manager(UserContext(user_id="alice"))
        assert first is not second
        status, body = await health(gateway)
    assert (status, body["status"]) == (503, "unhealthy")


async def test_without_a_broker_a_node_is_neither_healthy_nor_ready() -> None:
    async with serving() as gateway, gateway.api() as api:
        assert (await api.get("/ready")).json() == {"status": "ready"}
        await gateway.container.broker().close()
        status, body = await health(gateway)
        ready = await api.get("/ready")
        publish = await api.post("/v1/users/alice/events", json={"type": "a", "data": 1})
    assert (status, body["status"], body["broker"]) == (503, "unhealthy", {"status": "down"})
    assert (ready.status_code, ready.json()["type"]) == (503, "urn:bulkhead:problem:not-ready")
    assert (publish.status_code, publish.json()["type"]) == (503, "urn:bulkhead:problem:broker-unavailable")
    assert publish.headers["retry-after"] == "1"


async def test_while_it_drains_a_node_is_healthy_and_not_ready_and_takes_no_connections() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        assert await gateway.container.control().drain(0) == 1
        assert await alice.closed() == (3001, "shutdown")
        ready = await api.get("/ready")
        assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
        status, body = await health(gateway)
        assert (status, body["status"], body["draining"]) == (200, "healthy", True)
        async with gateway.client() as late:
            assert await late.closed() == (3001, "shutdown")


async def test_metrics_parse_and_name_nobody_and_nothing_that_users_send() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("zoe-4711", sid="session-4711") as zoe:
            await zoe.result("subscribe", {"channel": "channel-4711"})
            event = {"type": "type-4711", "data": "data-4711", "thread_id": "thread-4711"}
            await api.post("/v1/users/zoe-4711/events", json=event)
            await api.post("/v1/users/zoe-4711/events", json={**event, "channel": "channel-4711"})
            await zoe.error("method-4711")
            await api.put("/v1/users/zoe-4711/mode", json={"mode": "emergency"})
            await api.post("/v1/users/zoe-4711/events", json=event)
            response = await api.get("/metrics")
        await eventually(lambda: gateway.container.manager.count() == 0)
        after = (await api.get("/metrics")).text
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "4711" not in response.text + after
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert all(name.startswith("bulkhead_") for name in families)
    assert all(family.documentation for family in families.values())
    values = {
        sample.name: sample.value for family in families.values() for sample in family.samples if not sample.labels
    }
    assert (values["bulkhead_connections"], values["bulkhead_publications_total"]) == (1, 2)
    refused = families["bulkhead_refused_publications"].samples
    assert ({"reason": "emergency"}, 1) in [(sample.labels, sample.value) for sample in refused]
    assert "bulkhead_connections 0.0" in after


async def test_each_gateway_has_metrics_of_its_own() -> None:
    async with serving() as one, serving() as two, one.connected("alice"):
        async with one.api() as first, two.api() as second:
            assert "bulkhead_connections 1.0" in (await first.get("/metrics")).text
            assert "bulkhead_connections 0.0" in (await second.get("/metrics")).text


async def test_a_command_that_is_refused_is_counted_by_its_code() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.client() as client:
            await client.send({"id": 1, "connect": {"token": token("alice", secret="x" * 32)}})
            assert (await client.closed())[0] == 3500
        assert 'bulkhead_disconnects_total{code="3500"} 1.0' in (await api.get("/metrics")).text


async def test_answers_on_a_connection_that_is_kept_alive_do_not_wait_for_one_another() -> None:
    async with serving() as gateway, gateway.api() as api:
        seconds = [(await api.get("/ready")).elapsed.total_seconds() for _ in range(15)]
    assert statistics.median(seconds) < 0.03, "Nagle's algorithm and delayed acknowledgements add 40 ms"
