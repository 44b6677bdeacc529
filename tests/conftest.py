"""Fixtures that find the programs some tests drive.

Where such a program is missing its tests skip and say how to get it; with `CI=true` they fail instead, so that a
skip cannot hide there.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ("tests.engine.fixtures",)

NODE_FOLDER = Path(__file__).parent / "node"


def require(found: str | None, remedy: str) -> str:
    """Gives `found`, or skips the test (fails it with `CI=true`) with `remedy` if it is None."""
    if found is not None:
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(remedy, pytrace=False)
    pytest.skip(remedy)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium or Chrome, for Playwright's `executable_path`."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    return require(found, "Chromium is missing. Debian: apt-get install chromium; elsewhere: install Chrome.")


@pytest.fixture(scope="session")
def node() -> str:
    """Path of Node.js."""
    return require(shutil.which("node"), "Node.js is missing. Debian: apt-get install nodejs npm.")


@pytest.fixture(scope="session")
def node_modules(node: str) -> Path:
    """The folder of the installed JavaScript packages (`centrifuge`, `ws`); scripts beside it can import them."""
    folder = NODE_FOLDER / "node_modules"
    found = str(folder) if (folder / "centrifuge" / "package.json").is_file() else None
    return Path(require(found, "The JavaScript SDK is missing: run `npm ci` in tests/node (`make test` does)."))


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """What is caught in a circle of references stays meanwhile, and so is seen."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns as often as can be: a switch interval of a microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
