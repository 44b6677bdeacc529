"""A path names one user: whatever is in an id, no two users are ever taken for each other."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import create_app
from app.realtime import UserContext
from app.testing import api_headers, gateway_container
from tests.gateway import API_KEY, RunningGateway, serving

ADVERSARIAL = (
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "..",
    ".",
    "../bob",
    "/",
    "//",
    "alice/events",
    "alice/mode",
    "alice/connections",
    "events",
    "mode",
    "alice?x=1",
    "alice#bob",
    "a b",
    " a",
    "a ",
    "a+b",
    "100%",
    "%",
    "%zz",
    "é",
    "e\u0301",
    "😀",
    "\ufffd",
    "\u202ebob",
    "a:b",
    "a%3Ab",
    "user:alice",
    "A",
    "a",
    "a;b=c",
    '"a"',
    "a\\b",
    "None",
    "x" * 255,
)


def path_of(user: str) -> str:
    return "/v1/users/" + quote(user, safe="")


async def raw(gateway: RunningGateway, method: str, target: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of a request whose target is sent as it is: HTTP clients tidy up what they send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"Host: x\r\nX-API-Key: {API_KEY}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    writer.write(method.encode() + b" " + target + b" HTTP/1.1\r\n" + head.encode() + b"\r\n" + body)
    async with asyncio.timeout(5):
        response = await reader.read()
    writer.close()
    await writer.wait_closed()
    head_bytes, _, content = response.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), content


async def test_every_user_gets_what_is_for_them_and_nothing_else() -> None:
    async with serving() as gateway:
        for number, user in enumerate(ADVERSARIAL):
            body = f'{{"type":"hello","data":{number}}}'.encode()
            status, content = await raw(gateway, "POST", f"{path_of(user)}/events".encode(), body)
            assert (status, b'"offset":1' in content) == (200, True), user
        for number, user in enumerate(ADVERSARIAL):
            streams = await gateway.container.broker().streams(UserContext(user_id=user).key)
            assert [(stream.channel, stream.position.offset) for stream in streams] == [(f"#{user}", 1)], user
            history = await gateway.container.broker().history(UserContext(user_id=user).key, f"#{user}")
            assert f'"data":{number},' in history.publications[0].text


async def test_every_user_can_be_looked_up_disconnected_and_given_a_mode() -> None:
    async with serving() as gateway, gateway.api() as api:
        for user in ADVERSARIAL:
            if user in (".", ".."):
                continue  # httpx removes them from paths
            async with gateway.connected(user) as client, gateway.connected(f"{user}!"[-255:]) as other:
                found = (await api.get(path_of(user))).json()
                assert (found["user_id"], found["connections"]) == (user, 1)
                changed = await api.put(f"{path_of(user)}/mode", json={"mode": "degraded"})
                assert changed.json() == {"managers": 1}, user
                assert (await client.push())["message"]["data"]["mode"] == "degraded"
                ended = await api.delete(f"{path_of(user)}/connections")
                assert ended.json() == {"disconnected": 1}, user
                assert (await client.closed())[0] == 3503
                await other.nothing()


async def test_ids_that_break_a_rule_are_refused_wherever_they_stand() -> None:
    bad = {"a%00b": "control", "%1F": "control", "a%7Fb": "control", "%C2%85": "control", "x" * 256: "256 bytes"}
    bad |= {"a%0Ab": "line break", "alice%0A": "line break", "%FF": "UTF-8", "a%EF%BFb": "UTF-8", "%ED%A0%80": "UTF-8"}
    async with serving() as gateway:
        for user, why in {**bad, "": "empty"}.items():
            path = f"/v1/users/{user}"
            for method, target, body in (
                ("POST", f"{path}/events", b'{"type":"a","data":1}'),
                ("GET", path, b""),
                ("DELETE", f"{path}/connections", b""),
            ):
                status, content = await raw(gateway, method, target.encode(), body)
                assert status == 422, (method, user)
                assert why.encode() in content, (method, user)
        assert len(gateway.container.lifecycle()) == 0


async def test_a_line_break_at_the_end_of_a_path_names_nobody_else() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice:
        for method, target in (("GET", b"/v1/users/alice%0A"), ("DELETE", b"/v1/users/alice/connections%0A")):
            assert (await raw(gateway, method, target))[0] == 422
        await alice.nothing()


async def test_bytes_that_no_utf_8_has_are_nobody_not_even_the_one_they_are_replaced_by() -> None:
    async with serving() as gateway:
        status, _ = await raw(gateway, "POST", b"/v1/users/%EF%BF%BD/events", b'{"type":"a","data":1}')
        assert status == 200
        for target in (b"%FF", b"%FE", b"%EF%BF%BD%FF"):
            status, _ = await raw(gateway, "POST", b"/v1/users/" + target + b"/events", b'{"type":"a","data":1}')
            assert status == 422
        streams = await gateway.container.broker().streams(UserContext(user_id="\ufffd").key)
        assert streams[0].position.offset == 1


ids = st.text(st.sampled_from("ab/%25FAf.é\ufffd:#? +"), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(ids, ids)
@example("a/b", "a%2Fb")
@example("%", "%25")
async def test_two_users_are_two_streams(first: str, second: str) -> None:
    container = gateway_container()
    app = create_app(container)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://x", headers=api_headers(container)) as api,
    ):
        for user in (first, second):
            if user in (".", ".."):
                return  # httpx removes them from paths
            response = await api.post(f"{path_of(user)}/events", json={"type": "a", "data": 1})
            assert response.status_code == 200
        for user in (first, second):
            streams = await container.broker().streams(UserContext(user_id=user).key)
            assert [stream.position.offset for stream in streams] == [2 if first == second else 1]
