"""Events that are not published: each with the rule it breaks, and at no cost to others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from app.testing import gateway_container
from tests.gateway import API_KEY, build_container, serving


async def send(api: httpx.AsyncClient, body: bytes | str, user: str = "alice") -> httpx.Response:
    return await api.post(f"/v1/users/{user}/events", content=body)


BAD_EVENTS: tuple[tuple[object, str], ...] = (
    ({"data": 1}, "type"),
    ({"type": "a"}, "data"),
    ({"type": 1, "data": 1}, "$.type"),
    ({"type": None, "data": 1}, "$.type"),
    ({"type": "", "data": 1}, "type is empty"),
    ({"type": "a\x00b", "data": 1}, "type contains control characters"),
    ({"type": "x" * 256, "data": 1}, "type has 256 bytes"),
    ({"type": "a", "data": 1, "user": "bob"}, "unknown field `user`"),
    ({"type": "a", "data": 1, "user_id": "bob"}, "unknown field `user_id`"),
    ({"type": "a", "data": 1, "thread_id": 7}, "$.thread_id"),
    ({"type": "a", "data": 1, "thread_id": ""}, "thread_id is empty"),
    ({"type": "a", "data": 1, "thread_id": "x" * 256}, "thread_id has 256 bytes"),
    ({"type": "a", "data": 1, "channel": ["news"]}, "$.channel"),
    ({"type": "a", "data": 1, "channel": ""}, "channel is empty"),
    ({"type": "a", "data": 1, "channel": "a\nb"}, "channel contains control characters"),
    ({"type": "a", "data": 1, "channel": "x" * 256}, "channel has 256 bytes"),
    ({"type": "a", "data": 1, "session_id": True}, "$.session_id"),
    ({"type": "a", "data": 1, "session_id": "x" * 256}, "session_id has 256 bytes"),
    ({"type": "a", "data": 1, "idempotency_key": 1.5}, "$.idempotency_key"),
    ({"type": "a", "data": 1, "idempotency_key": "x" * 256}, "idempotency_key has 256 bytes"),
    ([], "object"),
    (7, "object"),
    (None, "object"),
)

BAD_BODIES = (
    (b"", "truncated"),
    (b"hello", "malformed"),
    (b'{"type":"a","data":1', "truncated"),
    (b'{"type":"a","data":1}}', "malformed"),
    (b'{"type":"a","data":NaN}', "malformed"),
    (b'{"type":"a","data":01}', "malformed"),
    (b'{"type":"a","data":[1,]}', "malformed"),
    (b'{"type":"a","data":"a\nb"}', "malformed"),
    (b'{"type":"a","data":"\\x41"}', "malformed"),
    (b"\xef\xbb\xbf" + b'{"type":"a","data":1}', "malformed"),
    (b'{"type":"\xff","data":1}', "UTF-8"),
    (b'{"type":"a","data":"\xff"}', "data is not JSON"),
    (b'{"type":"a","data":{"\xed\xa0\x80":1}}', "data is not JSON"),
    ('{"type":"a","data":1}'.encode("utf-16"), "malformed"),
    (b'{"type":"a","data":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "recursion"),
)


async def test_an_event_that_breaks_a_rule_is_refused_with_the_rule() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for event, why in BAD_EVENTS:
            response = await send(api, json.dumps(event))
            assert response.status_code == 422, event
            assert why in response.json()["detail"]
            assert "x" * 10 not in response.text, "a refusal repeats no values"
        await alice.nothing()


async def test_a_body_that_is_not_json_in_utf_8_is_refused() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for body, why in BAD_BODIES:
            response = await send(api, body)
            assert response.status_code == 422, body[:60]
            assert response.headers["content-type"] == "application/problem+json"
            assert why in response.json()["detail"]
        await alice.nothing()


async def test_data_is_bounded_by_its_bytes_and_the_bound_is_told() -> None:
    async with serving(build_container(limits={"event_bytes": 100})) as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice:
            assert (await send(api, '{"type":"a","data":"' + "x" * 98 + '"}')).status_code == 200
            await alice.push()
            for data in ("x" * 99, "é" * 50):
                response = await send(api, f'{{"type":"a","data":"{data}"}}')
                assert response.status_code == 413
                assert response.json()["type"] == "urn:bulkhead:problem:event-too-large"
                assert "at most 100" in response.json()["detail"]
            await alice.nothing()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_bounded_however_it_comes(chunked: bool) -> None:
    limits = {"body_bytes": 1000, "event_bytes": 1000}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 100

    async with serving(build_container(limits=limits)) as gateway, gateway.api() as api:
        for route in ("POST /v1/users/alice/events", "POST /v1/events", "PUT /v1/mode"):
            content = chunks() if chunked else b" " * 4000
            response = await api.request(*route.split(), content=content)
            assert response.status_code == 413
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["type"] == "urn:bulkhead:problem:body-too-large"
        assert (await send(api, b'{"type":"a","data":1}')).status_code == 200


async def test_a_body_in_many_chunks_is_read_whole() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b'{"type":"a",', b'"data":', b"1}"):
            yield part

    async with serving() as gateway, gateway.api() as api:
        response = await api.post("/v1/users/alice/events", content=chunks())
    assert response.status_code == 200


async def test_a_stream_too_many_is_refused_for_that_user_alone() -> None:
    container = gateway_container(api_keys=(API_KEY,), broker={"max_streams_per_user": 1})
    async with serving(container) as gateway, gateway.api() as api:
        event = {"type": "a", "data": 1}
        assert (await api.post("/v1/users/alice/events", json=event)).status_code == 200
        refused = await api.post("/v1/users/alice/events", json={**event, "channel": "news"})
        assert (await api.post("/v1/users/bob/events", json=event)).status_code == 200
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:bulkhead:problem:stream-limit-exceeded"
