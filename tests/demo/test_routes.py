"""The routes of the chat, through a real application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import jwt
import pytest

from app import create_app
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from config import load_settings
from containers import GatewayContainer

SECRET = "a-secret-of-the-tests-with-32-bytes-or-more"


@asynccontextmanager
async def client(*settings: str) -> AsyncIterator[tuple[httpx.AsyncClient, GatewayContainer]]:
    """A client of a running application with these settings, as on the command line."""
    container = GatewayContainer()
    arguments = ("--profile", "development", "--auth.hmac_secret", SECRET, *settings)
    container.settings.override(load_settings(arguments))
    app = create_app(container)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http, container


async def sign_in(http: httpx.AsyncClient, name: str) -> dict[str, str]:
    response = await http.post("/demo/token", json={"name": name})
    assert response.status_code == 200
    return {"Authorization": f"Bearer {response.json()['token']}"}


async def test_the_page_forbids_everything_from_elsewhere_and_all_inline_script() -> None:
    async with client() as (http, _):
        page = await http.get("/")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "<script>" not in page.text
        assert " on" + "click=" not in page.text


@pytest.mark.parametrize("name", ["chat.js", "client.js", "chat.css", "icon.svg"])
async def test_the_files_of_the_page_are_served(name: str) -> None:
    async with client() as (http, _):
        assert (await http.get(f"/demo/static/{name}")).status_code == 200


async def test_without_the_demo_there_is_no_page_and_no_sign_in() -> None:
    async with client("--no-demo") as (http, _):
        assert (await http.get("/")).status_code == 404
        assert (await http.get("/demo/static/chat.js")).status_code == 404
        assert (await http.post("/demo/token", json={"name": "alice"})).status_code == 404


async def test_signing_in_gives_a_token_of_one_hour_with_a_session_of_its_own() -> None:
    async with client("--auth.audience", '["chat"]', "--auth.issuer", "demo") as (http, _):
        first = (await http.post("/demo/token", json={"name": "alice"})).json()
        second = (await http.post("/demo/token", json={"name": "alice"})).json()
    claims = jwt.decode(first["token"], SECRET, algorithms=["HS256"], audience="chat", issuer="demo")
    assert (claims["sub"], first["user"]) == ("alice", "alice")
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["sid"] == first["session"] != second["session"]


async def test_a_new_token_can_go_on_with_a_session() -> None:
    async with client() as (http, _):
        signed_in = (await http.post("/demo/token", json={"name": "alice", "session": "s1"})).json()
    assert signed_in["session"] == "s1"
    assert jwt.decode(signed_in["token"], SECRET, algorithms=["HS256"])["sid"] == "s1"


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"name": ""}, "name is empty"),
        ({"name": "é" * 128}, "name has 256 bytes"),
        ({"name": "a\nb"}, "name contains control characters"),
        ({"name": "\ud800"}, ""),
        ({"name": 1}, ""),
        ({"name": "alice", "session": "s" * 256}, "session has 256 bytes"),
        ({}, ""),
    ],
)
async def test_a_name_or_session_that_breaks_a_rule_is_refused_with_the_rule(body: dict[str, str], rule: str) -> None:
    async with client() as (http, _):
        # As ASCII, which can carry a lone surrogate where UTF-8 cannot.
        headers = {"Content-Type": "application/json"}
        response = await http.post("/demo/token", content=json.dumps(body), headers=headers)
    assert response.status_code == 422
    assert rule in response.json()["detail"]


async def test_where_tokens_are_signed_elsewhere_signing_in_says_so() -> None:
    async with client("--auth.algorithm", "RS256") as (http, _):
        response = await http.post("/demo/token", json={"name": "alice"})
    assert response.status_code == 503
    assert "The demo cannot sign you in: tokens of RS256" in response.json()["detail"]


async def test_a_message_is_published_to_its_user_and_answered_in_its_thread() -> None:
    async with client() as (http, container):
        response = await http.post("/demo/messages", json={"text": "6 * 7"}, headers=await sign_in(http, "alice"))
        assert response.status_code == 202
        thread_id = response.json()["thread_id"]
        key = UserContext(user_id="alice").key
        history = await container.broker().history(key, "#alice")
        published = [publication.text for publication in history.publications]
        assert all(f'"thread_id":"{thread_id}"' in text for text in published)
        assert '"user_message"' in published[0]
        assert '"agent_completed"' in published[-1]
        assert "6 * 7 = 42." in published[-1]
        assert await container.broker().streams(UserContext(user_id="bob").key) == ()


async def test_an_answer_that_the_mode_refuses_half_way_ends_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.demo")
    key = UserContext(user_id="alice").key
    async with client() as (http, container):
        headers = await sign_in(http, "alice")
        sending = asyncio.create_task(http.post("/demo/messages", json={"text": "1 + 2 + 3 + 4"}, headers=headers))
        async with asyncio.timeout(10):
            while not (await container.broker().history(key, "#alice")).publications:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.005)
        await container.control().set_mode(ModeKind.EMERGENCY, "alice")
        assert (await sending).status_code == 202
        published = (await container.broker().history(key, "#alice")).publications
    assert '"agent_completed"' not in published[-1].text
    assert [record.message for record in caplog.records if record.name.startswith("app.demo")] == ["answer ended early"]


async def test_a_message_needs_a_token() -> None:
    async with client() as (http, _):
        assert (await http.post("/demo/messages", json={"text": "6 * 7"})).status_code == 401


@pytest.mark.parametrize("text", ["", "x" * 2001])
async def test_a_message_has_between_one_and_2000_characters(text: str) -> None:
    async with client() as (http, _):
        response = await http.post("/demo/messages", json={"text": text}, headers=await sign_in(http, "alice"))
    assert response.status_code == 422
