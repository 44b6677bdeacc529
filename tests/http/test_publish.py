"""Publishing one event: what the back end is told, and what the user's clients get."""

from __future__ import annotations

import json

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.envelope import Envelopes
from app.realtime.protocol import one_line
from tests.clock import ManualClock
from tests.gateway import API_KEY, Client, build_container, serving, token


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The data of a publication, its own data as it came."""

    type: str
    data: msgspec.Raw
    id: str
    at: int
    thread_id: str | None = None


class Publication(msgspec.Struct):
    data: Envelope
    offset: int = 0


class Push(msgspec.Struct):
    channel: str
    pub: Publication


class Message(msgspec.Struct):
    push: Push


async def published(client: Client) -> Push:
    """The next push, decoded from the bytes of the frame."""
    frame = await client.frame()
    while frame == "{}":  # a ping
        frame = await client.frame()
    assert "\n" not in frame
    return msgspec.json.decode(frame, type=Message).push


async def send(api: httpx.AsyncClient, body: bytes | str, user: str = "alice") -> httpx.Response:
    return await api.post(f"/v1/users/{user}/events", content=body)


async def test_the_receipt_says_where_the_event_is_and_how_many_connections_got_it() -> None:
    async with serving() as gateway, gateway.api() as api:
        first = (await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1})).json()
        assert first == {"epoch": first["epoch"], "offset": 1, "connections": 0}
        async with gateway.connected("alice"), gateway.connected("alice"), gateway.connected("bob"):
            second = (await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1})).json()
    assert second == {"epoch": first["epoch"], "offset": 2, "connections": 2}
    assert first["epoch"]


async def test_a_client_gets_type_data_id_and_time_and_nothing_else() -> None:
    clock = ManualClock(time=1_700_000_000.25)
    async with serving(build_container(clock=clock)) as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice:
            await api.post("/v1/users/alice/events", json={"type": "hello", "data": {"a": 1}})
            push = await alice.push()
    event = push["pub"]["data"]
    assert (push["channel"], push["pub"]["offset"]) == ("#alice", 1)
    assert event == {"type": "hello", "data": {"a": 1}, "id": event["id"], "at": 1_700_000_000_250}


async def test_a_thread_id_is_in_what_the_client_gets() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1, "thread_id": 't"7'})
        event = (await alice.push())["pub"]["data"]
    assert event.keys() == {"type", "data", "thread_id", "id", "at"}
    assert event["thread_id"] == 't"7'


async def test_every_event_has_an_id_of_its_own() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for _ in range(3):
            await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1})
        ids = [publication["data"]["id"] for publication in await alice.publications(3)]
    assert len(set(ids)) == 3


BYTES = (
    '{ "a" :  1 ,"b":\t[ 1,2 ,  3 ] }',
    r'"\u0041\u00e9\ud83d\ude00\/\t"',
    '"é😀\u2028\u2029\u0085"',
    "123456789012345678901234567890.000",
    "1e400",
    "-0.0",
    '{"a":1,"a":2,"":3}',
    "[" * 200 + "]" * 200,
    '{"type":"forged","id":"forged","at":0}',
    r'"}},\"push\":{"',
    "null",
    "false",
    '""',
)


async def test_data_reaches_the_client_byte_for_byte() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for data in BYTES:
            body = '{"type":"hello","data":  ' + data + "\t}"
            assert (await send(api, body.encode())).status_code == 200, data
            push = await published(alice)
            assert bytes(push.pub.data.data) == data.encode()
            assert push.pub.data.type == "hello"


async def test_line_breaks_between_tokens_become_spaces_and_nothing_else_changes() -> None:
    pretty = json.dumps({"text": "two\nlines\r", "list": [1, 2]}, indent=2)
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        body = f'{{\r\n"type": "hello",\r\n"data": {pretty.replace("}", chr(13) + chr(10) + "}")}\n}}'
        assert (await send(api, body)).status_code == 200
        data = bytes((await published(alice)).pub.data.data).decode()
    assert data == pretty.replace("\n", " ").replace("}", "  }")
    assert json.loads(data) == {"text": "two\nlines\r", "list": [1, 2]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from([None, 0, 3]), st.booleans())
def test_whatever_is_json_keeps_its_value_in_one_line(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 has
        return
    sealed = Envelopes(ManualClock(), 1_000_000).seal("hello", raw)
    assert "\n" not in sealed
    assert "\r" not in sealed
    assert json.loads(sealed)["data"] == value
    assert one_line(raw) in sealed


async def test_an_idempotency_key_publishes_once_and_gives_the_first_position_again() -> None:
    event = {"type": "hello", "data": 1, "idempotency_key": "order-7"}
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        first = (await api.post("/v1/users/alice/events", json=event)).json()
        await api.post("/v1/users/alice/events", json={"type": "other", "data": 1})
        again = (await api.post("/v1/users/alice/events", json={**event, "data": 2})).json()
        assert [publication["data"]["type"] for publication in await alice.publications(2)] == ["hello", "other"]
        await alice.nothing()
        bob = (await api.post("/v1/users/bob/events", json=event)).json()
        elsewhere = (await api.post("/v1/users/alice/events", json={**event, "channel": "news"})).json()
    assert again == {"epoch": first["epoch"], "offset": first["offset"], "connections": 0, "duplicate": True}
    assert "duplicate" not in bob
    assert "duplicate" not in elsewhere


async def test_a_channel_is_the_users_own_and_reaches_who_subscribed_to_it() -> None:
    event = {"type": "hello", "data": 1, "channel": "news"}
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice, gateway.connected("bob") as bob:
            for client in (alice, bob):
                await client.result("subscribe", {"channel": "news"})
            receipt = (await api.post("/v1/users/alice/events", json=event)).json()
            push = await alice.push()
            await bob.nothing()
    assert (receipt["offset"], receipt["connections"]) == (1, 1)
    assert push["channel"] == "news"


async def test_the_users_own_personal_channel_may_be_named_and_no_other() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        own = await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1, "channel": "#alice"})
        other = await api.post("/v1/users/alice/events", json={"type": "hello", "data": 1, "channel": "#bob"})
        assert (await alice.push())["channel"] == "#alice"
    assert own.status_code == 200
    assert other.status_code == 422
    assert "personal" in other.json()["detail"]


async def test_the_longest_id_there_is_works() -> None:
    long_id = "é" * 127 + "x"  # 255 bytes
    async with serving() as gateway, gateway.api() as api, gateway.connected(long_id) as client:
        response = await api.post("/v1/events", json=[{"user_id": long_id, "type": long_id, "data": 1}])
        assert response.json()[0]["connections"] == 1
        assert (await client.push())["pub"]["data"]["type"] == long_id


async def test_a_session_is_of_no_account_where_all_sessions_are_one() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice", sid="phone") as alice:
        event = {"type": "hello", "data": 1, "session_id": "desk"}
        assert (await api.post("/v1/users/alice/events", json=event)).json()["connections"] == 1
        await alice.push()


async def test_an_isolated_user_is_addressed_by_the_session() -> None:
    async with serving(build_container(mode="isolated")) as gateway, gateway.api() as api:
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            receipt = await api.post("/v1/users/alice/events", json={"type": "a", "data": 1, "session_id": "phone"})
            assert receipt.json()["connections"] == 1
            assert (await phone.push())["pub"]["data"]["type"] == "a"
            await desk.nothing()
            refused = await api.post("/v1/users/alice/events", json={"type": "a", "data": 1})
            assert refused.status_code == 422
            assert refused.json()["type"] == "urn:bulkhead:problem:session-required"
            assert "session_id" in refused.json()["detail"]
            await phone.nothing()


async def test_where_a_rule_isolates_a_named_session_is_the_address() -> None:
    rules = [{"claim": "tier", "equals": "hipaa", "mode": "isolated"}]
    async with serving(build_container(mode_rules=rules)) as gateway, gateway.api() as api:
        async with (
            gateway.connected("alice", sid="phone", tier="hipaa") as phone,
            gateway.connected("alice", sid="desk", tier="hipaa") as desk,
            gateway.connected("bob", sid="phone") as bob,
        ):
            receipt = await api.post("/v1/users/alice/events", json={"type": "a", "data": 1, "session_id": "desk"})
            assert receipt.json()["connections"] == 1
            await desk.push()
            await phone.nothing()
            receipt = await api.post("/v1/users/bob/events", json={"type": "a", "data": 1})
            assert receipt.json()["connections"] == 1
            await bob.push()


async def test_a_user_who_is_not_there_finds_the_event_on_coming() -> None:
    async with serving() as gateway, gateway.api() as api:
        epoch = (await api.post("/v1/users/alice/events", json={"type": "early", "data": 1})).json()["epoch"]
        subs = {"#alice": {"recover": True, "offset": 0, "epoch": epoch}}
        async with gateway.client() as alice:
            result = await alice.result("connect", {"token": token("alice"), "subs": subs})
    recovered = result["subs"]["#alice"]
    assert recovered["recovered"]
    assert [publication["data"]["type"] for publication in recovered["publications"]] == ["early"]


async def test_the_key_is_not_in_the_answer() -> None:
    async with serving() as gateway, gateway.api() as api:
        response = await api.post("/v1/users/alice/events", json={"type": "a", "data": 1})
    assert API_KEY not in response.text + str(response.headers)
