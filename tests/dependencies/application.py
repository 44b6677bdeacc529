"""An application of somebody who uses the gateway: routes of every kind, each with what it asks for."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from weakref import ref

import anyio.from_thread
import httpx
from fastapi import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from websockets.asyncio.client import ClientConnection, connect

from app import create_app
from app.dependencies import CurrentControl, CurrentManager, CurrentSettings, CurrentUser, Publisher
from app.realtime.manager import UserManager
from app.testing import gateway_container, serve, token
from containers import GatewayContainer


@dataclass
class Probe:
    """What routes saw, and the gates they wait at."""

    managers: list[ref[UserManager]] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    inside: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def saw(self, manager: UserManager) -> None:
        self.managers.append(ref(manager))
        self.threads.append(threading.get_ident())

    async def wait(self) -> None:
        """Say that somebody is inside, and wait for the gate."""
        self.inside.release()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def entered(self, count: int) -> None:
        async with asyncio.timeout(5):
            for _ in range(count):
                await self.inside.acquire()


def application(container: GatewayContainer, probe: Probe) -> FastAPI:
    """The gateway with routes that report to `probe`."""
    app = create_app(container)

    @app.get("/parts")
    async def parts(
        user: CurrentUser,
        manager: CurrentManager,
        publisher: Publisher,
        control: CurrentControl,
        settings: CurrentSettings,
    ) -> dict[str, Any]:
        probe.saw(manager)
        published = await publisher.publish_to_user("bob", "from-a-route", {"by": user.user_id})
        reports = await control.report("bob")
        return {
            "user": user.user_id,
            "session": user.session_id,
            "key": manager.key,
            "offset": published.offset,
            "keys": [report.key for report in reports],
            "mode": settings.mode,
        }

    @app.get("/parts-in-a-thread")
    def parts_in_a_thread(
        user: CurrentUser,
        manager: CurrentManager,
        publisher: Publisher,
        control: CurrentControl,
        settings: CurrentSettings,
    ) -> dict[str, Any]:
        probe.saw(manager)
        published = anyio.from_thread.run(publisher.publish_to_user, "bob", "from-a-thread", {"by": user.user_id})
        reports = anyio.from_thread.run(control.report, "bob")
        return {
            "user": user.user_id,
            "session": user.session_id,
            "key": manager.key,
            "offset": published.offset,
            "keys": [report.key for report in reports],
            "mode": settings.mode,
        }

    @app.post("/emit")
    async def emit(manager: CurrentManager) -> int:
        probe.saw(manager)
        return (await manager.emit("emitted", {"n": 1})).offset

    @app.post("/emit-in-a-thread")
    def emit_in_a_thread(manager: CurrentManager) -> int:
        probe.saw(manager)
        offset: int = anyio.from_thread.run(manager.emit, "emitted", {"n": 2}).offset
        return offset

    @app.get("/wait")
    async def wait(manager: CurrentManager) -> None:
        probe.saw(manager)
        await probe.wait()

    @app.get("/wait-in-a-thread")
    def wait_in_a_thread(manager: CurrentManager) -> None:
        probe.saw(manager)
        anyio.from_thread.run(probe.wait)

    @app.get("/raise")
    async def fail(manager: CurrentManager) -> None:
        probe.saw(manager)
        raise LookupError

    @app.get("/raise-in-a-thread")
    def fail_in_a_thread(manager: CurrentManager) -> None:
        probe.saw(manager)
        raise LookupError

    @app.get("/refuse")
    async def refuse(manager: CurrentManager) -> None:
        probe.saw(manager)
        await manager.emit("emitted", 1, channel="")

    @app.get("/stream")
    async def stream(manager: CurrentManager) -> StreamingResponse:
        probe.saw(manager)

        async def lines() -> AsyncIterator[str]:
            yield f"{manager.key}\n"
            await probe.wait()
            yield f"{manager.key}\n"

        return StreamingResponse(lines())

    @app.get("/later")
    async def later(manager: CurrentManager, tasks: BackgroundTasks) -> None:
        probe.saw(manager)

        async def work() -> None:
            await probe.wait()
            await manager.emit("late", 1)

        tasks.add_task(work)

    @app.websocket("/socket")
    async def socket(
        websocket: WebSocket,
        user: CurrentUser,
        manager: CurrentManager,
        publisher: Publisher,
        control: CurrentControl,
        settings: CurrentSettings,
    ) -> None:
        probe.saw(manager)
        await websocket.accept()
        await websocket.send_json([user.user_id, manager.key, control.draining, settings.mode])
        probe.inside.release()
        try:
            while (text := await websocket.receive_text()) != "end":
                if text == "raise":
                    raise LookupError
                offset = (await manager.emit("said", text)).offset
                await publisher.publish_to_user("bob", "said", text)
                await websocket.send_json(offset)
        except WebSocketDisconnect:
            return
        await websocket.close()

    @app.websocket("/socket-that-waits")
    async def socket_that_waits(websocket: WebSocket, manager: CurrentManager) -> None:
        probe.saw(manager)
        await websocket.accept()
        await probe.wait()
        await manager.emit("late", 1, channel="")

    return app


@dataclass
class Site:
    """The application while it runs."""

    container: GatewayContainer
    probe: Probe
    url: str

    def http(self, user: str | None = "alice", **claims: Any) -> httpx.AsyncClient:
        """A client of a user; None: of nobody."""
        # Empty, as TLS is not spoken here: to load the certificates of the system takes longer than most tests.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.AsyncClient(base_url=self.url, headers=self.headers(user, **claims), timeout=5, verify=tls)

    def socket(self, user: str | None = "alice", path: str = "/socket") -> connect:
        """A WebSocket of a user; None: of nobody."""
        return connect(f"{self.url.replace('http', 'ws')}{path}", additional_headers=self.headers(user), proxy=None)

    def headers(self, user: str | None, **claims: Any) -> dict[str, str]:
        return {} if user is None else {"Authorization": f"Bearer {token(self.container, user, **claims)}"}

    @classmethod
    @asynccontextmanager
    async def running(cls, **settings: Any) -> AsyncIterator[Self]:
        """Serve an application with a container of its own."""
        container, probe = gateway_container(**settings), Probe()
        async with serve(application(container, probe)) as url:
            yield cls(container, probe, url)


async def receive(socket: ClientConnection) -> str:
    """The next message as text, within five seconds."""
    async with asyncio.timeout(5):
        return await socket.recv(decode=True)
