"""A gateway in a process of its own, a browser, and a line between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, async_playwright

from tests.line import Line, line_to
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
API_KEY = "browser-tests-api-key"
HMAC_SECRET = "browser-tests-hmac-secret-of-32-bytes-or-more"


@dataclass(frozen=True)
class Server:
    """A gateway that serves."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def api(self) -> httpx.AsyncClient:
        """The API of back ends."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": API_KEY}, timeout=10)


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """Run `python -m app serve` in the development profile until the block ends, and see it end in good order."""
    server = Server(free_port())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BULKHEAD_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "BULKHEAD_PROFILE": "development",
        "BULKHEAD_PORT": str(server.port),
        "BULKHEAD_API_KEYS": f'["{API_KEY}"]',
        "BULKHEAD_AUTH__HMAC_SECRET": HMAC_SECRET,
        **settings,
    }
    log = folder / f"server-{server.port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "app", "serve"),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(server, process, log)
        yield server
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the server did not get ready:\n{log.read_text()}", pytrace=False)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with further settings, for one test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(tmp_path, **settings))


@pytest.fixture(scope="session")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that use user names of their own. Not started where no browser could use it."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Headless Chromium."""
    # Its sandbox refuses to run as root, and containers often have no other user.
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        await launched.close()


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    """A line to the shared server, whole at first."""
    async with line_to(server.port) as line:
        yield line
