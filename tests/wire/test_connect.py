"""The first command, and what else may come first."""

from __future__ import annotations

from app.realtime.modes import ModeKind
from tests.clock import ManualClock
from tests.gateway import build_container, eventually, serving, token


async def test_connect_answers_with_the_personal_channel_and_what_the_client_needs_to_know() -> None:
    clock = ManualClock(1_700_000_000.5)
    container = build_container(clock=clock, ping={"interval": 11.2, "timeout": 3})
    async with serving(container) as gateway, gateway.client() as client:
        result = await client.result(
            "connect", {"token": token("alice"), "name": "js", "version": "5", "data": {"a": 1}}
        )
        assert result["subs"] == {
            "#alice": {"recoverable": True, "positioned": True, "epoch": result["subs"]["#alice"]["epoch"]}
        }
        assert result["version"]
        assert (result["ping"], result["pong"], result["time"]) == (12, True, 1_700_000_000_500)
        assert "expires" not in result


async def test_every_connection_has_a_client_id_of_its_own() -> None:
    async with serving() as gateway, gateway.client() as one, gateway.client() as two:
        ids = {(await client.result("connect", {"token": token("alice")}))["client"] for client in (one, two)}
        assert len(ids) == 2


async def test_all_connections_of_a_user_get_the_users_events_and_nobody_else_does() -> None:
    async with serving() as gateway:
        async with (
            gateway.connected("alice") as phone,
            gateway.connected("alice") as laptop,
            gateway.connected("bob") as bob,
        ):
            published = await gateway.container.publisher().publish_to_user("alice", "note", {"n": 1})
            assert published.connections == 2
            for client in (phone, laptop):
                push = await client.push()
                assert push["channel"] == "#alice"
                assert push["pub"]["offset"] == 1
                assert push["pub"]["data"]["type"] == "note"
                assert push["pub"]["data"]["data"] == {"n": 1}
            await bob.nothing()


async def test_the_same_channel_of_two_users_is_two_streams() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice, gateway.connected("bob") as bob:
        mine = await alice.result("subscribe", {"channel": "news"})
        theirs = await bob.result("subscribe", {"channel": "news"})
        assert mine["epoch"] != theirs["epoch"]
        await alice.result("publish", {"channel": "news", "data": "for me"})
        assert (await alice.push())["pub"]["data"] == "for me"
        await bob.nothing()
        assert "publications" not in await bob.result("history", {"channel": "news", "limit": -1})
        assert await bob.result("presence_stats", {"channel": "news"}) == {"num_clients": 1, "num_users": 1}


async def test_any_valid_user_id_connects_and_is_spelled_out_on_the_wire() -> None:
    async with serving() as gateway:
        for user in ("a:b", "user:alice", "no_user_context", "a|b", "ä漢🎈", "a b", " ", "#alice", "%41", "x" * 255):
            async with gateway.client() as client:
                result = await client.result("connect", {"token": token(user)})
                assert list(result["subs"]) == [f"#{user}"]
                await gateway.container.publisher().publish_to_user(user, "note", 1)
                assert (await client.push())["channel"] == f"#{user}"


async def test_an_invalid_user_id_is_closed_with_3500() -> None:
    async with serving() as gateway:
        for user in ("", "x" * 256, "a\nb", "a\x00b"):
            async with gateway.client() as client:
                await client.send({"id": 1, "connect": {"token": token(user)}})
                code, reason = await client.closed()
                assert code == 3500
                assert "user_id" in reason


async def test_another_first_command_is_closed_with_3501() -> None:
    async with serving() as gateway:
        for command in ("subscribe", "publish", "refresh", "rpc", "ping", "no_such_method"):
            async with gateway.client() as client:
                await client.send({"id": 1, command: {}})
                assert await client.closed() == (3501, "bad request: the first command must be connect")
        async with gateway.client() as client:
            await client.send({"send": {"data": 1}})
            assert (await client.closed())[0] == 3501


async def test_a_second_connect_is_closed_with_3501() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await client.send({"id": 2, "connect": {"token": token("alice")}})
        assert await client.closed() == (3501, "bad request: connect comes once")


async def test_silence_is_closed_with_3502_after_ten_seconds() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway, gateway.client() as client:
        await eventually(lambda: clock.pending > 0)
        clock.advance(9.99)
        clock.advance(0.01)
        assert await client.closed() == (3502, "stale")


async def test_a_client_that_connects_in_time_is_not_stale() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, limits={"authentication_seconds": 3})
    async with serving(container) as gateway, gateway.client() as client:
        await eventually(lambda: clock.pending > 0)
        clock.advance(2.9)
        await client.result("connect", {"token": token("alice")})
        clock.advance(3)
        await client.nothing()


async def test_without_a_token_a_client_is_closed_with_3500() -> None:
    async with serving() as gateway, gateway.client() as client:
        await client.send({"id": 1, "connect": {}})
        assert await client.closed() == (3500, "invalid token: connect needs a token")


async def test_without_any_key_configured_no_token_is_accepted() -> None:
    async with serving(build_container(auth={"anonymous": True})) as gateway, gateway.client() as client:
        await client.send({"id": 1, "connect": {"token": token("alice", secret="x" * 32)}})
        code, reason = await client.closed()
        assert code == 3500
        assert "no key is configured" in reason


async def test_every_anonymous_connection_is_somebody_of_its_own() -> None:
    container = build_container(auth={"anonymous": True})
    async with serving(container) as gateway, gateway.client() as one, gateway.client() as two:
        channels = [next(iter((await client.result("connect"))["subs"])) for client in (one, two)]
        assert len(set(channels)) == 2
        assert all(channel.startswith("#anonymous-") for channel in channels)
        assert container.manager.count() == 2
        for client in (one, two):
            await client.result("subscribe", {"channel": "news"})
        await one.result("publish", {"channel": "news", "data": 1})
        await one.push()
        await two.nothing()
        error = await one.error("subscribe", {"channel": channels[1]})
        assert error["code"] == 103


async def test_a_bad_token_is_not_taken_for_no_token_where_anonymous_users_may_connect() -> None:
    async with serving(build_container(auth={"anonymous": True})) as gateway, gateway.client() as client:
        await client.send({"id": 1, "connect": {"token": "x"}})
        assert (await client.closed())[0] == 3500


async def test_an_isolated_user_without_a_session_is_closed_with_3500() -> None:
    async with serving(build_container(mode="isolated")) as gateway, gateway.client() as client:
        await client.send({"id": 1, "connect": {"token": token("alice")}})
        code, reason = await client.closed()
        assert code == 3500
        assert "session" in reason


async def test_nothing_crosses_between_sessions_of_an_isolated_user() -> None:
    async with serving(build_container(mode="isolated")) as gateway:
        async with gateway.connected("alice", sid="a") as one, gateway.connected("alice", sid="b") as two:
            assert gateway.container.manager.count() == 2
            for client in (one, two):
                await client.result("subscribe", {"channel": "news"})
            await one.result("publish", {"channel": "news", "data": 1})
            await gateway.container.publisher().publish_to_user("alice", "note", 2, session_id="a")
            assert {(await one.push())["channel"] for _ in range(2)} == {"news", "#alice"}
            await two.nothing()
            assert len((await two.result("presence", {"channel": "news"}))["presence"]) == 1


async def test_the_session_claim_is_a_setting() -> None:
    container = build_container(mode="isolated", auth={"hmac_secret": "s" * 32, "session_claim": "jti"})
    async with serving(container) as gateway, gateway.client() as client:
        await client.result("connect", {"token": token("alice", secret="s" * 32, jti="a")})
        assert container.lifecycle().living()[0].key == "user-session:alice:a"


async def test_a_token_with_a_session_alone_is_an_identity() -> None:
    async with serving() as gateway, gateway.client() as client:
        result = await client.result("connect", {"token": token(sid="abc")})
        assert list(result["subs"]) == ["#abc"]


async def test_one_connection_more_than_a_user_may_have_is_closed_with_3504_and_harms_nobody() -> None:
    container = build_container(limits={"connections_per_user": 2})
    async with serving(container) as gateway:
        async with gateway.connected("alice") as one, gateway.connected("alice"), gateway.client() as third:
            await third.send({"id": 1, "connect": {"token": token("alice")}})
            assert await third.closed() == (3504, "connection limit: 2 connections a user")
            await one.nothing()
            async with gateway.connected("bob") as bob:
                await bob.nothing()
        async with gateway.connected("alice") as again:
            await again.nothing()


async def test_the_personal_channel_is_a_setting() -> None:
    async with serving(build_container(channels={"personal": False})) as gateway, gateway.client() as client:
        assert "subs" not in await client.result("connect", {"token": token("alice")})
        await gateway.container.publisher().publish_to_user("alice", "note", 1)
        await client.nothing()
        await client.result("subscribe", {"channel": "#alice"})
        await gateway.container.publisher().publish_to_user("alice", "note", 2)
        assert (await client.push())["pub"]["offset"] == 2


async def test_the_connect_result_and_a_message_tell_the_mode() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await gateway.container.control().set_mode(ModeKind.DEGRADED, "alice")
        assert await client.push() == {"message": {"data": {"type": "mode", "mode": "degraded", "reason": "operator"}}}
        async with gateway.client() as second:
            result = await second.result("connect", {"token": token("alice")})
            assert result["data"] == {"mode": "degraded"}


async def test_emergency_answers_commands_with_a_temporary_error_and_lets_critical_events_pass() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await gateway.container.control().set_mode(ModeKind.EMERGENCY)
        assert (await client.push())["message"]["data"]["mode"] == "emergency"
        for method in ("subscribe", "publish", "history", "presence", "presence_stats", "rpc"):
            error = await client.error(method, {"channel": "news"})
            assert error == {"code": 1503, "message": "emergency mode: try again later", "temporary": True}
        await client.result("unsubscribe", {"channel": "news"})
        await gateway.container.publisher().publish_to_user("alice", "security_alert", 1)
        assert (await client.push())["pub"]["data"]["type"] == "security_alert"


async def test_an_operator_ends_the_connections_of_one_user_with_3503() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice, gateway.connected("bob") as bob:
        assert await gateway.container.control().disconnect("alice") == 1
        assert await alice.closed() == (3503, "force disconnect")
        await bob.nothing()


async def test_a_mode_that_moves_a_user_to_another_key_makes_the_client_come_back_with_3011() -> None:
    async with serving() as gateway, gateway.connected("alice", sid="a") as alice:
        await gateway.container.control().set_mode(ModeKind.ISOLATED, "alice")
        assert await alice.closed() == (3011, "force reconnect")


async def test_a_gateway_that_stops_ends_connections_with_3001_and_takes_none() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice, gateway.client() as early:
        await gateway.container.control().drain(0)
        assert await alice.closed() == (3001, "shutdown")
        await early.send({"id": 1, "connect": {"token": token("alice")}})
        assert (await early.closed())[0] == 3001
        async with gateway.client() as late:
            assert await late.closed() == (3001, "shutdown")
