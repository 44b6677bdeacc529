"""`check` and `serve` with containers of users, and `audit` of a gateway that runs."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import program
from app.realtime import UserContext
from tests.cli.conftest import Bulkhead
from tests.gateway import API_KEY, serving

PROFILE = ("--profile", "development")
WIRING = """
from dependency_injector import containers, providers

from app.realtime.connections import ConnectionTable
from app.realtime.modes import ManagerMode, ModeKind
from containers import GatewayContainer
from providers import Fresh


@containers.copy(GatewayContainer)
class Shop(GatewayContainer):
    rpc = providers.Dict({"cart.total": providers.Object(len)})


@containers.copy(GatewayContainer)
class Leaky(GatewayContainer):
    connections = providers.Singleton(ConnectionTable, 8)


def common_mode(context):
    return MODE


MODE = ManagerMode(ModeKind.UNIFIED, 0.0, "one for all")


@containers.copy(GatewayContainer)
class Sly(GatewayContainer):
    mode = providers.Callable(common_mode)


@containers.copy(GatewayContainer)
class Broken(GatewayContainer):
    broker = Fresh(int, "no number")


def build():
    return Shop()


def fail():
    raise RuntimeError("no shop today")


open_all_day = 24
"""


@pytest.fixture(autouse=True)
def wiring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of an application in the working directory, and imports that leave nothing behind."""
    Path("shop_wiring.py").write_text(WIRING)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("shop_wiring", None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program(), arguments, prog_name="bulkhead")


def test_check_proves_the_container_of_the_gateway_and_prints_a_table() -> None:
    result = run("check", *PROFILE)
    assert (result.exit_code, result.stderr) == (0, "")
    summary, title, _, head, *_ = result.stdout.splitlines()
    assert summary.startswith("ok: development profile on ")
    assert title == "containers.gateway.GatewayContainer: proved"
    assert head.split() == ["path", "provider", "verdict", "reason"]
    assert any(line.split("  ")[0] == "manager" and "per key" in line for line in result.stdout.splitlines())


def test_check_proves_a_container_of_the_working_directory(bulkhead: Bulkhead) -> None:
    process = bulkhead("check", *PROFILE, "--container", "shop_wiring:Shop")
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert "shop_wiring.Shop: proved" in output.splitlines()


def test_the_console_script_finds_it_too() -> None:
    script = Path(sys.executable).with_name("bulkhead")
    command = [str(script), "check", *PROFILE, "--container", "shop_wiring:build"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "shop_wiring.Shop: proved" in done.stdout.splitlines()


def test_check_writes_what_is_not_proved_and_names_way_and_remedy_on_standard_error() -> None:
    result = run("check", *PROFILE, "--container", "shop_wiring:Leaky")
    assert result.exit_code == 1
    assert "shop_wiring.Leaky: NOT PROVED, 1 failure" in result.stdout.splitlines()
    title, line = result.stderr.splitlines()
    assert title == "shop_wiring.Leaky is not proved to keep its users apart:"
    assert line.startswith("  manager → ")
    assert line.endswith("connections ← Singleton: one object for all keys; use Fresh, or Shared if it is safe")


def test_check_finds_what_only_the_probe_can_see_and_says_what_it_is() -> None:
    result = run("check", *PROFILE, "--container", "shop_wiring:Sly")
    assert result.exit_code == 1
    assert "shop_wiring.Sly is not proved to keep its users apart:" in result.stderr.splitlines()
    assert "app.realtime.modes.ManagerMode is another key's: let it be made anew for each key" in result.stderr


def test_serve_refuses_a_container_that_leaks_in_the_same_words_and_without_a_traceback(bulkhead: Bulkhead) -> None:
    process = bulkhead("serve", *PROFILE, "--port", "0", "--container", "shop_wiring:Leaky")
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    assert errors == run("check", *PROFILE, "--container", "shop_wiring:Leaky").stderr


def test_serve_serves_a_container_of_the_working_directory(bulkhead: Bulkhead) -> None:
    process = bulkhead("serve", *PROFILE, "--port", "0", "--container", "shop_wiring:Shop")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Bulkhead development: http://127.0.0.1:")
    process.terminate()
    assert process.wait(10) == 0


def test_the_proof_goes_to_a_file_for_an_auditor() -> None:
    result = run("check", *PROFILE, "--container", "shop_wiring:Shop", "--format", "json", "--output", "proof.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("ok: ")
    assert len(result.stdout.splitlines()) == 1
    proof = json.loads(Path("proof.json").read_text(encoding="utf-8"))
    assert (proof["container"], proof["proved"]) == ("shop_wiring.Shop", True)
    assert proof.keys() == {"container", "proved", "graph_sha256", "version", "time", "findings"}


def test_a_proof_that_failed_is_written_as_well() -> None:
    result = run("check", *PROFILE, "--container", "shop_wiring:Leaky", "--format", "json", "--output", "proof.json")
    assert result.exit_code == 1
    proof = json.loads(Path("proof.json").read_text(encoding="utf-8"))
    assert not proof["proved"]
    assert [finding["path"][-1] for finding in proof["findings"] if finding["verdict"] == "leak"] == ["connections"]


@pytest.mark.parametrize(
    ("format", "begin"), [("json", "{"), ("dot", "digraph wiring {"), ("mermaid", "flowchart LR\n")]
)
def test_for_programs_there_is_nothing_but_the_proof_on_standard_output(format: str, begin: str) -> None:
    result = run("check", *PROFILE, "--format", format)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(begin)
    assert "ok: " not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--container", "shop_wiring"], 1, "--container: shop_wiring is not of the form package.module:Container\n"),
        (["--container", "shop_wiring:Nothing"], 1, "shop_wiring:Nothing cannot be imported: AttributeError: "),
        (["--container", "no_such_shop:Shop"], 1, "no_such_shop:Shop cannot be imported: ModuleNotFoundError: "),
        (["--container", "shop_wiring:open_all_day"], 1, "is neither a class of containers nor a function that gives"),
        (["--container", "shop_wiring:fail"], 1, "shop_wiring:fail gives no container: RuntimeError: no shop today\n"),
        (["--container", "builtins:dict"], 1, "builtins:dict gives a dict, which is no GatewayContainer\n"),
        (["--container", "shop_wiring:Broken"], 1, "Broken.publisher: ValueError: "),
        (["--output", "no/such/folder"], 1, "--output: cannot write no/such/folder: No such file or directory\n"),
        (["--format", "svg"], 2, "svg"),
    ],
)
def test_what_cannot_be_checked_is_told_on_standard_error(arguments: list[str], status: int, message: str) -> None:
    result = run("check", *PROFILE, *arguments)
    assert result.exit_code == status
    assert message in result.stderr


async def audit(url: str, *arguments: str) -> Result:
    return await asyncio.to_thread(run, "audit", *PROFILE, "--api_keys", API_KEY, "--url", url, *arguments)


async def test_audit_tells_that_users_of_a_gateway_share_nothing() -> None:
    async with serving() as gateway, gateway.connected("alice"), gateway.connected("bob"), gateway.connected("carol"):
        result = await audit(gateway.url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("isolated: 3 managers, ")
        result = await audit(f"{gateway.url}/", "--user", "alice", "--user", "bob", "--json")
        report = json.loads(result.stdout)
        assert (result.exit_code, report["isolated"], report["managers"]) == (0, True, 2)


async def test_audit_shows_what_users_share_and_exits_with_1() -> None:
    async with serving() as gateway, gateway.connected("alice"), gateway.connected("bob"):
        common = ["canary"]
        for user in ("alice", "bob"):
            manager: Any = gateway.container.manager(UserContext(user_id=user))
            manager.record.events.append(common)
        result = await audit(gateway.url)
        assert (result.exit_code, result.stderr) == (1, "")
        verdict, *lines = result.stdout.splitlines()
        assert verdict.startswith("NOT ISOLATED, 1 shared: 2 managers, ")
        assert lines[0] == "shared: builtins.list, reached by 2 managers"
        assert {line.strip().partition(": ")[0] for line in lines[1:]} == {"user:alice", "user:bob"}
        assert all("UserManager.record.events[" in line for line in lines[1:])
        result = await audit(gateway.url, "--json")
        assert (result.exit_code, json.loads(result.stdout)["isolated"]) == (1, False)
        assert "canary" not in result.stdout


async def test_audit_tells_what_the_gateway_refuses() -> None:
    async with serving() as gateway:
        result = await audit(gateway.url, "--user", "zoe")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"--url: {gateway.url} answers 404: no manager lives of 'zoe'.\n"
        result = await audit(f"{gateway.url}/elsewhere")
        assert result.stderr == f"--url: {gateway.url}/elsewhere answers 404: Not Found\n"
        result = await asyncio.to_thread(run, "audit", *PROFILE, "--url", gateway.url)
        assert "answers 401: Send one of the configured keys in X-API-Key." in result.stderr


def test_audit_without_a_gateway_or_a_key_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    result = run("audit", *PROFILE, "--port", port)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"--url: http://127.0.0.1:{port} gives no answer: [Errno 111] Connection refused\n"
    result = run("audit", *PROFILE, "--url", "127.0.0.1:8000")
    assert result.stderr == "--url: 127.0.0.1:8000 is not the http:// or https:// address of a gateway\n"
    assert run("audit").stderr == "api_keys: no API key to ask with\n"


def test_audit_asks_no_proxy_and_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{elsewhere.getsockname()[1]}")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = str(closed.getsockname()[1])
        assert "Connection refused" in run("audit", *PROFILE, "--port", port).stderr
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
