"""What endpoints can ask for: the same in HTTP and WebSocket endpoints, in `async def` and in `def`."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import AsyncExitStack

import jwt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.realtime import UserContext
from app.realtime.modes import ModeKind
from app.testing import token
from tests.dependencies.application import Site, receive
from tests.gateway import Client

ALICE = UserContext(user_id="alice")


@pytest.mark.parametrize("path", ["/parts", "/parts-in-a-thread"])
async def test_every_part_comes_from_the_container_of_the_application(path: str) -> None:
    async with Site.running(mode="unified") as site, site.http(session_id="phone") as http:
        response = await http.get(path)
        streams = await site.container.broker().streams(UserContext(user_id="bob").key)
    assert response.json() == {
        "user": "alice",
        "session": "phone",
        "key": "user:alice",
        "offset": 1,
        "keys": ["user:bob"],
        "mode": "unified",
    }
    assert [stream.position.offset for stream in streams] == [1]


async def test_a_plain_function_runs_in_a_thread_and_emits_from_there() -> None:
    async with Site.running() as site, site.http() as http:
        assert (await http.post("/emit")).json() == 1
        assert (await http.post("/emit-in-a-thread")).json() == 2
        here, there = site.probe.threads
    assert here == threading.get_ident() != there


async def test_every_part_is_there_in_a_websocket_endpoint() -> None:
    async with Site.running() as site, site.socket() as socket:
        assert json.loads(await receive(socket)) == ["alice", "user:alice", False, "unified"]
        await socket.send("hello")
        assert await receive(socket) == "1"
        assert len(await site.container.broker().streams(UserContext(user_id="bob").key)) == 1


@pytest.mark.parametrize(
    ("authorization", "kind"),
    [
        (None, "unauthorized"),
        ("", "unauthorized"),
        ("Bearer", "unauthorized"),
        ("Basic YWxpY2U6", "unauthorized"),
        ("Bearer nonsense", "invalid-token"),
        ("Bearer a.b.c", "invalid-token"),
        ("Bearer é", "invalid-token"),
    ],
)
async def test_without_a_good_token_http_says_401_and_a_websocket_is_accepted_and_closed_with_3500(
    authorization: str | None, kind: str
) -> None:
    async with Site.running() as site:
        headers = {} if authorization is None else {"Authorization": authorization}
        async with site.http(None) as http:
            sent = [(name.encode(), value.encode()) for name, value in headers.items()]
            for path in ("/parts", "/parts-in-a-thread"):
                response = await http.get(path, headers=sent)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["type"] == f"urn:bulkhead:problem:{kind}"
        opened = site.socket(None)
        opened.additional_headers = headers
        async with opened as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await receive(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3500
        assert site.container.manager.count() == 0


async def test_an_expired_or_foreign_token_is_refused() -> None:
    async with Site.running() as site, Site.running() as elsewhere, site.http(None) as http:
        for bad in (token(site.container, "alice", seconds=-1), token(elsewhere.container, "alice")):
            response = await http.get("/parts", headers={"Authorization": f"Bearer {bad}"})
            assert response.status_code == 401
            assert bad not in response.text


async def test_the_scheme_is_known_in_any_case() -> None:
    async with Site.running() as site, site.http(None) as http:
        headers = {"Authorization": f"bEARER  {token(site.container, 'alice')}"}
        assert (await http.get("/parts", headers=headers)).status_code == 200


async def test_an_isolated_user_needs_a_session() -> None:
    async with Site.running(mode="isolated") as site, site.http(session_id="phone") as http:
        assert (await http.post("/emit")).json() == 1
        assert len(await site.container.broker().streams("user-session:alice:phone")) == 1
        async with site.http(None) as nobody:
            secret = site.container.settings().auth.hmac_secret
            assert secret is not None
            without = jwt.encode({"sub": "alice"}, secret.get_secret_value(), "HS256")
            response = await nobody.get("/parts", headers={"Authorization": f"Bearer {without}"})
            assert response.status_code == 401
            assert response.json()["type"] == "urn:bulkhead:problem:session-required"


async def test_what_a_mode_refuses_closes_a_websocket_so_that_it_may_come_back() -> None:
    async with Site.running() as site, site.socket() as socket:
        await receive(socket)
        await site.container.control().set_mode(ModeKind.EMERGENCY)
        await socket.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3004
        assert "emergency mode" in closed.value.rcvd.reason


@pytest.mark.parametrize("gone", [False, True])
async def test_an_error_after_a_websocket_was_accepted_closes_it_if_anybody_is_there(
    gone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with Site.running() as site, site.socket(path="/socket-that-waits") as socket:
        await site.probe.entered(1)
        if gone:
            socket.transport.abort()
            await socket.wait_closed()
        site.probe.gate.set()
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
        if not gone:
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, "channel is empty" in closed.value.rcvd.reason) == (3501, True)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_all_requests_and_connections_of_a_user_have_one_manager() -> None:
    async with Site.running() as site, site.http() as http, site.socket() as socket, site.http("bob") as bob:
        paths = ["/wait"] * 5 + ["/wait-in-a-thread"] * 5
        waiting = [asyncio.create_task(http.get(path)) for path in paths]
        waiting += [asyncio.create_task(bob.get("/wait")) for _ in range(3)]
        await receive(socket)
        await site.probe.entered(14)
        managers = [reference() for reference in site.probe.managers]
        keys = sorted(manager.key for manager in set(managers) if manager is not None)
        assert keys == ["user:alice", "user:bob"]
        assert site.container.manager.count() == 2
        assert managers.count(site.container.manager(ALICE)) == 11
        site.probe.gate.set()
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}


async def test_requests_and_connections_of_the_gateway_share_the_manager() -> None:
    async with Site.running() as site, site.http() as http, site.socket() as socket:
        async with connect(f"{site.url.replace('http', 'ws')}/connection/websocket", proxy=None) as websocket:
            client = Client(websocket)
            await client.result("connect", {"token": token(site.container, "alice")})
            await receive(socket)
            await socket.send("from a socket")
            await receive(socket)
            await http.post("/emit")
            await http.post("/emit-in-a-thread")
            publications = await client.publications(3)
            assert [publication["data"]["type"] for publication in publications] == ["said", "emitted", "emitted"]
            assert site.container.manager.count() == 1


async def test_ten_gateways_in_one_process_share_nothing() -> None:
    async with AsyncExitStack() as stack:
        sites = [await stack.enter_async_context(Site.running(history={"size": 10 + n})) for n in range(10)]
        for number, site in enumerate(sites):
            async with site.http() as http:
                for _ in range(number):
                    await http.post("/emit")
        managers = [site.container.manager(ALICE) for site in sites]
        assert len(set(managers)) == 10
        for number, site in enumerate(sites):
            container = site.container
            assert container.settings().history.size == 10 + number
            streams = await container.broker().streams(ALICE.key)
            assert [stream.position.offset for stream in streams] == ([number] if number else [])
            assert container.metrics().registry.get_sample_value("bulkhead_publications_total") == number
            assert container.manager.count() == 1
            async with site.http(None) as http:
                for other in sites:
                    headers = {"Authorization": f"Bearer {token(other.container, 'alice')}"}
                    status = (await http.post("/emit", headers=headers)).status_code
                    assert status == (200 if other is site else 401)
        await sites[0].container.control().set_mode(ModeKind.EMERGENCY)
        assert [manager.mode.kind.value for manager in managers] == ["emergency"] + ["unified"] * 9
        await sites[0].container.control().drain(0)
        assert [site.container.control().draining for site in sites] == [True] + [False] * 9
