"""Providers and containers that are none of the container that is proved: they hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dependency_injector import containers, providers

from providers import Fresh, PerKey
from providers.audit import audit
from tests.audit.owners import Owner

from .wiring import Box, Manager, by_user, container_of, failures_of

CACHE = Box({})


class Sub(containers.DeclarativeContainer):
    cache: providers.Dependency[Any] = providers.Dependency()
    box = providers.Factory(Box, content=providers.Factory(list))
    names = providers.Dict(a=providers.Object("a"))


class Own(Manager):
    """Makes a container of its own, with nothing that others have."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, Sub(cache=providers.Singleton(dict)))


class OverOneDict(Manager):
    """Makes a container of its own around what all have."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, Sub(cache=providers.Object(CACHE.content)))


class Overriding(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, providers.Factory(dict))
        self.part.override(providers.Object(CACHE.content))


class WithArgument(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, providers.Factory(Box, CACHE.content))


KEPT: providers.Singleton[dict[str, Any]] = providers.Singleton(dict)


class WithSingleton(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, KEPT)
        self.part()


def managers(kind: type[Manager]) -> Any:
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(kind), key=by_user)
    return container


@pytest.mark.parametrize("kind", [OverOneDict, Overriding, WithArgument, WithSingleton])
def test_what_code_gives_to_all_by_a_provider_of_its_own_is_found_by_the_probe_and_by_the_audit(
    kind: type[Manager],
) -> None:
    container = managers(kind)
    assert any("the same object for another key" in failure for failure in failures_of(container))
    first, second = container.manager("alice"), container.manager("bob")
    assert "builtins.dict" in {finding.type for finding in audit(first, second).shared}


def test_a_container_of_each_user_s_own_raises_no_alarm() -> None:
    container = managers(Own)
    assert failures_of(container) == []
    first, second = container.manager("alice"), container.manager("bob")
    assert first.part.box() is not second.part.box()
    assert audit(first, second).isolated


@pytest.mark.parametrize("make", [Fresh, providers.Factory, providers.Callable])
@pytest.mark.parametrize("kind", [Sub, containers.DynamicContainer, providers.Factory])
def test_what_makes_containers_or_providers_is_an_error(make: Callable[..., Any], kind: type) -> None:
    (failure,) = failures_of(container_of(make(kind)))
    assert failure.endswith(": makes providers that nobody judges; inject those that are needed")


def holds(content: Any) -> type:
    return type("Holds", (Box,), {"content": content})


@pytest.mark.parametrize("value", [Sub, (Sub,), Sub(), (providers.Factory(Box),), holds(Sub), holds(KEPT)])
def test_a_container_its_class_and_a_provider_in_a_value_are_leaks(value: Any) -> None:
    (failure,) = failures_of(container_of(value))
    assert "one object for all keys" in failure


def keep(box: Any) -> Box:
    return Box(box)


def test_providers_of_the_container_lead_to_nobody_else_in_the_probe() -> None:
    box = Fresh(Box)
    make = providers.Callable(keep, box.provider)
    assert failures_of(container_of(make, box=box)) == []
    assert failures_of(container_of(Fresh(Box, box.provider), box=box)) == []


def test_two_users_may_have_a_factory_in_common() -> None:
    factory = providers.Factory(Box, "a", content=providers.Factory(list))
    assert audit(Owner(part=factory), Owner(part=factory)).isolated
