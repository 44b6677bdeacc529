"""Row: validation finds sharing: not a class-level dict, not a shared inner object, not equal tokens.

Here there is nothing to find: what two managers own is walked and compared, down to the last container.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from enum import Enum
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from dependency_injector import providers as library

from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from containers import GatewayContainer
from providers import Shared
from tests.realtime.peer import Peer

MUTABLE = (dict, list, set, bytearray, deque)
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, library.Provider, Enum)
OURS = ("app", "containers", "providers")
CONTAINERS = ("builtins", "collections", "types")


def shared(container: GatewayContainer) -> frozenset[int]:
    """What the container marks as shared, nested ones included."""
    every: Iterator[Any] = container.traverse()
    marked = [provider() for provider in every if isinstance(provider, Shared)]
    return frozenset(map(id, (*marked, *container.services())))


def owned(manager: UserManager, stop: frozenset[int]) -> dict[int, Any]:
    """Every object that a manager reaches, but for what is marked as shared, code, and the machinery of Python."""
    found: dict[int, Any] = {}
    path: list[Any] = [manager]
    while path:
        one = path.pop()
        package = type(one).__module__.partition(".")[0]
        if id(one) in found or id(one) in stop or isinstance(one, CODE) or package not in (*OURS, *CONTAINERS):
            continue
        found[id(one)] = one
        path.extend(gc.get_referents(one))
    return found


async def test_two_managers_share_no_inner_object_that_can_change(container: GatewayContainer) -> None:
    async with Peer(container) as a, Peer(container) as b:
        for peer, name in ((a, "alice"), (b, "bob")):
            await peer.connect(name, claims={"roles": ["one", {"deep": [1]}]})
            await peer.result("subscribe", {"channel": "news"})
        alice, bob = (container.manager(UserContext(user_id=name)) for name in ("alice", "bob"))
        stop = shared(container)
        of_alice, of_bob = owned(alice, stop), owned(bob, stop)
        assert len(of_alice) > 30
        assert id(a.connection.outbound) in of_alice
        assert id(b.connection.outbound) in of_bob
        both = [of_alice[one] for one in of_alice.keys() & of_bob.keys()]
        assert [one for one in both if isinstance(one, MUTABLE)] == []
        ours = [one for one in both if type(one).__module__.partition(".")[0] in OURS]
        assert [one for one in ours if not cannot_change(one)] == []


def cannot_change(one: object) -> bool:
    """Whether it is a frozen struct."""
    config = getattr(type(one), "__struct_config__", None)
    return config is not None and config.frozen


async def test_no_class_of_what_a_manager_owns_holds_anything_that_can_change(container: GatewayContainer) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        await peer.result("subscribe", {"channel": "news"})
        manager = container.manager(UserContext(user_id="alice"))
        classes = {
            parent
            for one in owned(manager, shared(container)).values()
            for parent in type(one).__mro__
            if parent.__module__.startswith("app.")
        }
        assert UserManager in classes
        assert len(classes) > 8
        held = [
            f"{parent.__name__}.{name}"
            for parent in classes
            for name, value in vars(parent).items()
            if isinstance(value, MUTABLE) and not name.startswith("__") and not hasattr(parent, "__members__")
        ]
        assert held == []


def test_no_two_tokens_are_equal(container: GatewayContainer) -> None:
    managers = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(200)]
    again = [container.auth_token(manager.key) for manager in managers]
    assert len({*(manager.auth_token for manager in managers), *again}) == 400
    first = managers[0].auth_token
    assert first == first
    assert all(token != first for token in again)


def test_claims_given_to_two_users_at_once_are_a_copy_for_each(container: GatewayContainer) -> None:
    claims: dict[str, Any] = {"roles": ["reader"], "org": {"id": 7}}
    alice, bob = (container.manager(UserContext(user_id=name, claims=claims)) for name in ("alice", "bob"))
    claims["roles"].append("admin")
    claims["org"]["id"] = 8
    assert alice.context.claims == bob.context.claims == {"roles": ("reader",), "org": {"id": 7}}
    assert alice.context.claims["org"] is not bob.context.claims["org"]
