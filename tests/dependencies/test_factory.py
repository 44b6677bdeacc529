"""`uvicorn app:create_app --factory`: the application without arguments, configured by its environment."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.realtime import UserContext
from app.testing import gateway_container, serve, token
from tests.dependencies.application import Probe, application
from tests.gateway import SECRET

ROOT = Path(__file__).parents[2]
KEY = "a-key-from-the-environment"


@asynccontextmanager
async def uvicorn(folder: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """uvicorn in a folder of its own, with nothing in its environment but these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BULKHEAD_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "app:create_app", "--factory", "--host", "127.0.0.1", "--port", "0"),
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(10):
            await process.communicate()


async def test_the_application_needs_no_arguments_and_reads_the_environment(tmp_path: Path) -> None:
    environment = {
        "BULKHEAD_PROFILE": "production",
        "BULKHEAD_MODE": "isolated",
        "BULKHEAD_API_KEYS": f'["{KEY}"]',
        "BULKHEAD_AUTH__HMAC_SECRET": SECRET,
        "BULKHEAD_BROKER__URL": "memory://",
        "BULKHEAD_HISTORY__SIZE": "2",
        "BULKHEAD_HISTORY__TTL": "60",
    }
    async with uvicorn(tmp_path, **environment) as process, asyncio.timeout(20):
        assert process.stderr is not None
        address = None
        while address is None:
            line = (await process.stderr.readline()).decode()
            assert line, "it did not start"
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
        async with httpx.AsyncClient(base_url=address[0], headers={"X-API-Key": KEY}) as http:
            assert (await http.get("/health")).json()["mode"] == "isolated"
            for _ in range(3):
                event = {"type": "a", "data": 1, "session_id": "phone"}
                assert (await http.post("/v1/users/alice/events", json=event)).status_code == 200
            assert (await http.get("/openapi.json")).status_code == 404


async def test_in_production_without_secrets_it_refuses_to_start_and_says_what_is_missing(tmp_path: Path) -> None:
    async with uvicorn(tmp_path, BULKHEAD_PROFILE="production") as process, asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode != 0
    assert b"auth.hmac_secret" in errors
    assert b"api_keys" in errors


async def test_a_manager_asked_for_outside_requests_is_the_same_one() -> None:
    container = gateway_container()
    async with serve(application(container, Probe())) as url, httpx.AsyncClient(base_url=url) as http:
        manager = container.manager(UserContext(user_id="alice"))
        await manager.emit("from-elsewhere", 1)
        headers = {"Authorization": f"Bearer {token(container, 'alice')}"}
        assert (await http.post("/emit", headers=headers)).json() == 2


async def test_serving_what_does_not_start_is_an_error_and_leaves_the_event_loop_alone() -> None:
    app = application(gateway_container(profile="production", docs=True), Probe())
    with pytest.raises(RuntimeError, match="did not start"):
        async with serve(app):
            pytest.fail("docs are not for production")
    await asyncio.sleep(0)
