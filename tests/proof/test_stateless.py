"""Objects without attributes: those that stay so may be shared, those that will get some may not."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Protocol

import pytest
from dependency_injector import providers

from providers.audit import audit
from providers.kinds import assigns_attributes
from providers.reach import reachable
from tests.audit.owners import Owner

from .wiring import container_of, failures_of, proof_of


def decorated(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def hidden(function: Callable[..., Any]) -> Any:
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


class Field:
    """A descriptor that stores on its instance."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return vars(instance).get("content")

    def __set__(self, instance: Any, value: Any) -> None:
        instance.content = value


class Assigning:
    def put(self, value: Any) -> None:
        self.value = value


class Derived(Assigning):
    pass


class Adding:
    count = 0

    def tick(self) -> None:
        self.count += 1


class Deleting:
    value = None

    def drop(self) -> None:
        del self.value


class InANestedFunction:
    def put(self, value: Any) -> None:
        def inner() -> None:
            self.value = value

        inner()


class ByAnotherName:
    def put(self, value: Any) -> None:
        me: Any = self
        me.value = value


class Property:
    @property
    def value(self) -> Any:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value


class Decorated:
    @decorated
    def put(self, value: Any) -> None:
        self.value = value


class HiddenByADecorator:
    @hidden
    def put(self, value: Any) -> None:
        self.value = value


class ClassMethod:
    value = None

    @classmethod
    def put(cls, value: Any) -> None:
        cls.value = value


class StaticMethod:
    @staticmethod
    def put(owner: Any, value: Any) -> None:
        owner.value = value


class Partial:
    def _put(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    put = functools.partialmethod(_put, "value")


class Dictionary:
    def put(self, value: Any) -> None:
        self.__dict__["value"] = value


class Variables:
    def put(self, value: Any) -> None:
        vars(self)["value"] = value


class Around:
    def put(self, value: Any) -> None:
        object.__setattr__(self, "value", value)


class Cached:
    @cached_property
    def items(self) -> list[str]:
        return []


class Described:
    field = Field()


class Slotted:
    __slots__ = ("value",)


STATEFUL: tuple[type, ...] = (
    *(Assigning, Derived, Adding, Deleting, InANestedFunction, ByAnotherName, Property, Decorated, HiddenByADecorator),
    *(ClassMethod, StaticMethod, Partial, Dictionary, Variables, Around, Cached, Described, Slotted),
)


@pytest.mark.parametrize("kind", STATEFUL)
def test_an_object_that_will_get_attributes_is_a_leak_for_the_proof_and_for_the_audit(kind: type) -> None:
    for part in (providers.Object(kind()), providers.Singleton(kind)):
        assert any("one object for all keys" in failure for failure in failures_of(container_of(part))), part
    one = kind()
    assert not audit(Owner(part=one), Owner(part=one)).isolated


class Sized(Protocol):
    def size(self) -> int: ...


class Base(ABC):
    @abstractmethod
    def now(self) -> float: ...


class Clock(Base, Sized):
    """Reads and computes, and keeps nothing."""

    ZERO = 0.0

    def now(self) -> float:
        local = [self.ZERO]
        return local[0]

    def size(self) -> int:
        return 1

    @property
    def name(self) -> str:
        return type(self).__name__

    @classmethod
    def made(cls) -> Clock:
        return cls()

    @decorated
    def later(self) -> float:
        return self.now() + 1


@pytest.mark.parametrize("kind", [object, Clock, type("Missing", (), {})])
def test_an_object_that_stays_without_attributes_raises_no_alarm(kind: type) -> None:
    for part in (providers.Object(kind()), providers.Singleton(kind)):
        assert failures_of(container_of(part)) == []
    one = kind()
    assert audit(Owner(part=one), Owner(part=one)).isolated


def test_the_verdict_on_an_object_without_attributes_is_that_it_cannot_change() -> None:
    findings = proof_of(container_of(providers.Singleton(Clock))).findings
    assert findings[-1].verdict.value == "immutable"


def test_a_singleton_that_is_bound_to_change_is_not_made_by_the_proof() -> None:
    made: list[object] = []

    class Opening:
        """A connection to a database, say."""

        def __init__(self) -> None:
            made.append(self)
            self.open = True

    class Later:
        def __new__(cls) -> Later:
            made.append(cls)
            return super().__new__(cls)

        def put(self, value: Any) -> None:
            self.value = value

    for kind in (Opening, Later):
        (failure,) = failures_of(container_of(providers.Singleton(kind)))
        assert failure.endswith("Singleton: one object for all keys; use Fresh, or Shared if it is safe")
    assert made == []


def test_a_walk_reads_a_class_once_and_only_where_an_object_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[type] = []

    def noted(type_: type) -> bool:
        asked.append(type_)
        return assigns_attributes(type_)

    class Full:
        def __init__(self) -> None:
            self.value = 1

    monkeypatch.setattr("providers.reach.assigns_attributes", noted)
    root = [kind() for kind in (Clock, Full, Assigning) for _ in range(20)]
    mutable = Counter(type(reached.object) for reached in reachable(root) if reached.mutable)
    assert (mutable[Clock], mutable[Full], mutable[Assigning]) == (0, 20, 20)
    assert sorted(kind.__name__ for kind in asked) == ["Assigning", "Clock"]


@dataclass(frozen=True)
class Point:
    x: int

    @cached_property
    def items(self) -> list[int]:
        return [self.x]


@dataclass(frozen=True)
class Named:
    x: int

    @cached_property
    def name(self) -> str:
        return str(self.x)


@dataclass(frozen=True)
class Paired:
    x: int

    @cached_property
    def pair(self) -> tuple[int, int]:
        return (self.x, self.x)


class Colour(Enum):
    RED = "red"

    @cached_property
    def users(self) -> list[str]:
        return []


def test_what_a_frozen_object_will_compute_counts_unless_it_says_that_it_cannot_change() -> None:
    for value, name in ((Point(1), "Point.items"), (Paired(1), "Paired.pair"), (Colour.RED, "Colour.users")):
        (failure,) = failures_of(container_of(value))
        assert f"value: one object for all keys (what {name} will be can change)" in failure
    assert failures_of(container_of(Named(1))) == []


def test_of_what_a_frozen_object_has_computed_the_value_counts() -> None:
    paired, point = Paired(1), Point(1)
    assert (paired.pair, point.items) == ((1, 1), [1])
    assert failures_of(container_of(paired)) == []
    (failure,) = failures_of(container_of(point))
    assert "(list at Point.items can change)" in failure
