"""Leaks in the container: with each of these a gateway does not start."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from enum import Enum, nonmember
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

from dependency_injector import providers

from app.realtime.identity import UserContext
from app.realtime.modes import ManagerMode, ModeKind
from containers import GatewayContainer
from providers import Fresh

from .kinds import Wired, a_mode, given
from .parts import (
    KEPT,
    Computing,
    Connection,
    Counting,
    Frozen,
    LastRecord,
    NotingEnum,
    Pool,
    Settable,
    Sub,
    SubclassOfSlotted,
    Table,
    Text,
    WithCachedList,
    WithClassDict,
    WithClassMethod,
    WithDefault,
    WithDescriptor,
    WithLastOnClass,
    WithMethodOverModule,
    WithOwnContainer,
    WithTextOnTheClass,
    noting,
    remembering,
)

CURRENT: ContextVar[list[str]] = ContextVar("CURRENT")


def table(*arguments: Any, **keywords: Any) -> Callable[[GatewayContainer], object]:
    """A plant: tables that are new each time, and are given what all have."""
    return given("connections", Fresh(Table, *arguments, **keywords))


def tables(make: Callable[[], Any]) -> Callable[[GatewayContainer], object]:
    """A plant: what makes tables."""
    return given("connections", Fresh(make))


def text() -> Text:
    made = Text("a name")
    made.tags = []
    return made


def closure() -> Callable[[], Table]:
    seen: list[str] = []
    return lambda: Table(seen)


def from_the_module() -> Table:
    return Table(KEPT)


def through_a_helper() -> Table:
    return from_the_module()


def of_the_context() -> Table:
    CURRENT.set(CURRENT.get([]))
    return Table(CURRENT.get())


def helped() -> Table:
    return of_the_context()


@functools.lru_cache
def cached_mode() -> ManagerMode:
    return a_mode()


@functools.lru_cache
def cached_more() -> list[str]:
    return []


def with_cached_more() -> Table:
    return Table(cached_more())


class EnumMode(Enum):
    """Modes as an enum of which the members are what managers hold."""

    UNIFIED = "unified"

    since = nonmember(0.0)
    reason = nonmember("default")

    @property
    def kind(self) -> ModeKind:
        return ModeKind(self.value)


def enum_member(context: UserContext) -> EnumMode:
    return EnumMode.UNIFIED


def one_resource() -> Iterator[Table]:
    yield Table()


def everybody(context: UserContext) -> str:
    return "user:everybody"


def singleton_token(container: GatewayContainer) -> None:
    container.auth_token.override(providers.Singleton(lambda key, issuer=container.token_issuer: issuer().issue(key)))


def left_override(container: GatewayContainer) -> None:
    container.lifecycle_record.override(providers.Object(container.lifecycle_record()))


def set_provides(container: GatewayContainer) -> None:
    container.mode.set_provides(providers.Singleton(a_mode))
    container.mode.clear_args()


def attribute(container: GatewayContainer) -> None:
    container.connections.add_attributes(seen=providers.Singleton(list))
    container.connections.set_provides(lambda _: Table())


def singleton_connection(container: GatewayContainer) -> None:
    connection = container.connection
    connection.override(providers.Singleton(connection.provides, **connection.kwargs))


def one_for_all_connections(container: GatewayContainer) -> None:
    connection = container.connection
    connection.override(Fresh(Connection, providers.Singleton(dict), **connection.kwargs))


def reused_connection(container: GatewayContainer) -> None:
    connection = container.connection
    connection.override(Fresh(providers.Singleton(connection.provides, **connection.kwargs)))


def nets(*others: str) -> frozenset[str]:
    return frozenset(("proof", *others))


WIRED = MappingProxyType(
    {
        "an enum member as the mode": Wired(nets("claim"), given("mode", providers.Callable(enum_member))),
        "an enum member as the mode, in `Fresh`": Wired(nets("fresh"), given("mode", Fresh(enum_member))),
        "a `Singleton` for the mode": Wired(nets("claim"), given("mode", providers.Singleton(lambda _: a_mode()))),
        "a `Singleton` for the token": Wired(nets("claim"), singleton_token),
        "a `Singleton` in a `Fresh`": Wired(nets("fresh"), given("connections", Fresh(providers.Singleton(Table)))),
        "an `Object` for the connections": Wired(nets("claim"), lambda c: c.connections.override(Table())),
        "a `ThreadLocalSingleton`": Wired(nets("claim"), given("connections", providers.ThreadLocalSingleton(Table))),
        "a `ContextLocalSingleton`": Wired(nets("claim"), given("connections", providers.ContextLocalSingleton(Table))),
        "a `Resource`": Wired(nets("claim"), given("connections", providers.Resource(one_resource))),
        "a `Selector` with a `Singleton` branch": Wired(
            nets("claim"), given("connections", providers.Selector(lambda: "a", a=providers.Singleton(Table)))
        ),
        "an attribute of a shared object": Wired(
            nets("claim"), given("connections", providers.Singleton(Pool).provided.table)
        ),
        "a method of a shared object": Wired(
            nets("claim"), given("connections", providers.Singleton(Pool).provided.take.call())
        ),
        "a bound method as a factory": Wired(nets("fresh"), tables(Pool().take)),
        "a `Singleton` of a sub-container": Wired(nets("claim"), given("connections", Sub().table)),
        "a container that is made for each": Wired(nets(), table(providers.Factory(Sub))),
        "a dict in a container that each table makes": Wired(nets("audit"), tables(WithOwnContainer)),
        "an override in a test that was not undone": Wired(nets("claim"), left_override),
        "another `provides`, set on the container": Wired(nets("fresh"), set_provides),
        "an attribute that the provider sets": Wired(nets("audit"), attribute),
        "`functools.lru_cache` on a factory": Wired(nets("fresh"), given("mode", Fresh(lambda _: cached_mode()))),
        "`functools.lru_cache` below a factory": Wired(nets("audit"), tables(with_cached_more)),
        "a mutable default argument": Wired(nets("audit"), tables(WithDefault)),
        "a class-level dict": Wired(nets("audit"), tables(WithClassDict)),
        "a class-level list under `__slots__`": Wired(nets("audit"), tables(SubclassOfSlotted)),
        "a descriptor that stores on the class": Wired(nets("audit"), tables(WithDescriptor)),
        "a method that stores on the class": Wired(nets(), tables(WithLastOnClass)),
        "a class method that stores on the class": Wired(nets(), tables(WithClassMethod)),
        "a descriptor that stores text on the class": Wired(nets("audit"), tables(WithTextOnTheClass)),
        "a method with a module-level cache": Wired(nets(), tables(WithMethodOverModule)),
        "an injected function with a module-level cache": Wired(nets(), table(remembering)),
        "an injected function that stores on itself": Wired(nets(), table(noting)),
        "an enum member that a method changes": Wired(nets("audit"), table(NotingEnum.ONE)),
        "a filter of a logger that keeps a record": Wired(nets("audit"), table(LastRecord())),
        "a module-level cache": Wired(nets("audit"), tables(from_the_module)),
        "a module-level cache behind a helper": Wired(nets("audit"), tables(through_a_helper)),
        "a closure over a shared list": Wired(nets("audit"), tables(closure())),
        "a partial over a shared list": Wired(nets("audit"), tables(functools.partial(Table, []))),
        "a `ContextVar` whose value is one list": Wired(nets("audit"), tables(helped)),
        "a shared `asyncio.Queue`": Wired(nets("audit"), table(providers.Singleton(asyncio.Queue))),
        "a shared `asyncio.Event`": Wired(nets("audit"), table(providers.Object(asyncio.Event()))),
        "a shared `WeakValueDictionary`": Wired(nets("audit"), table(WeakValueDictionary())),
        "a frozen dataclass that holds a list": Wired(nets("audit"), table(Frozen([]))),
        "a frozen dataclass that will keep a list": Wired(nets(), table(WithCachedList())),
        "a `Singleton` that has yet to count": Wired(nets("audit"), table(providers.Singleton(Counting))),
        "a `Singleton` with a property to set": Wired(nets("audit"), table(providers.Singleton(Settable))),
        "a `Singleton` with a cached property": Wired(nets("audit"), table(providers.Singleton(Computing))),
        "a `MappingProxyType` over a shared dict": Wired(nets("audit"), table(MappingProxyType(KEPT))),
        "a subclass of `str` with an attribute": Wired(nets("audit"), table(text())),
        "a list in a tuple": Wired(nets("audit"), table((1, []))),
        "the container itself": Wired(nets(), lambda c: table(providers.Object(c))(c)),
        "a `Singleton` for the manager": Wired(nets(), lambda c: c.manager.override(providers.Singleton(Table))),
        "a `Singleton` for the connection": Wired(nets("fresh"), singleton_connection),
        "a `Singleton` in the `Fresh` of the connection": Wired(nets("fresh"), reused_connection),
        "a dict that all connections are given": Wired(nets("audit"), one_for_all_connections),
        "one key for all users": Wired(nets(), given("keys", providers.Object(everybody))),
    }
)
"""By kind."""
