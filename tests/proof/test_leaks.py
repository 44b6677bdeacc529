"""Leaks that somebody plants, each caught by the proof before an instance is given to a user.

The ones under `WIRING` are seen without building anything for a key, those under `PROBE` by building.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary, finalize

import pytest
from dependency_injector import containers, providers
from pydantic import BaseModel, ConfigDict, PrivateAttr

from providers import Fresh, PerKey, ProofError, prove
from providers.proof import Verdict

from .wiring import PROBES, Box, Manager, by_user, container_of, failures_of, proof_of


class Mode(Enum):
    UNIFIED = "unified"


class Counted(Enum):
    ONE = "one"

    def __init__(self, name: str) -> None:
        self.users: list[str] = []


@functools.lru_cache
def cached_box() -> Box:
    return Box()


def default_list(items: list[str] = []) -> Box:  # noqa: B006 - that is the leak
    return Box(items)


def keyword_default(*, items: list[str] = []) -> Box:  # noqa: B006 - that is the leak
    return Box(items)


def closure() -> Callable[[], Box]:
    items: list[str] = []
    return lambda: Box(items)


def counter() -> Callable[[], int]:
    count = 0

    def next_count() -> int:
        nonlocal count
        count += 1
        return count

    return next_count


KEPT: dict[str, Box] = {}
SEEN: tuple[str, ...] = ()


def from_module() -> Box:
    return KEPT.setdefault("box", Box())


def assigns_global() -> Box:
    global SEEN  # noqa: PLW0603 - that is the leak
    SEEN = (*SEEN, "x")
    return Box(SEEN)


def in_a_comprehension() -> Box:
    return Box([KEPT for _ in range(1)])


def attribute() -> Box:
    return Box()


attribute.cache = {}  # type: ignore[attr-defined]


class WithClassList(Box):
    users: list[str] = []  # noqa: RUF012 - that is the leak


class WithDefault(Box):
    def __init__(self, items: list[str] = []) -> None:  # noqa: B006 - that is the leak
        super().__init__(items)


class WithModuleState(Box):
    def __init__(self) -> None:
        super().__init__(KEPT)


class WithMethodDefault(Box):
    def add(self, item: str, seen: list[str] = []) -> None:  # noqa: B006 - that is the leak
        seen.append(item)


class Remembering:
    """A descriptor that keeps values on itself."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}

    def __get__(self, instance: object, owner: type) -> Any:
        return self.values.get(id(instance))

    def __set__(self, instance: object, value: Any) -> None:
        self.values[id(instance)] = value


class WithDescriptor(Box):
    remembered = Remembering()


class Slotted:
    __slots__ = ("__weakref__", "items")
    users: list[str] = []  # noqa: RUF012 - that is the leak


class SubclassOfSlotted(Slotted):
    __slots__ = ()


class Text(str):
    note: Any = None


@dataclass(frozen=True)
class Frozen:
    items: Any = field(default_factory=list)


class Service:
    def __init__(self) -> None:
        self.calls = 0

    def make(self) -> Box:
        return Box(self)


DICT = {"a": 1}


def holds_a_container() -> Callable[[], Any]:
    container = containers.DynamicContainer()
    return lambda: container


WIRING: dict[str, Callable[[], Any]] = {
    "an enum as the mode": lambda: providers.Factory(Mode, "unified"),
    "an enum as the mode, in Fresh": lambda: Fresh(Mode, "unified"),
    "an enum in a partial": lambda: providers.Factory(functools.partial(Mode, "unified")),
    "an enum member that holds a list": lambda: Counted.ONE,
    "a Singleton for the token": lambda: providers.Singleton(Box),
    "lru_cache on a factory": lambda: providers.Factory(cached_box),
    "lru_cache on a factory, in Fresh": lambda: Fresh(cached_box),
    "lru_cache in a partial": lambda: providers.Callable(functools.partial(cached_box)),
    "a mutable default argument": lambda: Fresh(default_list),
    "a mutable default of a keyword argument": lambda: Fresh(keyword_default),
    "a mutable default argument of a class": lambda: Fresh(WithDefault),
    "a mutable default argument of a method": lambda: Fresh(WithMethodDefault),
    "a closure over a list": lambda: Fresh(closure()),
    "a closure that counts": lambda: Fresh(counter()),
    "a module-level cache": lambda: providers.Callable(from_module),
    "a module-level cache in a comprehension": lambda: Fresh(in_a_comprehension),
    "a module-level cache in a class": lambda: Fresh(WithModuleState),
    "a global that is assigned": lambda: Fresh(assigns_global),
    "an attribute of a function": lambda: Fresh(attribute),
    "a class-level list": lambda: Fresh(WithClassList),
    "a descriptor that stores on the class": lambda: Fresh(WithDescriptor),
    "__slots__ inheritance": lambda: Fresh(SubclassOfSlotted),
    "a frozen dataclass that holds a list": Frozen,
    "a MappingProxyType over a dict that somebody holds": lambda: MappingProxyType(DICT),
    "a subclass of str with an attribute": lambda: Text("a"),
    "a bound method of one object": lambda: Fresh(Service().make),
    "a partial over a list": lambda: Fresh(functools.partial(Box, [])),
    "an asyncio.Queue": asyncio.Queue,
    "an asyncio.Event": lambda: providers.Object(asyncio.Event()),
    "a WeakValueDictionary": WeakValueDictionary,
    "a list in a tuple": lambda: (1, ("a", [])),
    "a memoryview of a bytearray": lambda: memoryview(bytearray(b"a")),
    "a match in a bytearray": lambda: re.match(b"a", bytearray(b"a")),
    "a signature with a list as default": lambda: inspect.signature(default_list),
    "an alias of a Singleton": lambda: providers.Singleton(Box).provider,
    "a Selector branch": lambda: providers.Selector(lambda: "a", a=Fresh(Box), b=providers.Singleton(Box)),
    "an attribute of one object": lambda: providers.Singleton(WithClassList).provided.users,
    "a method call on one object": providers.Singleton(Service).provided.make.call,
    "a Callable that gives a kept object": lambda: providers.Callable(lambda box=cached_box: box()),
    "a function that holds the container": holds_a_container,
}


@pytest.mark.parametrize("name", WIRING)
def test_the_wiring_shows_a_planted_leak(name: str) -> None:
    part = WIRING[name]()  # held, so that an object it refers to is held by somebody else
    with pytest.raises(ProofError, match="manager → part ") as caught:
        prove(container_of(part), PROBES)
    assert all(finding.path[:2] == ("manager", "part") for finding in caught.value.proof.failures)
    assert all(finding.verdict is Verdict.LEAK for finding in caught.value.proof.failures)


def test_an_override_that_was_not_undone_is_caught_and_one_that_was_is_not() -> None:
    container = container_of(Fresh(Box))
    assert failures_of(container) == []
    part = container.manager.provides.kwargs["part"]
    with part.override(providers.Object(Box())):
        (failure,) = failures_of(container)
        assert failure.startswith("manager → part ← value: one object for all keys (Box can change)")
    assert failures_of(container) == []


# What follows is wired well, and code shares all the same.

CURRENT: ContextVar[list[str]] = ContextVar("CURRENT")
QUEUE: asyncio.Queue[str] = asyncio.Queue()
LIVING: WeakValueDictionary[str, Box] = WeakValueDictionary()


class Registry:
    """Keeps what is given to it."""

    def __init__(self) -> None:
        self.last: Any = None
        self.boxes: dict[str, Box] = {}
        self.contexts: list[Any] = []
        self.living: WeakValueDictionary[str, Box] = WeakValueDictionary()


REGISTRY = Registry()


class OnClass(Box):
    last: Any = None


def through_helper() -> Box:
    return Box(from_module())


def one_of_the_module() -> Any:
    return REGISTRY.last


class Chained(Manager):
    """Holds the manager before it."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, part)
        self.before, REGISTRY.last = REGISTRY.last, self


class Noting(Manager):
    """Leaves its box on the class of the box."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, Box())
        OnClass.last = self.part
        self.kind = OnClass


class Queued(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, QUEUE)


class Variable(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        CURRENT.set(CURRENT.get([]))
        super().__init__(user, CURRENT.get())


class Callback(Manager):
    """Calls a method of another manager."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user)
        first = REGISTRY.boxes.setdefault("first", Box(user))
        self.callback = first.__init__  # type: ignore[misc]


class Failed(Manager):
    """Keeps an exception whose traceback keeps another frame."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user)
        try:
            self.fail([user])
        except ValueError as error:
            REGISTRY.last = REGISTRY.last or error
        self.error = REGISTRY.last

    def fail(self, local: list[str]) -> None:
        raise ValueError


class View(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, MappingProxyType(REGISTRY.boxes))


class Member(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, Frozen(REGISTRY.contexts))


class Weakly(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, LIVING)


class Private(BaseModel):
    model_config = ConfigDict(frozen=True)
    _items: Any = PrivateAttr(default=None)


PRIVATE = Private()
PRIVATE.__pydantic_private__["_items"] = []  # type: ignore[index]


class Attribute(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, PRIVATE)


class Inherited(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, through_helper())


class ByUser(Manager):
    """Finds its box again, whoever it is."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, REGISTRY.boxes.setdefault(user[:5], Box()))


PROBE: dict[str, type[Manager]] = {
    "the manager before": Chained,
    "a class attribute that is assigned": Noting,
    "a shared asyncio.Queue": Queued,
    "a ContextVar whose value is one list": Variable,
    "a bound method of another manager's part as callback": Callback,
    "an exception with a traceback of another user": Failed,
    "a MappingProxyType over a shared dict": View,
    "a frozen dataclass that holds a shared list": Member,
    "a shared WeakValueDictionary": Weakly,
    "a cache of the module behind a helper": Inherited,
    "a list in a private attribute of a frozen model": Attribute,
    "a dict with the wrong key": ByUser,
}


@pytest.mark.parametrize("name", PROBE)
def test_the_probe_shows_a_planted_leak(name: str) -> None:
    REGISTRY.__init__()  # type: ignore[misc]
    OnClass.last = None
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(PROBE[name]), key=by_user)
    proof = copy_context().run(proof_of, container)  # what a leak sets must not be there for other tests
    assert proof.findings[0].verdict is Verdict.PER_KEY
    assert proof.failures
    assert {finding.verdict for finding in proof.failures} == {Verdict.LEAK}


def test_the_probe_names_the_place_in_the_instance() -> None:
    REGISTRY.__init__()  # type: ignore[misc]
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Member), key=by_user)
    assert failures_of(container) == [
        "manager → Member.part.items ← instance: the same object for another key; use Fresh, or Shared if it is safe"
    ]


def test_an_argument_that_gets_into_the_instance_of_another_user_is_caught_though_it_cannot_change() -> None:
    @dataclass(frozen=True)
    class Context:
        user: str

    class Forgetful:
        def __init__(self, context: Context) -> None:
            REGISTRY.contexts.append(context)
            self.context = REGISTRY.contexts[0]

    REGISTRY.__init__()  # type: ignore[misc]
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Forgetful), key=lambda context: context.user)
    with pytest.raises(ProofError, match=r"Forgetful\.context ← instance: an argument of another key's call"):
        prove(container, {"manager": ((Context("a"),), (Context("b"),))})


class Returning(Manager):
    """Finds what the instance before it has left."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, REGISTRY.boxes.setdefault(user, part))


@pytest.mark.parametrize("content", [Box, dict, list, bytearray])
@pytest.mark.parametrize("circle", [False, True])
def test_what_is_left_of_a_released_instance_and_comes_back_is_caught(content: type, circle: bool) -> None:
    class Circular(Returning):
        def __init__(self, user: str, part: Any = None) -> None:
            super().__init__(user, part)
            self.itself = [self]

    REGISTRY.__init__()  # type: ignore[misc]
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Circular if circle else Returning, part=Fresh(content)), key=by_user)
    (failure,) = failures_of(container)
    assert "part ← instance: left by an instance of the key that is gone" in failure


def test_what_goes_with_the_instance_is_no_leak_though_others_find_it_while_it_lives() -> None:
    class Finding(Manager):
        def __init__(self, user: str, part: Any = None) -> None:
            found = REGISTRY.living.get(user) or Box()
            REGISTRY.living[user] = found
            super().__init__(user, [found])

    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Finding), key=by_user)
    assert failures_of(container) == []


def test_an_instance_that_somebody_keeps_is_caught() -> None:
    class Kept(Manager):
        def __init__(self, user: str, part: Any = None) -> None:
            super().__init__(user)
            REGISTRY.boxes[user] = self  # type: ignore[assignment]

    REGISTRY.__init__()  # type: ignore[misc]
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Kept), key=by_user)
    assert failures_of(container) == [
        "manager ← PerKey: the instance stays when its last holder lets go; find who keeps it, and hold it weakly"
    ]


class Owner(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, REGISTRY.boxes.setdefault(user, Box()))


class Session(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, REGISTRY.boxes.get("probe-a"))


def test_one_user_s_part_in_an_instance_of_another_provider_is_caught() -> None:
    REGISTRY.__init__()  # type: ignore[misc]
    container = containers.DynamicContainer()
    container.owner = PerKey(Fresh(Owner), key=by_user)
    container.session = PerKey(Fresh(Session), key=by_user)
    probes = (("probe-a",), ("probe-b",))
    with pytest.raises(ProofError, match=r"owner → Owner\.part ← instance: the same object for another key"):
        prove(container, {"owner": probes, "session": probes})


def test_a_finalizer_that_is_there_for_one_manager_raises_no_alarm() -> None:
    class Closing(Manager):
        def __init__(self, user: str, part: Any = None) -> None:
            super().__init__(user, Box())
            finalize(self, str, user)

    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Closing), key=by_user)
    assert failures_of(container) == []
