"""Subscribing, publishing, and what a client may not do."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from app.realtime.broker import BrokerError
from tests.clock import ManualClock
from tests.gateway import QUIET, build_container, serving, token
from tests.wire.faulty import make_faulty

NOW = 1_700_000_000
NAME_A_CHANNEL = ("subscribe", "publish", "history", "presence", "presence_stats", "sub_refresh")


async def test_a_subscriber_gets_publications_until_it_unsubscribes_and_again_after() -> None:
    async with serving() as gateway, gateway.connected("alice") as one, gateway.connected("alice") as two:
        subscribed = await one.result("subscribe", {"channel": "news"})
        assert subscribed == {"recoverable": True, "positioned": True, "epoch": subscribed["epoch"]}
        await two.result("publish", {"channel": "news", "data": 1})
        assert [pub["data"] for pub in await one.publications(1)] == [1]
        assert await one.result("unsubscribe", {"channel": "news"}) == {}
        await two.result("publish", {"channel": "news", "data": 2})
        await one.nothing()
        again = await one.result("subscribe", {"channel": "news"})
        assert (again["epoch"], again["offset"]) == (subscribed["epoch"], 2)
        await two.result("publish", {"channel": "news", "data": 3})
        assert [(pub["data"], pub["offset"]) for pub in await one.publications(1)] == [(3, 3)]


async def test_a_publication_says_which_client_sent_it_and_what_its_token_says_about_it() -> None:
    async with serving() as gateway, gateway.connected("alice") as one, gateway.client() as two:
        await one.result("subscribe", {"channel": "news"})
        connected = await two.result("connect", {"token": token("alice", info={"name": "Älice"})})
        await two.result("publish", {"channel": "news", "data": {"x": 1}})
        info = {"user": "alice", "client": connected["client"], "conn_info": {"name": "Älice"}}
        assert await one.push() == {"channel": "news", "pub": {"data": {"x": 1}, "info": info, "offset": 1}}


async def test_the_publisher_gets_its_own_publication_before_its_reply() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news"})
        await client.send({"id": 9, "publish": {"channel": "news", "data": 1}})
        assert "push" in await client.message()
        assert await client.message() == {"id": 9, "publish": {}}


async def test_subscribing_twice_is_error_105() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news"})
        assert await client.error("subscribe", {"channel": "news"}) == {"code": 105, "message": "already subscribed"}
        assert (await client.error("subscribe", {"channel": "#alice"}))["code"] == 105


async def test_one_channel_more_than_a_connection_may_have_is_error_106() -> None:
    async with serving(build_container(limits={"channels_per_connection": 3})) as gateway:
        async with gateway.connected("alice") as client, gateway.connected("alice") as other:
            for channel in ("a", "b"):
                await client.result("subscribe", {"channel": channel})
            assert (await client.error("subscribe", {"channel": "c"}))["code"] == 106
            await other.result("subscribe", {"channel": "c"})
            await client.result("unsubscribe", {"channel": "a"})
            await client.result("subscribe", {"channel": "c"})


async def test_a_token_with_one_channel_more_than_a_connection_may_have_is_closed_with_3505() -> None:
    async with serving(build_container(limits={"channels_per_connection": 3})) as gateway:
        async with gateway.client() as client:
            many = token("alice", channels=["a", "b"], subs={"c": {}})
            await client.send({"id": 1, "connect": {"token": many}})
            assert await client.closed() == (3505, "channel limit: 3 channels a connection")
        assert gateway.container.manager.count() == 0
        async with gateway.connected("alice", channels=["a", "b", "#alice"], subs={"a": {}}) as client:
            assert (await client.error("subscribe", {"channel": "c"}))["code"] == 106


async def test_a_token_with_one_stream_more_than_a_user_may_have_is_closed_with_3505() -> None:
    async with serving(build_container(broker={"max_streams_per_user": 2})) as gateway:
        async with gateway.client() as client:
            await client.send({"id": 1, "connect": {"token": token("alice", channels=["a", "b"])}})
            assert await client.closed() == (3505, "channel limit: 2 streams a user")
        assert gateway.container.manager.count() == 0


async def test_one_stream_more_than_a_user_may_have_is_error_106() -> None:
    async with serving(build_container(broker={"max_streams_per_user": 2})) as gateway:
        async with gateway.connected("alice") as client:
            await client.result("subscribe", {"channel": "a"})
            for method in ("subscribe", "publish", "history"):
                assert (await client.error(method, {"channel": "b"}))["code"] == 106
            await client.result("publish", {"channel": "a", "data": 1})
            assert await client.result("presence_stats", {"channel": "b"}) == {}


async def test_another_users_personal_channel_is_error_103() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        for method, channel in product(NAME_A_CHANNEL, ("#bob", "#", "#Alice", "##alice")):
            error = await client.error(method, {"channel": channel})
            assert error == {"code": 103, "message": "permission denied"}


async def test_a_user_with_the_longest_id_reaches_the_personal_channel() -> None:
    user = "u" * 255
    async with serving() as gateway, gateway.connected(user, channels=[f"#{user}"]) as client:
        channel = {"channel": f"#{user}"}
        assert await client.result("presence_stats", channel) == {"num_clients": 1, "num_users": 1}
        assert await client.result("unsubscribe", channel) == {}
        for method in ("subscribe", "history", "presence"):
            await client.result(method, channel)
        assert (await client.error("publish", {**channel, "data": 1}))["code"] == 103


async def test_a_name_that_is_no_channel_is_error_107() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        for method, channel in product(NAME_A_CHANNEL, ("", "x" * 256, "a\nb", "\x7f")):
            assert (await client.error(method, {"channel": channel}))["code"] == 107


async def test_unsubscribing_from_nothing_is_harmless() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        for channel in ("never", "#bob", ""):
            assert await client.result("unsubscribe", {"channel": channel}) == {}


async def test_clients_may_not_publish_to_their_personal_channel() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        error = await client.error("publish", {"channel": "#alice", "data": 1})
        assert error == {"code": 103, "message": "permission denied"}
        await client.nothing()


async def test_publishing_by_clients_is_a_setting() -> None:
    async with serving(build_container(channels={"client_publish": False})) as gateway:
        async with gateway.connected("alice") as client:
            assert (await client.error("publish", {"channel": "news", "data": 1}))["code"] == 103


async def test_a_publication_larger_than_an_event_may_be_is_error_106() -> None:
    async with serving(build_container(limits={"event_bytes": 100})) as gateway, gateway.connected("alice") as client:
        await client.result("publish", {"channel": "news", "data": "x" * 98})
        await client.send('{"id":7,"publish":{"channel":"news","data":"' + "ä" * 50 + '"}}')
        assert (await client.message())["error"]["code"] == 106
        assert (await client.result("history", {"channel": "news"}))["offset"] == 1


async def test_publishing_without_subscribing_creates_a_history() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.result("publish", {"channel": "news", "data": 1})
        assert len((await client.result("history", {"channel": "news", "limit": -1}))["publications"]) == 1
        await client.nothing()


async def test_ping_as_a_command_is_error_108_and_an_unknown_method_error_104() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        assert await client.error("ping") == {"code": 108, "message": "not available"}
        assert await client.error("no_such_method") == {"code": 104, "message": "method not found"}


async def test_a_server_side_subscription_can_be_left_and_taken_up_again() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.result("unsubscribe", {"channel": "#alice"})
        await gateway.container.publisher().publish_to_user("alice", "note", 1)
        await client.nothing()
        result = await client.result("subscribe", {"channel": "#alice", "recover": True})
        assert result["recovered"]
        assert [pub["data"]["data"] for pub in result["publications"]] == [1]
        await gateway.container.publisher().publish_to_user("alice", "note", 2)
        assert (await client.push())["pub"]["data"]["data"] == 2


async def test_channels_and_subs_of_a_token_are_subscribed_by_the_server() -> None:
    async with serving() as gateway, gateway.client() as client:
        claims: dict[str, Any] = {"channels": ["news", "jobs", "news"], "subs": {"chat": {"data": 1}, "jobs": {}}}
        result = await client.result("connect", {"token": token("alice", **claims)})
        assert list(result["subs"]) == ["#alice", "news", "jobs", "chat"]
        assert (await client.error("subscribe", {"channel": "jobs"}))["code"] == 105
        for channel in ("news", "jobs", "chat"):
            await client.result("publish", {"channel": channel, "data": channel})
            assert (await client.push())["channel"] == channel


async def test_a_channel_of_a_token_is_the_users_own_whatever_its_name() -> None:
    async with serving() as gateway, gateway.connected("bob") as bob, gateway.client() as client:
        result = await client.result("connect", {"token": token("alice", channels=["#bob"])})
        await gateway.container.publisher().publish_to_user("bob", "secret", 1)
        await bob.push()
        await client.nothing()
        assert result["subs"]["#bob"]["epoch"]


async def test_a_subscription_token_is_checked() -> None:
    async with serving(build_container(clock=ManualClock(NOW))) as gateway, gateway.client() as client:
        own = (await client.result("connect", {"token": token("alice")}))["client"]
        good = token("alice", channel="news", client=own, exp=NOW + 60)
        result = await client.result("subscribe", {"channel": "news", "token": good})
        assert (result["expires"], result["ttl"]) == (True, 60)
        for bad in (
            "garbage",
            token("alice", channel="jobs", secret="x" * 32),
            token("alice"),
            token("alice", channel=""),
            token("alice", channel="jobs", nbf=NOW + 1),
            token("alice", channel="jobs", exp="x"),
        ):
            assert (await client.error("subscribe", {"channel": "jobs", "token": bad}))["code"] == 103
        expired = token("alice", channel="jobs", exp=NOW - 1)
        assert (await client.error("subscribe", {"channel": "jobs", "token": expired}))["code"] == 109
        forever = await client.result("subscribe", {"channel": "jobs", "token": token("alice", channel="jobs")})
        assert "expires" not in forever


@pytest.mark.parametrize("method", ["subscribe", "sub_refresh"])
@pytest.mark.parametrize(
    ("user", "claims"),
    [("bob", {"channel": "news"}), ("alice", {"channel": "jobs"}), ("alice", {"channel": "news", "client": "another"})],
    ids=["user", "channel", "client"],
)
async def test_a_subscription_token_of_another_is_closed_with_3500(
    method: str, user: str, claims: dict[str, Any]
) -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        if method == "sub_refresh":
            await client.result("subscribe", {"channel": "news", "token": token("alice", channel="news")})
        await client.send({"id": 9, method: {"channel": "news", "token": token(user, **claims)}})
        code, reason = await client.closed()
        assert code == 3500
        assert "another user, client or channel" in reason


async def test_a_refreshed_subscription_goes_on_and_one_that_is_not_ends_with_2501() -> None:
    clock = ManualClock(NOW)
    async with serving(build_container(clock=clock, ping=QUIET)) as gateway:
        async with gateway.connected("alice") as client:
            await client.result("subscribe", {"channel": "news", "token": token("alice", channel="news", exp=NOW + 60)})
            clock.advance(80)
            fresh = token("alice", channel="news", exp=NOW + 200)
            result = await client.result("sub_refresh", {"channel": "news", "token": fresh})
            assert result == {"expires": True, "ttl": 120}
            clock.advance(144)
            await client.nothing()
            clock.advance(1)
            unsubscribed = {"code": 2501, "reason": "subscription expired"}
            assert await client.push() == {"channel": "news", "unsubscribe": unsubscribed}
            await client.result("publish", {"channel": "news", "data": 1})
            await client.nothing()
            assert (await client.result("presence", {"channel": "news"})).get("presence") is None
            await client.result("subscribe", {"channel": "news"})


async def test_an_expired_or_bad_refresh_of_a_subscription_is_an_error() -> None:
    clock = ManualClock(NOW)
    async with serving(build_container(clock=clock)) as gateway, gateway.connected("alice") as client:
        await client.result("subscribe", {"channel": "news", "token": token("alice", channel="news", exp=NOW + 60)})
        expired = token("alice", channel="news", exp=NOW)
        assert (await client.error("sub_refresh", {"channel": "news", "token": expired}))["code"] == 109
        assert (await client.error("sub_refresh", {"channel": "news", "token": "x"}))["code"] == 103
        other = token("alice", channel="jobs")
        assert (await client.error("sub_refresh", {"channel": "jobs", "token": other}))["code"] == 103
        endless = await client.result("sub_refresh", {"channel": "news", "token": token("alice", channel="news")})
        assert endless == {}


async def test_expire_at_says_when_a_subscription_ends_whatever_exp_says() -> None:
    async with serving(build_container(clock=ManualClock(NOW))) as gateway, gateway.connected("alice") as client:
        sub_token = token("alice", channel="news", exp=NOW + 60, expire_at=NOW + 600)
        result = await client.result("subscribe", {"channel": "news", "token": sub_token})
        assert (result["expires"], result["ttl"]) == (True, 600)
        sub_token = token("alice", channel="jobs", exp=NOW + 60, expire_at=0)
        assert "expires" not in await client.result("subscribe", {"channel": "jobs", "token": sub_token})


async def test_a_broker_that_fails_is_a_temporary_error_and_leaves_nothing_behind() -> None:
    container = build_container()
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unreachable")

    async with serving(container) as gateway, gateway.connected("alice") as client:
        for step in ("history", "add_presence"):
            faulty.before = {step: fail}
            error = await client.error("subscribe", {"channel": "news"})
            assert error == {"code": 100, "message": "internal server error", "temporary": True}
        faulty.before = {}
        assert await client.result("presence_stats", {"channel": "news"}) == {}
        await client.result("publish", {"channel": "news", "data": 1})
        await client.nothing()
        await client.result("subscribe", {"channel": "news"})


async def test_a_broker_that_fails_while_a_client_connects_lets_it_try_again() -> None:
    container = build_container()
    faulty = make_faulty(container)

    async def fail() -> None:
        raise BrokerError("unreachable")

    async with serving(container) as gateway:
        for step in ("subscribe", "history", "add_presence"):
            faulty.before = {step: fail}
            async with gateway.client() as client:
                await client.send({"id": 1, "connect": {"token": token("alice")}})
                assert await client.closed() == (3004, "internal server error")
        faulty.before = {}
        async with gateway.connected("alice") as client:
            await client.nothing()
