"""No alarm where there is no leak: the container of the gateway, and containers made at random."""

from __future__ import annotations

import inspect
import logging
import random
import re
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from ipaddress import ip_interface
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from dependency_injector import containers, providers
from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr

from app.realtime.identity import UserContext
from config import Settings
from containers import GatewayContainer
from providers import Fresh, PerKey, ProofError, Shared, prove

from .wiring import PROBES, Box, Manager, by_user

CONTAINERS = 1000


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any


class Record(msgspec.Struct, frozen=True):
    name: str
    tags: tuple[str, ...] = ()


class Options(BaseModel):
    model_config = ConfigDict(frozen=True)

    limit: int = 3
    names: tuple[str, ...] = ("a",)
    secret: SecretStr = SecretStr("s")


class Marked(BaseModel):
    model_config = ConfigDict(frozen=True)

    limit: int = 3
    _text: str = PrivateAttr(default="t")


class Clock:
    def time(self) -> float:
        return 0.0


class Counter:
    """Mutable, and a new one for each user."""

    __slots__ = ("__weakref__", "counts", "kind", "log")

    def __init__(self, *parts: Any, kind: Any = Colour.RED) -> None:
        self.counts = {"a": 1, "parts": list(parts)}
        self.kind = kind
        self.log = logging.getLogger(__name__)


def make_counter(*parts: Any, kind: Any = None, scale: float = 1.5) -> Counter:
    local: list[Any] = [parts, scale]
    return Counter(local, kind=kind)


async def nobody_waits_for_this() -> None: ...


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda chance: chance.randrange(-5, 300),
    lambda chance: chance.random(),
    lambda chance: chance.choice(("", "a", "interned", sys.intern("name"))),
    lambda chance: bytes([chance.randrange(256)]),
    lambda chance: None,
    lambda chance: chance.choice(tuple(Colour)),
    lambda chance: Point(value(chance), value(chance)),
    lambda chance: Pair(value(chance), value(chance)),
    lambda chance: Record("r", ("a", "b")),
    lambda chance: Options(limit=chance.randrange(9)),
    lambda chance: Marked(limit=chance.randrange(9)),
    lambda chance: memoryview(b"bytes"),
    lambda chance: chance.choice((re.match("a", "ab"), inspect.signature(make_counter))),
    lambda chance: chance.choice((ip_interface("10.0.0.1/8"), ip_interface("::1/64"))),
    lambda chance: (value(chance), value(chance)),
    lambda chance: frozenset({1, "a"}),
    lambda chance: MappingProxyType({"a": value(chance)}),
    lambda chance: datetime.now(UTC),
    lambda chance: Decimal("1.5"),
    lambda chance: uuid.uuid4(),
    lambda chance: Path("/tmp"),
    lambda chance: re.compile("a+"),
    lambda chance: logging.getLogger("app"),
    lambda chance: Counter,
    lambda chance: make_counter,
    lambda chance: nobody_waits_for_this,
    lambda chance: attrgetter("a"),
    lambda chance: partial(make_counter, 1, kind=Colour.BLUE),
    lambda chance: re,
    lambda chance: Clock(),
)


def value(chance: random.Random) -> Any:
    return chance.choice(VALUES)(chance)


def part(chance: random.Random, parts: list[Any]) -> Any:
    """A provider that gives each user something of their own, or what they may share; made of those there are."""
    inner = [chance.choice([*parts, value(chance)]) for _ in range(chance.randrange(3))]
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: Fresh(Counter, *inner),
        lambda: Fresh(make_counter, *inner, kind=value(chance)),
        lambda: providers.Factory(Counter, *inner),
        lambda: providers.Factory(make_counter, *inner),
        lambda: providers.Callable(make_counter, *inner),
        lambda: providers.List(*inner),
        lambda: providers.Dict({f"key{index}": one for index, one in enumerate(inner)}),
        lambda: providers.Object(value(chance)),
        lambda: providers.Singleton(Point, 1, value(chance)),
        lambda: Shared(Clock, reason="keeps no state"),
        lambda: Shared(Counter, *inner, reason="test"),
        lambda: Fresh(Counter, *inner).provider,
        lambda: providers.Selector(lambda: "a", a=Fresh(Box), b=providers.Object(value(chance))),
        lambda: providers.Aggregate(a=Fresh(Box)),
        lambda: Shared(Options, reason="frozen").provided.names,
        lambda: value(chance),
    )
    return chance.choice(kinds)()


def random_container(chance: random.Random) -> containers.DynamicContainer:
    container = containers.DynamicContainer()
    parts: list[Any] = []
    for number in range(chance.randrange(1, 6)):
        parts.append(part(chance, parts))
        if isinstance(parts[-1], providers.Provider):
            container.set_provider(f"part{number}", parts[-1])
    own = Fresh(Manager, part=providers.List(*chance.sample(parts, chance.randrange(len(parts) + 1))))
    container.manager = PerKey(own, key=by_user)
    return container


def test_a_thousand_random_legitimate_containers_raise_no_alarm() -> None:
    for seed in range(CONTAINERS):
        container = random_container(random.Random(seed))
        proof = prove(container, PROBES)  # an alarm is an error, and pytest shows the seed
        assert proof.ok, seed


def gateway() -> GatewayContainer:
    container = GatewayContainer()
    settings = Settings(auth={"hmac_secret": "x" * 32}, api_keys=("k" * 16,))
    container.settings.override(providers.Object(settings))
    return container


def probes() -> dict[str, Any]:
    return {"manager": ((UserContext(user_id="probe-a"),), (UserContext(user_id="probe-b"),))}


def test_the_gateway_keeps_its_users_apart() -> None:
    container = gateway()
    proof = prove(container, probes())
    assert proof.container == "containers.gateway.GatewayContainer"
    verdicts = {finding.path: finding.verdict.value for finding in proof.findings}
    assert verdicts["manager", "new_manager", "mode"] == "fresh, checked"
    assert verdicts["manager", "new_manager", "auth_token"] == "fresh, checked"
    assert verdicts["manager", "new_manager", "publisher"] == "shared"
    assert verdicts["manager", "new_manager", "connections", "settings"] == "immutable"
    assert container.manager.count() == 0


def test_a_gateway_with_a_leak_does_not_pass() -> None:
    container = gateway()
    for name, leak in (("mode", providers.Singleton(Box)), ("auth_token", providers.Object(Box()))):
        with getattr(container, name).override(leak):
            with pytest.raises(ProofError, match=f"manager → new_manager → {name} ← "):
                prove(container, probes())


def test_the_proof_does_not_grow_slow_with_the_container() -> None:
    container = containers.DynamicContainer()
    last: Any = None
    for number in range(500):
        last = Fresh(Counter, last) if number % 5 else Shared(Counter, reason="test")
        container.set_provider(f"part{number}", last)
    every = [provider.provider for provider in container.providers.values() if isinstance(provider, Fresh)]
    container.manager = PerKey(Fresh(Manager, part=providers.List(*every)), key=by_user)
    proof = prove(container, PROBES)
    assert len(proof.parts) >= 500
