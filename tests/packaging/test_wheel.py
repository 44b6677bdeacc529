"""The wheel, installed where nothing else is, serves the gateway with its page and profiles."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "config", "containers", "providers")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(*command: str | Path, cwd: Path, timeout: float = 240) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def environment(**extra: str) -> dict[str, str]:
    """The caller's variables less those that would let the checkout, or its settings, in."""
    ours = ("PYTHON", "VIRTUAL_ENV", "BULKHEAD_", "COV", "PIP_REQUIRE_VIRTUALENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | extra


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as built from the source distribution, with the locked build backend."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.mark.timeout(120)
def test_the_wheel_holds_exactly_the_files_of_the_four_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped
    assert {"config/development.toml", "config/production.toml"} <= shipped
    assert any(name.startswith("app/") and name.endswith(".html") for name in shipped)


def fetch(url: str, server: subprocess.Popen[str]) -> tuple[str, str]:
    """Content type and body; waits until the server listens, for at most 30 seconds."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.headers["content-type"], response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{url}: {error.code} {error.read().decode()}") from None
        except urllib.error.URLError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise AssertionError(f"not serving: {server.communicate()}") from None
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_installs_into_an_empty_environment_and_serves(wheel: Path, tmp_path: Path) -> None:
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=empty)
    pip = (sys.executable, "-m", "pip", "--python", venv / "bin/python")
    run(*pip, "install", "-q", "--require-hashes", "-r", ROOT / "requirements.lock", cwd=empty)
    run(*pip, "install", "-q", "--no-deps", wheel, cwd=empty)
    run(*pip, "check", cwd=empty)
    assert VERSION in run(venv / "bin/bulkhead", "--version", cwd=empty)
    assert VERSION in run(venv / "bin/python", "-m", "app", "--version", cwd=empty)

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [venv / "bin/bulkhead", "serve"],
        cwd=empty,
        env=environment(BULKHEAD_PROFILE="development", BULKHEAD_PORT=str(port)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            origin = f"http://127.0.0.1:{port}"
            content_type, page = fetch(f"{origin}/", server)
            assert content_type.startswith("text/html")
            assert "Bulkhead" in page
            for asset in re.findall(r'(?:src|href)="([^"#:]+)"', page):
                assert fetch(urllib.parse.urljoin(f"{origin}/", asset), server)[1]

            _, health = fetch(f"{origin}/health", server)
            assert json.loads(health)["websocket_manager_isolation"]["violations"] == 0

            server.send_signal(signal.SIGTERM)
            output, _ = server.communicate(timeout=30)
            assert server.returncode == 0, output
        finally:
            server.kill()
    assert list(empty.iterdir()) == []
