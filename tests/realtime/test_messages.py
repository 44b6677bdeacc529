"""What operators set is the same on all nodes, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.clock import SystemClock
from app.realtime.identity import UserContext
from app.realtime.messages import DisconnectUser, OperatorModes, SetMode, decode_message, encode_message
from app.realtime.modes import ModeKind, ModeLimitExceeded, ModePolicy
from containers import GatewayContainer
from tests.broker.engines import memory
from tests.realtime.gates import Gate
from tests.realtime.peer import Peer
from tests.wire.faulty import FaultyBroker, make_faulty


class Node:
    """The operators' side of a node, on a broker that nodes share."""

    def __init__(self, broker: FaultyBroker, limit: int = 3) -> None:
        """Knows nothing yet."""
        self.policy = ModePolicy(default="unified", rules=(), clock=SystemClock(), max_user_modes=100)
        self.modes = OperatorModes(self.policy, broker, limit)

    @property
    def set(self) -> dict[str | None, ModeKind]:
        """What it knows."""
        return {user_id: decided.kind for user_id, decided in self.policy.operators.items()}


@pytest.fixture
async def broker() -> AsyncIterator[FaultyBroker]:
    """A broker that can fail."""
    async with memory() as engine:
        yield FaultyBroker(engine.broker)


async def unavailable() -> None:
    """A fault."""
    raise BrokerUnavailable("unplugged")


@pytest.mark.parametrize("message", [DisconnectUser("a:b"), SetMode(None), SetMode("ü", ModeKind.EMERGENCY, None)])
def test_a_message_survives_its_way(message: DisconnectUser | SetMode) -> None:
    assert decode_message(encode_message(message)) == message


async def test_a_node_that_starts_later_learns_what_was_set_and_what_was_given_back(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    first.modes.set(None, ModeKind.DEGRADED)
    first.modes.set("alice", ModeKind.ISOLATED)
    first.modes.set("bob", ModeKind.EMERGENCY)
    await first.modes.tell()
    await second.modes.load()
    assert second.set == first.set
    assert second.policy.operators["alice"].keys is ModeKind.ISOLATED
    first.modes.set(None, None)
    first.modes.set("bob", None)
    await first.modes.tell()
    await second.modes.load()
    assert second.set == {"alice": ModeKind.ISOLATED}


@pytest.mark.parametrize("call", ["store", "broadcast"])
async def test_what_could_not_be_told_is_told_later_and_stands_above_what_is_stored(
    broker: FaultyBroker, call: str
) -> None:
    first, second = Node(broker), Node(broker)
    await second.modes.load()
    second.modes.set("alice", ModeKind.DEGRADED)
    await second.modes.tell()
    broker.before[call] = unavailable
    first.modes.set("alice", ModeKind.EMERGENCY)
    await first.modes.tell()
    await first.modes.load()
    assert first.set == {"alice": ModeKind.EMERGENCY}
    broker.before.clear()
    await first.modes.tell()
    await second.modes.load()
    assert second.set == first.set


async def test_a_change_while_the_one_before_is_told_is_told_as_well(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    gate = broker.before["broadcast"] = Gate()
    first.modes.set("alice", ModeKind.DEGRADED)
    await gate.hold(first.modes.tell(), lambda: first.modes.set("alice", ModeKind.EMERGENCY))
    await first.modes.tell()
    await second.modes.load()
    assert second.set == {"alice": ModeKind.EMERGENCY}


@pytest.mark.parametrize("late", ["store", "broadcast", "recall"])
async def test_nodes_on_which_operators_are_at_it_at_the_same_moment_agree(broker: FaultyBroker, late: str) -> None:
    nodes = Node(broker), Node(broker)
    nodes[0].modes.set("alice", ModeKind.EMERGENCY)
    gate = broker.before[late] = Gate()
    first = asyncio.create_task(nodes[0].modes.tell())
    await gate.reached.wait()
    broker.before.clear()
    nodes[1].modes.set("alice", ModeKind.DEGRADED)
    assert await nodes[1].modes.tell() == []
    gate.opened.set()
    overruled = await first
    assert overruled == ([] if late == "store" else ["alice"])
    # Each hears of the other's, in whatever order.
    for node in nodes:
        await node.modes.learn("alice")
    stored = decode_message((await broker.stored())["mode:alice"])
    assert isinstance(stored, SetMode)
    assert nodes[0].set == nodes[1].set == {"alice": stored.kind}


async def test_what_is_set_here_while_what_another_node_told_of_is_read_is_newer(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    first.modes.set("alice", ModeKind.DEGRADED)
    await first.modes.tell()
    gate = broker.after["recall"] = Gate()
    await gate.hold(second.modes.learn("alice"), lambda: second.modes.set("alice", ModeKind.EMERGENCY))
    assert second.set == {"alice": ModeKind.EMERGENCY}
    await second.modes.tell()
    await first.modes.learn("alice")
    assert first.set == second.set


async def test_changes_that_wait_to_be_told_are_bounded(broker: FaultyBroker) -> None:
    node = Node(broker, limit=2)
    broker.before["store"] = unavailable
    for number in range(3):  # two users, and all
        node.modes.set(f"user-{number}", ModeKind.DEGRADED)
    with pytest.raises(ModeLimitExceeded):
        node.modes.set("user-3", ModeKind.DEGRADED)
    assert len(node.set) == 3
    node.modes.set("user-0", ModeKind.EMERGENCY)


async def test_what_another_node_says_while_the_stored_is_read_is_newer(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    first.modes.set("alice", ModeKind.DEGRADED)
    first.modes.set("bob", ModeKind.DEGRADED)
    await first.modes.load()
    gate = broker.after["stored"] = Gate()
    loading = asyncio.create_task(second.modes.load())
    await gate.reached.wait()
    for user in ("alice", "carol"):
        first.modes.set(user, ModeKind.EMERGENCY)
        await first.modes.tell()
        assert await second.modes.learn(user)
    gate.opened.set()
    await loading
    newer = {"alice": ModeKind.EMERGENCY, "carol": ModeKind.EMERGENCY}
    assert second.set == {**newer, "bob": ModeKind.DEGRADED}
    broker.after.clear()
    await broker.store("mode:carol", None)
    await second.modes.load()  # another time nothing is newer than what is stored
    assert second.set == {"alice": ModeKind.EMERGENCY, "bob": ModeKind.DEGRADED}


async def test_a_broker_that_forgot_what_was_set_learns_it_from_the_nodes(broker: FaultyBroker) -> None:
    nodes = Node(broker), Node(broker)
    nodes[0].modes.set("alice", ModeKind.ISOLATED)
    nodes[0].modes.set(None, ModeKind.EMERGENCY)
    for node in nodes:
        await node.modes.load()
    known = nodes[0].set
    assert known == {"alice": ModeKind.ISOLATED, None: ModeKind.EMERGENCY}
    for name in await broker.stored():
        await broker.store(name, None)
    for node in (*nodes, Node(broker)):
        await node.modes.load()
        assert node.set == known
    nodes[1].modes.set(None, None)
    await nodes[1].modes.tell()
    await nodes[0].modes.load()
    assert nodes[0].set == {"alice": ModeKind.ISOLATED}


async def test_a_broker_that_forgets_while_a_change_is_told_takes_nothing_away(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    for node in (first, second):
        await node.modes.load()
    first.modes.set("bob", ModeKind.EMERGENCY)
    await first.modes.tell()
    await second.modes.learn("bob")

    async def forget() -> None:
        broker.before["recall"] = lambda: asyncio.sleep(0)
        for name in await broker.stored():
            await broker.store(name, None)

    broker.before["recall"] = forget
    first.modes.set("alice", ModeKind.ISOLATED)
    await first.modes.tell()
    assert first.set == {"alice": ModeKind.ISOLATED, "bob": ModeKind.EMERGENCY}
    await second.modes.learn("alice")
    await second.modes.learn("bob")
    assert second.set == first.set


async def test_a_new_node_that_comes_first_to_a_broker_that_forgot_takes_nothing_away(broker: FaultyBroker) -> None:
    old, fresh = (Node(broker), Node(broker)), Node(broker)
    old[0].modes.set("alice", ModeKind.ISOLATED)
    old[0].modes.set(None, ModeKind.EMERGENCY)
    for node in old:
        await node.modes.load()
    for name in await broker.stored():
        await broker.store(name, None)
    await fresh.modes.load()
    fresh.modes.set(None, ModeKind.DEGRADED)
    await fresh.modes.tell()
    for node in (*old, fresh):
        await node.modes.load()
        assert node.set == {"alice": ModeKind.ISOLATED, None: ModeKind.DEGRADED}, "what was set since stands above"
    # Now that all know this broker, what is given back is gone for all.
    fresh.modes.set("alice", None)
    await fresh.modes.tell()
    for node in (*old, fresh):
        await node.modes.load()
        assert node.set == {None: ModeKind.DEGRADED}


async def test_nodes_that_come_first_together_agree(broker: FaultyBroker) -> None:
    nodes = Node(broker), Node(broker)
    gate = broker.before["store"] = Gate()
    both = asyncio.gather(*(node.modes.load() for node in nodes))
    await gate.hold(both, lambda: None)
    for node in nodes:
        await node.modes.load()
    nodes[0].modes.set("alice", ModeKind.DEGRADED)
    await nodes[0].modes.tell()
    await nodes[1].modes.load()
    nodes[0].modes.set("alice", None)
    await nodes[0].modes.tell()
    await nodes[1].modes.load()
    assert nodes[1].set == {}


async def test_stored_values_of_a_later_version_are_left_alone(broker: FaultyBroker) -> None:
    first, second = Node(broker), Node(broker)
    first.modes.set("alice", ModeKind.DEGRADED)
    first.modes.set("bob", ModeKind.EMERGENCY)
    await first.modes.load()
    assert await second.modes.learn("bob")
    for name, text in {
        "mode": "no JSON",
        "mode:bob": '{"type":"mode","user_id":"bob","kind":"frozen"}',
        "mode:carol": '{"type":"mode","user_id":"dave","kind":"degraded"}',
        "mode:erin": '{"type":"disconnect","user_id":"erin"}',
        "else": "{}",
    }.items():
        await broker.store(name, text)
    await second.modes.load()
    assert not await second.modes.learn("bob")
    assert second.set == {"alice": ModeKind.DEGRADED, "bob": ModeKind.EMERGENCY}


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no JSON",
        "[]",
        '{"type":"later"}',
        '{"type":"disconnect"}',
        '{"type":"disconnect","user_id":7}',
        '{"type":"disconnect","user_id":""}',
        '{"type":"disconnect","user_id":"a\\u0000b"}',
        '{"type":"mode","user_id":"","kind":"degraded"}',
        '{"type":"mode","user_id":"alice","kind":"s3cr3t"}',
    ],
)
async def test_a_message_that_says_nothing_changes_nothing_and_is_not_repeated_in_the_log(
    container: GatewayContainer, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Peer(container) as alice:
        await alice.connect("alice")
        container.control().broker_message(message)
        await alice.settle()
        assert (alice.close_code, alice.pushes("message")) == (None, [])
    assert container.policy().operators == {}
    assert "does not understand" in caplog.text
    assert "s3cr3t" not in caplog.text


async def said(container: GatewayContainer, message: SetMode) -> None:
    """Another node sets a mode."""
    name = "mode" if message.user_id is None else f"mode:{message.user_id}"
    await container.broker().store(name, None if message.kind is None else encode_message(message))
    container.control().broker_message(encode_message(message))


async def test_a_message_ends_connections_or_sets_a_mode_here(container: GatewayContainer) -> None:
    control = container.control()
    async with Peer(container) as alice, Peer(container) as bob:
        await alice.connect("alice")
        await bob.connect("bob")
        await said(container, SetMode("bob", ModeKind.EMERGENCY))
        control.broker_message(encode_message(DisconnectUser("alice")))
        await bob.settle()
        assert (alice.close_code, bob.close_code) == (3503, None)
        assert container.manager(UserContext(user_id="bob")).mode.kind is ModeKind.EMERGENCY
        await said(container, SetMode(None, ModeKind.DEGRADED, None))
        await said(container, SetMode("bob"))
        await bob.settle()
        modes = [push["data"]["mode"] for push in bob.pushes("message")]
        assert modes == ["emergency", "degraded"]


async def test_a_mode_that_another_node_told_of_may_fail_to_flush_and_is_logged_without_words(
    container: GatewayContainer, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = make_faulty(container)

    async def refuse() -> None:
        raise BrokerError("s3cr3t")

    await container.control().set_mode(ModeKind.DEGRADED)
    await container.publisher().publish_to_user("alice", "tick", 1)
    faulty.before["publish"] = refuse
    await said(container, SetMode(None))
    for _ in range(5):
        await asyncio.sleep(0)
    assert "a mode that another node told of: BrokerError" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "user:alice" in container.backlog()
