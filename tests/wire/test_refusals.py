"""Connections that are refused for good: accepted first, because SDKs try a refused upgrade for ever."""

from __future__ import annotations

from websockets.typing import Origin, Subprotocol

from tests.gateway import build_container, serving, token

PROTOBUF = (3506, "inappropriate protocol: only JSON is spoken here")
FOREIGN = (3507, "permission denied: origin not allowed")


async def test_protobuf_by_subprotocol_is_closed_with_3506() -> None:
    async with serving() as gateway:
        async with gateway.client(subprotocols=[Subprotocol("centrifuge-protobuf")]) as client:
            assert client.socket.subprotocol == "centrifuge-protobuf", "else clients give up before they read the code"
            assert await client.closed() == PROTOBUF


async def test_protobuf_by_query_is_closed_with_3506() -> None:
    async with serving() as gateway, gateway.client("?a=1&cf_protocol=protobuf") as client:
        assert await client.closed() == PROTOBUF


async def test_json_may_be_asked_for() -> None:
    offered = [Subprotocol("centrifuge-protobuf"), Subprotocol("centrifuge-json")]
    async with serving() as gateway:
        async with gateway.client("?cf_protocol=json", subprotocols=offered) as client:
            assert client.socket.subprotocol == "centrifuge-json"
            await client.result("connect", {"token": token("alice")})
        async with gateway.client(subprotocols=[Subprotocol("unknown")]) as client:
            assert client.socket.subprotocol is None
            await client.result("connect", {"token": token("alice")})


async def test_a_browser_of_another_origin_is_closed_with_3507() -> None:
    origins = (
        "https://evil.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://sub.app.example",
        "https://APP.example/",
        "null",
        "",
    )
    async with serving(build_container(origins=("https://app.example",))) as gateway:
        for origin in origins:
            async with gateway.client(additional_headers={"Origin": origin}) as client:
                assert await client.closed() == FOREIGN


async def test_listed_origins_and_programs_without_one_connect() -> None:
    async with serving(build_container(origins=("https://app.example", "https://two.example"))) as gateway:
        for origin in (Origin("https://app.example"), Origin("https://two.example"), None):
            async with gateway.client(origin=origin) as client:
                await client.result("connect", {"token": token("alice")})


async def test_without_a_list_no_browser_connects_and_with_same_origin_its_own_pages_do() -> None:
    async with serving() as gateway, gateway.client(origin=Origin(gateway.url)) as client:
        assert await client.closed() == FOREIGN
    async with serving(build_container(profile="development", same_origin=True)) as gateway:
        async with gateway.client(origin=Origin(gateway.url)) as client:
            await client.result("connect", {"token": token("alice")})
        async with gateway.client(origin=Origin("http://127.0.0.1:1")) as client:
            assert await client.closed() == FOREIGN


async def test_a_refused_connection_creates_nothing() -> None:
    async with serving() as gateway, gateway.client("?cf_protocol=protobuf") as client:
        await client.closed()
        assert len(gateway.container.lifecycle()) == 0
        assert gateway.container.lifecycle().total == 0
