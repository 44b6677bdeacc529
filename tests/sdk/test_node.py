"""The official JavaScript SDK, in Node.js, against a gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.manager import UserManager
from app.realtime.rpc import RPCError
from tests.gateway import RunningGateway, build_container, eventually, serving, token
from tests.line import line_to

pytestmark = pytest.mark.node

SECONDS = 15.0  # Node.js takes its time to start on a busy machine.


class NodeClient:
    """A client in a process of its own, and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take a process that has just started."""
        self.process = process
        self.said: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._calls = 0

    async def listen(self) -> None:
        """Note what it says until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))
            self._changed.set()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of this name, in order."""
        return [message for message in self.said if message.get("event") == name]

    async def wait(self, name: str, count: int = 1) -> dict[str, Any]:
        """Until this happened so often; the last one."""
        await self._until(lambda: len(self.events(name)) >= count)
        return self.events(name)[count - 1]

    async def call(self, method: str, *args: Any) -> dict[str, Any]:
        """Call a method of the client; `{"result": ...}` or `{"error": ...}`."""
        self._calls += 1
        number = self._calls
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "method": method, "args": args}).encode() + b"\n")
        await self._until(lambda: any(message.get("reply") == number for message in self.said))
        return next(message for message in self.said if message.get("reply") == number)

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def node_client(node: str, node_modules: Path, url: str, **setup: Any) -> AsyncIterator[NodeClient]:
    """A client that is told to connect, until the block ends; it must end in good order."""
    script = node_modules.parent / "client.mjs"
    argument = json.dumps({"url": url, **setup})
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(node, str(script), argument, stdin=pipe, stdout=pipe)
    client = NodeClient(process)
    listening = asyncio.create_task(client.listen())
    try:
        yield client
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(SECONDS):
            await listening
            assert await process.wait() == 0
    finally:
        listening.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def publish(gateway: RunningGateway, *values: Any) -> None:
    """Publish events to alice."""
    for value in values:
        await gateway.container.publisher().publish_to_user("alice", "note", value)


def disconnect(gateway: RunningGateway, code: DisconnectCode) -> None:
    """End every connection from the server."""
    for manager in gateway.container.lifecycle().living():
        manager.disconnect_all(Disconnect(code))


async def test_connect_events_publish_history_presence_join_and_rpc(node: str, node_modules: Path) -> None:
    async def answer(manager: UserManager, data: Any) -> Any:
        if data == "fail":
            raise RPCError(404, "no such thing")
        return [manager.key, data]

    container = build_container()
    container.rpc.add_kwargs(answer=providers.Object(answer))
    async with serving(container) as gateway:
        subscriptions = {"news": {"joinLeave": True, "recoverable": True}}
        setup = {"token": token("alice", info={"a": 1}), "subscriptions": subscriptions}
        async with node_client(node, node_modules, gateway.websocket_url, **setup) as client:
            connected = await client.wait("connected")
            assert connected["data"] == {"mode": "unified"}
            subscribed = await client.wait("subscribed")
            assert (subscribed["channel"], subscribed["recoverable"], subscribed["positioned"]) == (
                "#alice",
                True,
                True,
            )
            await client.wait("sub subscribed")
            assert (await client.wait("sub join"))["info"]["client"] == connected["client"]

            await publish(gateway, 1, b'{\n "pretty": [\r\n  1 ] }')
            await client.wait("publication", 2)
            assert [event["data"]["data"] for event in client.events("publication")] == [1, {"pretty": [1]}]

            assert (await client.call("publish", "news", {"n": 1}))["result"] == {}
            event = await client.wait("sub publication")
            assert (event["data"], event["offset"], event["info"]["connInfo"]) == ({"n": 1}, 1, {"a": 1})
            assert (await client.call("publish", "#alice", 1))["error"]["code"] == 103

            history = (await client.call("history", "news", {"limit": -1}))["result"]
            assert ([publication["data"] for publication in history["publications"]], history["offset"]) == (
                [{"n": 1}],
                1,
            )
            since = {"offset": 1, "epoch": "other"}
            assert (await client.call("history", "news", {"limit": 1, "since": since}))["error"]["code"] == 112
            presence = (await client.call("presence", "news"))["result"]["clients"]
            assert presence[connected["client"]]["user"] == "alice"
            stats = (await client.call("presenceStats", "news"))["result"]
            assert stats == {"numClients": 1, "numUsers": 1}

            assert (await client.call("rpc", "answer", {"q": 1}))["result"] == {"data": ["user:alice", {"q": 1}]}
            assert (await client.call("rpc", "answer", "fail"))["error"]["code"] == 404
            assert (await client.call("rpc", "unknown", None))["error"]["code"] == 104
        await eventually(lambda: container.manager.count() == 0)


@pytest.mark.parametrize("loss", ["socket", "3011"])
async def test_what_was_missed_while_a_connection_was_lost_comes_once_and_in_order(
    node: str, node_modules: Path, loss: str
) -> None:
    async with serving() as gateway, line_to(gateway.port) as line:
        setup = {"token": token("alice"), "subscriptions": {"news": {"recoverable": True}}}
        async with node_client(node, node_modules, line.websocket_url, **setup) as client:
            await client.wait("subscribed")
            await client.wait("sub subscribed")
            await publish(gateway, 1)
            await gateway.container.broker().publish("user:alice", "news", "1")
            await client.wait("publication")
            await client.wait("sub publication")
            if loss == "socket":
                line.drop()
            else:
                disconnect(gateway, DisconnectCode.FORCE_RECONNECT)
            await publish(gateway, 2, 3)
            await gateway.container.broker().publish("user:alice", "news", "2")
            await client.wait("publication", 3)
            await client.wait("sub publication", 2)
            again = await client.wait("subscribed", 2)
            assert (again["wasRecovering"], again["recovered"]) == (True, True)
            sub_again = await client.wait("sub subscribed", 2)
            assert (sub_again["wasRecovering"], sub_again["recovered"]) == (True, True)
            await publish(gateway, 4)
            await client.wait("publication", 4)
            assert [event["data"]["data"] for event in client.events("publication")] == [1, 2, 3, 4]
            assert [event["data"] for event in client.events("sub publication")] == [1, 2]


async def test_tokens_are_replaced_when_they_expire(node: str, node_modules: Path) -> None:
    tokens = [token("alice", exp=time.time() + seconds) for seconds in (-1, 3, 600)]
    async with serving() as gateway:
        async with node_client(node, node_modules, gateway.websocket_url, tokens=tokens) as client:
            await client.wait("connected")
            await client.wait("getToken", 3)
            # A refresh that is refused would say so; a round trip later it has been answered.
            assert "result" in await client.call("publish", "news", 1)
            assert len(client.events("connected")) == 1
            assert [event["error"]["code"] for event in client.events("error")] == [109]


@pytest.mark.parametrize(("setup", "code"), [({"token": "garbage"}, 3500), ({"protobuf": True}, 3506)])
async def test_a_final_refusal_ends_it_for_good(
    node: str, node_modules: Path, setup: dict[str, Any], code: int
) -> None:
    setup = {"token": token("alice"), **setup}
    async with serving() as gateway, node_client(node, node_modules, gateway.websocket_url, **setup) as client:
        assert (await client.wait("disconnected"))["code"] == code
        await asyncio.sleep(0.3)
        assert len(client.events("connecting")) == 1


async def test_pings_are_answered_and_a_message_that_is_too_big_ends_it_for_good(node: str, node_modules: Path) -> None:
    async with serving(build_container(ping={"interval": 0.2, "timeout": 0.15})) as gateway:
        async with node_client(node, node_modules, gateway.websocket_url, token=token("alice")) as client:
            await client.wait("connected")
            await asyncio.sleep(0.8)
            assert len(client.events("connecting")) == 1
            await client.call("publish", "news", "x" * 70_000)
            disconnected = await client.wait("disconnected")
            assert disconnected["reason"] == "message size limit exceeded"
