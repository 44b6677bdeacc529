"""What owners may have in common raises no alarm, and a plant in the midst of it does."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import ipaddress
import logging
import operator
import pathlib
import random
import re
import time
import typing
import uuid
import zoneinfo
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from dependency_injector import providers
from pydantic import AnyUrl, BaseModel, ConfigDict, SecretStr

from providers.immutable import is_immutable

from .owners import Owner, audited

CASES = 1000


class Kind(enum.Enum):
    UNIFIED = "unified"
    ISOLATED = ("isolated", 1)


class Flags(enum.Flag):
    ONE = 1
    TWO = 2


@dataclasses.dataclass(frozen=True)
class Options:
    limit: int = 3
    kinds: tuple[Kind, ...] = (Kind.UNIFIED,)
    names: frozenset[str] = dataclasses.field(default_factory=frozenset)


class Limits(msgspec.Struct, frozen=True):
    size: int = 5
    parts: tuple[str, ...] = ("a",)


class Nested(BaseModel):
    model_config = ConfigDict(frozen=True)
    secret: SecretStr = SecretStr("secret")
    url: AnyUrl = AnyUrl("https://example.com")


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True)
    nested: Nested = Nested()
    names: tuple[str, ...] = ("a",)


class Clock:
    """Keeps no state."""

    def time(self) -> float:
        return time.time()


class Missing:
    __slots__ = ()


class Counted:
    """A method of everything that decorators make."""

    LEVELS = MappingProxyType({"low": 1})
    PATTERN = re.compile("a+")
    missing: typing.ClassVar[object] = Missing()

    @property
    def value(self) -> int:
        return 1

    @functools.cached_property
    def cached(self) -> int:
        return 2

    @staticmethod
    def static(clock: Clock = Clock()) -> Clock:  # noqa: B008
        return clock

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @functools.singledispatchmethod
    def dispatch(self, value: object) -> str:
        return str(value)


@functools.wraps(time.time)
def wrapped(default: tuple[int, ...] = (1,)) -> float:
    return time.time() + default[0]


@functools.singledispatch
def dispatched(value: object) -> str:
    return str(value)


Pair = namedtuple("Pair", ["left", "right"])

LEGITIMATE: tuple[Any, ...] = (
    *(None, True, 7, 10**30, 1.5, 2j, "interned", b"bytes", ..., NotImplemented, range(3), object(), slice(1, 2)),
    *(Kind.UNIFIED, Kind.ISOLATED, Kind, Flags.ONE | Flags.TWO, Options(), Limits(), Settings(), Pair(1, "b")),
    *((1, (2, frozenset(["c"]))), frozenset([1]), MappingProxyType({"a": (1,)}), MappingProxyType({})),
    *(datetime.datetime.now(datetime.UTC), datetime.datetime.now(zoneinfo.ZoneInfo("UTC")), datetime.date(2024, 1, 1)),
    *(datetime.time(1), datetime.timedelta(1), decimal.Decimal("1.5"), decimal.getcontext(), uuid.UUID(int=1)),
    *(pathlib.Path("/a"), ipaddress.ip_address("127.0.0.1"), re.compile("a"), zoneinfo.ZoneInfo("UTC")),
    *(ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("::1/64"), ipaddress.ip_network("10.0.0.0/8")),
    *(memoryview(b"bytes"), re.match("a", "ab"), re.match(b"a", b"ab"), inspect.signature(len)),
    *(inspect.signature(lambda a, b=(1,): a), inspect.Parameter("a", inspect.Parameter.KEYWORD_ONLY, default="b")),
    *(Clock(), Clock, Clock().time, Missing(), Counted, Counted.static, Counted.named, wrapped, dispatched, len),
    *("text".join, functools.partial(wrapped, (1,)), operator.itemgetter(1), operator.attrgetter("a"), list[int]),
    *(int | str, typing.Any, typing.TypeVar("T"), logging.getLogger("legitimate"), logging.getLogger(), time, re),
    *(ContextVar[int]("number", default=1), providers.Factory(list), providers.Dict(), logging.Filter("name")),
    *(lambda: Kind, property(len), staticmethod(len), (1).__add__),
)


def closure(kept: Any) -> Callable[[], Any]:
    return lambda: kept


def fresh(draw: random.Random, depth: int) -> Any:
    """A structure of an owner's own with legitimate parts in it, at random."""

    def part() -> Any:
        return fresh(draw, depth - 1) if depth and draw.random() < 0.6 else draw.choice(LEGITIMATE)

    shapes: tuple[Callable[[], Any], ...] = (
        lambda: [part(), part()],
        lambda: {"first": part(), Kind.UNIFIED: part()},
        lambda: OrderedDict(key=part()),
        lambda: deque([part()], maxlen=3),
        lambda: (part(), part()),
        lambda: Owner(a=part(), kind=Kind.ISOLATED),
        lambda: Pair(part(), part()),
        lambda: Options(kinds=part()),
        lambda: MappingProxyType({"key": part()}),
        lambda: functools.partial(print, part(), sep=part()),
        lambda: closure(part()),
        Counted,
        lambda: bytearray(b"own"),
        lambda: {1, Kind.UNIFIED},
    )
    return draw.choice(shapes)()


@pytest.mark.parametrize("value", LEGITIMATE, ids=lambda value: type(value).__name__)
def test_owners_may_have_this_in_common(value: Any) -> None:
    report = audited(Owner(x=value), Owner(x=value), Owner(y=[value]))
    assert ([*map(str, report.shared)], [*map(str, report.weak)], report.unread) == ([], [], ())
    assert is_immutable(value)


def test_a_thousand_legitimate_owners_raise_no_alarm() -> None:
    draw = random.Random(3)
    for case in range(CASES):
        report = audited(*(Owner(x=fresh(draw, 3), y=Counted()) for _ in range(2)))
        assert [*map(str, report.shared), *map(str, report.weak)] == [], f"case {case}"


def test_a_plant_in_a_legitimate_owner_is_found_wherever_it_is() -> None:
    draw = random.Random(4)
    for case in range(CASES // 4):
        common: list[int] = []

        def planted(common: list[int] = common) -> Any:
            value: Any = common
            for _ in range(draw.randrange(4)):
                kept = value
                value = draw.choice(
                    [
                        [fresh(draw, 1), kept],
                        {"key": kept},
                        (1, kept),
                        Owner(a=kept),
                        Options(kinds=kept),
                        functools.partial(len, kept),
                        MappingProxyType({"key": kept}),
                        Pair(kept, fresh(draw, 1)),
                    ]
                )
            return value

        report = audited(Owner(x=fresh(draw, 2), y=planted()), Owner(x=fresh(draw, 2), z=[planted()]))
        assert len(report.shared) == 1, f"case {case}"
        (finding,) = report.shared
        assert finding.type == "builtins.list"
        assert finding.first.path.startswith("Owner.y")
        assert finding.second.path.startswith("Owner.z[0]")


def test_an_enum_that_a_decoder_has_looked_up_is_still_an_enum() -> None:
    class Colour(enum.Enum):
        RED = "red"

    assert msgspec.json.decode('"red"', type=Colour) is Colour.RED
    assert "__msgspec_cache__" in vars(Colour)
    assert not audited(Owner(x=Colour.RED), Owner(x=Colour.RED)).shared
