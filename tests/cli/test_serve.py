"""An application of one's own, served as `bulkhead serve` serves the gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from fastapi import FastAPI
from websockets.sync.client import connect

from app import create_app
from app.gateway import NoGateway
from app.server import serve
from app.testing import gateway_container
from config import ConfigurationError
from tests.cli.processes import address_of, close_code, get

ROOT = Path(__file__).parents[2]
OWN = "app = create_app()"
MOUNTED = 'app = FastAPI()\nmount_gateway(app, "/rt", create_app())'
SCRIPT = """
from fastapi import FastAPI
from app import create_app, mount_gateway
from app.server import serve

if __name__ == "__main__":
    {app}
    serve(app)
"""


@pytest.mark.parametrize(("app", "path"), [(OWN, ""), (MOUNTED, "/rt")])
def test_a_script_serves_logs_drains_and_exits_with_0(app: str, path: str, tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(SCRIPT.format(app=app.replace("\n", "\n    ")))
    variables = {"BULKHEAD_PROFILE": "development", "BULKHEAD_PORT": "0", "BULKHEAD_LOG__FORMAT": "json"}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = f"{address_of(process)}{path}"
        assert get(f"{address}/ready") == {"status": "ready"}
        with connect(f"{address.replace('http', 'ws')}/connection/websocket") as websocket:
            claims = jwt.encode({"sub": "alice"}, "development-hmac-secret-not-for-production", algorithm="HS256")
            websocket.send(json.dumps({"id": 1, "connect": {"token": claims}}))
            assert "connect" in json.loads(websocket.recv(5))
            process.terminate()
            assert close_code(websocket) == 3001
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["listening", "stopping"]


def test_several_workers_are_refused_with_what_to_do() -> None:
    app = create_app(gateway_container(workers=2))
    with pytest.raises(ConfigurationError, match=r"workers: is 2, but (?s:.*)Set it to 1, and run several processes"):
        serve(app)


def test_an_application_without_a_gateway_is_refused() -> None:
    with pytest.raises(NoGateway, match=r"app\.create_app"):
        serve(FastAPI())
