"""Modes that an operator sets: what each does, from each to each other, and what clients see of it."""

from __future__ import annotations

import itertools

import httpx
import pytest

from app.realtime import UserContext
from tests.gateway import build_container, serving, token
from tests.http.modes import publish, set_mode, told

MODES = ("unified", "isolated", "degraded", "emergency")


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
