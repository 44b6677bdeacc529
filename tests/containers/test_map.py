"""The container is the map: what each provider is, and whose its objects are."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any

from dependency_injector import providers as library

from app.realtime import UserContext
from app.realtime.modes import ModeKind
from app.testing import gateway_container
from containers import GatewayContainer
from providers import Fresh, PerKey, Shared

SHARED = frozenset(
    {"settings", "clock", "metrics", "token_issuer", "policy", "keys", "lifecycle", "broker", "backlog"}
    | {"authenticator", "publisher", "services", "control", "claims", "next_mode", "emergency"}
)
FRESH = frozenset({"mode", "auth_token", "connections", "lifecycle_record", "new_manager", "connection"})


def test_every_provider_says_whose_its_objects_are() -> None:
    kinds = {name: type(provider) for name, provider in GatewayContainer.providers.items()}
    assert {name for name, kind in kinds.items() if kind is Shared} == SHARED
    assert {name for name, kind in kinds.items() if kind is Fresh} == FRESH
    assert {name for name, kind in kinds.items() if kind is PerKey} == {"manager"}
    assert kinds.keys() - SHARED - FRESH - {"manager"} == {"rpc", "probes"}, "functions, wired by the application"


def test_what_is_shared_gives_its_reason_and_the_same_object_each_time() -> None:
    container = gateway_container()
    for name in SHARED:
        provider = container.providers[name]
        assert isinstance(provider, Shared)
        assert provider.reason, name
        assert provider() is provider(), name


def test_nothing_but_shared_parts_is_made_once_anywhere_in_the_container() -> None:
    every: Iterator[Any] = gateway_container().traverse()
    for provider in every:
        if isinstance(provider, library.BaseSingleton):
            assert isinstance(provider, (Shared, PerKey)), provider


def test_what_is_fresh_is_new_each_time() -> None:
    container, alice = gateway_container(), UserContext(user_id="alice")
    assert container.mode(alice) is not container.mode(alice)
    assert container.auth_token(alice.key) is not container.auth_token(alice.key)
    for provider in (container.connections, container.lifecycle_record, container.connection):
        first, second = provider(), provider()
        assert first is not second


def test_a_manager_is_the_users_own_and_everybody_who_asks_gets_the_same() -> None:
    container = gateway_container()
    alice, bob = container.manager(UserContext(user_id="alice")), container.manager(UserContext(user_id="bob"))
    assert container.manager(UserContext(user_id="alice", session_id="phone")) is alice
    assert alice is not bob
    assert (alice.key, bob.key, container.manager.count()) == ("user:alice", "user:bob", 2)


def test_every_part_of_a_manager_is_its_own() -> None:
    container = gateway_container()
    a, b = container.manager(UserContext(user_id="a")), container.manager(UserContext(user_id="b"))
    assert a.mode is not b.mode
    assert a.mode.kind is b.mode.kind is ModeKind.UNIFIED
    assert a.auth_token is not b.auth_token
    assert a.connections is not b.connections
    assert a.record is not b.record
    assert a.record.events is not b.record.events
    assert a.context is not b.context


def test_what_two_managers_both_reach_is_marked_as_shared_or_cannot_change() -> None:
    container = gateway_container()
    a, b = container.manager(UserContext(user_id="a")), container.manager(UserContext(user_id="b"))
    marked = {id(container.providers[name]()) for name in SHARED}
    reached_by_b = {id(one) for one in gc.get_referents(b)}
    both = [one for one in gc.get_referents(a) if id(one) in reached_by_b and id(one) not in marked]
    code = (type, FunctionType, BuiltinFunctionType, library.Provider)
    assert [one for one in both if not isinstance(one, code)] == []


def test_a_user_who_comes_back_gets_new_parts() -> None:
    container, alice = gateway_container(), UserContext(user_id="alice")
    manager = container.manager(alice)
    token, mode, record = manager.auth_token, manager.mode, manager.record
    del manager
    assert container.manager.count() == 0
    again = container.manager(alice)
    assert again.auth_token is not token
    assert again.mode is not mode
    assert again.record is not record
    assert [event.event for event in again.record.events] == ["created"]


async def test_two_containers_share_nothing() -> None:
    here, there = gateway_container(), gateway_container()
    for name in SHARED:
        assert here.providers[name]() is not there.providers[name](), name
    alice = UserContext(user_id="alice")
    mine, theirs = here.manager(alice), there.manager(alice)
    assert mine is not theirs
    await mine.emit("hello", 1)
    await here.control().set_mode(ModeKind.EMERGENCY)
    assert mine.mode.kind is ModeKind.EMERGENCY
    assert theirs.mode.kind is ModeKind.UNIFIED
    assert len(await here.broker().streams(alice.key)) == 1
    assert await there.broker().streams(alice.key) == ()
    assert there.lifecycle().total == 1
    assert there.metrics().registry.get_sample_value("bulkhead_publications_total") == 0


def test_no_container_reaches_the_class_it_was_made_of() -> None:
    container = gateway_container()
    container.manager(UserContext(user_id="alice"))
    assert GatewayContainer.manager.count() == 0
    assert GatewayContainer.settings.last_overriding is None
    assert gateway_container().manager.count() == 0
