"""No two user keys share a name on the servers, whatever they consist of, and every name stays in its slot."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from app.realtime.broker import Broker
from app.realtime.redis import RedisOptions
from app.realtime.redis.scripts import Scripts
from tests.broker.engines import Inbox

OPTIONS = RedisOptions(
    history_size=5,
    history_ttl=60,
    max_streams_per_user=6,
    idempotency_ttl=20,
    idempotency_keys_per_user=4,
    presence_ttl=30,
    prefix="a",
    timeout=1,
    check_interval=1,
    pending=10,
)
SCRIPTS = Scripts(OPTIONS)
# Of few letters, so that those that could be mixed up come often.
texts = st.text(alphabet="{}%72D5:/a ü\x00", max_size=8) | st.text(max_size=12)
ODD = ("a}", "a%7D", "a%257D", "{}", "}{", "%", "%%s", "a b", "ü😀", "", ":", "nodes", "echo:n:0")


@given(texts, texts)
def test_two_keys_have_two_names(first: str, second: str) -> None:
    assert (SCRIPTS.base(first) == SCRIPTS.base(second)) is (first == second)


@given(texts, texts)
def test_no_key_has_a_name_of_the_nodes(key: str, name: str) -> None:
    assert SCRIPTS.base(key) != SCRIPTS.own(name)


@given(texts, texts)
def test_the_names_of_two_prefixes_never_meet(first: str, second: str) -> None:
    other = Scripts(msgspec.structs.replace(OPTIONS, prefix="a-b"))
    assert SCRIPTS.base(first) != other.base(second)
    assert SCRIPTS.own("nodes") != other.own("nodes")


@given(texts, texts)
def test_the_names_of_two_databases_never_meet_as_pubsub_has_none(first: str, second: str) -> None:
    other = Scripts(OPTIONS, 3)
    assert SCRIPTS.base(first) != other.base(second)
    assert SCRIPTS.own("nodes") != other.own("nodes")


@given(texts, texts)
def test_all_keys_of_a_command_lie_in_the_slot_of_the_pubsub_channel(key: str, channel: str) -> None:
    base = SCRIPTS.base(key)
    publish = SCRIPTS.publish(base, "", channel, "{", "t-1", again=False, idempotency_key="k")
    keys = publish[3 : 3 + publish[2]]
    keys += [SCRIPTS.absent(base, channel, "c")[1], SCRIPTS.length(base, channel)[1], SCRIPTS.hold(base, 1)[3]]
    assert base in keys
    assert {key_slot(each.encode()) for each in keys} == {key_slot(base.encode())}


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_two_streams_have_two_names(first: tuple[str, str], second: tuple[str, str]) -> None:
    def names(key: str, channel: str) -> set[str]:
        base = SCRIPTS.base(key)
        command = SCRIPTS.publish(base, "", channel, "{", "t-1", again=False, idempotency_key="k")
        return {*command[3 : 3 + command[2]], SCRIPTS.absent(base, channel, "c")[1]}

    if first[0] != second[0]:
        assert not names(*first) & names(*second)
    elif first[1] != second[1]:
        assert SCRIPTS.length(SCRIPTS.base(first[0]), first[1]) != SCRIPTS.length(SCRIPTS.base(second[0]), second[1])


async def test_streams_and_subscribers_of_odd_keys_are_their_own(broker: Broker) -> None:
    inboxes = {key: Inbox() for key in ODD}
    for key, inbox in inboxes.items():
        await broker.subscribe(key, inbox)
    for key in ODD:
        published = await broker.publish(key, "news", json.dumps(key), idempotency_key="k")
        assert (published.offset, published.duplicate) == (1, False)
        broker.notify(key, "news", json.dumps(key))
        await broker.add_presence(key, "news", "c", json.dumps(key))
    for key, inbox in inboxes.items():
        await inbox.wait(2)
        assert [(got.key, json.loads(got.text)["data"]) for got in inbox.publications] == [(key, key)]
        assert [(to, json.loads(push)) for to, _, push in inbox.pushes] == [(key, key)]
        assert await broker.presence(key, "news") == {"c": json.dumps(key)}


@pytest.mark.parametrize("name", ["a b", "1 2 3", "{a}", "%s%d", "ü😀", "", "c", "h", "a\x00b", "x" * 255])
async def test_a_channel_may_have_any_name(broker: Broker, name: str) -> None:
    key, inbox = "user:alice", Inbox()
    await broker.subscribe(key, inbox)
    first = await broker.publish(key, name, '"1"', idempotency_key="a b")
    again = await broker.publish(key, name, '"2"', idempotency_key="a b")
    assert (again.duplicate, again.position) == (True, first.position)
    broker.notify(key, name, '{"join":{}}')
    await broker.add_presence(key, name, "c", '{"user": "a b"}')
    await inbox.wait(2)
    (kept,) = (await broker.history(key, name)).publications
    assert inbox.publications == [kept]
    assert (kept.channel, kept.text) == (name, '{"data":"1","offset":1}')
    assert inbox.pushes == [(key, name, '{"join":{}}')]
    assert [stream.channel for stream in await broker.streams(key)] == [name]
    assert await broker.presence(key, name) == {"c": '{"user": "a b"}'}


async def test_an_idempotency_key_does_not_run_into_the_channel(broker: Broker) -> None:
    for channel, key in (("a", "bc"), ("ab", "c"), ("1 a", "b"), ("ü", "k"), ("", "ük")):
        published = await broker.publish("user:alice", channel, "1", idempotency_key=key)
        assert not published.duplicate
