"""What operators do to living managers."""

from __future__ import annotations

import asyncio

import pytest

from app.realtime.control import BATCH
from app.realtime.identity import IdentityError, UserContext
from app.realtime.modes import ModeKind, ModeLimitExceeded
from containers import GatewayContainer
from tests.gateway import build_container, token
from tests.realtime.peer import Peer

ALICE = UserContext(user_id="alice")


async def test_a_report_tells_connections_mode_and_streams_and_no_content(container: GatewayContainer) -> None:
    control = container.control()
    assert await control.report("alice") == ()
    async with Peer(container) as phone, Peer(container) as laptop:
        await phone.connect("alice")
        await laptop.connect("alice")
        await container.publisher().publish_to_user("alice", "tick", "s3cr3t", channel="news")
        (report,) = await control.report("alice")
        assert (report.key, report.mode, report.reason) == ("user:alice", ModeKind.UNIFIED, "default")
        assert set(report.connections) == {phone.connection.id, laptop.connection.id}
        assert {stream.channel: stream.position.offset for stream in report.streams} == {"#alice": 0, "news": 1}
        assert "s3cr3t" not in repr(report)
    (report,) = await control.report("alice")
    assert (report.connections, len(report.streams)) == ((), 2)
    with pytest.raises(IdentityError):
        await control.report("")


async def test_an_isolated_user_is_reported_session_by_session() -> None:
    container = build_container(mode="isolated")
    async with Peer(container) as phone, Peer(container) as laptop:
        await phone.connect("alice", sid="phone")
        await laptop.connect("alice", sid="laptop")
        reports = await container.control().report("alice")
        assert {report.key: report.connections for report in reports} == {
            "user-session:alice:phone": (phone.connection.id,),
            "user-session:alice:laptop": (laptop.connection.id,),
        }
        assert await container.control().disconnect("alice") == 2
        assert phone.close_code == laptop.close_code == 3503


async def test_a_manager_that_only_a_request_holds_is_found(container: GatewayContainer) -> None:
    held = container.manager(ALICE)
    (report,) = await container.control().report("alice")
    assert (report.key, report.connections) == ("user:alice", ())
    assert await container.control().set_mode(ModeKind.EMERGENCY, "alice") == 1
    assert held.mode.kind is ModeKind.EMERGENCY


async def test_disconnecting_a_user_ends_that_user_alone(container: GatewayContainer) -> None:
    async with Peer(container) as alice, Peer(container) as bob:
        await alice.connect("alice")
        await bob.connect("bob")
        assert await container.control().disconnect("alice") == 1
        assert (alice.close_code, bob.close_code) == (3503, None)
        assert await container.control().disconnect("alice") == 0


async def test_a_change_of_mode_reaches_managers_and_tells_clients_once(container: GatewayContainer) -> None:
    control = container.control()
    async with Peer(container) as alice, Peer(container) as bob:
        await alice.connect("alice")
        await bob.connect("bob")
        before = container.manager(ALICE).mode
        assert await control.set_mode(ModeKind.DEGRADED, "alice") == 1
        assert await control.set_mode(ModeKind.DEGRADED, "alice") == 0
        after = container.manager(ALICE).mode
        assert (after.kind, after.reason) == (ModeKind.DEGRADED, "operator")
        assert after is not before
        await alice.settle()
        told = {"type": "mode", "mode": "degraded", "reason": "operator"}
        assert [push["data"] for push in alice.pushes("message")] == [told]
        assert bob.pushes() == []
        events = [(event.event, event.detail) for event in container.manager(ALICE).record.events]
        assert ("mode_changed", "degraded") in events


async def test_a_change_of_mode_that_moves_the_key_sends_clients_to_their_new_manager(
    container: GatewayContainer,
) -> None:
    async with Peer(container) as alice, Peer(container) as bob:
        await alice.connect("alice", sid="phone")
        await bob.connect("bob", sid="phone")
        assert await container.control().set_mode(ModeKind.ISOLATED, "alice") == 1
        assert (alice.close_code, bob.close_code) == (3011, None)
        async with Peer(container) as again:
            await again.connect("alice", sid="phone")
            assert [manager.key for manager in container.publisher().connected("alice")] == ["user-session:alice:phone"]
            assert await container.control().set_mode(None, "alice") == 1
            assert again.close_code == 3011


async def test_a_client_without_a_session_cannot_follow_into_isolated_mode(container: GatewayContainer) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        assert await container.control().set_mode(ModeKind.ISOLATED) == 1
        assert peer.close_code == 3011
    async with Peer(container) as again:
        await again.call("connect", {"token": token("alice")})
        assert again.close_code == 3500


async def test_modes_of_too_many_users_are_refused_and_change_nothing() -> None:
    container = build_container(modes={"max_user_modes": 1})
    await container.control().set_mode(ModeKind.DEGRADED, "bob")
    held = container.manager(ALICE)
    with pytest.raises(ModeLimitExceeded):
        await container.control().set_mode(ModeKind.DEGRADED, "alice")
    assert held.mode.kind is ModeKind.UNIFIED


async def test_a_change_for_all_gives_others_their_turn(container: GatewayContainer) -> None:
    held = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(2 * BATCH + 1)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    assert await container.control().set_mode(ModeKind.EMERGENCY) == len(held)
    counter.cancel()
    assert turns >= 2
    assert {manager.mode.kind for manager in held} == {ModeKind.EMERGENCY}


async def test_draining_ends_every_connection_in_batches_and_is_seen_by_load_balancers(
    container: GatewayContainer,
) -> None:
    control = container.control()
    assert (control.ready(), control.draining) == (True, False)
    peers = [await Peer(container).__aenter__() for _ in range(2 * BATCH + 10)]
    for number, peer in enumerate(peers):
        await peer.connect(f"user-{number}")
    draining = asyncio.create_task(control.drain(0.2))
    await asyncio.sleep(0.01)
    assert (control.ready(), control.draining) == (False, True)
    assert 0 < sum(peer.close_code is not None for peer in peers) <= BATCH
    assert await draining == len(peers)
    assert {peer.close_code for peer in peers} == {3001}
    assert container.manager.count() == 0
    assert await control.drain(0) == 0


async def test_a_gateway_without_its_broker_is_not_ready(container: GatewayContainer) -> None:
    await container.broker().close()
    assert not container.control().ready()
