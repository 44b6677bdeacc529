"""Who may publish and operate: holders of one of the keys, and nobody else."""

from __future__ import annotations

import ast
import asyncio
import inspect

import httpx
import pytest

from app import dependencies
from config import Settings
from tests.gateway import SECONDS, build_container, serving, token

OLD, NEW = "the-key-that-is-to-be-retired", "the-key-that-takes-its-place"
GUARDED = (
    "POST /v1/users/alice/events",
    "POST /v1/events",
    "GET /v1/users/alice",
    "DELETE /v1/users/alice/connections",
    "PUT /v1/users/alice/mode",
    "PUT /v1/mode",
    "GET /v1/lifecycle",
)


async def test_without_a_key_or_with_a_wrong_one_nothing_is_done() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice:
        for headers in (
            {},
            {"X-API-Key": ""},
            {"X-API-Key": "wrong"},
            {"X-API-Key": "an-api-key-that-only-tests-us"},
            {"X-API-Key": "an-api-key-that-only-tests-usee"},
            {"X-API-Key": "AN-API-KEY-THAT-ONLY-TESTS-USE"},
            {"X-API-Key": "schlüssel"},
            {"Authorization": "Bearer an-api-key-that-only-tests-use"},
            {"Authorization": f"Bearer {token('alice')}"},
        ):
            async with httpx.AsyncClient(base_url=gateway.url) as http:
                encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
                for route in GUARDED:
                    content = b'{"type":"a","data":1}' if "events" in route else b'{"mode":"emergency"}'
                    sent = [(b"Content-Type", b"application/json"), *encoded]
                    response = await http.request(*route.split(), content=content, headers=sent)
                    assert response.status_code == 401, (route, headers)
                    assert response.headers["www-authenticate"] == "ApiKey"
                    assert response.headers["content-type"] == "application/problem+json"
                    assert response.json()["type"] == "urn:bulkhead:problem:invalid-api-key"
        await alice.nothing()
        assert gateway.container.policy().for_all.kind.value == "unified"


@pytest.mark.parametrize("route", [*GUARDED, "POST /v1/isolation/audit"])
async def test_who_has_no_key_is_answered_before_the_body_is_read(route: str) -> None:
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = "host: x\r\ncontent-type: application/json\r\ncontent-length: 8000000\r\n"
        writer.write(f"{route} HTTP/1.1\r\n{head}\r\n[".encode())
        async with asyncio.timeout(SECONDS):
            assert b" 401 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_during_a_rotation_both_keys_are_good() -> None:
    async with serving(build_container(api_keys=(OLD, NEW))) as gateway:
        for key in (OLD, NEW):
            async with gateway.api(**{"X-API-Key": key}) as api:
                assert (await api.post("/v1/events", json=[])).status_code == 200
                assert (await api.get("/v1/lifecycle")).status_code == 200


async def test_after_a_rotation_the_old_key_is_worth_nothing() -> None:
    async with serving(build_container(api_keys=(NEW,))) as gateway:
        async with gateway.api(**{"X-API-Key": OLD}) as api:
            assert (await api.post("/v1/events", json=[])).status_code == 401


async def test_without_keys_in_the_settings_nobody_passes() -> None:
    async with serving(build_container(api_keys=(), profile="development")) as gateway:
        for key in ("", "None"):
            async with gateway.api(**{"X-API-Key": key}) as api:
                assert (await api.post("/v1/events", json=[])).status_code == 401
                assert (await api.get("/v1/lifecycle")).status_code == 401


async def test_an_empty_key_in_the_settings_lets_nobody_in() -> None:
    async with serving(build_container(api_keys=("",), profile="development")) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            assert (await http.post("/v1/events", json=[])).status_code == 401
            assert (await http.post("/v1/events", json=[], headers={"X-API-Key": ""})).status_code == 401


async def test_two_headers_are_not_two_tries() -> None:
    async with serving() as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            headers = [("X-API-Key", "wrong"), ("X-API-Key", "an-api-key-that-only-tests-use")]
            assert (await http.post("/v1/events", json=[], headers=headers)).status_code == 401


async def test_what_a_load_balancer_asks_needs_no_key() -> None:
    async with serving() as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        for path in ("/health", "/ready", "/metrics"):
            assert (await http.get(path)).status_code == 200


def test_keys_are_compared_in_constant_time_and_all_of_them() -> None:
    """Structure, as time cannot be tested: each key goes through `hmac.compare_digest`, none ends the comparison."""
    tree = ast.parse(inspect.getsource(dependencies.is_api_key))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert "hmac.compare_digest" in calls
    assert compared == []
    # A list is built whole before `any` looks; a generator would stop at the first match.
    assert not any(isinstance(node, (ast.GeneratorExp, ast.For, ast.BoolOp)) for node in ast.walk(tree))


def test_the_first_and_the_last_of_many_keys_are_known() -> None:
    settings = Settings(api_keys=tuple(f"key-number-{n}" for n in range(50)))
    assert dependencies.is_api_key(settings, "key-number-0")
    assert dependencies.is_api_key(settings, "key-number-49")
    assert not dependencies.is_api_key(settings, "key-number-50")
