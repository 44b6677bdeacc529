"""A second signal ends a process at once, whatever is still open, and without an error about what it cancelled."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.cli.processes import address_of

ROOT = Path(__file__).parents[2]
SHOP = """
import asyncio
from app import create_app
from app.server import serve

app = create_app()

@app.get("/slow")
async def slow() -> None:
    await asyncio.sleep(30)

serve(app)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An application with an endpoint that takes long."""
    variables = {
        "BULKHEAD_PROFILE": "development",
        "BULKHEAD_PORT": "0",
        "BULKHEAD_LOG__FORMAT": "json",
        "BULKHEAD_BROKER__URL": "redis://127.0.0.1:9/0",  # nobody is there: what is published waits
        "BULKHEAD_SHUTDOWN__GRACE_SECONDS": "30",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SHOP],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def publish(address: str) -> Any:
    """Publish an event for alice."""
    headers = {"X-API-Key": "development-api-key-not-for-production", "Content-Type": "application/json"}
    event = json.dumps({"type": "a", "data": 1}).encode()
    request = urllib.request.Request(f"{address}/v1/users/alice/events", event, headers)
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


@pytest.mark.parametrize("pause", [0.05, 0.5])
def test_a_second_signal_ends_a_busy_process_at_once_and_logs_no_error(
    shop: subprocess.Popen[str], pause: float
) -> None:
    address = address_of(shop)
    host, _, port = address.removeprefix("http://").partition(":")
    with (
        closing(socket.create_connection((host, int(port)))) as slow,
        connect(f"{address.replace('http', 'ws')}/connection/websocket"),
    ):
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert publish(address)["queued"]
        shop.send_signal(signal.SIGTERM)
        time.sleep(pause)  # two that come before the process runs are one
        shop.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, errors = shop.communicate(timeout=20)
    assert time.monotonic() - began < 2, errors
    assert shop.returncode == 0
    logged = [json.loads(line) for line in errors.splitlines()]
    (lost,) = [line["event"] for line in logged if line["level"] == "error"]
    assert lost.startswith("publishes were lost")
    assert not any("exception" in line for line in logged)
