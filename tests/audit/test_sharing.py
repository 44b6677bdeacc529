"""The objects that a container marks as shared, without building any, and the container itself."""

from __future__ import annotations

import asyncio

from dependency_injector import containers, providers
from dependency_injector.containers import DynamicContainer
from dependency_injector.providers import Provider

from providers import Shared
from providers.audit import audit
from providers.sharing import shared_objects

from .owners import Owner


async def connect() -> Owner:
    return Owner()


class Inner(containers.DeclarativeContainer):
    metrics = Shared(Owner, reason="numbers")


class Container(containers.DeclarativeContainer):
    clock = Shared(Owner, reason="keeps no state")
    table: Shared[dict[str, Owner]] = Shared(dict, reason="a tuple", clock=clock)
    factory = providers.Factory(Owner, options=Shared(Owner, reason="frozen"))
    single = providers.Singleton(Owner)
    pool = Shared(connect, reason="a connection of nobody")
    inner = providers.Container(Inner)


def built(container: containers.Container) -> list[object]:
    """What is given besides the container and its providers."""
    return [value for value in shared_objects(container) if not isinstance(value, (DynamicContainer, Provider))]


def same(found: list[object], *expected: object) -> bool:
    return {id(value) for value in found} == {id(value) for value in expected}


def test_the_container_and_all_its_providers_are_given_as_they_lead_to_everybody() -> None:
    container = Container()
    container.single.override(providers.Factory(Owner))
    given = {id(one) for one in shared_objects(container)}
    wanted = (container, container.clock, container.single, container.single.last_overriding, container.inner.metrics)
    assert all(id(one) in given for one in wanted)
    assert audit(Owner(part=container.single), Owner(part=container.single), shared=shared_objects(container)).isolated


def test_nothing_is_built() -> None:
    container = Container()
    assert built(container) == []
    assert built(container) == []


def test_what_shared_providers_have_built_is_given_and_nothing_else() -> None:
    container = Container()
    container.single()
    made = container.factory()
    table = container.table()
    assert same(built(container), container.clock(), table, vars(made)["options"])


def test_nested_containers_count() -> None:
    container = Container()
    metrics = container.inner.metrics()
    assert same(built(container), metrics)


def test_an_override_takes_the_place_and_what_was_built_before_it_stays() -> None:
    container = Container()
    before, instead = container.clock(), Owner()
    container.clock.override(providers.Object(instead))
    assert same(built(container), before, instead)
    container.clock.override(providers.Singleton(Owner))
    single = container.clock()
    assert same(built(container), before, instead, single)
    container.clock.override(Shared(Owner, reason="another one"))
    other = container.clock()
    assert same(built(container), before, instead, single, other)


async def test_an_object_that_is_awaited_counts_when_it_is_there() -> None:
    container = Container()
    pending = container.pool()
    assert isinstance(pending, asyncio.Future)
    assert built(container) == []
    pool = await pending
    assert same(built(container), pool)
