"""What code keeps on classes, on functions, on enum members or in its module: text of a user is there for the next."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from dependency_injector import providers

from providers import Fresh, Shared
from providers.audit import audit
from tests.audit.owners import Owner

from .wiring import Box, container_of, failures_of

SEEN: list[str] = []
LAST: str = ""
BOX = Box()


class OnItsClass(Box):
    last = ""

    def note(self, user: str) -> None:
        type(self).last = user


class OnItsClassByAnotherName(Box):
    last = ""

    def note(self, user: str) -> None:
        kind = type(self)
        kind.last = user


class OnItsClassByAttribute(Box):
    count = 0

    def tick(self) -> None:
        self.__class__.count += 1


class OnItsClassByName(Box):
    last = ""

    def note(self, user: str) -> None:
        OnItsClassByName.last = user


class OnItsClassInAFunction(Box):
    last = ""

    def note(self, user: str) -> Callable[[], None]:
        def later() -> None:
            __class__.last = user  # type: ignore[name-defined]

        return later


class InAClassMethod(Box):
    last = ""

    @classmethod
    def note(cls, user: str) -> None:
        cls.last = user


class OnlyOne(Box):
    one: Any = None

    def __new__(cls, *_: Any) -> Any:
        cls.one = super().__new__(cls)
        return cls.one


class Counting(type):
    def __call__(cls, *arguments: Any) -> Any:
        cls.made = super().__call__(*arguments)
        return cls.made


class OfAMetaclass(Box, metaclass=Counting):
    pass


class InAProperty(Box):
    @property
    def last(self) -> str:
        return LAST

    @last.setter
    def last(self, user: str) -> None:
        OnItsClass.last = user


class InABase(OnItsClass):
    pass


class InAList(Box):
    def add(self, user: str) -> None:
        SEEN.append(user)


class InAGlobal(Box):
    def note(self, user: str) -> None:
        global LAST  # noqa: PLW0603 - that is the leak
        LAST = user


class OnAnObjectOfTheModule(Box):
    def note(self, user: str) -> None:
        BOX.content = user


class OnTheOwner:
    """A descriptor that stores on the class of its instance."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return owner.kept

    def __set__(self, instance: Any, value: Any) -> None:
        type(instance).kept = value


class OnItself:
    """A descriptor that stores in its own dictionary."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return vars(self).get("kept")

    def __set__(self, instance: Any, value: Any) -> None:
        self.__dict__["kept"] = value


class OnItselfByFunction(OnItself):
    def __set__(self, instance: Any, value: Any) -> None:
        setattr(self, "kept", value)  # noqa: B010 - that is the leak


class WithOwner(Box):
    kept: Any = None
    field = OnTheOwner()


class WithDictionary(Box):
    field = OnItself()


class WithFunction(Box):
    field = OnItselfByFunction()


CLASSES: tuple[type, ...] = (
    *(OnItsClass, OnItsClassByAnotherName, OnItsClassByAttribute, OnItsClassByName, OnItsClassInAFunction),
    *(InAClassMethod, OnlyOne, OfAMetaclass, InAProperty, InABase, InAList, InAGlobal, OnAnObjectOfTheModule),
    *(WithOwner, WithDictionary, WithFunction),
)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_whose_code_keeps_something_for_all_is_a_leak(kind: type) -> None:
    for part in (Fresh(kind), providers.Factory(kind), Fresh(kind).provider):
        (failure,) = failures_of(container_of(part))
        assert "holds one object for all keys" in failure


def test_the_message_names_the_attribute_and_the_method() -> None:
    assert "(its class.last in OnItsClass.note)" in failures_of(container_of(Fresh(InABase)))[0]
    assert "(OnItsClassByName.last in OnItsClassByName.note)" in failures_of(container_of(Fresh(OnItsClassByName)))[0]
    assert "(SEEN in InAList.add)" in failures_of(container_of(Fresh(InAList)))[0]
    assert "(LAST in InAGlobal.note)" in failures_of(container_of(Fresh(InAGlobal)))[0]


def handler() -> Callable[[str], None]:
    def handle(user: str) -> None:
        handle.last = user  # type: ignore[attr-defined]

    return handle


def adding(user: str) -> None:
    SEEN.append(user)


def noting(user: str) -> None:
    noting.last = user  # type: ignore[attr-defined]


@pytest.mark.parametrize(("function", "name"), [(handler(), "handle.last"), (adding, "SEEN"), (noting, "noting.last")])
def test_a_function_that_keeps_something_for_all_is_a_leak_though_nobody_calls_it_in_the_proof(
    function: Any, name: str
) -> None:
    for part in (function, providers.Object(function), (1, function)):
        (failure,) = failures_of(container_of(part))
        assert f"one object for all keys ({name} in {function.__qualname__} can change)" in failure


class Noting(Enum):
    ONE = "one"

    def note(self, user: str) -> None:
        self.last = user


class Remembering(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record
        return True


@pytest.mark.parametrize("value", [Noting.ONE, Remembering()])
def test_an_enum_member_and_a_filter_that_a_method_changes_are_leaks_for_both_nets(value: Any) -> None:
    (failure,) = failures_of(container_of(value))
    assert "can change" in failure
    assert not audit(Owner(part=value), Owner(part=value)).isolated


class Colour(Enum):
    """Is made with attributes, and gives others some."""

    RED = "red", 1
    BLUE = "blue", 2

    def __new__(cls, value: str, number: int) -> Colour:
        made = object.__new__(cls)
        made._value_ = value
        return made

    def __init__(self, value: str, number: int) -> None:
        self.number = number

    @classmethod
    def _missing_(cls, value: object) -> Colour | None:
        return cls.RED if value == "rot" else None

    def paint(self, box: Box) -> None:
        box.content = self


class Stamping(logging.Filter):
    """Adds to the record, as filters do, and nothing to itself."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def filter(self, record: logging.LogRecord) -> bool:
        record.node = self.node
        record.__dict__.update(colour="red")
        vars(record)["number"] = 1
        setattr(record, "text", "x")  # noqa: B010 - another way

        def later() -> None:
            record.later = True

        later()
        return True


class Typed:
    """A descriptor that stores on its instance, under the name that it was given."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        return vars(instance).get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = value
        instance.changed = True


class Described(Box):
    field = Typed()


LIMITS = {"a": 1}


class Reading(Box):
    """Has names of its own that are also those of its module, and changes what it is given and what it makes."""

    LIMITS = ()

    def read(self, box: Box) -> int:
        made = Box()
        made.content, box.content = box, made
        self.size = len(self.LIMITS)
        return self.size

    def later(self) -> Callable[[], None]:
        def change() -> None:
            self.content = None

        return change


@pytest.mark.parametrize("part", [Colour.RED, Stamping("n"), Fresh(Described), Fresh(Reading), Fresh(json.JSONEncoder)])
def test_code_that_changes_only_what_is_its_own_raises_no_alarm(part: Any) -> None:
    assert failures_of(container_of(part)) == []


def test_what_is_marked_as_shared_may_be_used_by_name() -> None:
    def shared(box: Box) -> list[str]:
        return SEEN

    seen = Shared(shared, Shared(Box, reason="test"), reason="test")
    assert failures_of(container_of(Fresh(Box, seen), own=Fresh(InAList))) == []
    assert failures_of(container_of(providers.List(seen, Fresh(InAList)))) == []
