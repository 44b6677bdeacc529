"""The official Python SDK against a gateway."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from centrifuge import ReplyError, StreamPosition
from dependency_injector import providers

from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.manager import UserManager
from app.realtime.rpc import RPCError
from tests.gateway import RunningGateway, build_container, eventually, serving, token
from tests.line import line_to
from tests.sdk.recorder import device
from tests.wire.faulty import make_faulty


async def publish(gateway: RunningGateway, *values: Any) -> None:
    """Publish events to alice."""
    for value in values:
        await gateway.container.publisher().publish_to_user("alice", "note", value)


def disconnect(gateway: RunningGateway, code: DisconnectCode) -> None:
    """End every connection from the server."""
    for manager in gateway.container.lifecycle().living():
        manager.disconnect_all(Disconnect(code))


async def test_connect_and_events_of_the_personal_channel() -> None:
    async with serving() as gateway, device(gateway, token=token("alice")) as one:
        connected = await one.recorder.wait("connected")
        assert connected.client
        assert connected.data == {"mode": "unified"}
        subscribed = await one.recorder.wait("subscribed")
        assert (subscribed.channel, subscribed.recoverable, subscribed.positioned) == ("#alice", True, True)
        await publish(gateway, {"n": 1}, "zwei", 12345678901234567890)
        last = await one.recorder.wait("publication", 3)
        assert (last.channel, last.pub.offset) == ("#alice", 3)
        assert [data["data"] for data in one.recorder.data()] == [{"n": 1}, "zwei", 12345678901234567890]


async def test_pretty_printed_json_arrives_whole() -> None:
    async with serving() as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("subscribed")
        await publish(gateway, b'{\n  "text": "a\\nb",\r\n  "list": [\n    1\n  ]\n}')
        await one.recorder.wait("publication")
        assert one.recorder.data()[0]["data"] == {"text": "a\nb", "list": [1]}


@pytest.mark.parametrize("loss", ["socket", "3000", "3008", "3011", "3012"])
async def test_what_was_missed_while_a_connection_was_lost_comes_once_and_in_order(loss: str) -> None:
    async with serving() as gateway, line_to(gateway.port) as line, device(line, token=token("alice")) as one:
        await one.recorder.wait("subscribed")
        await one.subscribe("news", recoverable=True)
        await publish(gateway, 1)
        await gateway.container.broker().publish("user:alice", "news", "1")
        await one.recorder.wait("publication")
        await one.recorder.wait("sub publication")
        if loss == "socket":
            line.drop()
        else:
            disconnect(gateway, next(code for code in DisconnectCode if str(code.code) == loss))
        await publish(gateway, 2, 3)
        await gateway.container.broker().publish("user:alice", "news", "2")
        await one.recorder.wait("connected", 2)
        await one.recorder.wait("publication", 3)
        await one.recorder.wait("sub publication", 2)
        again = await one.recorder.wait("subscribed", 2)
        assert (again.was_recovering, again.recovered) == (True, True)
        sub_again = await one.recorder.wait("sub subscribed", 2)
        assert (sub_again.was_recovering, sub_again.recovered) == (True, True)
        await publish(gateway, 4)
        await one.recorder.wait("publication", 4)
        assert [data["data"] for data in one.recorder.data()] == [1, 2, 3, 4]
        assert one.recorder.data("sub publication") == [1, 2]


async def test_a_gap_is_told() -> None:
    async with serving(build_container(history={"size": 2, "ttl": 60})) as gateway:
        async with device(gateway, token=token("alice")) as one:
            await one.recorder.wait("subscribed")
            await publish(gateway, 1)
            await one.recorder.wait("publication")
            disconnect(gateway, DisconnectCode.FORCE_RECONNECT)
            await publish(gateway, 2, 3, 4, 5)
            again = await one.recorder.wait("subscribed", 2)
            assert (again.was_recovering, again.recovered) == (True, False)
            await publish(gateway, 6)
            await one.recorder.wait("publication", 2)
            assert [data["data"] for data in one.recorder.data()] == [1, 6]


async def test_a_subscription_that_lost_its_position_recovers_by_itself() -> None:
    container = build_container()
    faulty = make_faulty(container)
    async with serving(container) as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("subscribed")
        await one.subscribe("news", recoverable=True, min_resubscribe_delay=0.01)
        faulty.lose = 1
        for number in range(1, 4):
            await gateway.container.broker().publish("user:alice", "news", str(number))
        await one.recorder.wait("sub publication", 3)
        assert one.recorder.data("sub publication") == [1, 2, 3]
        assert one.recorder.named("sub subscribing")[1].code == 2500


async def test_publish_history_presence_and_unsubscribe() -> None:
    async with serving() as gateway, device(gateway, token=token("alice", info={"a": 1})) as one:
        client = (await one.recorder.wait("connected")).client
        news = await one.subscribe("news")
        for number in range(3):
            await news.publish({"n": number})
        await one.recorder.wait("sub publication", 3)
        assert one.recorder.data("sub publication") == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert one.recorder.named("sub publication")[0].pub.info.client == client
        history = await news.history(limit=-1)
        assert [publication.data["n"] for publication in history.publications] == [0, 1, 2]
        assert (await news.history(limit=0)).offset == 3
        newest = await news.history(limit=1, reverse=True)
        assert [publication.data["n"] for publication in newest.publications] == [2]
        since = StreamPosition(offset=1, epoch=history.epoch)
        assert len((await news.history(limit=10, since=since)).publications) == 2
        with pytest.raises(ReplyError) as error:
            await news.history(limit=1, since=StreamPosition(offset=1, epoch="other"))
        assert error.value.code == 112
        presence = await news.presence()
        assert presence.clients[client].user == "alice"
        assert presence.clients[client].conn_info == {"a": 1}
        stats = await news.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        await news.unsubscribe()
        await eventually(lambda: bool(one.recorder.named("sub unsubscribed")))
        with pytest.raises(ReplyError) as error:
            await one.client.publish("#alice", 1)
        assert error.value.code == 103


async def test_join_and_leave() -> None:
    async with serving() as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("connected")
        await one.subscribe("news", join_leave=True)
        async with device(gateway, token=token("alice")) as two:
            other = (await two.recorder.wait("connected")).client
            await two.subscribe("news")
            await one.recorder.wait("sub join", 2)
        left = await one.recorder.wait("sub leave")
        assert [context.info.client for context in one.recorder.named("sub join")][1] == other
        assert left.info.client == other


async def test_rpc() -> None:
    async def answer(manager: UserManager, data: Any) -> Any:
        if data == "fail":
            raise RPCError(404, "no such thing")
        return [manager.key, data]

    container = build_container()
    container.rpc.add_kwargs(answer=providers.Object(answer))
    async with serving(container) as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("connected")
        assert (await one.client.rpc("answer", {"q": 1})).data == ["user:alice", {"q": 1}]
        for method, data, code in (("answer", "fail", 404), ("unknown", None, 104)):
            with pytest.raises(ReplyError) as error:
                await one.client.rpc(method, data)
            assert error.value.code == code


async def test_tokens_are_refreshed_before_the_connection_and_the_subscription_expire() -> None:
    asked: list[str] = []

    async def get_token() -> str:
        asked.append("connection")
        return token("alice", exp=time.time() + 1)

    async def get_sub_token(channel: str) -> str:
        asked.append(channel)
        return token("alice", channel=channel, exp=time.time() + 1)

    async with serving() as gateway, device(gateway, get_token=get_token) as one:
        await one.recorder.wait("connected")
        await one.subscribe("news", get_token=get_sub_token)
        await eventually(lambda: asked.count("connection") >= 3 and asked.count("news") >= 3)
        assert [name for name, _ in one.recorder.events] == [
            "connecting",
            "connected",
            "subscribed",
            "sub subscribing",
            "sub subscribed",
        ]


async def test_an_expired_token_is_replaced_and_the_client_connects() -> None:
    async def get_token() -> str:
        return token("alice", exp=time.time() + 600)

    expired = token("alice", exp=time.time() - 1)
    async with serving() as gateway, device(gateway, get_token=get_token, token=expired) as one:
        await one.recorder.wait("connected")
        assert [context.error.code for context in one.recorder.named("error")] == [109]


@pytest.mark.parametrize("sent", ["garbage", token("alice", secret="x" * 32), token("alice", channel="news")])
async def test_a_bad_token_ends_it_for_good(sent: str) -> None:
    async with serving() as gateway, device(gateway, token=sent) as one:
        disconnected = await one.recorder.wait("disconnected")
        assert disconnected.code == 3500
        await asyncio.sleep(0.2)
        assert len(one.recorder.named("connecting")) == 1


@pytest.mark.parametrize("code", [DisconnectCode.FORCE_DISCONNECT, DisconnectCode.CONNECTION_LIMIT])
async def test_a_final_disconnect_ends_it_for_good(code: DisconnectCode) -> None:
    async with serving() as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("connected")
        disconnect(gateway, code)
        disconnected = await one.recorder.wait("disconnected")
        assert (disconnected.code, disconnected.reason) == (code.code, code.reason)
        await asyncio.sleep(0.2)
        assert len(one.recorder.named("connecting")) == 1


async def test_protobuf_ends_it_for_good() -> None:
    async with serving() as gateway, device(gateway, token=token("alice"), use_protobuf=True) as one:
        assert (await one.recorder.wait("disconnected")).code == 3506


async def test_pings_are_answered_and_keep_the_connection() -> None:
    container = build_container(ping={"interval": 0.1, "timeout": 0.08})
    async with serving(container) as gateway, device(gateway, token=token("alice")) as one:
        await one.recorder.wait("connected")
        await asyncio.sleep(0.6)
        assert len(one.recorder.named("connected")) == 1
        assert not one.recorder.named("disconnected")


async def test_a_client_that_disconnects_leaves_nothing() -> None:
    async with serving() as gateway:
        async with device(gateway, token=token("alice")) as one:
            await one.recorder.wait("connected")
            await one.subscribe("news")
            assert gateway.container.manager.count() == 1
        await eventually(lambda: gateway.container.manager.count() == 0)
