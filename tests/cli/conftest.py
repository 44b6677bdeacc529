"""Every test here starts without the settings of the person who runs it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.logging import QUIET

Bulkhead = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, so no `.env`, and no variables of the gateway."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("BULKHEAD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Logging is global to the process: put it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)


@pytest.fixture
def bulkhead() -> Iterator[Bulkhead]:
    """Starts `python -m app` with arguments and variables, in the working directory; what still runs is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as in a terminal, where Ctrl-C is for the whole group of processes
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
