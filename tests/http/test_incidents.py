"""Degraded and emergency: what is delivered, what waits, what is refused, and what happens after."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.realtime import UserContext
from tests.gateway import RunningGateway, build_container, serving, token
from tests.http.modes import metric, publish, set_mode, told

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
        pushes = [await alice.push() for _ in range(8)]
        seen = [(p["pub"]["data"]["data"], p["pub"].get("offset")) for p in pushes if "pub" in p]
        assert seen == [(0, 1), (1, None), (2, None), (3, None), (4, 5)]
        # What had no offset when it was delivered, a client that recovers later must not get again.
        assert [p["subscribe"]["offset"] for p in pushes if "subscribe" in p] == [4]
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
            pushes = [await late.push() for _ in range(6)]
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
            pushes = [await second.push() for _ in range(4)]
            publications = [push["pub"] for push in pushes if "pub" in push]
            assert [publication["data"] for publication in publications] == [{"n": 1}]
            assert [push["unsubscribe"]["code"] for push in pushes if "unsubscribe" in push] == [2500]
            await second.nothing()
            history = await second.result("history", {"channel": "news", "limit": -1})
            assert [publication["data"] for publication in history["publications"]] == [{"n": 1}]


async def test_a_subscription_that_got_it_live_goes_on_behind_it_when_its_client_subscribes_again() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        before = await alice.result("subscribe", {"channel": "news"})
        await degrade(gateway, api)
        await publish(api, channel="news", data=1)
        await set_mode(api, None)
        while "unsubscribe" not in await alice.push():
            pass
        again = {"channel": "news", "recover": True, "offset": 0, "epoch": before["epoch"]}
        recovered = await alice.result("subscribe", again)
        assert recovered["recovered"]
        assert "publications" not in recovered
        assert recovered["offset"] == 1
        await publish(api, channel="news", data=2)
        assert (await alice.push())["pub"]["offset"] == 2
        await alice.result("unsubscribe", {"channel": "news"})
        # Another time it is where its client says.
        assert len((await alice.result("subscribe", again))["publications"]) == 2


async def test_an_idempotency_key_counts_while_degraded_and_after() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await degrade(gateway, api)
        await alice.push()
        assert "duplicate" not in (await publish(api, idempotency_key="k")).json()
        assert (await publish(api, idempotency_key="k")).json()["duplicate"]
        await alice.push()
        await set_mode(api, None)
        assert (await publish(api, idempotency_key="k")).json()["duplicate"]
        pushes = [await alice.push() for _ in range(2)]
        assert sorted(kind for push in pushes for kind in push if kind != "channel") == ["message", "subscribe"]
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
        assert await metric(api, "bulkhead_refused_publications_total", reason="emergency") == 1
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
        seen = [push["pub"]["data"]["data"] for push in [await alice.push() for _ in range(5)] if "pub" in push]
        assert seen == [1, 2]
        await alice.nothing()
