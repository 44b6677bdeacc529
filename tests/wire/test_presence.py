"""Who is in a channel, and who comes and goes."""

from __future__ import annotations

from tests.gateway import build_container, serving, token


async def test_presence_knows_every_connection_in_a_channel_and_what_its_token_says() -> None:
    async with serving() as gateway, gateway.client() as one, gateway.client() as two:
        first = (await one.result("connect", {"token": token("alice", info={"device": "phone"})}))["client"]
        second = (await two.result("connect", {"token": token("alice")}))["client"]
        assert await one.result("presence", {"channel": "news"}) == {}
        for client in (one, two):
            await client.result("subscribe", {"channel": "news"})
        infos = {
            first: {"user": "alice", "client": first, "conn_info": {"device": "phone"}},
            second: {"user": "alice", "client": second},
        }
        assert await one.result("presence", {"channel": "news"}) == {"presence": infos}
        assert await one.result("presence", {"channel": "#alice"}) == {"presence": infos}
        assert await one.result("presence_stats", {"channel": "news"}) == {"num_clients": 2, "num_users": 1}
        await two.result("unsubscribe", {"channel": "news"})
        assert await one.result("presence", {"channel": "news"}) == {"presence": {first: infos[first]}}
        await two.socket.close()
        assert await one.result("presence", {"channel": "#alice"}) == {"presence": {first: infos[first]}}


async def test_what_a_subscription_token_says_is_shown_in_its_channel_alone() -> None:
    async with serving() as gateway, gateway.client() as client, gateway.connected("alice") as witness:
        own = (await client.result("connect", {"token": token("alice", info={"device": "phone"})}))["client"]
        await witness.result("subscribe", {"channel": "news", "join_leave": True})
        await witness.push()
        shown = {"user": "alice", "client": own, "conn_info": {"device": "phone"}, "chan_info": {"role": "editor"}}
        told = token("alice", channel="news", info={"role": "editor"})
        await client.result("subscribe", {"channel": "news", "token": told})
        assert await witness.push() == {"channel": "news", "join": {"info": shown}}
        assert (await witness.result("presence", {"channel": "news"}))["presence"][own] == shown
        await client.result("sub_refresh", {"channel": "news", "token": token("alice", channel="news")})
        await client.result("publish", {"channel": "news", "data": 1})
        assert await witness.push() == {"channel": "news", "pub": {"data": 1, "info": shown, "offset": 1}}
        kept = await witness.result("history", {"channel": "news", "limit": -1})
        assert kept["publications"] == [{"data": 1, "info": shown, "offset": 1}]
        await client.result("unsubscribe", {"channel": "news"})
        assert await witness.push() == {"channel": "news", "leave": {"info": shown}}
        del shown["chan_info"]
        await client.result("publish", {"channel": "news", "data": 2})
        assert (await witness.push())["pub"]["info"] == shown
        assert (await witness.result("presence", {"channel": "#alice"}))["presence"][own] == shown


async def test_info_of_a_subscription_token_that_is_no_json_is_error_103() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        bad = token("alice", channel="news", b64info="e30")
        assert (await client.error("subscribe", {"channel": "news", "token": bad}))["code"] == 103


async def test_b64info_is_info_too_and_numbers_of_any_size_keep_their_value() -> None:
    import base64

    texts = ('{"n":12345678901234567890123}', '{"big":1e400}', "[1.0]", '"ä"')
    async with serving() as gateway:
        for text in texts:
            claims = {"b64info": base64.b64encode(text.encode()).decode()}
            async with gateway.connected("alice", **claims) as client:
                await client.send('{"id":5,"presence":{"channel":"#alice"}}')
                assert f'"conn_info":{text}}}' in await client.frame()
        async with gateway.connected("alice", info={"n": 12345678901234567890123}) as client:
            await client.send('{"id":5,"presence":{"channel":"#alice"}}')
            assert '"conn_info":{"n":12345678901234567890123}}' in await client.frame()


async def test_join_and_leave_reach_those_who_asked_for_them() -> None:
    async with serving() as gateway:
        async with gateway.connected("alice") as asked, gateway.connected("alice") as did_not:
            await asked.result("subscribe", {"channel": "news", "join_leave": True})
            own = await asked.push()
            assert list(own) == ["channel", "join"]
            await did_not.result("subscribe", {"channel": "news"})
            joined = await asked.push()
            assert joined == {"channel": "news", "join": {"info": joined["join"]["info"]}}
            assert joined["join"]["info"]["user"] == "alice"
            await did_not.result("unsubscribe", {"channel": "news"})
            assert await asked.push() == {"channel": "news", "leave": joined["join"]}
            await did_not.result("subscribe", {"channel": "news"})
            await asked.push()
            await did_not.nothing()
            await did_not.socket.close()
            assert await asked.push() == {"channel": "news", "leave": joined["join"]}


async def test_join_and_leave_stay_within_the_user_and_the_channel() -> None:
    async with serving() as gateway, gateway.connected("alice") as alice, gateway.connected("bob") as bob:
        await alice.result("subscribe", {"channel": "news", "join_leave": True})
        await alice.push()
        await bob.result("subscribe", {"channel": "news", "join_leave": True})
        await bob.push()
        async with gateway.connected("alice") as other:
            await other.result("subscribe", {"channel": "jobs", "join_leave": True})
        await alice.nothing()
        await bob.nothing()


async def test_a_subscribe_that_fails_is_no_join_and_no_leave() -> None:
    async with serving() as gateway:
        async with gateway.connected("alice") as witness, gateway.connected("alice") as client:
            await witness.result("subscribe", {"channel": "news", "join_leave": True})
            await witness.push()
            request = {"channel": "news", "recover": True, "epoch": "other", "offset": 3, "flag": 2}
            assert (await client.error("subscribe", request))["code"] == 112
            await witness.nothing()
            assert len((await witness.result("presence", {"channel": "news"}))["presence"]) == 1


async def test_presence_and_join_leave_are_settings() -> None:
    async with serving(build_container(channels={"presence": False, "join_leave": False})) as gateway:
        async with gateway.connected("alice") as client:
            await client.result("subscribe", {"channel": "news", "join_leave": True})
            await client.nothing()
            for method in ("presence", "presence_stats"):
                error = await client.error(method, {"channel": "news"})
                assert error == {"code": 108, "message": "not available"}
