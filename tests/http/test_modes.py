"""Modes that an operator sets: what each does, from each to each other, and what clients see of it."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.realtime import UserContext
from tests.gateway import RunningGateway, build_container, serving, token

MODES = ("unified", "isolated", "degraded", "emergency")
EVENT = {"type": "hello", "data": 1}


async def metric(api: httpx.AsyncClient, name: str, **labels: str) -> float:
    families = text_string_to_metric_families((await api.get("/metrics")).text)
    samples = (sample for family in families for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def set_mode(api: httpx.AsyncClient, mode: str | None, user: str | None = None) -> int:
    path = "/v1/mode" if user is None else f"/v1/users/{user}/mode"
    response = await api.put(path, json={"mode": mode})
    assert response.status_code == 200, response.text
    managers: int = response.json()["managers"]
    return managers


async def publish(api: httpx.AsyncClient, user: str = "alice", **fields: Any) -> httpx.Response:
    return await api.post(f"/v1/users/{user}/events", json={**EVENT, **fields})


def told(push: dict[str, Any]) -> tuple[str, str]:
    """Mode and reason of a message to the connection."""
    data = push["message"]["data"]
    assert data.keys() == {"type", "mode", "reason"}
    assert data["type"] == "mode"
    return data["mode"], data["reason"]


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(MODES, 2)))
async def test_every_mode_follows_every_other(before: str, after: str) -> None:
    async with serving(build_container(mode="unified")) as gateway, gateway.api() as api:
        await set_mode(api, before)
        sessions_apart = "isolated" in (before, after) and after != "unified"
        async with gateway.client() as alice:
            result = await alice.result("connect", {"token": token("alice", sid="phone")})
            assert result["data"] == {"mode": before}
            assert await set_mode(api, after) == 1
            if {before, after} & {"isolated"} and sessions_apart != (before == "isolated"):
                assert (await alice.closed())[0] == 3011
            else:
                assert told(await alice.push()) == (after, "operator")
        async with gateway.client() as alice:
            result = await alice.result("connect", {"token": token("alice", sid="phone")})
            assert result["data"] == {"mode": after}
            found = (await api.get("/v1/users/alice")).json()["managers"][0]
            assert (found["mode"], found["reason"]) == (after, "operator")
            assert found["key"] == ("user-session:alice:phone" if sessions_apart else "user:alice")
            response = await publish(api, type="security_alert", session_id="phone")
            assert response.json().get("queued", False) == (after == "degraded")
            assert (await alice.push())["pub"]["data"]["type"] == "security_alert"
            assert (await publish(api, session_id="phone")).status_code == (503 if after == "emergency" else 200)


async def test_a_mode_for_one_user_changes_nobody_elses() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice, gateway.connected("bob") as bob:
            assert await set_mode(api, "emergency", "alice") == 1
            assert told(await alice.push()) == ("emergency", "operator")
            await bob.nothing()
            assert (await publish(api)).status_code == 503
            assert (await publish(api, "bob")).status_code == 200
            await bob.push()


async def test_a_mode_for_one_user_is_stronger_than_one_for_all() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await set_mode(api, "unified", "alice")
        assert await set_mode(api, "emergency") == 0
        await alice.nothing()
        assert (await publish(api)).status_code == 200
        assert (await publish(api, "bob")).status_code == 503


async def test_a_mode_can_be_set_before_its_user_comes_and_outlives_the_manager() -> None:
    async with serving() as gateway, gateway.api() as api:
        assert await set_mode(api, "emergency", "alice") == 0
        for _ in range(2):
            async with gateway.client() as alice:
                result = await alice.result("connect", {"token": token("alice")})
                assert result["data"] == {"mode": "emergency"}


async def test_null_gives_the_decision_back_to_the_configuration() -> None:
    rules = [{"claim": "tier", "equals": "hipaa", "mode": "isolated"}]
    async with serving(build_container(mode="unified", mode_rules=rules)) as gateway, gateway.api() as api:
        async with (
            gateway.connected("alice", sid="phone", tier="hipaa") as alice,
            gateway.connected("bob", sid="phone") as bob,
        ):
            assert await set_mode(api, "degraded") == 2
            assert await set_mode(api, None) == 2
            assert [told(await alice.push()) for _ in range(2)] == [
                ("degraded", "operator"),
                ("isolated", "rule on claim 'tier'"),
            ]
            assert [told(await bob.push()) for _ in range(2)] == [("degraded", "operator"), ("unified", "default")]


async def test_setting_the_same_mode_again_tells_nobody() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await set_mode(api, "degraded")
        await alice.push()
        assert await set_mode(api, "degraded") == 0
        await alice.nothing()


async def test_every_manager_has_a_mode_of_its_own_also_after_a_change_for_all() -> None:
    container = build_container()
    async with serving(container) as gateway, gateway.api() as api:
        alice = container.manager(UserContext(user_id="alice"))
        bob = container.manager(UserContext(user_id="bob"))
        before = alice.mode, bob.mode
        assert before[0] is not before[1]
        for mode in MODES[1:]:
            assert await set_mode(api, mode) == 2
            assert alice.mode is not bob.mode
            assert alice.mode.kind is bob.mode.kind
            assert alice.mode is not before[0]
            assert bob.mode is not before[1]


async def test_from_unified_to_isolated_and_back_a_client_comes_back_under_the_other_key() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            assert await set_mode(api, "isolated", "alice") == 1
            assert (await phone.closed()) == (3011, "force reconnect")
            assert (await desk.closed()) == (3011, "force reconnect")
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            assert await keys(api) == ["user-session:alice:desk", "user-session:alice:phone"]
            await publish(api, session_id="desk")
            await desk.push()
            await phone.nothing()
            assert await set_mode(api, None, "alice") == 2
            assert (await phone.closed())[0] == (await desk.closed())[0] == 3011
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            assert await keys(api) == ["user:alice"]
            await publish(api)
            await phone.push()
            await desk.push()


async def keys(api: httpx.AsyncClient) -> list[str]:
    return sorted(manager["key"] for manager in (await api.get("/v1/users/alice")).json()["managers"])


async def test_a_client_without_a_session_cannot_come_back_to_an_isolated_user() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice:
            await set_mode(api, "isolated", "alice")
            assert (await alice.closed())[0] == 3011
        async with gateway.client() as alice:
            await alice.send({"id": 1, "connect": {"token": token("alice")}})
            code, reason = await alice.closed()
            assert code == 3500
            assert "session" in reason


@pytest.mark.parametrize("incident", ["degraded", "emergency"])
@pytest.mark.parametrize("user", [None, "alice"])
async def test_an_incident_tears_nobody_out_of_a_session_that_an_operator_isolated(
    incident: str, user: str | None
) -> None:
    async with serving() as gateway, gateway.api() as api:
        await set_mode(api, "isolated", user)
        async with gateway.connected("alice", sid="phone") as phone:
            assert await set_mode(api, incident, user) == 1
            assert told(await phone.push()) == (incident, "operator")
            assert await keys(api) == ["user-session:alice:phone"]
            assert await set_mode(api, "isolated", user) == 1
            assert told(await phone.push()) == ("isolated", "operator")


async def test_users_may_be_given_modes_up_to_a_limit() -> None:
    async with serving(build_container(modes={"max_user_modes": 2})) as gateway, gateway.api() as api:
        await set_mode(api, "degraded", "a")
        await set_mode(api, "degraded", "b")
        refused = await api.put("/v1/users/c/mode", json={"mode": "degraded"})
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:bulkhead:problem:mode-limit-exceeded"
        await set_mode(api, "emergency", "a")
        await set_mode(api, None, "b")
        await set_mode(api, "degraded", "c")


# Degraded.


async def degrade(gateway: RunningGateway, api: httpx.AsyncClient) -> None:
    await set_mode(api, "degraded")
    assert (await api.get("/health")).json()["mode"] == "degraded"


async def test_degraded_delivers_live_and_keeps_nothing() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await degrade(gateway, api)
        await alice.push()
        receipt = (await publish(api)).json()
        assert receipt == {"epoch": "", "offset": 0, "connections": 1, "queued": True}
        publication = (await alice.push())["pub"]
        assert publication["data"]["type"] == "hello"
        assert "offset" not in publication
        assert (await publish(api, "bob")).json() == {"epoch": "", "offset": 0, "connections": 0, "queued": True}
        assert await gateway.container.broker().streams(UserContext(user_id="bob").key) == ()
        assert await metric(api, "bulkhead_queued_publications_total") == 2


async def test_what_waited_goes_out_in_order_and_who_saw_it_live_does_not_get_it_twice() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await publish(api, data=0)
        await degrade(gateway, api)
        for number in (1, 2, 3):
            await publish(api, data=number)
        await set_mode(api, None)
        await publish(api, data=4)
        pushes = [await alice.push() for _ in range(7)]
        seen = [(p["pub"]["data"]["data"], p["pub"].get("offset")) for p in pushes if "pub" in p]
        assert seen == [(0, 1), (1, None), (2, None), (3, None), (4, 5)]
        await alice.nothing()
        history = await gateway.container.broker().history(UserContext(user_id="alice").key, "#alice")
        assert [f'"data":{n},' in p.text for n, p in enumerate(history.publications)] == [True] * 5


async def test_who_connects_in_between_gets_what_waited_before_and_nothing_twice() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice"):
        await degrade(gateway, api)
        await publish(api, data=1)
        await publish(api, data=2)
        async with gateway.connected("alice") as late:
            await publish(api, data=3)
            await set_mode(api, None)
            await publish(api, data=4)
            pushes = [await late.push() for _ in range(5)]
            assert [told(p) for p in pushes if "message" in p] == [("unified", "default")]
            seen = [(p["pub"]["data"]["data"], p["pub"].get("offset")) for p in pushes if "pub" in p]
            assert seen == [(3, None), (1, 1), (2, 2), (4, 4)]
            await late.nothing()


async def test_what_waited_for_a_user_who_was_not_there_can_be_recovered_after() -> None:
    async with serving() as gateway, gateway.api() as api:
        await degrade(gateway, api)
        for number in (1, 2):
            await publish(api, data=number)
        await set_mode(api, None)
        async with gateway.client() as alice:
            subs = {"#alice": {"recover": True}}
            result = (await alice.result("connect", {"token": token("alice"), "subs": subs}))["subs"]["#alice"]
        assert result["recovered"]
        assert [publication["data"]["data"] for publication in result["publications"]] == [1, 2]


async def test_recovery_is_refused_truthfully_while_degraded() -> None:
    async with serving() as gateway, gateway.api() as api:
        epoch = (await publish(api)).json()["epoch"]
        await degrade(gateway, api)
        subs = {"#alice": {"recover": True, "offset": 1, "epoch": epoch}}
        async with gateway.client() as alice:
            result = await alice.result("connect", {"token": token("alice"), "subs": subs})
            assert result["data"] == {"mode": "degraded"}
            result = result["subs"]["#alice"]
            assert "recovered" not in result  # false, which the wire leaves out
            assert result["was_recovering"]
            assert "publications" not in result


async def test_a_client_that_publishes_while_degraded_is_delivered_live_and_waits_too() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as first, gateway.connected("alice") as second:
            for client in (first, second):
                await client.result("subscribe", {"channel": "news"})
            await degrade(gateway, api)
            await first.result("publish", {"channel": "news", "data": {"n": 1}})
            await set_mode(api, None)
            pushes = [await second.push() for _ in range(3)]
            publications = [push["pub"] for push in pushes if "pub" in push]
            assert [publication["data"] for publication in publications] == [{"n": 1}]
            await second.nothing()
            history = await second.result("history", {"channel": "news", "limit": -1})
            assert [publication["data"] for publication in history["publications"]] == [{"n": 1}]


async def test_an_idempotency_key_counts_while_degraded_and_after() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await degrade(gateway, api)
        await alice.push()
        assert "duplicate" not in (await publish(api, idempotency_key="k")).json()
        assert (await publish(api, idempotency_key="k")).json()["duplicate"]
        await alice.push()
        await set_mode(api, None)
        assert (await publish(api, idempotency_key="k")).json()["duplicate"]
        await alice.push()
        await alice.nothing()


@pytest.mark.parametrize("limit", ["buffer_bytes_per_user", "buffer_bytes"])
async def test_a_full_buffer_refuses_with_the_time_to_come_back_and_loses_nothing(limit: str) -> None:
    bounds = {"buffer_bytes": 4000, "buffer_bytes_per_user": 4000, limit: 2000, "retry_after": 7}
    if limit == "buffer_bytes":
        bounds["buffer_bytes_per_user"] = 2000
    async with serving(build_container(modes=bounds)) as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice:
            await degrade(gateway, api)
            await alice.push()
            response, number = await publish(api), 0
            while response.status_code == 200:
                await alice.push()
                number += 1
                response = await publish(api)
            assert 1 < number < 20
            assert response.status_code == 503
            assert response.headers["retry-after"] == "7"
            assert response.json()["type"] == "urn:bulkhead:problem:refused"
            assert f"modes.{limit}" in response.json()["detail"]
            await alice.nothing()
            assert await metric(api, "bulkhead_refused_publications_total", reason="backlog") == 1
            other = await publish(api, "bob", data="x" * 200)
            assert other.status_code == (200 if limit == "buffer_bytes_per_user" else 503)
            await set_mode(api, None)
            assert (await publish(api)).json()["offset"] == number + 1


async def test_a_user_who_stays_degraded_keeps_waiting_when_another_returns() -> None:
    async with serving() as gateway, gateway.api() as api:
        for user in ("alice", "bob"):
            await set_mode(api, "degraded", user)
            await publish(api, user)
        await set_mode(api, None, "bob")
        assert len(await gateway.container.broker().streams(UserContext(user_id="bob").key)) == 1
        assert await gateway.container.broker().streams(UserContext(user_id="alice").key) == ()
        assert (await publish(api)).json()["queued"]


# Emergency.


async def test_emergency_takes_critical_types_only() -> None:
    container = build_container(modes={"critical_types": ("fire",), "retry_after": 9})
    async with serving(container) as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await set_mode(api, "emergency")
        await alice.push()
        response = await publish(api)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "9"
        assert response.json()["type"] == "urn:bulkhead:problem:refused"
        assert "fire" in response.json()["detail"]
        assert (await publish(api, type="fire")).json()["offset"] == 1
        assert (await alice.push())["pub"]["data"]["type"] == "fire"
        await alice.nothing()
        assert await metric(api, "bulkhead_refused_publications_total", reason="emergency") == 1


async def test_in_emergency_commands_get_a_temporary_error_and_the_connection_stays() -> None:
    commands: dict[str, dict[str, Any]] = {
        "subscribe": {"channel": "more"},
        "publish": {"channel": "news", "data": 1},
        "history": {"channel": "news"},
        "presence": {"channel": "news"},
        "presence_stats": {"channel": "news"},
        "rpc": {"method": "sum", "data": 1},
    }
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await alice.result("subscribe", {"channel": "news"})
        await set_mode(api, "emergency")
        assert told(await alice.push()) == ("emergency", "operator")
        for method, request in commands.items():
            error = await alice.error(method, request)
            assert (error["code"], error["temporary"]) == (1503, True), method
        assert await metric(api, "bulkhead_errors_total", code="1503") == len(commands)
        await alice.result("unsubscribe", {"channel": "news"})
        await set_mode(api, None)
        assert told(await alice.push()) == ("unified", "default")
        await alice.result("subscribe", {"channel": "news"})


async def test_emergency_on_top_of_degraded_publishes_what_waited() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await degrade(gateway, api)
        await publish(api, data=1)
        await set_mode(api, "emergency")
        assert (await publish(api, type="emergency", data=2)).json()["offset"] == 2
        seen = [push["pub"]["data"]["data"] for push in [await alice.push() for _ in range(4)] if "pub" in push]
        assert seen == [1, 2]
        await alice.nothing()


async def test_a_gateway_can_start_in_any_mode() -> None:
    for mode in MODES:
        async with serving(build_container(mode=mode)) as gateway, gateway.api() as api, gateway.client() as alice:
            result = await alice.result("connect", {"token": token("alice", sid="phone")})
            assert result["data"] == {"mode": mode}
            assert (await api.get("/health")).json()["mode"] == mode


async def test_what_is_no_mode_is_refused_and_changes_nothing() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        bodies = ('{"mode":"sideways"}', '{"mode":1}', "{}", '{"mode":"degraded","user":"bob"}', "[]", "", "{", "\xff")
        for path in ("/v1/mode", "/v1/users/alice/mode"):
            for body in bodies:
                headers = {"Content-Type": "application/json"}
                response = await api.put(path, content=body.encode("latin-1"), headers=headers)
                assert response.status_code in (400, 422), body
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["status"] == response.status_code
        await alice.nothing()
