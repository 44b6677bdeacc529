"""Several workers as processes: what they share, and what happens when one of them, or what they share, goes away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from app.server import StartError
from app.workers import serve_workers
from config import Settings
from tests.cli.conftest import Bulkhead
from tests.cli.processes import address_of, get
from tests.engine.server import StandAlone
from tests.gateway import Client, token
from tests.ports import free_port

SECRET = "development-hmac-secret-not-for-production"
API_KEY = "development-api-key-not-for-production"
SECONDS = 40.0  # three processes start on what may be a busy machine

pytestmark = [pytest.mark.nodes, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Crew:
    """A gateway of two workers in the development profile.

    Attributes:
        url: of the port that they share.
        folder: of its temporary files.
        worker_port: of the first worker alone.
    """

    process: subprocess.Popen[str]
    url: str
    folder: Path
    worker_port: int

    @property
    def port(self) -> int:
        """The port that they share."""
        return int(self.url.rpartition(":")[2])

    def children(self, what: str) -> list[psutil.Process]:
        """The parent's processes with this in their command line."""
        found = []
        for each in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ends right now
                found += [each] if what in " ".join(each.cmdline()) else []
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes that serve."""
        return self.children("spawn_main")

    def engines(self) -> list[psutil.Process]:
        """The embedded Valkey."""
        return self.children("valkey-server")

    def holder_of(self, client: Client) -> int:
        """Process id of the worker at the other end of a connection."""
        port = client.socket.local_address[1]
        [holder] = [
            worker.pid
            for worker in self.workers()
            for connection in worker.net_connections("tcp")
            if connection.raddr[1:] == (port,)
        ]
        return holder

    @asynccontextmanager
    async def connected(self, user: str) -> AsyncIterator[Client]:
        """A client on a worker that the system chose."""
        async with connect(f"{self.url.replace('http', 'ws')}/connection/websocket", proxy=None) as websocket:
            client = Client(websocket)
            await client.result("connect", {"token": token(user, secret=SECRET)})
            yield client

    @asynccontextmanager
    async def on_both(self, user: str) -> AsyncIterator[tuple[Client, Client]]:
        """Two clients of a user on different workers."""
        async with self.connected(user) as first:
            for _ in range(50):
                async with self.connected(user) as second:
                    if self.holder_of(first) != self.holder_of(second):
                        yield first, second
                        return
        raise AssertionError("50 connections went to one worker")

    async def publish(self, user: str, data: Any, *, worker: int | None = None) -> None:
        """Publish an event with one worker, or one that the system chooses."""
        url = self.url if worker is None else f"http://127.0.0.1:{self.worker_port + worker}"
        body = json.dumps({"type": "note", "data": data}).encode()
        headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/users/{user}/events", body, headers)
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=5).close())

    def has_ended(self, processes: list[psutil.Process]) -> bool:
        """Whether nothing is left: no process, no file, nobody who listens."""
        _, alive = psutil.wait_procs(processes, SECONDS)
        assert not alive
        with socket.socket() as probe:
            refused = probe.connect_ex(("127.0.0.1", self.port)) != 0
        return refused and not list(self.folder.iterdir())


async def received(client: Client, count: int) -> list[Any]:
    """The data of so many events, of which there are no more."""
    events = [publication["data"]["data"] for publication in await client.publications(count)]
    await client.nothing()
    return events


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)


def start(bulkhead: Bulkhead, folder: Path, *options: str) -> Crew:
    port = free_port()
    arguments = ("--profile", "development", "--port", "0", "--workers", "2", "--worker_port", str(port), *options)
    process = bulkhead("serve", *arguments, TMPDIR=str(folder))
    return Crew(process, address_of(process), folder, port)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the gateway keeps its temporary files: the path of a Unix socket must be short, and pytest's are long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def crew(bulkhead: Bulkhead, folder: Path) -> Crew:
    """A gateway of two workers with an embedded Valkey."""
    return start(bulkhead, folder)


async def test_two_workers_deliver_each_event_of_a_user_once_and_in_order_on_every_connection(crew: Crew) -> None:
    async with crew.on_both("alice") as (first, second), crew.connected("bob") as stranger:
        for number in range(20):
            await crew.publish("alice", number, worker=number % 2)
        assert await received(first, 20) == await received(second, 20) == list(range(20))
        await stranger.nothing()
    assert [get(f"http://127.0.0.1:{crew.worker_port + number}/ready") for number in (0, 1)] == [
        {"status": "ready"}
    ] * 2


async def test_a_killed_worker_is_replaced_and_the_other_one_serves_on(crew: Crew) -> None:
    async with crew.on_both("alice") as (lost, kept):
        victim = psutil.Process(crew.holder_of(lost))
        victim.kill()
        assert await lost.closed() == (1006, "")
        await eventually(lambda: len(crew.workers()) == 2 and not victim.is_running())
        await eventually(lambda: all(answers(crew.worker_port + number) for number in (0, 1)))
        await crew.publish("alice", 0, worker=0)
        await crew.publish("alice", 1, worker=1)
        assert await received(kept, 2) == [0, 1]
        async with crew.on_both("alice") as (_, again):
            await crew.publish("alice", 2)
            assert await received(kept, 1) == await received(again, 1) == [2]


async def test_an_embedded_valkey_that_ends_is_started_again_and_clients_learn_that_its_streams_are_gone(
    crew: Crew,
) -> None:
    async with crew.on_both("alice") as clients:
        await crew.publish("alice", "before")
        assert [await received(client, 1) for client in clients] == [["before"]] * 2
        [engine] = crew.engines()
        engine.kill()
        await eventually(lambda: crew.engines() not in ([], [engine]))
        assert [await client.closed() for client in clients] == [(3010, "insufficient state")] * 2
    await eventually(lambda: all(answers(crew.worker_port + number, "/ready") for number in (0, 1)))
    async with crew.on_both("alice") as clients:
        await crew.publish("alice", "after")
        assert [await received(client, 1) for client in clients] == [["after"]] * 2


async def test_sigterm_drains_the_connections_of_all_workers_and_leaves_nothing(crew: Crew) -> None:
    processes = psutil.Process(crew.process.pid).children(recursive=True)
    async with crew.on_both("alice") as clients:
        begin = time.monotonic()
        crew.process.terminate()
        assert [await client.closed() for client in clients] == [(3001, "shutdown")] * 2
    assert crew.process.wait(SECONDS) == 0
    assert time.monotonic() - begin < 10
    assert crew.has_ended(processes)


async def test_ctrl_c_drains_as_well_although_a_terminal_tells_all_processes(crew: Crew) -> None:
    async with crew.on_both("alice") as clients:
        os.killpg(crew.process.pid, signal.SIGINT)
        assert [await client.closed() for client in clients] == [(3001, "shutdown")] * 2
    _, errors = crew.process.communicate(timeout=SECONDS)
    assert crew.process.returncode == 0
    assert "Traceback" not in errors


async def test_nobody_gets_in_while_workers_finish_and_a_second_signal_ends_them_at_once(
    bulkhead: Bulkhead, folder: Path
) -> None:
    crew = start(bulkhead, folder, "--shutdown.drain_seconds", "0", "--shutdown.grace_seconds", "30")
    processes = psutil.Process(crew.process.pid).children(recursive=True)
    with ExitStack() as stack:
        for number in (0, 1):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", crew.worker_port + number)))
            slow.sendall(f"POST /v1/users/a/events HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\n".encode())
            slow.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        assert answers(crew.port)
        crew.process.terminate()
        await eventually(lambda: not answers(crew.port))
        await asyncio.sleep(2)
        assert len(crew.workers()) == 2
        crew.process.terminate()
        assert await asyncio.to_thread(crew.process.wait, 3) == 0
    assert crew.has_ended(processes)


async def test_workers_and_valkey_end_after_a_parent_that_was_killed(crew: Crew) -> None:
    processes = psutil.Process(crew.process.pid).children(recursive=True)
    async with crew.on_both("alice") as clients:
        crew.process.kill()
        assert [await client.closed() for client in clients] == [(3001, "shutdown")] * 2
    assert crew.has_ended(processes)


async def test_with_a_broker_of_their_own_workers_start_none(
    bulkhead: Bulkhead, folder: Path, stand_alone: StandAlone
) -> None:
    crew = start(bulkhead, folder, "--broker.url", stand_alone.url)
    assert crew.engines() == []
    async with crew.on_both("alice") as (first, second):
        await crew.publish("alice", 1)
        assert await received(first, 1) == await received(second, 1) == [1]
    crew.process.terminate()
    _, errors = crew.process.communicate(timeout=SECONDS)
    assert crew.process.returncode == 0
    assert "embedded" not in errors


async def test_a_worker_that_does_not_end_in_time_is_killed(bulkhead: Bulkhead, folder: Path) -> None:
    crew = start(bulkhead, folder, "--shutdown.drain_seconds", "0", "--shutdown.grace_seconds", "2")
    processes = psutil.Process(crew.process.pid).children(recursive=True)
    crew.workers()[0].suspend()
    begin = time.monotonic()
    crew.process.terminate()
    _, errors = await asyncio.to_thread(crew.process.communicate, timeout=SECONDS)
    assert 1.5 < time.monotonic() - begin < 4
    assert crew.process.returncode == 0
    assert "killed workers that did not end" in errors
    assert crew.has_ended(processes)


def test_a_signal_while_workers_start_ends_them(bulkhead: Bulkhead, folder: Path) -> None:
    options = ("--profile", "development", "--port", "0", "--workers", "2")
    process = bulkhead("serve", *options, TMPDIR=str(folder))
    assert process.stderr is not None
    assert "an embedded Valkey keeps the streams" in process.stderr.readline()
    process.terminate()
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors
    assert not list(folder.iterdir())


def test_where_processes_cannot_be_told_apart_from_a_terminal_there_is_one_worker(
    monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.delattr(os, "setsid")
    with pytest.raises(StartError, match="several workers need a POSIX system"):
        serve_workers(Settings(workers=2))


def test_production_says_that_embedded_streams_end_with_the_process(bulkhead: Bulkhead, folder: Path) -> None:
    process = bulkhead(
        *("serve", "--port", "0", "--workers", "2", "--log.format", "json"),
        BULKHEAD_AUTH__HMAC_SECRET="a-secret-of-more-than-thirty-two-bytes",
        BULKHEAD_API_KEYS='["a-key-of-a-back-end"]',
        TMPDIR=str(folder),
    )
    assert get(f"{address_of(process)}/health")["broker"]["status"] == "up"
    process.terminate()
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (0, "")
    [told] = [line for line in map(json.loads, errors.splitlines()) if "embedded" in line["event"]]
    assert (told["event"], told["level"], told["workers"]) == (
        "an embedded Valkey keeps the streams, and they end with this process",
        "warning",
        2,
    )


def test_a_worker_that_does_not_start_stops_them_all(bulkhead: Bulkhead, folder: Path) -> None:
    Path("half.py").write_text(
        "import multiprocessing\n"
        "from containers import GatewayContainer\n"
        "def make():\n"
        "    assert multiprocessing.parent_process() is None\n"
        "    return GatewayContainer()\n"
    )
    options = ("--profile", "development", "--port", "0", "--workers", "2", "--container", "half:make")
    process = bulkhead("serve", *options, TMPDIR=str(folder))
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (1, "")
    assert "half:make gives no container: AssertionError" in errors
    assert errors.endswith("serve: a worker did not start; the log says why\n")
    assert not list(folder.iterdir())


def test_a_port_of_a_worker_that_is_taken_is_a_problem(bulkhead: Bulkhead, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--profile", "development", "--port", "0", "--workers", "2", "--worker_port", str(port))
        process = bulkhead("serve", *options, TMPDIR=str(folder))
        output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, output) == (1, "")
    assert f"worker_port: cannot listen on 127.0.0.1 port {port}: Address already in use\n" in errors
    assert errors.endswith("    Choose another one: --worker_port 9000, or BULKHEAD_WORKER_PORT=9000.\n")
    assert not list(folder.iterdir())


def test_of_two_gateways_that_start_at_once_one_has_the_port(bulkhead: Bulkhead, folder: Path) -> None:
    options = ("--profile", "development", "--port", str(port := free_port()), "--workers", "2")
    both = [bulkhead("serve", *options, TMPDIR=str(folder)) for _ in range(2)]
    deadline = time.monotonic() + SECONDS
    while all(process.poll() is None for process in both) and time.monotonic() < deadline:
        time.sleep(0.05)
    [refused] = [process for process in both if process.poll() is not None]
    output, errors = refused.communicate()
    assert (refused.returncode, output) == (1, "")
    assert f"port: cannot listen on 127.0.0.1 port {port}: Address already in use\n" in errors
    [other] = [process for process in both if process is not refused]
    assert address_of(other) == f"http://127.0.0.1:{port}"


def answers(port: int, path: str = "/health") -> bool:
    """Whether a gateway listens on this port and says that all is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
            return True
    except OSError:
        return False
