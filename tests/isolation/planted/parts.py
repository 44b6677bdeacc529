"""What the leaks in the container are made of."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dependency_injector import containers, providers

from app.realtime.connection import ClientConnection
from app.realtime.connections import ConnectionTable

KEPT: dict[str, Any] = {}


class Table(ConnectionTable):
    """A connection table that is given something more."""

    def __init__(self, more: Any = None) -> None:
        super().__init__(10)
        self.more = more


class Connection(ClientConnection):
    """A connection that is given something more."""

    def __init__(self, more: Any, **parts: Any) -> None:
        super().__init__(**parts)
        self.more = more


class WithDefault(Table):
    def __init__(self, seen: list[str] = []) -> None:  # noqa: B006 - that is the leak
        super().__init__(seen)


class WithClassDict(Table):
    users: dict[str, str] = {}  # noqa: RUF012 - that is the leak


class Slotted(ConnectionTable):
    __slots__ = ("more",)
    users: list[str] = []  # noqa: RUF012 - that is the leak


class SubclassOfSlotted(Slotted):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(10)


class OnTheClass:
    """A descriptor that stores on the class."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}

    def __get__(self, instance: object, owner: type) -> Any:
        return self.values.get(id(instance))

    def __set__(self, instance: object, value: Any) -> None:
        self.values[id(instance)] = value


class WithDescriptor(Table):
    last = OnTheClass()


@dataclass(frozen=True)
class Frozen:
    seen: list[str]


class Text(str):
    tags: list[str]


@dataclass(frozen=True)
class WithCachedList:
    @functools.cached_property
    def seen(self) -> list[str]:
        return []


class Counting:
    """Has no attribute of its own as long as nobody counts."""

    count = 0

    def tick(self) -> None:
        self.count += 1


class Settable:
    """Has no attribute of its own as long as nobody sets it."""

    @property
    def user(self) -> Any:
        return vars(self).get("_user")

    @user.setter
    def user(self, value: Any) -> None:
        self._user = value


class Computing:
    """Has no attribute of its own as long as nobody asks for one."""

    @functools.cached_property
    def seen(self) -> list[str]:
        return []


class WithLastOnClass(Table):
    last = ""

    def remember(self, user: str) -> None:
        type(self).last = user


class WithClassMethod(Table):
    last = ""

    @classmethod
    def remember(cls, user: str) -> None:
        cls.last = user


class WithMethodOverModule(Table):
    def remember(self, user: str) -> None:
        KEPT[user] = self


class TextOnTheClass:
    """A descriptor that stores on the class of its instance."""

    def __get__(self, instance: object, owner: Any) -> Any:
        return owner.kept

    def __set__(self, instance: Any, value: str) -> None:
        type(instance).kept = value


class WithTextOnTheClass(Table):
    kept = ""
    last = TextOnTheClass()


class NotingEnum(Enum):
    ONE = "one"

    def note(self, user: str) -> None:
        self.last = user


class LastRecord(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        self.last = record
        return True


class Own(containers.DeclarativeContainer):
    cache: providers.Dependency[Any] = providers.Dependency()


class WithOwnContainer(Table):
    def __init__(self) -> None:
        super().__init__(Own(cache=providers.Object(KEPT)))


def noting(user: str) -> None:
    noting.last = user  # type: ignore[attr-defined]


def remembering(user: str) -> None:
    KEPT[user] = user


class Pool:
    """Gives one table to everybody."""

    def __init__(self) -> None:
        self.table = Table()

    def take(self) -> Table:
        return self.table


class Sub(containers.DeclarativeContainer):
    table = providers.Singleton(Table)
