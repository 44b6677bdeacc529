"""Fixtures with servers, for every folder of tests.

`stand_alone` and `cluster` are shared by all tests of a process, and empty at the start of each. What a test disturbs
it starts for itself, with `engines`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.engine.cluster import Cluster
from tests.engine.programs import REDIS, VALKEY, redis_server, valkey_server
from tests.engine.sentinel import Sentinel
from tests.engine.server import StandAlone


@pytest.fixture(scope="session")
def valkey() -> str:
    """Path of the Valkey server."""
    return require(valkey_server(), VALKEY)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server_program(request: pytest.FixtureRequest) -> str:
    """Path of a server: a test runs once with Valkey and once with Redis."""
    if request.param == "redis":
        return require(redis_server(), REDIS)
    return require(valkey_server(), VALKEY)


@pytest.fixture(scope="session")
def _shared_stand_alone(server_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandAlone]:
    with StandAlone(server_program, tmp_path_factory.mktemp("engine") / "server") as running:
        yield running


@pytest.fixture
def stand_alone(_shared_stand_alone: StandAlone) -> StandAlone:
    """One server that keeps nothing, of Valkey and then of Redis. Leave it as it runs."""
    _shared_stand_alone.call("FLUSHALL")
    return _shared_stand_alone


@pytest.fixture(scope="session")
def _shared_cluster(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    patient = {"cluster-node-timeout": "10000"}  # nobody fails here: a busy machine must not look like that
    with Cluster(valkey, tmp_path_factory.mktemp("engine") / "cluster", config=patient) as running:
        yield running


@pytest.fixture
def cluster(_shared_cluster: Cluster) -> Cluster:
    """Three masters of Valkey. Leave them as they run."""
    _shared_cluster.clear()
    return _shared_cluster


class Engines:
    """Starts servers that end with the test."""

    def __init__(self, program: str, folder: Path, stack: ExitStack) -> None:
        """Nothing runs yet."""
        self.program = program
        self._folders = (folder / f"engine-{number}" for number in count())
        self._stack = stack

    def stand_alone(self, **options: Any) -> StandAlone:
        """One server; options of `StandAlone`."""
        return self._stack.enter_context(StandAlone(self.program, next(self._folders), **options))

    def cluster(self, **options: Any) -> Cluster:
        """Three masters; options of `Cluster`."""
        return self._stack.enter_context(Cluster(self.program, next(self._folders), **options))

    def sentinel(self, **options: Any) -> Sentinel:
        """A master and its replica; options of `Sentinel`."""
        return self._stack.enter_context(Sentinel(self.program, next(self._folders), **options))


@pytest.fixture
def engines(valkey: str, tmp_path: Path) -> Iterator[Engines]:
    """Servers of Valkey for one test, to be disturbed."""
    with ExitStack() as stack:
        yield Engines(valkey, tmp_path, stack)
