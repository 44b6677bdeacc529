"""Leaks among users who are connected and had their own of everything."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

from .kinds import Grown, Living
from .parts import Frozen, Text

CURRENT: contextvars.ContextVar[list[str]] = contextvars.ContextVar("CURRENT")

AUDIT, DELIVERY = frozenset({"audit"}), frozenset({"delivery"})


class Notes:
    """What can change."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)


class Holder:
    __slots__ = ("notes",)

    def __init__(self, notes: Notes) -> None:
        self.notes = notes


class Derived(Holder):
    __slots__ = ("more",)


class Field:
    """A descriptor that stores on itself."""

    value: Any = None

    def __get__(self, instance: object, owner: type) -> Any:
        return self.value

    def __set__(self, instance: object, value: Any) -> None:
        self.value = value


def common(make: Callable[[], Any]) -> Callable[[Living], object]:
    """A plant: one object for both."""

    def plant(living: Living) -> object:
        made = make()
        living.give(made, made)
        return made

    return plant


def around(make: Callable[[Notes], Any]) -> Callable[[Living], object]:
    """A plant: an object for each, around one that is common."""

    def plant(living: Living) -> object:
        notes = Notes()
        living.give(make(notes), make(notes))
        return notes

    return plant


def text(notes: Notes) -> Text:
    made = Text("a name")
    made.tags = notes.lines
    return made


def generator(notes: Notes) -> Iterator[Notes]:
    def generate() -> Iterator[Notes]:
        yield notes

    return generate()


def task(notes: Notes) -> asyncio.Task[None]:
    async def work() -> None:
        await asyncio.sleep(60)
        notes.add("over")

    return asyncio.create_task(work())


def context(notes: Notes) -> contextvars.Context:
    made = contextvars.Context()
    made.run(CURRENT.set, notes.lines)
    return made


class Described:
    field = Field()

    def __init__(self, notes: Notes) -> None:
        self.field = notes


def a_default(notes: Notes) -> Callable[[], Notes]:
    def function(notes: Notes = notes) -> Notes:
        return notes

    return function


def an_error_of_another(living: Living) -> None:
    def fail(manager: object) -> None:
        raise LookupError

    try:
        fail(living.alice)
    except LookupError as error:
        living.bob.record.events.append(error)  # type: ignore[arg-type]


def a_task_of_another(living: Living) -> object:
    async def work(manager: object) -> None:
        await asyncio.sleep(60)

    made = asyncio.create_task(work(living.alice))
    living.bob.record.events.append(made)  # type: ignore[arg-type]
    return made


def a_callback_of_another(living: Living) -> None:
    one, other = living.sessions
    one.disconnect = other.disconnect


def the_token_of_another(living: Living) -> None:
    living.bob.auth_token = living.alice.auth_token


def the_record_of_another(living: Living) -> None:
    living.bob.record = living.alice.record


def a_connection_of_another(living: Living) -> None:
    living.alice.connections.add(living.sessions[1])


def a_subscription_of_another(living: Living) -> None:
    (subscription,) = living.bob.connections.subscriptions("news")
    living.alice.connections.subscribe(subscription)


async def a_subscriber_of_another_key(living: Living) -> None:
    await living.gateway.container.broker().subscribe(living.alice.key, living.bob)


GROWN = MappingProxyType(
    {
        "one list": Grown(AUDIT, common(list)),
        "one dict": Grown(AUDIT, common(dict)),
        "one `bytearray`": Grown(AUDIT, common(lambda: bytearray(b"secret"))),
        "one `asyncio.Queue`": Grown(AUDIT, common(asyncio.Queue)),
        "one `asyncio.Event`": Grown(AUDIT, common(asyncio.Event)),
        "one `WeakValueDictionary`": Grown(AUDIT, common(WeakValueDictionary)),
        "a tuple that holds a list": Grown(AUDIT, around(lambda notes: (0, (notes.lines,)))),
        "a frozen dataclass that holds a list": Grown(AUDIT, around(lambda notes: Frozen(notes.lines))),
        "a `MappingProxyType` over one dict": Grown(AUDIT, around(lambda notes: MappingProxyType(vars(notes)))),
        "a subclass of `str` with an attribute": Grown(AUDIT, around(text)),
        "a slot of a base class": Grown(AUDIT, around(Derived)),
        "a descriptor that stores on itself": Grown(AUDIT, around(Described)),
        "a closure": Grown(AUDIT, around(lambda notes: lambda: notes)),
        "a default argument": Grown(AUDIT, around(a_default)),
        "a partial": Grown(AUDIT, around(lambda notes: functools.partial(print, notes))),
        "a bound method": Grown(AUDIT, around(lambda notes: notes.add)),
        "the frame of a generator": Grown(AUDIT, around(generator)),
        "the frame of a task": Grown(AUDIT, around(task)),
        "a `ContextVar` in a context": Grown(AUDIT, around(context)),
        "an exception with another user's frame": Grown(AUDIT, an_error_of_another),
        "a task of another user": Grown(AUDIT, a_task_of_another),
        "a method of another user's connection as a callback": Grown(AUDIT, a_callback_of_another),
        "another user's token": Grown(AUDIT, the_token_of_another),
        "another user's record": Grown(AUDIT, the_record_of_another),
        "another user's connection": Grown(AUDIT, a_connection_of_another),
        "another user's subscription": Grown(AUDIT | DELIVERY, a_subscription_of_another),
        "a `Shared` broker that mistakes one user for another": Grown(DELIVERY, a_subscriber_of_another_key),
    }
)
"""By kind."""
