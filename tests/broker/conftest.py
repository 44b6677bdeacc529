"""Fixtures of the contract: every test that asks for `broker` runs once for each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.realtime.broker import Broker
from tests.broker.engines import ENGINES, Bounds, Engine, EngineFactory


@pytest.fixture(params=[pytest.param(factory, id=factory.__name__) for factory in ENGINES])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """A started engine, closed after the test."""
    factory: EngineFactory = request.param
    async with factory() as engine:
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
