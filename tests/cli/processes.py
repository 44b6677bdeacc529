"""What tests see of a gateway in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection


def address_of(process: subprocess.Popen[str]) -> str:
    """Waits until the server listens, and gives its address."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"Bulkhead (?:development|production): (http://\S+)\n", line)
    assert found, (line, process.communicate())
    return found[1]


def close_code(websocket: ClientConnection) -> int | None:
    """Reads until the server closes."""
    try:
        while True:
            websocket.recv(5)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)
