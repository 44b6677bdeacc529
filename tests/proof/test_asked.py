"""What is asked for users besides a `PerKey`: what has probe arguments, and what is handed a `PerKey`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dependency_injector import containers, providers

from app.testing import gateway_container
from providers import Fresh, PerKey, ProofError, Shared, prove

from .wiring import PROBES, Box, Manager, by_user, container_of, failures_of

ONE = "one object for all keys; use Fresh, or Shared if it is safe"
NOBODY = ((), ())


class Client:
    """Asks for managers."""

    def __init__(self, managers: Any, part: Any = None) -> None:
        self.managers = managers
        self.part = part


def clients(client: Callable[..., Any], part: Any = None, **named: Any) -> Any:
    """A container with the provider `client`, whose objects are handed the provider of managers."""
    container = container_of(None, **named)
    container.set_provider("client", client(Client, managers=container.manager.provider, part=part))
    return container


def test_what_is_handed_a_per_key_must_be_new_each_time_or_say_why_it_is_not() -> None:
    assert failures_of(clients(Fresh)) == []
    assert failures_of(clients(providers.Singleton)) == [f"client ← Singleton: {ONE}"]
    container = clients(Fresh)
    container.client.override(Shared(Client, container.manager.provider, reason="keeps no state"))
    assert failures_of(container) == []


def test_an_override_of_what_is_handed_a_per_key_is_judged_in_its_place() -> None:
    container = clients(Fresh)
    container.client.override(providers.Singleton(Client, container.manager.provider))
    assert failures_of(container) == [f"client ← Singleton: {ONE}"]
    assert failures_of(clients(providers.Singleton)) == failures_of(container)


def test_its_parts_are_judged_as_those_of_an_instance_are() -> None:
    part = providers.Singleton(Box)
    assert failures_of(clients(Fresh, part, box=part)) == [f"client → box ← Singleton: {ONE}"]
    assert failures_of(clients(Fresh, Fresh(Box))) == []


def test_what_only_shared_objects_use_is_not_judged_though_it_is_handed_a_per_key() -> None:
    container = container_of()
    used = providers.Singleton(Client, container.manager.provider)
    container.set_provider("control", Shared(Box, used, reason="test"))
    assert failures_of(container) == []


def test_the_verdict_says_that_its_code_decides_for_whom_it_asks() -> None:
    findings = {finding.path: finding for finding in prove(clients(Fresh), PROBES).findings}
    handed = findings["client", "manager"]
    assert (handed.verdict.value, handed.provider) == ("per key", "PerKey")
    assert handed.reason == "gives the one instance of the key; for which key it is asked is up to the code"


@pytest.mark.parametrize("order", [("owner", "manager"), ("manager", "owner")])
def test_an_instance_that_is_handed_a_per_key_is_a_leak_in_whatever_order_the_container_names_them(
    order: tuple[str, str],
) -> None:
    owner = PerKey(Fresh(Box), key=by_user)
    made: dict[str, PerKey[Any]] = {"owner": owner, "manager": PerKey(Fresh(Manager, part=owner.provider), key=by_user)}
    container = containers.DynamicContainer()
    container.set_providers(**{name: made[name] for name in order})
    assert (
        "manager → owner ← PerKey: leads to the instances of every key; let who calls it pass on the one instance"
        in (failures_of(container))
    )


class Registry:
    def __init__(self) -> None:
        self.boxes: list[Box] = []


def test_what_has_probe_arguments_is_judged_and_probed() -> None:
    def take(pool: Registry) -> Client:
        return Client(None, pool.boxes)

    container = container_of(box=providers.Singleton(Box))
    assert prove(container, PROBES).ok
    with pytest.raises(ProofError, match=f"  box ← Singleton: {ONE}"):
        prove(container, {**PROBES, "box": NOBODY})
    pool = Shared(Registry, reason="test")
    container = container_of(client=Fresh(take, pool))
    assert prove(container, PROBES).ok
    with pytest.raises(ProofError, match=r"client → Client\.part ← instance: the same object for another key"):
        prove(container, {**PROBES, "client": NOBODY})


def test_a_probe_that_gives_one_object_for_both_users_says_so() -> None:
    kept = Shared(Box, Box(), reason="test")
    container = container_of(client=providers.Factory(lambda kept: kept.content, kept))
    with pytest.raises(ProofError, match=f"client ← Factory: {ONE}"):
        prove(container, {**PROBES, "client": NOBODY})


def test_what_cannot_be_watched_cannot_be_probed() -> None:
    container = container_of(rows=Fresh(list))
    with pytest.raises(ProofError, match=r"rows ← Fresh: raised builtins\.TypeError"):
        prove(container, {**PROBES, "rows": NOBODY})


def test_the_gateway_names_all_that_it_asks_for_a_user_or_a_client() -> None:
    container = gateway_container()
    proof = prove(container, container.probes())
    assert {finding.path[0] for finding in proof.findings} == set(container.probes()) == {"manager", "connection"}
    verdicts = {finding.path: finding.verdict.value for finding in proof.findings}
    assert verdicts["connection",] == "fresh"
    assert verdicts["connection", "services"] == "shared"
    assert verdicts["connection", "manager"] == "per key"
