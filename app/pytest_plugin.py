"""The pytest plugin `bulkhead`: shows that the containers of tests keep their users apart.

pytest loads it into every run, by its entry point. It imports nothing of Bulkhead until a test asks for it.

* Fixture `assert_isolated`: the function `app.assertions.assert_isolated`.
* Setting `bulkhead_audit = true`, or the marker `bulkhead_audit`: what lives at the end of each test is audited, before
  fixtures are torn down; what two users share fails the test. The marker with `False` leaves a test out.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from app.assertions import AssertIsolated

NAME = "bulkhead_audit"
KNOWN = pytest.StashKey[frozenset[tuple[int, str]]]()
"""What was found after the test before: the container, by id, and the line."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting."""
    parser.addini(NAME, "Audit the managers that live at the end of each test.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker."""
    config.addinivalue_line("markers", f"{NAME}(wanted=True): audit the managers that live at the end of the test.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Audit after a test; what a failed one leaves is noted, so that the next one is not blamed."""
    marker = item.get_closest_marker(NAME)
    wanted = item.config.getini(NAME) if marker is None else all(marker.args)
    passed = False
    try:
        yield
        passed = True
    finally:
        if wanted and (leaks := _new_leaks(item.config.stash)) and passed:
            pytest.fail("\n".join(leaks), pytrace=False)


def _new_leaks(stash: pytest.Stash) -> list[str]:
    from app.assertions import find_leaks, living_containers

    known = stash.get(KNOWN, frozenset())
    found = [(id(container), leak) for container in living_containers() for leak in find_leaks(container)]
    stash[KNOWN] = frozenset(found)
    return [leak for container, leak in found if (container, leak) not in known]


@pytest.fixture(scope="session")
def assert_isolated() -> AssertIsolated:
    """Call it with a container; see `app.assertions.assert_isolated`."""
    from app.assertions import assert_isolated

    return assert_isolated
