"""The program as a process: real sockets, real signals, the real application."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request

import pytest
from websockets.sync.client import connect

from tests.cli.conftest import Bulkhead
from tests.cli.processes import address_of, close_code, get
from tests.engine.fixtures import Engines


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_until_it_is_told_to_stop_and_exits_with_0(stop: signal.Signals, bulkhead: Bulkhead) -> None:
    process = bulkhead("serve", BULKHEAD_PROFILE="development", BULKHEAD_PORT="0")
    assert get(f"{address_of(process)}/health")["websocket_manager_isolation"]["status"]
    process.send_signal(stop)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_stopping_server_closes_connections_with_3001(bulkhead: Bulkhead) -> None:
    process = bulkhead("serve", "--port", "0", "--profile", "development")
    address = address_of(process)
    token = bulkhead("token", "alice", "--profile", "development").communicate(timeout=10)[0].strip()
    with connect(f"{address.replace('http', 'ws')}/connection/websocket") as websocket:
        websocket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        reply = json.loads(websocket.recv(5))
        assert reply["connect"]["subs"].keys() == {"#alice"}
        process.terminate()
        assert close_code(websocket) == 3001
    assert process.wait(10) == 0


def test_no_query_string_reaches_a_log(bulkhead: Bulkhead) -> None:
    options = ("--log.level", "DEBUG", "--log.format", "json")
    process = bulkhead("serve", "--port", "0", "--profile", "development", *options)
    address = address_of(process)
    get(f"{address}/health?token=hunter2")
    with pytest.raises(urllib.error.HTTPError):
        get(f"{address}/nowhere?token=hunter2")
    with connect(f"{address.replace('http', 'ws')}/connection/websocket?token=hunter2") as websocket:
        websocket.send("hunter2")
        assert close_code(websocket) == 3501
    process.terminate()
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "hunter2" not in output + errors
    assert [json.loads(line)["event"] for line in errors.splitlines() if '"listening"' in line] == ["listening"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@{}",
        "redis://{}?password=hunter2",
        "redis+cluster://user:hunter2@{}",
        "redis+sentinel://:hunter2@{}/main",
    ],
)
def test_a_password_of_the_engine_reaches_neither_a_log_nor_an_answer(
    url: str, bulkhead: Bulkhead, engines: Engines
) -> None:
    server = engines.stand_alone()
    server.call("CONFIG", "SET", "requirepass", "another")
    options = ("--log.level", "DEBUG", "--broker.url", url.format(server.address), "--broker.check_interval", "0.1")
    process = bulkhead("serve", "--port", "0", "--profile", "development", *options)
    address, told = address_of(process), ""
    for path in ("health", "ready", "metrics"):
        try:
            with urllib.request.urlopen(f"{address}/{path}", timeout=5) as response:
                told += response.read().decode()
        except urllib.error.HTTPError as error:
            told += error.read().decode()
    process.terminate()
    output, errors = process.communicate(timeout=10)
    assert '"status":"down"' in told
    assert "broker lost" in errors
    assert "hunter2" not in told + output + errors


def test_production_without_secrets_does_not_start(bulkhead: Bulkhead) -> None:
    process = bulkhead("serve")
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (1, "")
    assert "auth.hmac_secret: no key to verify tokens with" in errors
    assert "Traceback" not in errors


def test_a_port_that_is_taken_is_a_problem_and_no_traceback(bulkhead: Bulkhead) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = bulkhead("serve", "--profile", "development", "--port", str(port))
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (1, "")
    assert f"port: cannot listen on 127.0.0.1 port {port}: Address already in use\n" in errors
    assert errors.endswith("    Choose another one: --port 9000, or BULKHEAD_PORT=9000.\n")
    assert "Traceback" not in errors


def test_a_host_that_is_not_of_this_machine_is_a_problem(bulkhead: Bulkhead) -> None:
    process = bulkhead("serve", "--profile", "development", "--host", "192.0.2.1", "--port", "0")
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (1, "")
    assert "host: cannot listen on 192.0.2.1 port 0: Cannot assign requested address\n" in errors
    assert errors.endswith("    Name an address of this machine; 0.0.0.0 stands for all of them.\n")


def test_check_exits_with_0_when_nothing_is_wrong(bulkhead: Bulkhead) -> None:
    process = bulkhead("check", "--profile", "development")
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("ok: development profile")


def test_without_a_command_the_help_is_shown_as_a_usage_error(bulkhead: Bulkhead) -> None:
    process = bulkhead()
    process.communicate(timeout=10)
    assert process.returncode == 2
