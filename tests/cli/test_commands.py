"""The commands that print something and end."""

from __future__ import annotations

import json
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import jwt
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from app import create_app
from app.cli import program
from containers import GatewayContainer

SECRET = "a-secret-of-more-than-thirty-two-bytes"
PRODUCTION = ("--auth.hmac_secret", SECRET, "--api_keys", "a-key-of-a-back-end")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(program(), arguments, prog_name="bulkhead")


def claims_of(token: str, secret: str = SECRET, audience: str | None = None) -> dict[str, object]:
    return dict(jwt.decode(token.strip(), secret, algorithms=["HS256"], audience=audience))


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_AUTH__HMAC_SECRET", SECRET)


@pytest.mark.usefixtures("secret")
def test_a_token_has_its_user_its_time_and_a_session_of_its_own() -> None:
    before = int(time.time())
    first, second = (claims_of(run("token", "alice", "--ttl", "2m").stdout) for _ in range(2))
    assert first["sub"] == "alice"
    assert isinstance(first["iat"], int)
    assert before <= first["iat"] <= time.time()
    assert first["exp"] == first["iat"] + 120
    assert first["sid"] != second["sid"]


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(("ttl", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604800)])
def test_the_time_of_a_token_has_a_unit(ttl: str, seconds: int) -> None:
    claims = claims_of(run("token", "alice", "--ttl", ttl).stdout)
    assert claims == {**claims, "sub": "alice", "exp": int(str(claims["iat"])) + seconds}


@pytest.mark.usefixtures("secret")
def test_a_token_carries_what_the_settings_and_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_AUTH__AUDIENCE", '["chat", "other"]')
    monkeypatch.setenv("BULKHEAD_AUTH__ISSUER", "https://login.example")
    monkeypatch.setenv("BULKHEAD_AUTH__SESSION_CLAIM", "session")
    given = ("--claim", "tier=hipaa", "--claim", "level=3", "--claim", 'roles=["a"]', "--claim", "note=a=b")
    claims = claims_of(run("token", "alice", "--session", "phone", *given).stdout, audience="chat")
    expected = {"tier": "hipaa", "level": 3, "roles": ["a"], "note": "a=b", "session": "phone", "aud": "chat"}
    assert claims == {**claims, **expected, "iss": "https://login.example"}


def test_a_token_of_the_development_profile_needs_no_configuration() -> None:
    token = run("token", "alice", "--profile", "development").stdout
    assert claims_of(token, "development-hmac-secret-not-for-production")["sub"] == "alice"


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["alice", "--ttl", "soon"], 2, "write a number and its unit: 30s, 15m, 1h or 7d"),
        (["alice", "--ttl", "0s"], 2, "write a number and its unit: 30s, 15m, 1h or 7d"),
        (["alice", "--claim", "tier"], 2, "write NAME=VALUE, such as tier=hipaa"),
        (["alice", "--claim", "=1"], 2, "write NAME=VALUE, such as tier=hipaa"),
        (["alice", "--histroy.size", "1"], 2, "No such option"),
        ([], 2, "Missing argument"),
        (["alice", "--claim", "sub=bob"], 1, "claim sub is decided by the settings and options"),
        (["alice", "--profile", "staging"], 1, "profile: should be 'development' or 'production' (from command line)"),
        (["a\nb"], 1, "user_id contains control characters"),
        (["alice", "--session", ""], 1, "session_id is empty"),
    ],
)
def test_a_token_that_cannot_be_made_is_refused_on_standard_error(
    arguments: list[str], status: int, message: str
) -> None:
    result = run("token", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr


def test_without_a_secret_a_token_is_refused_with_what_to_do() -> None:
    result = run("token", "alice")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "auth.hmac_secret is not set: set BULKHEAD_AUTH__HMAC_SECRET, or use --profile development\n"
    )


def test_a_token_of_an_asymmetric_algorithm_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_AUTH__ALGORITHM", "EdDSA")
    result = run("token", "alice")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "tokens of EdDSA are signed with a private key, which the gateway does not have: issue them where it is kept\n"
    )


def test_settings_shows_values_with_their_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_HISTORY__TTL", "7")
    Path(".env").write_text("BULKHEAD_MODE=isolated\n")
    result = run("settings", *PRODUCTION, "--origins", "https://a.example")
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert lines["setting"] == ["value", "origin"]
    assert lines["history.ttl"] == ["7.0", "environment"]
    assert lines["mode"] == ["isolated", ".env"]
    assert lines["log.format"] == ["json", "production.toml"]
    assert lines["origins"] == ['["https://a.example"]', "command", "line"]
    assert lines["auth.issuer"] == ["default"]
    assert lines["auth.hmac_secret"] == ["**********", "command", "line"]
    assert SECRET not in result.stdout


def test_settings_shows_json_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-a-back-end\nanother\n")
    result = run("settings", "--json", "--api_keys_file", str(file))
    shown = json.loads(result.stdout)
    assert shown["api_keys"] == {"value": ["**********", "**********"], "origin": f"file {file}"}
    assert shown["history.size"] == {"value": 1000, "origin": "default"}


@pytest.mark.parametrize("command", ["settings", "check", "serve"])
def test_an_option_that_is_no_setting_is_a_usage_error(command: str) -> None:
    result = run(command, "--histroy.size", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == ("--histroy.size: is not a setting (from command line)\n    Did you mean --history.size?\n")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_problems_are_all_listed_on_standard_error(command: str) -> None:
    result = run(command, "--origins", "*")
    assert (result.exit_code, result.stdout) == (1, "")
    settings = [line.partition(":")[0] for line in result.stderr.splitlines() if not line.startswith(" ")]
    assert settings == ["auth.hmac_secret", "api_keys", "origins"]


@pytest.mark.parametrize(
    ("arguments", "summary"),
    [
        (
            PRODUCTION,
            "ok: production profile on 127.0.0.1:8000, unified mode, HS256 tokens, 1 API key\n",
        ),
        (
            (*PRODUCTION, "--host", "::1", "--mode", "isolated", "--api_keys", "b" * 16),
            "ok: production profile on [::1]:8000, isolated mode, HS256 tokens, 2 API keys\n",
        ),
    ],
)
def test_check_says_ok_with_a_summary(arguments: tuple[str, ...], summary: str) -> None:
    result = run("check", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(summary)


def test_check_builds_the_container_and_says_what_fails() -> None:
    result = run("check", "--profile", "development", "--broker.url", "redis+sentinel://localhost")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("GatewayContainer.broker: ")
    assert "needs the master's name" in line


@pytest.mark.usefixtures("restored_logging")
def test_an_application_that_does_not_start_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            raise RuntimeError("the broker is away")

        async def __aexit__(self, *error: object) -> None:
            pass

    def create(container: GatewayContainer) -> FastAPI:
        app = create_app(container)
        app.router.lifespan_context = lambda app: Away()
        return app

    monkeypatch.setattr("app.application.create_app", create)
    result = run("serve", "--profile", "development", "--port", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the broker is away" in result.stderr
    assert result.stderr.endswith("serve: the application did not start; the log says why\n")


def test_the_version_is_that_of_the_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bulkhead_gateway-9.8.7.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: bulkhead-gateway\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("--version").stdout == "bulkhead 9.8.7\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["serve", "-h"], ["token", "--help"], ["check", "-h"]])
def test_help_is_there_for_every_command(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: bulkhead")
