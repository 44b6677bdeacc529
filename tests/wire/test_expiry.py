"""Pings, and connections that expire."""

from __future__ import annotations

from typing import Any

import pytest

from app.realtime.modes import ModeKind
from tests.clock import ManualClock
from tests.gateway import QUIET, SECRET, build_container, serving, token
from tests.wire.pings import first_ping, pinged

NOW = 1_700_000_000


async def test_the_server_pings_every_25_seconds_and_a_pong_keeps_the_connection() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway, gateway.connected("alice") as client:
        await first_ping(clock, client)
        for _ in range(5):
            await client.send("{}")
            assert await pinged(client) == 0
            clock.advance(24.9)
            assert await pinged(client) == 0
            clock.advance(0.1)
            assert await pinged(client) == 1


async def test_first_pings_are_spread() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway:
        seconds = set()
        for number in range(12):
            async with gateway.connected(f"user-{number}") as client:
                seconds.add(await first_ping(clock, client))
        assert len(seconds) > 1


async def test_no_pong_within_8_seconds_is_closed_with_3012() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway, gateway.connected("alice") as client:
        await first_ping(clock, client)
        await client.send("{}")
        await pinged(client)
        clock.advance(25)
        clock.advance(7.9)
        assert await pinged(client) == 1
        clock.advance(0.1)
        assert await client.closed() == (3012, "no pong")


async def test_other_commands_are_no_pong() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway, gateway.connected("alice") as client:
        await first_ping(clock, client)
        clock.advance(4)
        await client.result("subscribe", {"channel": "news"})
        clock.advance(4)
        assert (await client.closed())[0] == 3012


async def test_an_unsolicited_pong_is_closed_with_3501() -> None:
    clock = ManualClock()
    async with serving(build_container(clock=clock)) as gateway:
        async with gateway.client() as client:
            await client.send("{}")
            assert (await client.closed())[0] == 3501
        async with gateway.connected("alice") as client:
            await first_ping(clock, client)
            await client.send("{}", "{}")
            assert await client.closed() == (3501, "bad request: a pong without a ping")


async def test_the_times_of_pings_are_settings() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, ping={"interval": 0.5, "timeout": 0.2})
    async with serving(container) as gateway, gateway.client() as client:
        result = await client.result("connect", {"token": token("alice")})
        assert result["ping"] == 1, "rounded up, so that the SDK does not give up early"
        clock.advance(0.7)
        assert (await client.closed())[0] == 3012


def expiring(clock: ManualClock, **settings: Any) -> Any:
    """A container in which nothing but expiry happens as time passes."""
    return build_container(clock=clock, ping=QUIET, **settings)


async def test_a_connection_that_is_not_refreshed_within_25_seconds_of_its_ttl_is_closed_with_3005() -> None:
    clock = ManualClock(NOW)
    async with serving(expiring(clock)) as gateway, gateway.client() as client:
        result = await client.result("connect", {"token": token("alice", exp=NOW + 60)})
        assert (result["expires"], result["ttl"]) == (True, 60)
        clock.advance(84.9)
        await client.nothing()
        clock.advance(0.1)
        assert await client.closed() == (3005, "connection expired")


async def test_a_refresh_prolongs_the_connection() -> None:
    clock = ManualClock(NOW)
    async with serving(expiring(clock)) as gateway, gateway.client() as client:
        connected = await client.result("connect", {"token": token("alice", exp=NOW + 60)})
        clock.advance(70)
        result = await client.result("refresh", {"token": token("alice", exp=NOW + 170)})
        assert result == {"client": connected["client"], "version": connected["version"], "expires": True, "ttl": 100}
        clock.advance(124)
        await client.nothing()
        result = await client.result("refresh", {"token": token("alice")})
        assert "expires" not in result
        clock.advance(10_000)
        await client.nothing()


async def test_expire_at_says_when_a_connection_expires_whatever_exp_says() -> None:
    clock = ManualClock(NOW)
    async with serving(expiring(clock)) as gateway:
        for claims, ttl in (
            ({"exp": NOW + 60, "expire_at": NOW + 600}, 600),
            ({"exp": NOW + 60, "expire_at": 0}, None),
            ({"expire_at": NOW + 30}, 30),
            ({"exp": NOW + 0.5}, 1),
        ):
            async with gateway.client() as client:
                result = await client.result("connect", {"token": token("alice", **claims)})
                assert result.get("ttl") == ttl


@pytest.mark.parametrize("leeway", [0, 30])
async def test_a_token_whose_expire_at_has_passed_is_error_109(leeway: int) -> None:
    container = expiring(ManualClock(NOW), auth={"hmac_secret": SECRET, "leeway": leeway})
    passed: dict[str, Any] = {"exp": NOW + 60, "expire_at": NOW - leeway}
    async with serving(container) as gateway, gateway.client() as client:
        assert await client.error("connect", {"token": token("alice", **passed)}) == {
            "code": 109,
            "message": "token expired",
        }
        almost = token("alice", exp=NOW + 60, expire_at=NOW - leeway + 1)
        assert (await client.result("connect", {"token": almost}))["ttl"] == 1
        assert (await client.error("refresh", {"token": token("alice", **passed)}))["code"] == 109
        news = {"channel": "news", "token": token("alice", channel="news", **passed)}
        assert (await client.error("subscribe", news))["code"] == 109
        await client.result("subscribe", {"channel": "news", "token": token("alice", channel="news")})
        assert (await client.error("sub_refresh", news))["code"] == 109
        foreign = {"channel": "news", "token": token("bob", channel="news", **passed)}
        await client.send({"id": 99, "sub_refresh": foreign})
        assert (await client.closed())[0] == 3500, "that it has expired too makes it nobody else's"


async def test_a_refresh_with_an_expired_token_is_error_109_and_the_connection_goes_on() -> None:
    async with serving(expiring(ManualClock(NOW))) as gateway, gateway.connected("alice") as client:
        error = await client.error("refresh", {"token": token("alice", exp=NOW - 1)})
        assert error == {"code": 109, "message": "token expired"}
        await client.nothing()


async def test_a_refresh_with_a_bad_token_or_another_users_is_closed_with_3500() -> None:
    async with serving() as gateway:
        for sent in ("", "garbage", token("bob"), token("Alice"), token(sid="alice"), token("alice", channel="news")):
            async with gateway.connected("alice") as client:
                await client.send({"id": 9, "refresh": {"token": sent}})
                assert (await client.closed())[0] == 3500


async def test_a_refresh_by_another_sign_in_goes_on_where_sessions_are_one() -> None:
    async with serving() as gateway, gateway.connected("alice", sid="a") as client:
        await client.result("refresh", {"token": token("alice", sid="b")})
        await client.result("refresh", {"token": token("alice")})
        await client.nothing()


async def test_a_refresh_that_leads_to_another_manager_makes_the_client_come_back_with_3011() -> None:
    rules = ({"claim": "tier", "equals": "hipaa", "mode": "isolated"},)
    async with serving(build_container(mode_rules=rules)) as gateway:
        async with gateway.connected("alice", sid="a", tier="hipaa") as client:
            await client.result("refresh", {"token": token("alice", sid="a", tier="hipaa")})
            await client.send({"id": 9, "refresh": {"token": token("alice", sid="b", tier="hipaa")}})
            assert (await client.closed())[0] == 3011
        async with gateway.connected("alice", sid="a") as client:
            await client.send({"id": 9, "refresh": {"token": token("alice", sid="a", tier="hipaa")}})
            assert (await client.closed())[0] == 3011
        async with gateway.connected("alice", sid="a", tier="hipaa") as client:
            await client.send({"id": 9, "refresh": {"token": token("alice", tier="hipaa")}})
            assert (await client.closed())[0] == 3500
        assert gateway.container.manager.count() == 0


async def test_refreshing_works_in_emergency_mode() -> None:
    async with serving() as gateway, gateway.connected("alice") as client:
        await gateway.container.control().set_mode(ModeKind.EMERGENCY)
        await client.push()
        await client.result("refresh", {"token": token("alice")})


@pytest.mark.parametrize("leeway", [0, 30])
async def test_leeway_counts_for_a_refresh_too(leeway: int) -> None:
    container = expiring(ManualClock(NOW), auth={"hmac_secret": SECRET, "leeway": leeway})
    async with serving(container) as gateway, gateway.connected("alice") as client:
        reply = await client.call("refresh", {"token": token("alice", exp=NOW - 10)})
        assert ("refresh" in reply) is (leeway == 30)
