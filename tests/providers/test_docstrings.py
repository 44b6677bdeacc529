"""The examples in the docstrings do what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["claims", "fresh", "per_key", "shared"])
def test_the_examples_of_a_provider_run(name: str) -> None:
    results = doctest.testmod(import_module(f"providers.{name}"), raise_on_error=False)
    assert results.attempted > 0
    assert results.failed == 0
