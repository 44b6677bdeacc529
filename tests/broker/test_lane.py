"""Commands and subscriptions under pressure, and answers that do not come."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import AbstractConnection

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.redis.scripts import Scripts
from tests.broker.engines import Ear, Inbox, attached
from tests.broker.test_names import OPTIONS
from tests.engine.server import StandAlone
from tests.gateway import eventually

ALICE = "user:alice"


async def test_more_than_may_wait_is_refused_and_what_waits_is_carried_out(valkey_url: str) -> None:
    ear = Ear()
    async with attached(valkey_url, ear, pending=10, history_size=100) as broker:
        calls = [broker.publish(ALICE, "news", str(number)) for number in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, BaseException)]
        assert refused
        assert all(type(each) is BrokerError and "10 commands wait" in each.reason for each in refused)
        kept = (await broker.history(ALICE, "news")).publications
        assert len(kept) == 50 - len(refused)
        assert broker.waiting() == 0
        await asyncio.sleep(0.3)
    assert ear.heard == []


async def test_thousands_who_come_at_once_do_not_look_like_a_lost_server(valkey_url: str) -> None:
    ear, inbox = Ear(), Inbox()
    async with attached(valkey_url, ear, timeout=10, pending=100) as broker:
        await asyncio.gather(*(broker.subscribe(f"user:{number}", inbox) for number in range(3000)))
        await eventually(lambda: broker.waiting() == 0)
        for number in (0, 1500, 2999):
            await broker.publish(f"user:{number}", "news", "1")
        await inbox.wait(3)
        assert ear.heard == []


async def test_all_that_a_node_holds_is_said_again_after_a_loss_however_much_it_is(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with attached(stand_alone.url, ear, timeout=1, pending=100, presence_ttl=60) as broker:
        for number in range(450):
            await broker.subscribe(f"user:{number}", inbox)
            await broker.add_presence(f"user:{number}", "news", "c", "{}")
        stand_alone.call("FLUSHALL")
        stand_alone.call("CLIENT", "KILL", "TYPE", "pubsub")
        await ear.wait("lost", "restored")
        assert [await broker.presence(f"user:{number}", "news") for number in (0, 449)] == [{"c": "{}"}] * 2


async def test_what_a_node_holds_is_said_again_before_it_is_forgotten(stand_alone: StandAlone) -> None:
    stand_alone.call("FLUSHALL")
    inbox = Inbox()
    async with attached(stand_alone.url, presence_ttl=6) as broker:
        for number in range(210):
            await broker.subscribe(f"user:{number}", inbox)
            await broker.add_presence(f"user:{number}", "news", "c", "{}")
        names = sorted(stand_alone.call("KEYS", "*:p:news"))
        assert len(names) == 210

        def ends() -> list[int]:
            return [stand_alone.call("PEXPIRETIME", name) for name in (names[0], names[-1])]

        before = ends()
        # A third of the time is over when it is said again, so a machine may stop for as long as that and longer.
        await eventually(lambda: all(now != then for now, then in zip(ends(), before, strict=True)))
        assert min(ends()) > max(before), "it was forgotten"


async def test_a_publish_that_came_back_before_the_connection_broke_was_published(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear, inbox, read = Ear(), Inbox(), AbstractConnection.read_response

    async def deaf_to_answers(self: AbstractConnection, **options: Any) -> Any:
        if options.get("timeout") != math.inf:
            await asyncio.Event().wait()
        return await read(self, **options)

    async with attached(valkey_url, ear) as broker:
        await broker.subscribe(ALICE, inbox)
        with monkeypatch.context() as patched:
            patched.setattr(AbstractConnection, "read_response", deaf_to_answers)
            published = await broker.publish(ALICE, "news", "1")
            assert not broker.healthy()
            with pytest.raises(BrokerUnavailable):
                await broker.publish(ALICE, "news", "2")
        assert (published.offset, inbox.offsets) == (1, [1])
        assert published.epoch == inbox.publications[0].epoch
        await ear.wait("lost", "restored")
        assert (await broker.publish(ALICE, "news", "2")).offset == 2


async def test_a_server_refuses_a_publish_whose_time_is_over(valkey_url: str) -> None:
    scripts = Scripts(OPTIONS)
    async with redis.asyncio.Redis.from_url(valkey_url) as client:
        for _, source in scripts.load:
            await client.script_load(source)
        seconds, microseconds = await client.time()
        now = seconds * 1000 + microseconds // 1000
        for deadline, kind in ((0, 2), (now - 1, 2), (now + 5000, 0)):
            command = scripts.publish(
                "{late}", "", "news", '{"data":1,"offset":', "t-1", again=False, idempotency_key=""
            )
            command[-1] = deadline
            _, sha, count, *rest = command
            found = await client.evalsha(sha, count, *rest)
            assert found[0] == kind
        await client.delete("{late}:m", "{late}:s:news")


async def test_offsets_beyond_what_a_float_shows_by_default_stay_whole(valkey_url: str) -> None:
    inbox, top = Inbox(), 2**52
    async with attached(valkey_url, prefix="big") as broker, redis.asyncio.Redis.from_url(valkey_url) as client:
        first = await broker.publish(ALICE, "news", "1")
        meta = await client.hget("{big:user:alice}:m", "cnews")
        assert isinstance(meta, bytes)
        await client.hset("{big:user:alice}:m", "cnews", f"{top} {meta.decode().partition(' ')[2]}")
        await broker.subscribe(ALICE, inbox)
        published = await broker.publish(ALICE, "news", "2")
        await inbox.wait(1)
        assert (published.offset, inbox.offsets) == (top + 1, [top + 1])
        assert inbox.publications[0].text == f'{{"data":2,"offset":{top + 1}}}'
        history = await broker.history(ALICE, "news", since=first.position)
        assert [kept.offset for kept in history.publications] == [top + 1]
        newest = await broker.history(ALICE, "news", since=published.position, reverse=True)
        assert [kept.offset for kept in newest.publications] == [1]
        await client.delete("{big:user:alice}:m", "{big:user:alice}:s:news")
