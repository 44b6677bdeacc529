"""Publishing many events in one request: each for itself, in order."""

from __future__ import annotations

import json
from typing import Any

from app.realtime.broker import BrokerError, Published
from app.realtime.memory import MemoryBroker
from app.testing import override
from tests.clock import ManualClock
from tests.gateway import build_container, serving


def event(user: str, number: int, **fields: Any) -> dict[str, Any]:
    return {"user_id": user, "type": "count", "data": number, **fields}


async def test_every_event_of_a_batch_has_its_receipt_in_order() -> None:
    async with serving() as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice, gateway.connected("bob") as bob:
            batch = [event("alice", 1), event("bob", 2), event("alice", 3), event("carol", 4)]
            receipts = (await api.post("/v1/events", json=batch)).json()
            assert [publication["data"]["data"] for publication in await alice.publications(2)] == [1, 3]
            assert [publication["data"]["data"] for publication in await bob.publications(1)] == [2]
    assert [(receipt["offset"], receipt["connections"]) for receipt in receipts] == [(1, 1), (1, 1), (2, 1), (1, 0)]
    assert receipts[0]["epoch"] == receipts[2]["epoch"] != receipts[1]["epoch"]


async def test_one_bad_event_harms_no_other_and_says_what_is_wrong_with_it() -> None:
    good = event("alice", 1)
    bad: dict[str, tuple[int, str]] = {
        json.dumps(event("alice", 0, other=1)): (422, "unknown field `other`"),
        json.dumps({"type": "a", "data": 1}): (422, "user_id"),
        json.dumps({"user_id": "alice", "type": "a"}): (422, "data"),
        json.dumps(event("", 0)): (422, "user_id is empty"),
        json.dumps(event("a\0b", 0)): (422, "user_id contains control characters"),
        json.dumps(event("é" * 128, 0)): (422, "user_id has 256 bytes"),
        json.dumps({**good, "user_id": 7}): (422, "$.user_id"),
        json.dumps(event("alice", 0, channel="#bob")): (422, "personal"),
        json.dumps({**good, "data": "x" * 101}): (413, "at most 100"),
        "7": (422, "object"),
        "null": (422, "object"),
        "[]": (422, "object"),
    }
    container = build_container(limits={"event_bytes": 100})
    async with serving(container) as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for item, (status, why) in bad.items():
            response = await api.post("/v1/events", content=f"[{json.dumps(good)},{item},{json.dumps(good)}]")
            assert response.status_code == 200, item
            first, failed, last = response.json()
            assert failed.keys() == {"error"}
            assert failed["error"]["status"] == status, item
            assert why in failed["error"]["detail"], item
            assert failed["error"]["type"].startswith("urn:bulkhead:problem:")
            assert last["offset"] == first["offset"] + 1
        assert len(await alice.publications(2 * len(bad))) == 2 * len(bad)
        await alice.nothing()


async def test_bytes_that_are_not_utf_8_in_one_event_harm_no_other() -> None:
    good = b'{"user_id":"alice","type":"a","data":1}'
    for bad in (b'{"user_id":"alice","type":"a","data":"\xff"}', b'{"user_id":"\xff","type":"a","data":1}'):
        async with serving() as gateway, gateway.api() as api:
            response = await api.post("/v1/events", content=b"[" + b",".join((good, bad, good)) + b"]")
            first, failed, last = response.json()
        assert failed["error"]["status"] == 422
        assert (first["offset"], last["offset"]) == (1, 2)


async def test_half_an_emoji_in_one_event_harms_no_other() -> None:
    good = '{"user_id":"alice","type":"a","data":"\\ud83c\\udf88 \\\\ud83d"}'
    halves = ('"\\ud83d"', '"cut \\uD83D apart"', '"\\ude00"', '{"\\ud83d\\ud83d\\ude00":1}', '"\\ud83d\\u0041"')
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        for half in halves:
            items = (good, f'{{"user_id":"alice","type":"a","data":{half}}}', "7", good)
            response = await api.post("/v1/events", content=f"[{' , '.join(items)}]")
            assert response.status_code == 200, half
            first, failed, other, last = response.json()
            assert "half a surrogate pair" in failed["error"]["detail"], half
            assert "object" in other["error"]["detail"]
            assert last["offset"] == first["offset"] + 1
            came = ""
            while came.count('"data":"\\ud83c\\udf88 \\\\ud83d"') < 2:
                came += await alice.frame()
        named = await api.post("/v1/events", content='[{"user_id":"a\\ud83d","type":"a","data":1}]')
        assert "error" in named.json()[0], "an id is never mended: two that differ would become one"
        for body in ('["\\ud83d"', '{"a":"\\ud83d"}'):
            assert (await api.post("/v1/events", content=body)).status_code == 422


async def test_an_event_that_the_mode_refuses_harms_no_other() -> None:
    async with serving() as gateway, gateway.api() as api:
        await api.put("/v1/users/bob/mode", json={"mode": "emergency"})
        receipts = (await api.post("/v1/events", json=[event("alice", 1), event("bob", 2), event("alice", 3)])).json()
    assert [receipt.get("offset") for receipt in receipts] == [1, None, 2]
    assert (receipts[1]["error"]["status"], receipts[1]["error"]["type"]) == (503, "urn:bulkhead:problem:refused")


async def test_an_idempotency_key_counts_within_a_batch() -> None:
    async with serving() as gateway, gateway.api() as api:
        batch = [event("alice", 1, idempotency_key="k"), event("alice", 2, idempotency_key="k")]
        first, second = (await api.post("/v1/events", json=batch)).json()
    assert "duplicate" not in first
    assert second == {**first, "duplicate": True}


async def test_data_of_a_batch_is_kept_byte_for_byte() -> None:
    async with serving() as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        first = '{"user_id":"alice","type":"a","data":{ "n" : 1.50e1,"n":2 }}'
        await api.post("/v1/events", content=f'[{first} , \n {{"user_id":"alice","type":"a","data":1}}]')
        assert '"data":{ "n" : 1.50e1,"n":2 },"id"' in await alice.frame()


async def test_an_empty_batch_is_fine() -> None:
    async with serving() as gateway, gateway.api() as api:
        response = await api.post("/v1/events", json=[])
    assert (response.status_code, response.json()) == (200, [])


async def test_what_is_no_list_is_refused() -> None:
    async with serving() as gateway, gateway.api() as api:
        for body in ("{}", "7", "null", '"a"', "", "[1", json.dumps(event("alice", 1))):
            response = await api.post("/v1/events", content=body)
            assert response.status_code == 422, body
            assert response.json()["type"] == "urn:bulkhead:problem:invalid-request"


async def test_a_batch_of_more_events_than_allowed_is_refused_whole() -> None:
    container = build_container(limits={"batch_events": 3})
    async with serving(container) as gateway, gateway.api() as api, gateway.connected("alice") as alice:
        assert len((await api.post("/v1/events", json=[event("alice", n) for n in range(3)])).json()) == 3
        await alice.publications(3)
        response = await api.post("/v1/events", json=[event("alice", n) for n in range(4)])
        await alice.nothing()
    assert response.status_code == 413
    assert response.json()["type"] == "urn:bulkhead:problem:batch-too-large"
    assert "at most 3" in response.json()["detail"]


async def test_a_batch_for_isolated_users_names_sessions() -> None:
    async with serving(build_container(mode="isolated")) as gateway, gateway.api() as api:
        async with gateway.connected("alice", sid="phone") as phone, gateway.connected("alice", sid="desk") as desk:
            batch = [event("alice", 1, session_id="phone"), event("alice", 2), event("alice", 3, session_id="desk")]
            receipts = (await api.post("/v1/events", json=batch)).json()
            assert (await phone.push())["pub"]["data"]["data"] == 1
            assert (await desk.push())["pub"]["data"]["data"] == 3
            await phone.nothing()
    assert receipts[1]["error"]["type"] == "urn:bulkhead:problem:session-required"


class PartlyBrokenBroker(MemoryBroker):
    """Fails for some users, in ways foreseen and not."""

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
    ) -> Published:
        if key == "user:gone":
            raise BrokerError("swordfish")
        if key == "user:broken":
            raise LookupError("swordfish")
        return await super().publish(key, channel, data, info=info, idempotency_key=idempotency_key, ticket=ticket)


async def test_a_broker_that_fails_for_one_event_harms_no_other_and_leaks_nothing() -> None:
    broker = PartlyBrokenBroker(
        clock=ManualClock(),
        history_size=10,
        history_ttl=60,
        max_bytes=100_000,
        max_bytes_per_user=100_000,
        max_streams_per_user=10,
        idempotency_ttl=60,
        idempotency_keys_per_user=10,
        idempotency_keys=10,
    )
    container = build_container()
    with override(container, broker=broker):
        async with serving(container) as gateway, gateway.api() as api:
            batch = [event(user, 1) for user in ("alice", "gone", "broken", "alice")]
            response = await api.post("/v1/events", json=batch)
            receipts = response.json()
    assert [receipt.get("offset") for receipt in receipts] == [1, None, None, 2]
    assert receipts[1]["error"]["type"] == "urn:bulkhead:problem:broker-unavailable"
    assert receipts[2]["error"] == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert "swordfish" not in response.text
