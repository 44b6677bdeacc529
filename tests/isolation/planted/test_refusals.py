"""What is told when somebody is refused: nothing of others to the user, whose it is to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from dependency_injector import providers
from fastapi import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app import create_app
from app.dependencies import CurrentManager
from app.realtime.connection import ClientConnection
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from app.realtime.violation import IsolationViolation
from app.testing import serve
from providers import Fresh
from tests.gateway import RunningGateway, build_container, serving, token
from tests.http.modes import metric

from .kinds import a_mode, user

DETAIL = "Isolation is in doubt, so this was refused; the log of the gateway says more."


def test_a_key_keeps_what_it_claimed_as_long_as_that_lives_and_its_user_may_come_back_to_it() -> None:
    container = build_container()
    container.mode.override(providers.Object(a_mode()))
    for _ in range(2):
        assert container.manager(user("alice")).key == "user:alice"
        assert container.manager.count() == 0
        with pytest.raises(IsolationViolation) as refusal:
            container.manager(user("bob"))
        assert (refusal.value.key, refusal.value.net) == ("user:bob", "claim")


def test_sessions_of_an_isolated_user_are_told_apart_as_users_are() -> None:
    container = build_container(mode="isolated")
    record = container.lifecycle_record()
    container.lifecycle_record.override(providers.Object(record))
    phone = container.manager(UserContext(user_id="alice", session_id="phone"))
    with pytest.raises(IsolationViolation):
        container.manager(UserContext(user_id="alice", session_id="desk"))
    assert phone.record is record


async def test_a_violation_is_logged_once_with_both_keys_and_without_content(caplog: pytest.LogCaptureFixture) -> None:
    container = build_container()
    async with serving(container) as gateway:
        container.mode.override(providers.Object(a_mode()))
        async with gateway.connected("alice", tier="canary"), gateway.client() as bob:
            await bob.send({"id": 1, "connect": {"token": token("bob", tier="canary"), "data": "canary"}})
            assert await bob.closed() == (3004, "internal server error")
    (line,) = [vars(record) for record in caplog.records if record.levelno >= logging.ERROR]
    assert (line["net"], line["refused"], line["owner"]) == ("claim", "user:bob", "user:alice")
    assert "another key's" in line["message"]
    assert all(type(one) is str for one in line["args"]), "the record keeps the error, and with it what is another's"
    assert "canary" not in str(line)


@pytest.mark.parametrize(
    "again", [providers.Singleton, lambda *made, **parts: Fresh(providers.Singleton(*made, **parts))]
)
async def test_a_second_client_of_one_connection_is_refused_and_the_first_one_is_served_on(
    again: Callable[..., providers.Provider[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    container = build_container()
    async with serving(container) as gateway, gateway.api() as api:
        container.connection.override(again(ClientConnection, **container.connection.kwargs))
        async with gateway.client() as alice, gateway.client() as nobody:
            assert await nobody.closed() == (3004, "internal server error")
            await alice.send({"id": 1, "connect": {"token": token("alice")}})
            assert (await alice.message())["id"] == 1
            async with gateway.client() as another:
                assert await another.closed() == (3004, "internal server error")
            event = {"type": "t", "data": "canary"}
            assert (await api.post("/v1/users/alice/events", json=event)).status_code == 200
            assert (await alice.push())["pub"]["data"]["data"] == "canary"
            assert await metric(api, "bulkhead_isolation_violations_total", net="fresh") == 2
            assert (await api.get("/health")).status_code == 503
    lines = [vars(record) for record in caplog.records if record.levelno >= logging.ERROR]
    assert {(line["net"], line["refused"]) for line in lines} == {("fresh", "")}
    assert len(lines) == 2


async def test_an_operator_is_told_that_a_new_mode_was_refused_and_the_manager_keeps_its_own() -> None:
    container = build_container()
    async with serving(container) as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice, gateway.connected("bob") as bob:
            managers = [container.manager(user(name)) for name in ("alice", "bob")]
            before = managers[1].mode
            common = a_mode("operator", ModeKind.EMERGENCY)
            with container.mode.override(providers.Object(common)):
                response = await api.put("/v1/mode", json={"mode": "emergency"})
            assert (response.status_code, response.json()["type"]) == (503, "urn:bulkhead:problem:isolation-violation")
            assert response.json()["detail"] == DETAIL
            assert managers[0].mode is common
            assert managers[1].mode is before
            assert (await alice.push())["message"]["data"]["mode"] == "emergency"
            await bob.nothing()
            assert (await api.put("/v1/users/bob/mode", json={"mode": "emergency"})).json() == {"managers": 1}
            assert managers[1].mode.kind is ModeKind.EMERGENCY
            violations = (await api.get("/health")).json()["websocket_manager_isolation"]["violations"]
            assert violations == 1


async def test_a_token_that_leads_to_a_manager_that_is_refused_ends_the_connection() -> None:
    container = build_container(mode="isolated")
    async with serving(container) as gateway, gateway.connected("alice", sid="one") as alice:
        container.mode.override(providers.Object(a_mode()))
        async with gateway.connected("bob", sid="one"):
            await alice.send({"id": 9, "refresh": {"token": token("alice", sid="two")}})
            assert await alice.closed() == (3004, "internal server error")


async def test_a_request_is_refused_as_unavailable_and_a_websocket_endpoint_is_closed_with_3004() -> None:
    container = build_container()
    app = create_app(container)

    @app.get("/mine")
    async def mine(manager: CurrentManager) -> str:
        return manager.key

    @app.websocket("/mine")
    async def socket(websocket: WebSocket, manager: CurrentManager) -> None:
        raise AssertionError("it was let in")

    async with serve(app) as url:
        gateway = RunningGateway(container, url)
        container.connections.override(providers.Object(container.connections()))
        bob = {"Authorization": f"Bearer {token('bob')}"}
        async with gateway.connected("alice") as alice, gateway.api(**bob) as api:
            response = await api.get("/mine")
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json() == {
                "type": "urn:bulkhead:problem:isolation-violation",
                "title": "Isolation violation",
                "status": 503,
                "detail": DETAIL,
            }
            async with connect(f"ws{url.removeprefix('http')}/mine", additional_headers=bob, proxy=None) as websocket:
                with pytest.raises(ConnectionClosed) as closed:
                    await websocket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3004, DETAIL)
            await alice.nothing()


async def test_a_join_is_not_told_to_another_users_subscription_and_that_is_dropped() -> None:
    container = build_container(channels={"join_leave": True})
    request = {"channel": "news", "join_leave": True}
    async with serving(container) as gateway:
        async with gateway.connected("alice") as alice, gateway.connected("bob") as bob:
            await bob.result("subscribe", request)
            await bob.push()  # that bob joined
            managers = [container.manager(user(name)) for name in ("alice", "bob")]
            (foreign,) = managers[1].connections.subscriptions("news")
            managers[0].connections.subscribe(foreign)
            await alice.result("subscribe", request)
            assert (await alice.push())["join"]["info"]["user"] == "alice"
            await bob.nothing()
            assert foreign not in managers[0].connections.subscriptions("news")
            assert managers[1].connections.subscriptions("news") == (foreign,)
            assert container.metrics().violation_count() == 1
