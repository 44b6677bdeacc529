"""A broker whose server goes away, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.redis import RedisBroker
from tests.broker.engines import Ear, Inbox, attached
from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone
from tests.line import Line, line_to
from tests.ports import free_port

ALICE = "user:alice"


@asynccontextmanager
async def over_a_line(server: StandAlone, ear: Ear) -> AsyncIterator[tuple[RedisBroker, Line]]:
    async with line_to(server.port) as line, attached(f"redis://127.0.0.1:{line.port}", ear) as broker:
        yield broker, line


def connections(server: StandAlone) -> int:
    """Those that a broker has: one of each kind for each server."""
    return len(str(server.call("CLIENT", "LIST")).splitlines()) - 1  # but for the one that asks


async def test_the_listener_hears_once_of_a_loss_and_once_of_the_return(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with over_a_line(stand_alone, ear) as (broker, line):
        await broker.subscribe(ALICE, inbox)
        await broker.publish(ALICE, "news", "1")
        await inbox.wait(1)
        for number in range(1, 3):
            line.cut()
            await ear.wait(*["lost", "restored"] * (number - 1), "lost")
            assert not broker.healthy()
            assert inbox.interruptions == number
            await line.heal()
            await ear.wait(*["lost", "restored"] * number)
            assert broker.healthy()
        await broker.publish(ALICE, "news", "2")
        await inbox.wait(2)
    assert inbox.offsets == [1, 2]


async def test_no_connection_outlives_its_loss(stand_alone: StandAlone) -> None:
    ear = Ear()
    async with attached(stand_alone.url, ear):
        before = connections(stand_alone)
        assert before == 2
        for number in range(1, 4):
            stand_alone.call("CLIENT", "KILL", "TYPE", ("pubsub", "normal")[number % 2])
            await ear.wait(*["lost", "restored"] * number)
            assert connections(stand_alone) == before
    assert connections(stand_alone) == 0


@pytest.mark.parametrize("kind", [b"SCRIPT", b"ssubscribe"])
async def test_silence_of_either_connection_is_noticed_in_time(stand_alone: StandAlone, kind: bytes) -> None:
    ear = Ear()
    async with over_a_line(stand_alone, ear) as (_, line):
        began = asyncio.get_running_loop().time()
        line.hang(kind)
        await ear.wait("lost")
        assert asyncio.get_running_loop().time() - began < 1.5  # 0.1 to the next check, 0.5 for it
        await line.heal()
        await ear.wait("lost", "restored")


async def test_every_call_that_needs_the_server_fails_at_once_while_it_is_lost() -> None:
    ear = Ear()
    async with attached(f"redis://127.0.0.1:{free_port()}", ear) as broker:
        await ear.wait("lost")
        assert not broker.healthy()
        for call in (
            broker.publish(ALICE, "news", "1"),
            broker.history(ALICE, "news"),
            broker.presence(ALICE, "news"),
            broker.streams(ALICE),
            broker.broadcast("hello"),
            broker.store("name", "value"),
            broker.recall("name"),
            broker.stored(),
        ):
            with pytest.raises(BrokerUnavailable) as refused:
                async with asyncio.timeout(0.1):
                    await call
            assert (refused.value.uncertain, refused.value.ticket) == (False, "")
        broker.notify(ALICE, "news", "{}")
        broker.remove_presence(ALICE, "news", "c1")
        broker.unsubscribe(ALICE, Inbox())


async def test_what_is_said_while_there_is_no_server_holds_when_there_is_one(stand_alone: StandAlone) -> None:
    ear, stays, leaves = Ear(), Inbox(), Inbox()
    async with line_to(stand_alone.port) as line:
        line.cut()
        async with attached(f"redis://127.0.0.1:{line.port}", ear) as broker:
            await broker.subscribe(ALICE, stays)
            await broker.subscribe("user:bob", leaves)
            broker.unsubscribe("user:bob", leaves)
            await broker.add_presence(ALICE, "news", "c1", '{"client":"c1"}')
            await broker.add_presence(ALICE, "news", "c2", "{}")
            broker.remove_presence(ALICE, "news", "c2")
            assert (stays.interruptions, leaves.interruptions) == (1, 1)
            await line.heal()
            await ear.wait("lost", "restored")
            await broker.publish("user:bob", "news", "1")
            await broker.publish(ALICE, "news", "2")
            await stays.wait(1)
            assert leaves.publications == []
            assert await broker.presence(ALICE, "news") == {"c1": '{"client":"c1"}'}


async def test_who_comes_and_goes_at_any_moment_of_the_return_is_neither_deaf_nor_held(stand_alone: StandAlone) -> None:
    ear = Ear()
    async with over_a_line(stand_alone, ear) as (broker, line):
        line.cut()
        await ear.wait("lost")
        inboxes: list[Inbox] = []
        returning = asyncio.ensure_future(line.heal())
        while len(ear.heard) < 2:
            inboxes.append(Inbox())
            number = len(inboxes)
            coming = asyncio.ensure_future(broker.subscribe(f"user:{number}", inboxes[-1]))
            await asyncio.sleep(0)
            if number % 3 == 0:
                broker.unsubscribe(f"user:{number}", inboxes[-1])
            await asyncio.wait([coming], timeout=0.0005)
        await returning
        await broker.history(ALICE, "news")
        for number in range(1, len(inboxes) + 1):
            await broker.publish(f"user:{number}", "news", "1")
        for number, inbox in enumerate(inboxes, 1):
            if number % 3:
                await inbox.wait(1)
        assert {len(inbox.publications) for inbox in inboxes[2::3]} == {0}
        # Who left is not subscribed on the server, either: the node's own two channels, and who stayed.
        assert len(stand_alone.call("PUBSUB", "SHARDCHANNELS")) == 2 + sum(
            number % 3 > 0 for number in range(1, len(inboxes) + 1)
        )


async def test_a_subscription_on_its_way_at_the_loss_returns_and_is_interrupted(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with over_a_line(stand_alone, ear) as (broker, line):
        line.hang()
        await broker.subscribe(ALICE, inbox)
        assert inbox.interruptions == 1
        await ear.wait("lost")
        await line.heal()
        await ear.wait("lost", "restored")
        await broker.publish(ALICE, "news", "1")
        await inbox.wait(1)


async def test_a_cancelled_subscription_leaves_the_broker_as_it_was(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with over_a_line(stand_alone, ear) as (broker, line):
        line.hang()
        subscribing = asyncio.ensure_future(broker.subscribe(ALICE, inbox))
        publishing = asyncio.ensure_future(broker.publish(ALICE, "news", "1"))
        await asyncio.sleep(0.05)
        subscribing.cancel()
        publishing.cancel()
        broker.unsubscribe(ALICE, inbox)
        await line.heal()
        await broker.publish(ALICE, "news", "2")
        assert (ear.heard, inbox.publications) == ([], [])


async def test_a_publish_to_a_paused_server_is_carried_out_once_however_often_it_is_tried(engines: Engines) -> None:
    server, ear = engines.stand_alone(), Ear()
    async with attached(server.url, ear) as broker:
        await broker.publish(ALICE, "news", "0")
        server.pause()
        with pytest.raises(BrokerUnavailable) as unknown:
            await broker.publish(ALICE, "news", "1", idempotency_key="k")
        ticket = unknown.value.ticket
        assert ticket
        await asyncio.sleep(0.6)
        server.resume()
        await ear.wait("lost", "restored")
        for _ in range(2):
            published = await broker.publish(ALICE, "news", "1", idempotency_key="k", ticket=ticket)
            assert (published.offset, published.duplicate) == (2, False)
        history = await broker.history(ALICE, "news")
        assert [kept.text for kept in history.publications] == ['{"data":0,"offset":1}', '{"data":1,"offset":2}']


async def test_many_publishes_at_the_moment_of_a_loss_are_each_there_once_after_another_try(
    stand_alone: StandAlone,
) -> None:
    ear = Ear()
    async with (
        line_to(stand_alone.port) as line,
        attached(f"redis://127.0.0.1:{line.port}", ear, history_size=1000) as broker,
    ):
        waiting: dict[int, str] = {}

        async def publish(number: int) -> None:
            try:
                await broker.publish(ALICE, "news", str(number))
            except BrokerUnavailable as error:
                waiting[number] = error.ticket

        for start in range(0, 600, 100):
            calls = [asyncio.ensure_future(publish(number)) for number in range(start, start + 100)]
            if start == 300:
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                line.drop()
            await asyncio.wait(calls)
        assert waiting
        await ear.wait("lost", "restored")
        for number, ticket in waiting.items():
            await broker.publish(ALICE, "news", str(number), ticket=ticket)
        kept = (await broker.history(ALICE, "news")).publications
        assert sorted(int(each.text.split(",")[0].removeprefix('{"data":')) for each in kept) == list(range(600))


@pytest.mark.parametrize("failure", [BrokerError("refused"), BrokerUnavailable("not now"), RuntimeError("s3cr3t")])
async def test_a_listener_that_cannot_bring_all_up_to_date_is_called_again(
    stand_alone: StandAlone, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    ear.failures = [failure, failure]
    async with attached(stand_alone.url, ear):
        stand_alone.call("CLIENT", "KILL", "TYPE", "pubsub")
        await ear.wait("lost", "restored", "restored", "restored")
    assert "s3cr3t" not in caplog.text


async def test_a_listener_that_fails_at_the_loss_does_not_keep_the_broker_away(stand_alone: StandAlone) -> None:
    class Failing(Ear):
        async def broker_lost(self, reason: str) -> None:
            await super().broker_lost(reason)
            raise RuntimeError

    ear = Failing()
    async with attached(stand_alone.url, ear):
        stand_alone.call("CLIENT", "KILL", "TYPE", "pubsub")
        await ear.wait("lost", "restored")


async def test_bringing_up_to_date_ends_when_the_server_is_lost_again(stand_alone: StandAlone) -> None:
    class Slow(Ear):
        cancelled = 0

        async def broker_restored(self) -> None:
            await super().broker_restored()
            if len(self.heard) == 2:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise

    ear = Slow()
    async with attached(stand_alone.url, ear):
        for number in range(2):
            stand_alone.call("CLIENT", "KILL", "TYPE", "pubsub")
            await ear.wait(*["lost", "restored"] * (number + 1))
    assert ear.cancelled == 1


@pytest.mark.parametrize("moment", ["refused", "connecting", "restoring"])
async def test_a_lost_broker_can_be_closed(stand_alone: StandAlone, moment: str) -> None:
    class Waiting(Ear):
        async def broker_restored(self) -> None:
            await super().broker_restored()
            await asyncio.Event().wait()

    ear = Waiting()
    async with over_a_line(stand_alone, ear) as (broker, line):
        inbox = Inbox()
        await broker.subscribe(ALICE, inbox)
        line.cut()
        await ear.wait("lost")
        if moment == "connecting":
            await line.heal()
            line.hang()
            await asyncio.sleep(0.6)
        elif moment == "restoring":
            await line.heal()
            await ear.wait("lost", "restored")
        async with asyncio.timeout(1):
            await broker.close()
        assert not broker.healthy()
        with pytest.raises(BrokerUnavailable, match="closed"):
            await broker.subscribe(ALICE, inbox)
        with pytest.raises(BrokerUnavailable, match="closed"):
            await broker.publish(ALICE, "news", "1")
        heard = list(ear.heard)
        await asyncio.sleep(0.3)
        assert ear.heard == heard


async def test_closing_in_the_middle_of_everything_leaves_nobody_waiting(stand_alone: StandAlone) -> None:
    async with attached(stand_alone.url) as broker:
        calls = [asyncio.ensure_future(broker.publish(ALICE, "news", str(number))) for number in range(50)]
        calls += [asyncio.ensure_future(broker.publish(f"user:{number}", "news", "1")) for number in range(50)]
        coming = [asyncio.ensure_future(broker.subscribe(f"user:{number}", Inbox())) for number in range(50)]
        await asyncio.sleep(0)
        await broker.close()
        async with asyncio.timeout(1):
            for call in (*calls, *coming):
                with suppress(BrokerUnavailable):
                    await call
