"""The way in, mode by mode."""

from __future__ import annotations

import asyncio

import pytest

from app.realtime.broker import BrokerError
from app.realtime.identity import IdentityError, UserContext
from app.realtime.modes import ModeKind, SessionRequired
from app.realtime.publisher import Refused
from containers import GatewayContainer
from tests.gateway import build_container
from tests.realtime.gates import Gate
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty

ALICE = UserContext(user_id="alice")


async def test_an_event_goes_to_the_users_connections_and_into_the_stream(container: GatewayContainer) -> None:
    async with Peer(container) as phone, Peer(container) as laptop, Peer(container) as bob:
        await phone.connect("alice")
        await laptop.connect("alice")
        await bob.connect("bob")
        published = await container.publisher().publish_to_user("alice", "tick", {"n": 1})
        assert (published.offset, published.connections, published.duplicate, published.queued) == (1, 2, False, False)
        assert published.epoch
        for peer in (phone, laptop, bob):
            await peer.settle()
        assert phone.data() == laptop.data() == [{"n": 1}]
        assert bob.messages == []


async def test_an_event_of_the_manager_itself_goes_to_its_personal_or_a_named_channel(
    container: GatewayContainer,
) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        await peer.result("subscribe", {"channel": "news"})
        manager = container.manager(ALICE)
        await manager.emit("tick", 1, thread_id="t")
        await manager.emit("tick", 2, channel="news")
        await peer.settle()
        pushes = peer.pushes()
        assert [(push["channel"], push["pub"]["data"]["data"]) for push in pushes] == [("#alice", 1), ("news", 2)]
        assert pushes[0]["pub"]["data"]["thread_id"] == "t"


async def test_emergency_mode_takes_critical_types_alone(container: GatewayContainer) -> None:
    publisher = container.publisher()
    await container.control().set_mode(ModeKind.EMERGENCY)
    for type_ in container.settings().modes.critical_types:
        assert (await publisher.publish_to_user("alice", type_, 1)).offset
    with pytest.raises(Refused, match="emergency mode takes only emergency, security_alert, system_notice") as refused:
        await publisher.publish_to_user("alice", "tick", 1)
    assert refused.value.retry_after == container.settings().modes.retry_after
    with pytest.raises(Refused):
        await publisher.publish("user:alice", "news", "1", mode=ModeKind.EMERGENCY)
    (stream,) = await container.broker().streams("user:alice")
    assert stream.publications == 3


async def test_the_mode_of_the_living_manager_counts_and_not_what_would_be_decided_now(
    container: GatewayContainer,
) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        container.policy().set_for_all(ModeKind.EMERGENCY)
        await container.publisher().publish_to_user("alice", "tick", 1)
        with pytest.raises(Refused):
            await container.publisher().publish_to_user("bob", "tick", 1)


async def test_an_isolated_user_is_published_to_session_by_session() -> None:
    container = build_container(mode="isolated")
    publisher = container.publisher()
    async with Peer(container) as phone, Peer(container) as laptop:
        await phone.connect("alice", sid="phone")
        await laptop.connect("alice", sid="laptop")
        with pytest.raises(SessionRequired):
            await publisher.publish_to_user("alice", "tick", 1)
        assert (await publisher.publish_to_user("alice", "tick", 2, session_id="phone")).connections == 1
        assert (await publisher.publish_to_user("alice", "tick", 3, session_id="nowhere")).connections == 0
        await phone.settle()
        await laptop.settle()
        assert (phone.data(), laptop.data()) == ([2], [])
        assert {manager.key for manager in publisher.connected("alice")} == {
            "user-session:alice:phone",
            "user-session:alice:laptop",
        }
        phone.leave()
        assert [manager.key for manager in publisher.connected("alice")] == ["user-session:alice:laptop"]
    assert publisher.connected("alice") == []


async def test_a_user_without_an_id_has_a_manager_that_no_user_id_finds(container: GatewayContainer) -> None:
    container = build_container(auth={"anonymous": True})
    async with Peer(container) as peer:
        await peer.result("connect", {})
        (manager,) = container.lifecycle().living()
        assert manager.context.user_id is None
        assert (await manager.emit("tick", 1)).connections == 1
        assert container.publisher().connected(manager.context.subject) == []


@pytest.mark.parametrize(
    ("user", "type_", "thread"), [("", "tick", None), ("a\n", "tick", None), ("a", "", None), ("a", "tick", "")]
)
async def test_what_breaks_a_rule_of_ids_is_not_published(
    user: str, type_: str, thread: str | None, container: GatewayContainer
) -> None:
    with pytest.raises(IdentityError):
        await container.publisher().publish_to_user(user, type_, 1, thread_id=thread)


async def test_the_same_idempotency_key_is_published_once(container: GatewayContainer) -> None:
    publisher = container.publisher()
    async with Peer(container) as peer:
        await peer.connect("alice")
        first = await publisher.publish_to_user("alice", "tick", 1, idempotency_key="k")
        again = await publisher.publish_to_user("alice", "tick", 1, idempotency_key="k")
        assert (again.offset, again.epoch, again.duplicate, again.connections) == (1, first.epoch, True, 0)
        await peer.settle()
        assert peer.data() == [1]


async def test_a_broker_that_cannot_be_reached_is_the_publishers_error(container: GatewayContainer) -> None:
    gate = make_faulty(container).before["publish"] = Gate(lambda: BrokerError("unplugged"))
    gate.opened.set()
    with pytest.raises(BrokerError, match="unplugged"):
        await container.publisher().publish_to_user("alice", "tick", 1)


async def test_a_publisher_in_a_loop_lets_writers_write(container: GatewayContainer) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        for number in range(400):  # 4 MB, four times what the queue takes
            await container.publisher().publish_to_user("alice", "tick", f"{number}:" + "x" * 10_000)
        await peer.settle()
        assert peer.close_code is None
        assert [text.partition(":")[0] for text in peer.data()] == [str(number) for number in range(400)]


async def test_many_publishers_in_loops_let_writers_write(container: GatewayContainer) -> None:
    async def publish(name: str) -> None:
        for number in range(200):
            await container.publisher().publish_to_user("alice", "tick", f"{name}:{number}:" + "x" * 10_000)

    names = [f"publisher-{number}" for number in range(8)]
    async with Peer(container) as peer:
        await peer.connect("alice")
        await asyncio.gather(*map(publish, names))
        await peer.settle()
        assert peer.close_code is None
        got = [text.rpartition(":")[0] for text in peer.data()]
        assert {name: [each for each in got if each.startswith(f"{name}:")] for name in names} == {
            name: [f"{name}:{number}" for number in range(200)] for name in names
        }


@pytest.mark.parametrize(("user", "text"), [("u", "x"), ("u" * 254, "x"), ("u", "日" * 10)])
async def test_however_small_events_are_a_loop_of_them_makes_no_client_look_slow(
    container: GatewayContainer, user: str, text: str
) -> None:
    async with Peer(container) as peer:
        await peer.connect(user)
        for _ in range(20_000):
            await container.publisher().publish_to_user(user, "t", text)
        await peer.settle()
        assert (peer.close_code, len(peer.data())) == (None, 20_000)


async def test_a_slow_client_is_disconnected_and_nobody_else_waits(container: GatewayContainer) -> None:
    async with Peer(container) as slow, Peer(container) as other:
        await slow.connect("alice")
        await other.connect("alice")
        slow.reads.clear()
        for number in range(150):
            await container.publisher().publish_to_user("alice", "tick", f"{number}:" + "x" * 10_000)
            await other.settle()
        assert (slow.close_code, slow.told_to_close, slow.messages) == (3008, 1, [])
        assert (other.close_code, len(other.data())) == (None, 150)
        slow.reads.set()
        await slow.settle()
        assert slow.close_frames == 1
        assert len(slow.messages) == 1  # what was being written; the rest was dropped


async def test_a_channel_that_nobody_could_read_is_not_published_to(container: GatewayContainer) -> None:
    with pytest.raises(IdentityError, match="starts with #, as personal channels do"):
        await container.publisher().publish_to_user("alice", "tick", 1, channel="#bob")
    assert (await container.publisher().publish_to_user("alice", "tick", 1, channel="#alice")).offset == 1


async def test_a_manager_that_was_replaced_takes_nothing_of_its_successor_along(container: GatewayContainer) -> None:
    async with Peer(container) as before, Peer(container) as after:
        await before.connect("alice")
        container.manager.reset()
        await after.connect("alice")
        before.leave()
        assert container.publisher().connected("alice") == [container.manager(ALICE)]
        assert (await container.publisher().publish_to_user("alice", "tick", 1)).connections == 1
