"""Two users of a gateway whose broker and queues obey the test: what happens to them, and what they see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.realtime.broker import BrokerError
from app.realtime.pushes import message_push
from tests.gateway import Client, RunningGateway, build_container, serving, token
from tests.http.modes import metric, publish, set_mode
from tests.modes.table import Event
from tests.realtime.peer import Peer
from tests.wire.faulty import FaultyBroker, make_faulty

LIMIT = 100_000
CRITICAL = "security_alert"
SESSION = "phone"


@dataclass
class Scene:
    """The gateway, alice and bob, each with one connection, and a third user whose client stops reading at will.

    Attributes:
        touched: publishes that reached the broker while it was lost.
    """

    gateway: RunningGateway
    api: httpx.AsyncClient
    alice: Client
    bob: Client
    broker: FaultyBroker
    slow: Peer
    touched: int = 0

    async def happen(self, event: Event) -> None:
        """Let an event happen; returns when the gateway has done what follows."""
        control = self.gateway.container.control()
        match event:
            case Event.LOST:
                self.broker.before["publish"] = self._fail
                await control.broker_lost("unplugged")
            case Event.BACK:
                self.broker.before.clear()
                await control.broker_restored()
            case Event.RULE:
                self.slow.reads.clear()
                for manager in self.gateway.container.publisher().connected("carol"):
                    for connection in manager.connections:
                        connection.tell(message_push({"note": "x" * LIMIT}))
                await self.gateway.container.emergency().check()
            case Event.WELL:
                self.slow.reads.set()
                await self.slow.settle()
                await self.gateway.container.emergency().check()
            case _:
                whom, _, mode = event.name.lower().partition("_")
                await set_mode(self.api, None if mode == "none" else mode, "alice" if whom == "user" else None)

    async def _fail(self) -> None:
        self.touched += 1
        raise BrokerError("unplugged")

    async def publish(self, type_: str = "hello", user: str = "alice") -> str:
        """Publish an event over HTTP; the answer in the words of the table."""
        response = await publish(self.api, user, type=type_, session_id=SESSION)
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
            return "503"
        assert response.status_code == 200, response.text
        return outcome(response.json())

    async def publish_in_batch(self, type_: str = "hello") -> str:
        """The same, in a batch."""
        event = {"user_id": "alice", "type": type_, "data": 1, "session_id": SESSION}
        (receipt,) = (await self.api.post("/v1/events", json=[event])).json()
        return str(receipt["error"]["status"]) if "error" in receipt else outcome(receipt)

    async def refused(self) -> float:
        """Publishes that were refused so far."""
        return await metric(self.api, "bulkhead_refused_publications_total", reason="emergency")

    async def mode(self) -> tuple[str, str]:
        """Alice's mode and its reason, as operators see it."""
        (report,) = (await self.api.get("/v1/users/alice")).json()["managers"]
        return report["mode"], report["reason"]

    def managers(self) -> dict[str, int]:
        """The managers of alice and bob, by key: which objects they are."""
        living = self.gateway.container.lifecycle().living()
        return {manager.key: id(manager) for manager in living if manager.context.user_id != "carol"}

    def waits(self) -> bool:
        """Whether anything waits for the broker."""
        return self.gateway.container.backlog().size > 0


def outcome(receipt: dict[str, Any]) -> str:
    """A receipt in the words of the table."""
    assert receipt.get("queued", False) == (receipt["offset"] == 0)
    return "200, `queued`" if receipt.get("queued") else "200, in the stream"


async def told(client: Client) -> list[tuple[str, str]]:
    """Modes and reasons that a client was told until now; every push that came is taken."""
    messages = [push["message"]["data"] for push in await client.arrived() if "message" in push]
    return [(data["mode"], data["reason"]) for data in messages]


async def connect(stack: AsyncExitStack, gateway: RunningGateway, user: str) -> tuple[Client, str]:
    """A new connection, and the mode that it has."""
    client = await stack.enter_async_context(gateway.client())
    result = await client.result("connect", {"token": token(user, sid=SESSION)})
    return client, result["data"]["mode"]


@asynccontextmanager
async def staged(stack: AsyncExitStack, default: str) -> AsyncIterator[Scene]:
    """A gateway with this mode by configuration, and its users."""
    rules = {"queue_bytes": LIMIT, "leave_seconds": 0, "check_interval": 3600}
    container = build_container(mode=default, modes={"emergency": rules})
    broker = make_faulty(container)
    async with serving(container) as gateway, gateway.api() as api, Peer(container) as slow:
        await slow.connect("carol", sid=SESSION)
        alice, _ = await connect(stack, gateway, "alice")
        bob, _ = await connect(stack, gateway, "bob")
        yield Scene(gateway, api, alice, bob, broker, slow)
