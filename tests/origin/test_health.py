"""Row: health tells: it was a `NameError`; with the missing functions stubbed, healthy after a take-over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app import create_app
from app.realtime.broker import Publication
from app.realtime.identity import UserContext
from app.realtime.manager import ForeignPublication
from containers import GatewayContainer
from tests.realtime.peer import Peer


@asynccontextmanager
async def asking(container: GatewayContainer) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(container)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            yield http


def isolation(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["websocket_manager_isolation"]
    return found


async def test_health_counts_what_there_is(container: GatewayContainer) -> None:
    async with asking(container) as http, Peer(container) as alice, Peer(container) as bob:
        before = container.lifecycle().total
        await alice.connect("alice")
        await bob.connect("bob")
        response = await http.get("/health")
        assert response.status_code == 200
        assert isolation(response.json()) == {
            "status": "healthy",
            "total_managers": 2,
            "registered_users": 2,
            "lifecycle_events": before + 4,
            "violations": 0,
            "last_audit": None,
        }
        bob.leave()
        after = isolation((await http.get("/health")).json())
        assert (after["total_managers"], after["registered_users"], after["lifecycle_events"]) == (1, 1, before + 6)


async def test_health_tells_of_a_take_over(container: GatewayContainer) -> None:
    async with asking(container) as http, Peer(container) as peer:
        await peer.connect("alice")
        bob = container.manager(UserContext(user_id="bob"))
        # What a broker that mixes users up does: bob's manager is subscribed to alice's streams.
        await container.broker().subscribe("user:alice", bob)
        with pytest.raises(ForeignPublication):
            await container.publisher().publish_to_user("alice", "secret", "for alice")
        response = await http.get("/health")
        assert response.status_code == 503
        assert response.json()["status"] == "unhealthy"
        assert (isolation(response.json())["status"], isolation(response.json())["violations"]) == ("violated", 1)
        metrics = (await http.get("/metrics")).text
        assert 'bulkhead_isolation_violations_total{net="delivery"} 1.0' in metrics
        assert bob.deliver(Publication("user:bob", "#bob", 1, "epoch", "{}", 2)) == 0


async def test_health_tells_of_two_managers_of_one_user(container: GatewayContainer) -> None:
    async with asking(container) as http:
        first = container.manager(UserContext(user_id="alice"))
        container.manager.reset()
        second = container.manager(UserContext(user_id="alice"))
        response = await http.get("/health")
        assert first is not second
        assert response.status_code == 503
        assert isolation(response.json())["violations"] == 1
