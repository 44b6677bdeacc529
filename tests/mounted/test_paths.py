"""Below a path every route does what it does at the root."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app import create_app
from app.shortcut import route_path
from tests.gateway import API_KEY, build_container
from tests.mounted.application import below

EVENT = {"type": "a", "data": 1}
PLACES = (("/pre", ""), ("", "/rt"), ("/pre", "/rt"), ("/v1/users/bob", ""), ("", "/v1/users"))
everywhere = pytest.mark.parametrize(("root_path", "mounted_at"), PLACES)


@everywhere
async def test_events_are_published_and_delivered(root_path: str, mounted_at: str) -> None:
    async with (
        below(build_container(), root_path, mounted_at) as gateway,
        gateway.api() as api,
        gateway.connected("alice") as alice,
    ):
        one = await api.post("/v1/users/alice/events", json=EVENT)
        assert (one.status_code, one.json()["connections"]) == (200, 1)
        batch = await api.post("/v1/events", json=[{"user_id": "alice", **EVENT}])
        assert [receipt["offset"] for receipt in batch.json()] == [2]
        assert [each["offset"] for each in await alice.publications(2)] == [1, 2]


@everywhere
async def test_what_is_no_publish_is_refused_as_at_the_root(root_path: str, mounted_at: str) -> None:
    async with (
        below(build_container(), "", "") as at_the_root,
        below(build_container(), root_path, mounted_at) as gateway,
        at_the_root.api() as expected,
        gateway.api() as api,
    ):
        for path in ("/v1/events", "/v1/users/alice/events", "/v1/users/alice", "/events", "/v1", ""):
            for end in ("", "/", "%0A", "%FF", "?a=b"):
                for method, key in (("POST", API_KEY), ("POST", "wrong"), ("GET", API_KEY)):
                    asked: dict[str, Any] = {
                        "method": method,
                        "url": f"{path}{end}",
                        "headers": {"X-API-Key": key},
                        "json": 7,
                    }
                    wanted, response = await expected.request(**asked), await api.request(**asked)
                    assert (response.status_code, response.text) == (wanted.status_code, wanted.text), asked
                    assert response.headers["content-type"] == wanted.headers["content-type"]


@everywhere
async def test_pages_and_what_they_load_are_found(root_path: str, mounted_at: str) -> None:
    container = build_container(profile="development", demo=True, docs=True)
    async with below(container, root_path, mounted_at) as gateway, httpx.AsyncClient() as browser:
        page = await browser.get(f"{gateway.url}/")
        linked = [urljoin(str(page.url), link) for link in re.findall(r'(?:href|src)="([^"#]+)"', page.text)]
        linked = [link for link in linked if link.startswith(gateway.url)]
        assert len(linked) == 5
        script = await browser.get(f"{gateway.url}/demo/static/chat.js")
        assert not re.findall(r'(?:post|fetch|URL)\("/', script.text)
        for path in ("health", "ready", "metrics", "openapi.json", "docs"):
            linked.append(f"{gateway.url}/{path}")
        for link in linked:
            assert (await browser.get(link)).status_code == 200, link
        docs = (await browser.get(f"{gateway.url}/docs")).text
        assert f"{root_path}{mounted_at}/openapi.json" in docs
        signed_in = await browser.post(f"{gateway.url}/demo/token", json={"name": "alice"})
        assert signed_in.status_code == 200


@pytest.mark.parametrize("path", ["/v1/users/alice/events", "/rt/v1/users/alice/events"])
async def test_a_proxy_may_leave_the_prefix_in_the_path_or_not(path: str) -> None:
    app = create_app(build_container())
    transport = httpx.ASGITransport(app, root_path="/rt")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers={"X-API-Key": API_KEY}) as api,
    ):
        for offset in (1, 2):
            assert (await api.post(path, json=EVENT)).json()["offset"] == offset


@pytest.mark.parametrize("root_path", ["", "/", "/a", "/a/", "/a/b", "/b", "/a/b/c", "/A"])
@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/b/c", "/b/a/b", "//a/b", "/a//b"])
async def test_the_short_way_reads_paths_as_the_framework_does(root_path: str, path: str) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"/{request.path_params['rest']}")

    site = Starlette(routes=[Route("/{rest:path}", endpoint)])
    transport = httpx.ASGITransport(site, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        seen = await http.get(f"http://test{path}")
    routed = route_path({"type": "http", "path": path, "root_path": root_path})
    assert (seen.text if seen.status_code == 200 else "") == routed


async def test_the_long_way_publishes_as_the_short_way_does() -> None:
    """What serves the routes without the gateway's middleware must not answer for events that it drops."""
    container = build_container()
    gateway = create_app(container)
    long_way = FastAPI(routes=gateway.routes)
    long_way.state.gateway = gateway.state.gateway
    transport = httpx.ASGITransport(long_way)
    async with (
        gateway.router.lifespan_context(gateway),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers={"X-API-Key": API_KEY}) as api,
    ):
        response = await api.post("/v1/users/alice/events", json=EVENT)
        assert response.json()["offset"] == 1
        assert response.headers["content-type"] == "application/json"
        batch = await api.post("/v1/events", json=[{"user_id": "alice", **EVENT}])
        assert [receipt["offset"] for receipt in batch.json()] == [2]
