"""Where settings come from, which source wins, and what is said about what cannot be read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from config import ArgumentError, ConfigurationError, Settings, load_settings
from config.paths import env_name

SOURCES = ("default", "production.toml", "bulkhead.toml", ".env", "environment", "command line")
VALUES = {source: 1000 if source == "default" else 10 + place for place, source in enumerate(SOURCES)}


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    folder = tmp_path / "profiles"
    folder.mkdir()
    return folder


@pytest.fixture
def give(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Sets `history.size` in one source and gives the arguments for `load_settings`."""

    def give_in(source: str) -> list[str]:
        value = VALUES[source]
        match source:
            case "production.toml":
                (profiles / source).write_text(f"[history]\nsize = {value}\n")
            case "bulkhead.toml":
                Path(source).write_text(f"[history]\nsize = {value}\n")
            case ".env":
                Path(".env").write_text(f"BULKHEAD_HISTORY__SIZE={value}\nOTHER_PROGRAM=1\n")
            case "environment":
                monkeypatch.setenv("BULKHEAD_HISTORY__SIZE", str(value))
            case "command line":
                return ["--history.size", str(value)]
        return []

    return give_in


def problems_of(error: pytest.ExceptionInfo[ConfigurationError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(("weak", "strong"), list(combinations(SOURCES, 2)))
def test_of_two_sources_the_stronger_one_wins(
    weak: str, strong: str, give: Callable[[str], list[str]], profiles: Path
) -> None:
    arguments = [*give(weak), *give(strong)]
    settings = load_settings(arguments, profiles=profiles)
    assert settings.history.size == VALUES[strong]
    assert settings.origin("history.size") == strong


def test_sources_are_merged_setting_by_setting(give: Callable[[str], list[str]], profiles: Path) -> None:
    (profiles / "production.toml").write_text("[history]\nttl = 7\n")
    settings = load_settings(give("command line"), profiles=profiles)
    assert (settings.history.size, settings.history.ttl) == (VALUES["command line"], 7)
    assert settings.origin("history.ttl") == "production.toml"
    assert settings.origin("ping.interval") == "default"


def test_a_list_is_replaced_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_ORIGINS", '["https://a.example"]')
    assert load_settings(["--profile", "development"]).origins == ("https://a.example",)


def test_without_a_word_about_it_the_profile_is_production() -> None:
    settings = load_settings()
    assert settings.profile == "production"
    assert settings.origin("profile") == "default"


@pytest.mark.parametrize(
    ("dotenv", "environment", "arguments", "profile", "origin"),
    [
        ("development", "", [], "development", ".env"),
        ("production", "development", [], "development", "environment"),
        ("production", "production", ["--profile=development"], "development", "command line"),
        ("development", "development", ["--profile", "production"], "production", "command line"),
    ],
)
def test_the_profile_is_chosen_by_arguments_else_environment_else_dotenv(
    dotenv: str, environment: str, arguments: list[str], profile: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text(f"BULKHEAD_PROFILE={dotenv}\n")
    monkeypatch.setenv("BULKHEAD_PROFILE", environment)
    settings = load_settings(arguments)
    assert (settings.profile, settings.origin("profile")) == (profile, origin)
    assert settings.demo is (profile == "development")


def test_an_unknown_profile_is_refused_with_the_profiles_there_are() -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(["--profile", "staging"])
    assert problems_of(error) == ["profile: should be 'development' or 'production' (from command line)"]


@pytest.mark.parametrize("variable", ["environment", ".env"])
def test_a_file_that_is_named_is_read_in_place_of_the_one_in_the_working_directory(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "gateway.toml"
    own.write_text('profile = "development"\n[history]\nsize = 5\n')
    Path("bulkhead.toml").write_text("[history]\nttl = 7\n")
    if variable == ".env":
        Path(".env").write_text(f"BULKHEAD_CONFIG_FILE={own}\n")
    else:
        Path(".env").write_text("BULKHEAD_CONFIG_FILE=nowhere.toml\n")
        monkeypatch.setenv("BULKHEAD_CONFIG_FILE", str(own))
    settings = load_settings()
    assert (settings.history.size, settings.origin("history.size")) == (5, str(own))
    assert (settings.profile, settings.origin("profile")) == ("development", str(own))
    assert (settings.demo, settings.origin("demo")) == (True, "development.toml")
    assert settings.origin("history.ttl") == "default"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("bulkhead.toml", "size = ", "bulkhead.toml: cannot be read: Invalid value (at end of document)"),
        ("bulkhead.toml", "[history]\nsise = 5", "history.sise: is not a setting (from bulkhead.toml)"),
        ("bulkhead.toml", "[history]\nsize = -5", "history.size: should be greater than or equal to 0"),
        ("bulkhead.toml", "config_file = 'other.toml'", "config_file: is not a setting (from bulkhead.toml)"),
        ("own.toml", None, "own.toml: cannot be read: [Errno 2] No such file or directory: 'own.toml'"),
        ("own.toml", "[history", "own.toml: cannot be read: Expected ']'"),
        ("own.toml", "[histori]\nsize = 5", "histori: is not a setting (from own.toml)"),
    ],
)
def test_a_file_of_the_user_that_cannot_be_used_is_refused_by_its_name(
    name: str, text: str | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "own.toml":
        monkeypatch.setenv("BULKHEAD_CONFIG_FILE", name)
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    [told] = problems_of(error)
    assert told.startswith(problem), told
    assert ("BULKHEAD_CONFIG_FILE names this file." in told) is (name == "own.toml" and "cannot be read" in told)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_API_KEYS", "")
    monkeypatch.setenv("BULKHEAD_HISTORY__SIZE", "")
    assert load_settings().history.size == 1000


def test_the_environment_of_the_documented_names_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "BULKHEAD_PROFILE": "development",
        "BULKHEAD_HOST": "0.0.0.0",
        "BULKHEAD_PORT": "0",
        "BULKHEAD_MODE": "isolated",
        "BULKHEAD_API_KEYS": '["one", "two"]',
        "BULKHEAD_AUTH__HMAC_SECRET": "x" * 32,
        "BULKHEAD_BROKER__URL": "memory://",
        "BULKHEAD_HISTORY__SIZE": "5",
        "BULKHEAD_HISTORY__TTL": "0.5",
        "BULKHEAD_MODE_RULES": '[{"claim": "tier", "equals": "hipaa", "mode": "isolated"}]',
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.profile, settings.host, settings.port, settings.mode) == ("development", "0.0.0.0", 0, "isolated")
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.auth.hmac_secret is not None
    assert settings.auth.hmac_secret.get_secret_value() == "x" * 32
    assert (settings.history.size, settings.history.ttl) == (5, 0.5)
    assert (settings.mode_rules[0].claim, settings.mode_rules[0].equals) == ("tier", "hipaa")


def test_arguments_give_lists_switches_rules_and_nothing() -> None:
    rule = '{"claim": "n", "equals": 1, "mode": "emergency"}'
    words = f"--profile development --no-docs --channels.personal --api_keys one,two --mode_rules='[{rule}]'"
    settings = load_settings(shlex.split(f"{words} --auth.hmac_secret null --auth.audience a --auth.audience b"))
    assert (settings.docs, settings.channels.personal) == (False, True)
    assert len(settings.api_keys) == 2
    assert settings.mode_rules[0].equals == 1
    assert settings.auth.hmac_secret is None
    assert settings.auth.audience == ("a", "b")


def test_a_section_can_be_given_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_HISTORY", '{"size": 3}')
    monkeypatch.setenv("BULKHEAD_HISTORY__TTL", "4")
    settings = load_settings()
    assert (settings.history.size, settings.history.ttl) == (3, 4)
    assert settings.origin("history.size") == "environment"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BULKHEAD_HISTROY__SIZE", "BULKHEAD_HISTORY__SIZE"),
        ("BULKHEAD_HISTORY__SIEZ", "BULKHEAD_HISTORY__SIZE"),
        ("BULKHEAD_API_KEY", "BULKHEAD_API_KEYS"),
        ("BULKHEAD_PRT", "BULKHEAD_PORT"),
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_an_unknown_variable_is_refused_with_the_name_that_was_meant(
    name: str, meant: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == ".env":
        Path(".env").write_text(f"{name}=5\n")
    else:
        monkeypatch.setenv(name, "5")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert problems_of(error) == [f"{name}: is not a setting (from {source})\n    Did you mean {meant}?"]


def test_an_unknown_name_in_a_toml_file_is_refused_with_the_name_that_was_meant(profiles: Path) -> None:
    (profiles / "production.toml").write_text("[history]\nsiez = 5\n[limts]\nqueue_bytes = 1\n")
    with pytest.raises(ConfigurationError) as error:
        load_settings(profiles=profiles)
    assert problems_of(error) == [
        "history.siez: is not a setting (from production.toml)\n    Did you mean history.size?",
        "limts: is not a setting (from production.toml)\n    Did you mean limits?",
    ]


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--history.siez=5", "--history.siez: is not a setting (from command line)\n    Did you mean --history.size?"),
        ("--zzz", "--zzz: is not a setting (from command line)\n    `bulkhead settings` lists all settings."),
        ("-h", "--h: is not a setting (from command line)\n    `bulkhead settings` lists all settings."),
        ("--port", "command line: argument --port: expected one argument"),
        ("hunter2", "command line: a word belongs to no option; write `--setting value`"),
        ("--HUNTER2", "command line: a word belongs to no option; write `--setting value`"),
        ("--demo=hunter2", "command line: argument --demo/--no-demo: ignored explicit argument"),
    ],
)
def test_arguments_that_cannot_be_understood_are_refused_without_repeating_values(argument: str, text: str) -> None:
    with pytest.raises(ArgumentError) as error:
        load_settings([argument])
    assert problems_of(error) == [text]


@pytest.mark.parametrize("name", ["BULKHEAD_API_KEYS", "BULKHEAD_AUTH__AUDIENCE"])
def test_a_list_that_is_not_json_is_refused_by_its_own_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    path = name.removeprefix("BULKHEAD_").lower().replace("__", ".")
    assert problems_of(error) == [
        f'{path}: should be a list; in the environment, `.env` and arguments in JSON: ["one", "two"] (from environment)'
    ]


def test_a_value_in_the_place_of_a_section_is_refused(monkeypatch: pytest.MonkeyPatch, profiles: Path) -> None:
    (profiles / "production.toml").write_text("[history]\nsize = 5\n")
    monkeypatch.setenv("BULKHEAD_HISTORY", "5")
    with pytest.raises(ConfigurationError) as error:
        load_settings(profiles=profiles)
    assert problems_of(error) == ["history: is a section: set the settings in it (from environment)"]


def test_all_problems_are_told_at_once_each_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BULKHEAD_PORT=70000\n")
    monkeypatch.setenv("BULKHEAD_HISTORY__TTL", "soon")
    monkeypatch.setenv("BULKHEAD_MODE_RULES", '[{"claim": "", "equals": 1, "mode": "none"}]')
    with pytest.raises(ConfigurationError) as error:
        load_settings(["--mode", "both"])
    assert problems_of(error) == [
        "port: should be less than or equal to 65535 (from .env)",
        "mode: should be 'unified', 'isolated', 'degraded' or 'emergency' (from command line)",
        "mode_rules.0.claim: String should have at least 1 character (from environment)",
        "mode_rules.0.mode: should be 'unified', 'isolated', 'degraded' or 'emergency' (from environment)",
        "history.ttl: should be a valid number, unable to parse string as a number (from environment)",
    ]
    assert str(error.value) == "\n".join(problems_of(error))


def test_infinite_amounts_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"history\.ttl: should be a finite number"):
        load_settings(["--history.ttl", "inf"])


def test_a_refused_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_AUTH__HMAC_SECRET", "hunter2")
    monkeypatch.setenv("BULKHEAD_AUTH__HMAC_SECRET_FILE", "/nowhere")
    monkeypatch.setenv("BULKHEAD_API_KEYS", '[{"key": "hunter2"}]')
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value.__cause__)
    assert {problem.setting for problem in error.value.problems} == {"auth.hmac_secret", "api_keys.0"}


@pytest.mark.parametrize(("name", "text"), [("production.toml", b"port ="), (".env", b"\xff")])
def test_a_file_that_cannot_be_read_is_named(name: str, text: bytes, profiles: Path) -> None:
    (Path(".env") if name == ".env" else profiles / name).write_bytes(text)
    with pytest.raises(ConfigurationError, match=f"^{name}: cannot be read: "):
        load_settings(profiles=profiles)


def test_a_secret_file_replaces_the_secret_of_a_weaker_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from the file\n")
    monkeypatch.setenv("BULKHEAD_AUTH__HMAC_SECRET_FILE", str(secret))
    settings = load_settings(["--profile", "development"])
    assert settings.auth.hmac_secret is not None
    assert settings.auth.hmac_secret.get_secret_value() == "from the file"
    assert settings.origin("auth.hmac_secret") == f"file {secret}"
    assert settings.origin("auth.hmac_secret_file") == "environment"


@pytest.mark.parametrize("source", ["environment", "bulkhead.toml", "command line"])
@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("auth.hmac_secret_file", None, "cannot read {}: No such file or directory"),
        ("auth.public_key_file", None, "cannot read {}: No such file or directory"),
        ("api_keys_file", "\n", "{} is empty"),
        ("auth.jwks_file", None, "cannot read {}: No such file or directory"),
        ("auth.jwks_file", "keys", "{} is not JSON: save what your identity provider serves at its jwks_uri, "),
        ("auth.jwks_file", "[]", "{} is no key set (RFC 7517): save what your identity provider serves at its "),
        ("auth.jwks_file", '{"keys": []}', "{} has no key that can be used: save what your identity provider "),
        ("auth.jwks_file", '{"keys": 1}', "{} has no key that can be used: save what your identity provider "),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_the_setting_that_names_it_and_where_that_came_from(
    setting: str, text: str | None, message: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text)
    if source == "environment":
        monkeypatch.setenv(env_name(setting), str(file))
    elif source == "bulkhead.toml":
        section, _, name = setting.rpartition(".")
        Path(source).write_text((f"[{section}]\n" if section else "") + f'{name} = "{file}"\n')
    arguments = [f"--{setting}", str(file)] if source == "command line" else []
    with pytest.raises(ConfigurationError) as error:
        load_settings(["--profile", "development", *arguments])
    [told] = problems_of(error)
    assert told.startswith(f"{setting}: {message.format(file)}")
    assert told.endswith(f" (from {source})")


def test_a_public_key_replaces_the_secret_of_a_weaker_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULKHEAD_AUTH__PUBLIC_KEY", "a key")
    settings = load_settings(["--profile", "development"])
    assert (settings.auth.hmac_secret, settings.auth.public_key) == (None, "a key")


def test_a_file_of_api_keys_replaces_the_keys_of_a_weaker_source(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first key\r\n\n  second key  \n")
    settings = load_settings(["--profile", "development", "--api_keys_file", str(keys)])
    assert [key.get_secret_value() for key in settings.api_keys] == ["first key", "second key"]
    assert settings.origin("api_keys") == f"file {keys}"


def test_settings_made_in_code_know_what_was_given() -> None:
    settings = Settings(mode="isolated", history={"size": 3})
    assert settings.origin("mode") == "code"
    assert settings.origin("history.size") == "code"
    assert settings.origin("history.ttl") == "default"
    assert settings.origin("ping.timeout") == "default"
