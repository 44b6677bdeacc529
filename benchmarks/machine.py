"""The machine: which core does what, and what to tell about it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("uvicorn", "websockets", "uvloop", "httptools", "fastapi", "starlette", "dependency-injector", "msgspec")


@dataclass(frozen=True)
class Cores:
    """The core of the server process and that of the client; None where processes cannot be pinned or have one core."""

    server: int | None
    client: int | None


def cores() -> Cores:
    """Choose two cores of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1]) if len(usable) > 1 else Cores(None, None)


def pin(core: int | None) -> None:
    """Keep this process on a core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextmanager
def everywhere(chosen: Cores) -> Iterator[None]:
    """Let this process, and those it starts meanwhile, use every core: for more processes than there are cores."""
    if chosen.client is None or chosen.server is None:
        yield
        return
    os.sched_setaffinity(0, {chosen.server, chosen.client})
    try:
        yield
    finally:
        pin(chosen.client)


def raise_file_limit() -> None:
    """Allow this process, and those it starts, as many open sockets as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def description(chosen: Cores) -> str:
    """What a reader has to know of the machine and the software, on a few lines."""
    pinned = "not pinned to cores" if chosen.server is None else "server and client pinned to a core each"
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {pinned}; "
        f"{platform.python_implementation()} {platform.python_version()}.\n"
        f"{libraries}.\n"
        f"Commit {_commit()}."
    )


def _commit() -> str:
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
