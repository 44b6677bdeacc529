"""The invariants of the design, by number. What has more to it is tested further elsewhere, as said at each."""

from __future__ import annotations

import ast
import asyncio
import gc
from pathlib import Path

import pytest

from app.realtime.auth_token import InvalidAuthToken
from app.realtime.broker import Position, Publication
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.identity import IdentityError, UserContext
from app.realtime.manager import ForeignPublication, UserManager
from app.realtime.modes import SessionRequired
from tests.gateway import build_container, token
from tests.realtime.peer import Peer
from tests.test_architecture import MODULES, ROOT, violations

ALICE = UserContext(user_id="alice")


async def test_invariant_1_one_manager_per_user_key_and_container_whoever_asks() -> None:
    """Further: test_threads.py, test_return.py; containers apart: tests/containers/test_map.py."""
    here, there = build_container(), build_container()
    asked = [asyncio.to_thread(here.manager, ALICE) for _ in range(20)]
    managers = {*await asyncio.gather(*asked), here.manager(ALICE)}
    assert len(managers) == here.manager.count() == 1
    assert there.manager(ALICE) not in managers
    assert here.token_issuer() is not there.token_issuer()
    assert here.broker() is not there.broker()


def test_invariant_2_everything_a_manager_owns_is_fresh() -> None:
    """Further: tests/origin/test_modes.py, tests/origin/test_validation.py."""
    container = build_container()
    a, b = (container.manager(UserContext(user_id=name)) for name in ("a", "b"))
    assert a.mode is not b.mode
    assert a.auth_token is not b.auth_token
    assert a.connections is not b.connections
    assert a.record is not b.record
    assert a.record.events is not b.record.events


def test_invariant_3_no_manager_outside_the_container() -> None:
    """Further: tests/origin/test_factory.py, tests/containers/test_auth_token.py."""
    container = build_container()

    def build(token: object) -> UserManager:
        return UserManager(
            key=ALICE.key,
            context=ALICE,
            mode=container.mode(ALICE),
            make_mode=container.mode,
            auth_token=token,  # type: ignore[arg-type]
            token_issuer=container.token_issuer(),
            connections=container.connections(),
            record=container.lifecycle_record(),
            publisher=container.publisher(),
            metrics=container.metrics(),
        )

    assert build(container.auth_token(ALICE.key)).key == ALICE.key
    for wrong in (None, container.auth_token("user:bob"), build_container().auth_token(ALICE.key)):
        with pytest.raises(InvalidAuthToken):
            build(wrong)


def test_invariant_4_no_locks_no_global_no_module_level_mutable_objects() -> None:
    """Each rule is shown to find what breaks it: tests/test_architecture.py."""
    assert [found for path in MODULES for found in violations((ROOT / path).read_text(), path)] == []
    instances = [
        f"{path}:{node.lineno}"
        for path in MODULES
        if Path("app/realtime") in path.parents
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and is_singleton(node.value)
    ]
    assert instances == []


def is_singleton(call: ast.Call) -> bool:
    """Whether a module makes an object of ours or of nobody knows what when it is imported."""
    made = ast.unparse(call.func)
    harmless = ("frozenset", "tuple", "TypeVar", "logging.getLogger", "Raw", "Frame", "ContextVar", "re.compile")
    return made not in harmless and not made.startswith("msgspec.json.")  # encoders and decoders keep no state


async def test_invariant_5_a_manager_lives_as_long_as_someone_holds_it_and_nothing_of_it_stays() -> None:
    """Further: test_return.py, tests/realtime/test_connection.py, tests/origin/test_lifecycle.py."""
    container = build_container()
    gc.disable()
    try:
        async with Peer(container) as phone, Peer(container) as laptop:
            await phone.connect("alice")
            await laptop.connect("alice")
            request = container.manager(ALICE)
            phone.leave()
            assert container.manager.count() == 1
            laptop.leave()
            assert container.manager.count() == 1
            del request
            assert container.manager.count() == 0
        assert container.publisher().connected("alice") == []
        assert await container.broker().presence("user:alice", "#alice") == {}
        assert len(container.lifecycle()) == 0
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
    finally:
        gc.enable()


async def test_invariant_6_no_identity_no_manager() -> None:
    container = build_container(mode="isolated")
    with pytest.raises(IdentityError):
        container.manager(UserContext(request_id="r"))
    with pytest.raises(SessionRequired):
        container.manager(ALICE)
    async with Peer(container) as peer:
        await peer.call("connect", {"token": token()})
        assert peer.close_code == DisconnectCode.INVALID_TOKEN.code
    assert container.manager.count() == container.lifecycle().total == 0


async def test_invariant_6_a_doubt_about_isolation_is_an_error_a_metric_and_never_a_delivered_byte() -> None:
    """And an entry in health: tests/origin/test_health.py."""
    container = build_container()
    async with Peer(container) as peer:
        await peer.connect("alice")
        manager = container.manager(ALICE)
        with pytest.raises(ForeignPublication, match="'user:alice' refused what belongs to 'user:bob'") as refused:
            manager.deliver(Publication("user:bob", "#alice", 1, "epoch", '{"data":"of bob"}', 17))
        assert (refused.value.key, refused.value.foreign) == ("user:alice", "user:bob")
        with pytest.raises(ForeignPublication):
            manager.notify("user:bob", "#alice", '{"push":{}}')
        live = Publication("user:bob", "#alice", 0, "", '{"data":"of bob"}', 17)
        with pytest.raises(ForeignPublication):
            manager.deliver_ahead(live, Position(1, manager.subscriptions()[0].epoch))
        await peer.settle()
        assert peer.messages == []
        assert container.metrics().violation_count() == 3
        assert (await manager.emit("tick", "of alice")).connections == 1
        peer.connection.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
        await peer.settle()
        assert peer.data() == ["of alice"]


def test_invariant_7_the_cost_of_a_new_user_does_not_depend_on_how_many_there_are() -> None:
    """Further, with times: tests/origin/test_cost.py."""
    from tests.origin.test_cost import new_user_calls

    container = build_container()
    new_user_calls(container, "first")
    alone = new_user_calls(container, "alone")
    held = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(3000)]
    assert new_user_calls(container, "many") == alone
    assert container.manager.count() == len(held)
