"""Fixtures of the contract: every test that asks for `broker` runs once for each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from app.realtime.broker import Broker
from tests.broker.engines import Bounds, Engine, memory, on_redis
from tests.conftest import require
from tests.engine.programs import REDIS, redis_server
from tests.engine.server import StandAlone


@pytest.fixture(scope="session")
def valkey_url(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey for all tests of the process."""
    with StandAlone(valkey, tmp_path_factory.mktemp("contract") / "valkey") as running:
        yield running.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for all tests of the process."""
    program = require(redis_server(), REDIS)
    with StandAlone(program, tmp_path_factory.mktemp("contract") / "redis") as running:
        yield running.url


@pytest.fixture(params=["memory", "valkey", "redis", "cluster"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """A started engine, closed after the test."""
    match request.param:
        case "memory":
            context = memory()
        case "cluster":
            context = on_redis(request.getfixturevalue("cluster").url)
        case name:
            context = on_redis(request.getfixturevalue(f"{name}_url"))
    async with context as engine:
        yield engine


@pytest.fixture
def broker(engine: Engine) -> Broker:
    """The engine's broker."""
    return engine.broker


@pytest.fixture
def bounds(engine: Engine) -> Bounds:
    """What it is configured with."""
    return engine.bounds


@pytest.fixture
def advance(engine: Engine) -> Callable[[float], Awaitable[None]]:
    """Lets seconds pass for it."""
    return engine.advance
