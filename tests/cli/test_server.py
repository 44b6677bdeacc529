"""The server around an application that is not the gateway's: how it listens, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.listening import ListenError, listen, listen_together
from app.server import Server, command, welcome
from config import Settings


class Echo:
    """Answers what it is sent, and closes with 3001 when it is drained."""

    def __init__(self) -> None:
        self.sockets: set[WebSocket] = set()
        self.ended = False
        self.app = Starlette(routes=[WebSocketRoute("/", self.endpoint)], lifespan=self.lifespan)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self.ended = True

    async def endpoint(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.sockets.add(websocket)
        try:
            async for text in websocket.iter_text():
                await websocket.send_text(text)
        finally:
            self.sockets.discard(websocket)

    async def drain(self) -> None:
        for websocket in tuple(self.sockets):
            await websocket.close(3001, "shutdown")


class ObservedServer(Server):
    """Tells when it listens."""

    def __init__(self, app: Starlette, settings: Settings, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(app, settings, drain)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    pass


@contextlib.asynccontextmanager
async def served(
    echo: Echo, drain: Callable[[], Awaitable[None]], settings: Settings | None = None
) -> AsyncIterator[tuple[asyncio.Task[None], int]]:
    """The task of a running server and its port."""
    listener = listen("127.0.0.1", 0)
    server = ObservedServer(echo.app, settings or Settings(), drain)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        await server.listening.wait()
        yield task, listener.getsockname()[1]
        await task


async def close_code(websocket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        await websocket.recv()
    return closed.value.rcvd.code if closed.value.rcvd else None


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_before_the_server_closes_the_rest(stop: signal.Signals) -> None:
    echo = Echo()
    async with served(echo, echo.drain) as (_, port), connect(f"ws://127.0.0.1:{port}/") as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "hello"
        signal.raise_signal(stop)
        assert await close_code(websocket) == 3001
    assert echo.ended


async def test_what_the_drain_leaves_open_the_server_closes() -> None:
    echo = Echo()
    async with served(echo, nothing) as (_, port), connect(f"ws://127.0.0.1:{port}/") as websocket:
        signal.raise_signal(signal.SIGTERM)
        assert await close_code(websocket) == 1012
    assert echo.ended


async def test_while_draining_nobody_else_gets_in() -> None:
    echo, draining = Echo(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    async with served(echo, drain) as (_, port):
        signal.raise_signal(signal.SIGTERM)
        await draining.wait()


async def test_a_second_signal_ends_at_once(caplog: pytest.LogCaptureFixture) -> None:
    echo = Echo()
    async with served(echo, forever) as (task, _):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert not task.done()
        signal.raise_signal(signal.SIGINT)
        start = time.monotonic()
        await task
        assert time.monotonic() - start < 1
    assert "cut off what was still open" in caplog.messages


async def test_the_grace_period_ends_a_drain_that_does_not(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(shutdown={"drain_seconds": 0, "grace_seconds": 0.5})
    async with served(Echo(), forever, settings):
        signal.raise_signal(signal.SIGTERM)
        start = time.monotonic()
    assert 0.4 < time.monotonic() - start < 2
    assert "cut off what was still open" in caplog.messages


async def test_a_drain_that_fails_is_told_after_everything_is_closed() -> None:
    echo = Echo()

    async def drain() -> None:
        raise RuntimeError("drain")

    with pytest.raises(RuntimeError, match="drain"):
        async with served(echo, drain):
            signal.raise_signal(signal.SIGTERM)
    assert echo.ended


async def test_a_message_longer_than_the_limit_closes_with_1009() -> None:
    echo = Echo()
    settings = Settings(limits={"message_bytes": 1000})
    async with served(echo, echo.drain, settings) as (_, port), connect(f"ws://127.0.0.1:{port}/") as websocket:
        await websocket.send("x" * 1000)
        assert await websocket.recv() == "x" * 1000
        await websocket.send("x" * 1001)
        assert await close_code(websocket) == 1009
        signal.raise_signal(signal.SIGTERM)


async def test_the_handshake_offers_no_compression_and_names_no_server() -> None:
    echo = Echo()
    async with served(echo, echo.drain) as (_, port), connect(f"ws://127.0.0.1:{port}/") as websocket:
        assert websocket.response is not None
        assert not {"Server", "Sec-WebSocket-Extensions"} & set(websocket.response.headers)
        signal.raise_signal(signal.SIGTERM)


async def test_where_to_go_is_said_when_the_server_listens(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served(Echo(), nothing, Settings(demo=True, docs=True, profile="development")) as (_, port):
        address = f"http://127.0.0.1:{port}"
        assert capsys.readouterr().out.splitlines() == [
            f"Bulkhead development: {address}",
            f"  Chat: open {address} in a browser; a second window can be a second user.",
            f"  A token for other clients: {command()} token alice --profile development",
            f"  HTTP API: {address}/docs",
        ]
        signal.raise_signal(signal.SIGTERM)
    assert [message for message in caplog.messages if message in {"listening", "stopping"}] == ["listening", "stopping"]


def test_the_command_that_the_server_prints_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = Path(sys.executable).parent
    bare = tmp_path / "a folder" / "python3"  # the same Python, and no `bulkhead` beside it
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    bare.chmod(0o755)
    for folder, python in ((programs.parent, sys.executable), (tmp_path, sys.executable), (tmp_path, str(bare))):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "executable", python)
        line = f"{command()} token alice --profile development"
        printed = subprocess.run(["bash", "-c", line], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
        assert printed.stdout.count(b".") == 2, line
    monkeypatch.chdir(programs.parent)
    monkeypatch.setattr(sys, "executable", str(programs.resolve() / "python"))
    assert command() == f"{programs.name}/bulkhead"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("gateway.example", "http://gateway.example:8000"),
    ],
)
def test_the_address_to_go_to_is_one_that_a_browser_takes(host: str, address: str) -> None:
    assert welcome(Settings(host=host), 8000) == f"Bulkhead production: {address}"


def test_accepted_connections_give_up_on_peers_that_do_not_read() -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("TCP_USER_TIMEOUT is Linux's")
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_an_ipv6_address_can_be_listened_on() -> None:
    with listen("::1", 0) as listener:
        assert listener.getsockname()[0] == "::1"


def test_a_port_that_is_taken_is_told_with_its_number() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on nowhere\.invalid port 0: "):
        listen("nowhere.invalid", 0)


def accepted(listener: socket.socket) -> int:
    """How many connections wait at a listener."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over sockets that share a port")
def test_sockets_of_several_workers_share_a_port_and_its_connections() -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in listen_together("127.0.0.1", 0, 2)]
        [address] = {each.getsockname() for each in listeners}
        for each in listeners:
            each.listen(200)
        for _ in range(200):
            stack.enter_context(socket.create_connection(address))
        counts = [accepted(each) for each in listeners]
    assert sum(counts) == 200
    assert min(counts) > 50


def test_where_the_system_does_not_spread_connections_workers_have_one_socket() -> None:
    listeners = listen_together("127.0.0.1", 0, 3, spread=False)
    with listeners[0]:
        assert listeners == [listeners[0]] * 3


@pytest.mark.parametrize("count", [1, 2])
def test_workers_do_not_join_those_of_another_gateway(count: int) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in listen_together("127.0.0.1", 0, count)]
        port = listeners[0].getsockname()[1]
        for each in listeners:
            each.listen()
        with pytest.raises(ListenError, match=f"port {port}: Address already in use"):
            listen_together("127.0.0.1", port, 2)
        with pytest.raises(ListenError, match=f"port {port}: Address already in use"):
            listen("127.0.0.1", port)
