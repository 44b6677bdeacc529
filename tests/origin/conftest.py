"""A container for every test."""

from __future__ import annotations

import pytest

from containers import GatewayContainer
from tests.gateway import build_container


@pytest.fixture
def container() -> GatewayContainer:
    """A container with the default settings."""
    return build_container()
