"""A connection that ends while it waits for something leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from dependency_injector import providers

from app.realtime.authentication import Authenticated, Authenticator, ExpiredToken, SubscriptionGrant
from app.realtime.broker import BrokerError
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.connection import ConnectionState
from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import build_container, token
from tests.realtime.gates import Gate
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty


class SlowAuthenticator:
    """Stands before the container's authenticator, as a key set at a slow address does."""

    def __init__(self, authenticator: Authenticator, gate: Gate) -> None:
        """Everybody passes the gate first."""
        self._authenticator = authenticator
        self._gate = gate

    async def authenticate(self, token: str) -> Authenticated:
        """See `Authenticator`."""
        await self._gate()
        return await self._authenticator.authenticate(token)

    async def authenticate_subscription(
        self, token: str, *, user_id: str | None, client: str, channel: str
    ) -> SubscriptionGrant:
        """See `Authenticator`."""
        await self._gate()
        return await self._authenticator.authenticate_subscription(
            token, user_id=user_id, client=client, channel=channel
        )


def slow_authentication(container: GatewayContainer, error: Callable[[], Exception] | None = None) -> Gate:
    gate = Gate(error)
    slow = SlowAuthenticator(container.authenticator(), gate)
    container.authenticator.override(providers.Object(slow))
    return gate


def connections(container: GatewayContainer) -> float | None:
    return container.metrics().registry.get_sample_value("bulkhead_connections")


async def test_a_connection_that_ends_while_its_token_is_verified_never_gets_a_manager(
    container: GatewayContainer,
) -> None:
    gate = slow_authentication(container)
    async with Peer(container) as peer:
        await gate.hold(peer.call("connect", {"token": token("alice")}), peer.leave)
        assert peer.connection.state is ConnectionState.CLOSED
        assert container.manager.count() == 0
        assert connections(container) == 0


async def test_a_connection_that_ends_while_an_expired_token_is_verified_stays_closed(
    container: GatewayContainer, clock: ManualClock
) -> None:
    gate = slow_authentication(container, ExpiredToken)
    async with Peer(container) as peer:
        await gate.hold(peer.call("connect", {"token": token("alice")}), lambda: clock.advance(10))
        assert peer.close_code == 3502
        assert peer.connection.state is ConnectionState.CLOSED
        assert await peer.call("connect", {"token": token("alice")}) == {}
    assert connections(container) == 0


async def test_an_expired_token_may_be_followed_by_a_fresh_one(container: GatewayContainer, clock: ManualClock) -> None:
    async with Peer(container) as peer:
        assert await peer.error("connect", {"token": token("alice", exp=clock.time())}) == 109
        await peer.connect("alice")


@pytest.mark.parametrize("method", ["subscribe", "history", "add_presence"])
async def test_a_connection_that_ends_while_it_subscribes_leaves_nothing(
    method: str, container: GatewayContainer
) -> None:
    faulty = make_faulty(container)
    gate = faulty.after[method] = Gate()
    async with Peer(container) as peer:
        await gate.hold(peer.call("connect", {"token": token("alice")}), peer.leave)
        await peer.settle()
    assert container.manager.count() == 0
    assert await faulty.presence("user:alice", "#alice") == {}
    assert container.publisher().connected("alice") == []


@pytest.mark.parametrize("method", ["history", "add_presence"])
async def test_a_subscription_that_held_too_much_is_refused_for_now_and_leaves_nothing(method: str) -> None:
    container = build_container(clock=ManualClock(), limits={"queue_bytes": 4096})
    faulty = make_faulty(container)
    async with Peer(container) as peer:
        await peer.connect("alice")
        gate = faulty.before[method] = Gate()
        manager = container.manager(UserContext(user_id="alice"))
        subscribing = asyncio.ensure_future(peer.call("subscribe", {"channel": "news"}))
        await gate.reached.wait()
        for _ in range(50):
            await manager.emit("tick", "x" * 100, channel="news")
        gate.opened.set()
        reply = await subscribing
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert [push["code"] for push in peer.pushes("unsubscribe")] == [2500]
        assert await faulty.presence("user:alice", "news") == {}
        del faulty.before[method]
        assert (await peer.result("subscribe", {"channel": "news"}))["offset"] == 50


async def test_a_refresh_that_ends_with_its_connection_arms_no_timer(
    container: GatewayContainer, clock: ManualClock
) -> None:
    gate = slow_authentication(container)
    gate.opened.set()
    async with Peer(container) as peer:
        await peer.connect("alice", exp=clock.time() + 60)
        gate.shut()
        refresh = peer.call("refresh", {"token": token("alice", exp=clock.time() + 6000)})
        before = clock.pending
        await gate.hold(refresh, peer.leave)
        # The connection's ping and expiry are gone; the broker's own timer is left.
        assert clock.pending == before - 2


async def test_a_subscription_refresh_that_ends_with_its_connection_keeps_no_manager(
    container: GatewayContainer, clock: ManualClock, no_garbage_collection: None
) -> None:
    gate = slow_authentication(container)
    gate.opened.set()
    async with Peer(container) as peer:
        await peer.connect("alice")
        await peer.result("subscribe", {"channel": "news"})
        gate.shut()
        fresh = token("alice", channel="news", exp=clock.time() + 6000)
        await gate.hold(peer.call("sub_refresh", {"channel": "news", "token": fresh}), peer.leave)
        await peer.settle()
        assert container.manager.count() == 0


async def test_a_subscription_refresh_sets_the_time_anew(container: GatewayContainer, clock: ManualClock) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        soon = token("alice", channel="news", exp=clock.time() + 10)
        assert (await peer.result("subscribe", {"channel": "news", "token": soon}))["ttl"] == 10
        later = token("alice", channel="news", exp=clock.time() + 100)
        result = await peer.result("sub_refresh", {"channel": "news", "token": later})
        assert result == {"expires": True, "ttl": 100}
        assert await peer.error("sub_refresh", {"channel": "other", "token": later}) == 103
        assert peer.close_code is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param('{"id": 9, "connect": {}}', 3501, id="second connect"),
        pytest.param("nonsense", 3501, id="no JSON"),
        pytest.param('{"id": 9, "refresh": {"token": "forged"}}', 3500, id="forged refresh"),
    ],
)
async def test_a_client_that_breaks_the_protocol_holds_no_manager_once_it_is_closed(
    text: str, code: int, container: GatewayContainer, no_garbage_collection: None
) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        await peer.send(text)
        assert (peer.close_code, peer.told_to_close) == (code, 1)
        assert container.manager.count() == 0


async def test_a_connection_beyond_the_limit_holds_no_manager_once_it_is_closed(no_garbage_collection: None) -> None:
    container = build_container(limits={"connections_per_user": 1})
    async with Peer(container) as first, Peer(container) as second:
        await first.connect("alice")
        await second.call("connect", {"token": token("alice")})
        assert second.close_code == 3504
        first.leave()
        assert container.manager.count() == 0


async def test_a_connect_that_fails_takes_no_commands(container: GatewayContainer) -> None:
    gate = make_faulty(container).before["history"] = Gate(lambda: RuntimeError("a defect"))
    gate.opened.set()
    async with Peer(container) as peer:
        assert await peer.error("connect", {"token": token("alice")}) == 100
        assert peer.connection.state is ConnectionState.CONNECTING
        assert await peer.call("publish", {"channel": "news", "data": 1}) == {}
        assert peer.close_code == 3501
    assert container.manager.count() == 0


async def test_a_client_whose_queue_is_too_small_for_the_answer_gets_no_ping(clock: ManualClock) -> None:
    container = build_container(clock=clock, limits={"queue_bytes": 4096})
    names = [f"{'c' * 100}{number}" for number in range(60)]
    connect = {"id": 1, "connect": {"token": token("alice", channels=names)}}
    async with Peer(container) as peer:
        await peer.send(json.dumps(connect))
        assert (peer.close_code, peer.messages, peer.close_frames) == (3008, [], 1)
        assert clock.pending == 1  # the broker's


async def test_positions_that_cannot_be_checked_are_checked_the_next_time(
    container: GatewayContainer, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = make_faulty(container)
    async with Peer(container) as peer:
        await peer.connect("alice")
        gate = faulty.before["history"] = Gate(lambda: BrokerError("unplugged"))
        gate.opened.set()
        await pong(peer, clock, times=3)
        assert peer.close_code is None
        assert [record.getMessage() for record in caplog.records] == ["positions were not checked: unplugged"]
        del faulty.before["history"]
        faulty.lose = 1
        await container.publisher().publish_to_user("alice", "tick", 1)
        await pong(peer, clock, times=3)
        assert peer.close_code == 3010


async def pong(peer: Peer, clock: ManualClock, *, times: int) -> None:
    for _ in range(times):
        while {} not in peer.messages and peer.close_code is None:
            clock.advance(1)
            await peer.settle()
        if {} in peer.messages:
            peer.messages.remove({})
            await peer.send("{}")


async def test_the_application_ends_a_connection_once_however_often_it_says_so(container: GatewayContainer) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        for code in (DisconnectCode.SHUTDOWN, DisconnectCode.SLOW):
            peer.connection.disconnect(Disconnect(code))
        peer.connection.close(1000)
        assert (peer.close_code, peer.told_to_close) == (3001, 1)
        details = [event.detail for event in container.lifecycle().events(10) if event.event == "disconnected"]
        assert details == [f"{peer.connection.id} 3001"]
        assert connections(container) == 0


async def test_a_subscription_that_was_refused_announces_no_leave(container: GatewayContainer) -> None:
    faulty = make_faulty(container)
    async with Peer(container) as first, Peer(container) as second:
        await first.connect("alice")
        await first.result("subscribe", {"channel": "news", "join_leave": True})
        await second.connect("alice")
        gate = faulty.before["history"] = Gate(lambda: BrokerError("unplugged"))
        gate.opened.set()
        assert await second.error("subscribe", {"channel": "news"}) == 100
        await first.settle()
        assert [set(push) - {"channel"} for push in first.pushes()] == [{"join"}]
        del faulty.before["history"]
        await second.result("subscribe", {"channel": "news"})
        await second.result("unsubscribe", {"channel": "news"})
        await first.settle()
        assert [set(push) - {"channel"} for push in first.pushes()] == [{"join"}, {"leave"}]


async def test_a_ping_that_finds_no_room_ends_the_connection_as_slow(clock: ManualClock) -> None:
    container = build_container(clock=clock, limits={"queue_bytes": 1024})
    async with Peer(container) as peer:
        await peer.connect("alice")
        peer.reads.clear()
        await container.publisher().publish("user:alice", "#alice", "1" * 100, mode=ModeKind.UNIFIED)
        free = 1024 - peer.connection.outbound.size
        frame_around = len('{"push":{"channel":"#alice","pub":{"data":,"offset":2}}}')
        await container.publisher().publish("user:alice", "#alice", "1" * (free - frame_around), mode=ModeKind.UNIFIED)
        assert peer.connection.outbound.size == 1024
        clock.advance(25)
        assert peer.close_code == 3008
