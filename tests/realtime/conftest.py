"""A clock by hand and a container that reads it."""

from __future__ import annotations

import pytest

from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import build_container


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
def container(clock: ManualClock) -> GatewayContainer:
    """A container with the default settings and this clock."""
    return build_container(clock=clock)
