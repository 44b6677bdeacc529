"""The server process: one subject on uvicorn, told over a socket what to publish.

Started by `benchmarks.server`; every subject runs with the settings of `bulkhead serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, cast

import psutil
from dependency_injector import providers
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app import create_app
from app.listening import listen
from app.realtime.broker import Position, Publication
from app.server import Server
from benchmarks import machine
from benchmarks.events import API_KEY, AUDITED, HMAC_SECRET, SUBJECTS, event, user
from benchmarks.server import SANSIO
from benchmarks.tutorial import ConnectionManager, tutorial_app
from config import Settings
from containers import GatewayContainer

# Nobody but the gateway has pings of its own, and uvicorn's are off; so these are, too.
NEVER = 1e6


class Subject(NamedTuple):
    """What is measured: an application, and how one publishes in its process."""

    app: ASGIApp
    publish: Callable[[str, dict[str, Any]], Awaitable[object]]


def settings(**further: Any) -> Settings:
    """The settings of the gateway: the defaults, with keys, and without pings."""
    return Settings(
        auth={"hmac_secret": HMAC_SECRET},
        api_keys=(API_KEY,),
        ping={"interval": NEVER, "timeout": NEVER / 2},
        **further,
    )


def container(**further: Any) -> GatewayContainer:
    """A container with these settings."""
    made = GatewayContainer()
    made.settings.override(providers.Object(settings(**further)))
    return made


def audited() -> Subject:
    """Bulkhead, with one audit after the other in the background, within 1 % of a CPU."""
    return gateway(isolation={"audit_share": 0.01, "audit_interval": 1})


def gateway(**further: Any) -> Subject:
    """Bulkhead: history, order, limits and isolation for every user."""
    made = container(**further)
    publisher = made.publisher()

    async def publish(user_id: str, what: dict[str, Any]) -> object:
        return await publisher.publish_to_user(user_id, what["type"], what["data"])

    return Subject(create_app(made), publish)


def tutorial() -> Subject:
    """The tutorial's connection manager."""
    manager = ConnectionManager()
    return Subject(tutorial_app(manager), manager.send)


def bare() -> Subject:
    """Nothing but the server: a message that is ready, handed to the `send` of the connection, also for each POST."""
    sends: dict[str, Send] = {}
    ready = {"type": "websocket.send", "text": json.dumps(event(10**18))}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        if scope["type"] == "http":
            while (await receive())["more_body"]:
                pass
            await sends[scope["path"].split("/")[2]](ready)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        sends[scope["path"].removeprefix("/ws/")] = send
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def publish(user_id: str, _: dict[str, Any]) -> None:
        await sends[user_id](ready)

    return Subject(app, publish)


class Nobody:
    """A subscriber to whom nothing is delivered."""

    def deliver(self, publication: Publication) -> int:
        """See `Subscriber`."""
        return 0

    def notify(self, key: str, channel: str, push: str) -> None:
        """See `Subscriber`."""

    def subscribed(self, channel: str) -> int:
        """See `Subscriber`."""
        return 0

    def interrupt(self) -> None:
        """See `Subscriber`."""

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        """See `Subscriber`."""


class Commands:
    """What the client side may ask for, one method each; every answer is a dict of numbers."""

    def __init__(self, subject: Subject) -> None:
        self._app = subject.app
        self._publish = subject.publish

    async def burst(self, events: int, users: int, turn: int) -> dict[str, float]:
        """Publish as fast as it goes, to one user after the other, so many in a turn of the event loop."""
        for number in range(events):
            await self._publish(user(number % users), event(time.time_ns()))
            if number % turn == 0:
                await asyncio.sleep(0)
        return {}

    async def flood(self, events: int, users: int, at_once: int) -> dict[str, float]:
        """Publish as fast as it goes, with so many on their way at once."""
        numbers = iter(range(events))

        async def some() -> None:
            for number in numbers:
                await self._publish(user(number % users), event(time.time_ns()))
                await asyncio.sleep(0)  # also where nothing is waited for

        await asyncio.gather(*(some() for _ in range(at_once)))
        return {}

    async def join(self, users: int) -> dict[str, float]:
        """Subscribe to the engine for users who have no connection, all at once, and leave; seconds of the first."""
        broker, nobody = self._container.broker(), Nobody()
        keys = [f"bench:{number}" for number in range(users)]
        start = time.perf_counter()
        await asyncio.gather(*(broker.subscribe(key, nobody) for key in keys))
        elapsed = time.perf_counter() - start
        for key in keys:
            broker.unsubscribe(key, nobody)
        return {"seconds": elapsed}

    async def metric(self, name: str) -> dict[str, float]:
        """The value of a metric of the gateway; 0 if it has none of this name."""
        return {"value": self._container.metrics().registry.get_sample_value(name) or 0.0}

    async def steady(self, events: int, users: int, rate: float) -> dict[str, float]:
        """Publish at a rate, each event at its time."""
        start = time.perf_counter()
        for number in range(events):
            delay = start + number / rate - time.perf_counter()
            # Also when late: who publishes in a real program waits for something between two events.
            await asyncio.sleep(max(0.0, delay))
            await self._publish(user(number % users), event(time.time_ns()))
        return {}

    @property
    def _container(self) -> GatewayContainer:
        found: GatewayContainer = cast(FastAPI, self._app).state.container
        return found

    async def cpu(self) -> dict[str, float]:
        """Seconds of CPU so far."""
        return {"seconds": time.process_time()}

    async def memory(self) -> dict[str, float]:
        """Bytes of memory now, after a garbage collection."""
        gc.collect()
        return {"bytes": psutil.Process().memory_info().rss}


async def obey(control: socket.socket, commands: Commands) -> None:
    """Carry out one command after the other, until the other side is gone."""
    reader, writer = await asyncio.open_connection(sock=control)
    while line := await reader.readline():
        name, arguments = json.loads(line)
        answer = await getattr(commands, name)(**arguments)
        writer.write(json.dumps(answer).encode() + b"\n")


async def main(subject: Subject, server: Server, listener: socket.socket, control: socket.socket) -> None:
    """Serve until there is nobody to obey."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.wait((serving,), timeout=0.01)
        if serving.done():
            return serving.result()
    control.sendall(json.dumps({"port": listener.getsockname()[1]}).encode() + b"\n")
    control.setblocking(False)
    await obey(control, Commands(subject))
    server.should_exit = server.force_exit = True
    return await serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("subject", choices=(*SUBJECTS, AUDITED))
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--core", type=int)
    parser.add_argument("--broker", default="memory://")
    parser.add_argument("--ws", required=True)
    parser.add_argument("--loop", required=True)
    arguments = parser.parse_args()
    machine.pin(arguments.core)
    logging.getLogger("app").setLevel(logging.ERROR)  # losses of the engine are made, and would end up in the table
    subjects: dict[str, Callable[[], Subject]] = {
        "gateway": partial(gateway, broker={"url": arguments.broker}),
        AUDITED: audited,
        "tutorial": tutorial,
        "bare": bare,
    }
    chosen = subjects[arguments.subject]()

    async def no_drain() -> None:
        """Connections are dropped."""

    uvicorn = Server(chosen.app, settings(), no_drain)
    uvicorn.config.loop = arguments.loop
    if arguments.ws != SANSIO:  # else it is what `bulkhead serve` has made of that
        uvicorn.config.ws = arguments.ws
    channel = socket.socket(fileno=arguments.control)
    with asyncio.Runner(loop_factory=uvicorn.config.get_loop_factory()) as runner:
        runner.run(main(chosen, uvicorn, listen("127.0.0.1", 0), channel))
    sys.exit(0)
