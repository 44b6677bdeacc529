"""What operators see and do: users, their connections, and the lives of managers."""

from __future__ import annotations

import asyncio

from tests.clock import ManualClock
from tests.gateway import build_container, eventually, serving, token


async def test_a_user_is_connections_mode_and_streams_and_no_content() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.client() as alice:
        client = (await alice.result("connect", {"token": token("alice")}))["client"]
        receipt = (await api.post("/v1/users/alice/events", json={"type": "a", "data": "content"})).json()
        await api.post("/v1/users/alice/events", json={"type": "a", "data": "content", "channel": "news"})
        response = await api.get("/v1/users/alice")
    user = response.json()
    streams = sorted(user.pop("streams"), key=lambda stream: stream["channel"])
    assert streams[0] == {"channel": "#alice", "epoch": receipt["epoch"], "offset": 1, "publications": 1}
    assert [stream["channel"] for stream in streams] == ["#alice", "news"]
    (manager,) = user.pop("managers")
    assert sorted(manager.pop("streams"), key=lambda stream: stream["channel"]) == streams
    assert manager == {"key": "user:alice", "mode": "unified", "reason": "default", "connections": [client]}
    assert user == {"user_id": "alice", "connections": 1, "mode": "unified"}
    assert "content" not in response.text


async def test_an_isolated_user_has_a_manager_for_each_session() -> None:
    async with serving(build_container(mode="isolated")) as gateway, gateway.api() as api:
        async with gateway.connected("alice", sid="phone"), gateway.connected("alice", sid="phone"):
            async with gateway.connected("alice", sid="desk"), gateway.connected("bob", sid="phone"):
                user = (await api.get("/v1/users/alice")).json()
    assert user["connections"] == 3
    assert {manager["key"]: len(manager["connections"]) for manager in user["managers"]} == {
        "user-session:alice:phone": 2,
        "user-session:alice:desk": 1,
    }


async def test_a_user_who_left_is_known_by_the_streams_and_one_who_never_came_is_not() -> None:
    async with serving() as gateway, gateway.api() as api:
        await api.post("/v1/users/alice/events", json={"type": "a", "data": 1})
        alice = (await api.get("/v1/users/alice")).json()
        assert (alice["connections"], [stream["offset"] for stream in alice["streams"]]) == (0, [1])
        unknown = await api.get("/v1/users/bob")
    assert unknown.status_code == 404
    assert unknown.json()["type"] == "urn:bulkhead:problem:unknown-user"


async def test_to_look_at_a_user_leaves_nothing_behind() -> None:
    async with serving() as gateway, gateway.api() as api:
        for _ in range(3):
            await api.get("/v1/users/alice")
            await api.delete("/v1/users/alice/connections")
        assert gateway.container.manager.count() == 0
        assert gateway.container.lifecycle().total == 0


async def test_disconnecting_ends_every_connection_of_the_user_for_good_and_nobody_elses() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with (
            gateway.connected("alice") as one,
            gateway.connected("alice") as two,
            gateway.connected("bob") as bob,
        ):
            assert (await api.delete("/v1/users/alice/connections")).json() == {"disconnected": 2}
            assert await one.closed() == await two.closed() == (3503, "force disconnect")
            await bob.nothing()
            await eventually(lambda: gateway.container.manager.count() == 1)
            assert (await api.delete("/v1/users/alice/connections")).json() == {"disconnected": 0}


async def test_disconnecting_an_isolated_user_ends_all_sessions() -> None:
    async with serving(build_container(mode="isolated")) as gateway, gateway.api() as api:
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            assert (await api.delete("/v1/users/alice/connections")).json() == {"disconnected": 2}
            assert (await phone.closed())[0] == (await desk.closed())[0] == 3503


async def test_the_lifecycle_tells_what_became_of_managers_in_order() -> None:
    clock = ManualClock(time=1_700_000_000)
    async with serving(build_container(clock=clock)) as gateway, gateway.api() as api:
        async with gateway.client() as alice:
            client = (await alice.result("connect", {"token": token("alice")}))["client"]
            await api.put("/v1/users/alice/mode", json={"mode": "degraded"})
            clock.advance(1)
            await api.delete("/v1/users/alice/connections")
            await alice.closed()
        await eventually(lambda: gateway.container.manager.count() == 0)
        report = (await api.get("/v1/lifecycle")).json()
    events = [(event["event"], event["key"], event["detail"]) for event in report["events"]]
    assert events == [
        ("created", "user:alice", ""),
        ("connected", "user:alice", client),
        ("mode_changed", "user:alice", "degraded"),
        ("disconnected", "user:alice", f"{client} 3503"),
        ("closed", "user:alice", ""),
    ]
    assert [event["at"] for event in report["events"]] == [1_700_000_000] * 3 + [1_700_000_001] * 2
    assert (report["living"], report["total"]) == (0, 5)


async def test_the_lifecycle_gives_as_many_of_the_newest_as_asked_for() -> None:
    async with serving(build_container(lifecycle={"events": 6, "events_per_user": 6})) as gateway, gateway.api() as api:
        for user in ("alice", "bob", "carol"):
            async with gateway.connected(user):
                pass
        await eventually(lambda: gateway.container.manager.count() == 0)
        whole = (await api.get("/v1/lifecycle")).json()
        two = (await api.get("/v1/lifecycle", params={"limit": 2})).json()
        none = (await api.get("/v1/lifecycle", params={"limit": 0})).json()
        for wrong in (-1, 10_001, "many"):
            assert (await api.get("/v1/lifecycle", params={"limit": wrong})).status_code == 422
    assert (len(whole["events"]), whole["total"]) == (6, 12)
    assert two["events"] == whole["events"][-2:]
    assert [event["event"] for event in two["events"]] == ["disconnected", "closed"]
    assert none["events"] == []


async def test_a_report_is_safe_while_users_come_and_go() -> None:
    async with serving() as gateway, gateway.api() as api:
        leaving = asyncio.Event()

        async def come_and_go(number: int) -> None:
            for _ in range(5):
                async with gateway.connected(f"user-{number}"):
                    pass

        async def report() -> None:
            while not leaving.is_set():
                for path in ("/v1/lifecycle", "/health", "/v1/users/user-1"):
                    assert (await api.get(path)).status_code in (200, 404)

        reporting = asyncio.create_task(report())
        await asyncio.gather(*(come_and_go(number) for number in range(8)))
        leaving.set()
        await reporting
        await eventually(lambda: gateway.container.manager.count() == 0)
        report_after = (await api.get("/v1/lifecycle", params={"limit": 10_000})).json()
    events = [event["event"] for event in report_after["events"]]
    assert report_after["living"] == 0
    assert events.count("created") == events.count("closed") > 0
    assert events.count("connected") == events.count("disconnected") == 40
