"""Where settings come from: defaults, TOML files, `.env`, the environment and the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    CliSettingsSource,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsError,
    TomlConfigSettingsSource,
)

from config.paths import leaves, setting_paths
from config.problems import ArgumentError, ConfigurationError, Problem
from config.rejections import explain, unknown
from config.settings import ENV_PREFIX, Settings

PROFILES = Path(__file__).parent
OWN_FILE = "bulkhead.toml"
OWN_FILE_VARIABLE = f"{ENV_PREFIX}CONFIG_FILE"  # names another one

# Settings that say the same thing in different ways. Of each group the strongest source that names one decides alone:
# a secret file in the environment is not at odds with the secret in the profile's TOML file, it replaces it.
ALTERNATIVES = (
    frozenset(
        f"auth.{name}"
        for name in ("hmac_secret", "hmac_secret_file", "public_key", "public_key_file", "jwks_file", "jwks_url")
    ),
    frozenset(("api_keys", "api_keys_file")),
)
# Each of these is read from the file that `<setting>_file` names.
FROM_FILES = ("auth.hmac_secret", "auth.public_key", "api_keys")
OPTION = re.compile(r"--?[a-z][a-z_.-]*")


class TextSource(EnvSettingsSource):
    """Leaves text that is not JSON as it is, so that validation refuses it by the setting's own name."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode the value of a list or a section, if it is JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class EnvironmentSource(TextSource):
    """The environment. Unknown names with the prefix are kept, so that validation refuses them."""

    def __call__(self) -> dict[str, Any]:
        """Give what is set, as a tree."""
        prefix = self.env_prefix.lower()
        names = {name.removeprefix(prefix): value for name, value in self.env_vars.items() if name.startswith(prefix)}
        known = self.settings_cls.model_fields
        unknown_names = {name: value for name, value in names.items() if name.partition("__")[0] not in known}
        return super().__call__() | unknown_names


class DotenvSource(EnvironmentSource, DotEnvSettingsSource):
    """The file `.env`. Names without the prefix belong to other programs."""


class ArgumentSource(TextSource, CliSettingsSource[Any]):
    """The command line: an option for each setting."""


def load_settings(arguments: Sequence[str] = (), *, profiles: Path = PROFILES) -> Settings:
    """Read every source; the stronger one wins, setting by setting, and lists are replaced as a whole.

    From weak to strong: defaults, `<profile>.toml`, the user's own file, `.env` in the working directory, the
    environment, `arguments`. The user's own file is the one that `BULKHEAD_CONFIG_FILE` names, in the environment or in
    `.env`, or else `bulkhead.toml` in the working directory, if there is one.
    The profile itself comes from the last four. Without a word from them it is `production`, the one that refuses to
    start with what is unsafe. An empty environment variable counts as not set.

    Args:
        arguments: options such as `["--history.size", "10", "--no-docs"]`.
        profiles: the folder of the TOML files.

    Raises:
        ArgumentError: `arguments` cannot be understood.
        ConfigurationError: a source cannot be read, or a value is refused. Carries all problems of the settings.
            Whether valid values are safe, and make sense together, is for `config.find_problems` to say.
    """
    named = {
        ".env": _read(".env", lambda: DotenvSource(Settings, ".env", "utf-8", "only_existing", env_ignore_empty=True)),
        "environment": _read("environment", lambda: EnvironmentSource(Settings, env_ignore_empty=True)),
        "command line": _arguments(arguments),
    }
    named = _own_file(named) | named
    profile = next((source["profile"] for source in reversed(named.values()) if "profile" in source), "production")
    name = f"{profile}.toml"
    toml = _read(name, lambda: TomlConfigSettingsSource(Settings, toml_file=profiles / name))
    return _validate(_merge({name: toml} | named))


def _own_file(sources: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings of the user's own file under its name. What the sources say of that name is taken out of them."""
    names = [source.pop("config_file") for source in sources.values() if "config_file" in source]
    if names:
        return {names[-1]: _read(names[-1], lambda: lambda: _toml(names[-1]), f"{OWN_FILE_VARIABLE} names this file.")}
    return {OWN_FILE: _read(OWN_FILE, lambda: lambda: _toml(OWN_FILE))} if Path(OWN_FILE).exists() else {}


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(name).read_text(encoding="utf-8"))


def _read(name: str, source: Callable[[], Callable[[], Mapping[str, Any]]], remedy: str = "") -> dict[str, Any]:
    try:
        return dict(leaves(source()()))
    except (OSError, ValueError) as error:
        raise ConfigurationError([Problem(name, f"cannot be read: {error}", remedy=remedy)]) from error


def _arguments(arguments: Sequence[str]) -> dict[str, Any]:
    flags = {f"--{word}{path}" for path in setting_paths() for word in ("", "no-")}
    given = (argument.partition("=")[0] for argument in arguments)
    wrong = [flag for flag in given if OPTION.fullmatch(flag) and flag not in flags]
    if wrong:
        raise ArgumentError(unknown(flag.lstrip("-"), "command line") for flag in wrong)
    try:
        return dict(leaves(ArgumentSource(Settings, cli_parse_args=list(arguments))()))
    except SettingsError as error:
        # argparse repeats words it has no use for, and such a word may be a misplaced secret.
        reason, _, _ = str(error).removeprefix("error parsing CLI: ").partition(" '")
        if reason.startswith("unrecognized arguments"):
            reason = "a word belongs to no option; write `--setting value`"
        raise ArgumentError([Problem("command line", reason)]) from error


def _merge(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Any, str]]:
    """Lay the sources, weakest first, over each other: value and source by path."""
    merged: dict[str, tuple[Any, str]] = {}
    for name, values in sources.items():
        kept = {path: value for path, value in merged.items() if not any(_replaces(new, path) for new in values)}
        merged = kept | {path: (value, name) for path, value in values.items()}
    return merged


def _replaces(new: str, old: str) -> bool:
    if new.startswith(f"{old}.") or old.startswith(f"{new}."):
        return True  # One of the two gives a value where the other has a section.
    return any(new in group and old in group for group in ALTERNATIVES)


def _validate(merged: Mapping[str, tuple[Any, str]]) -> Settings:
    tree: dict[str, Any] = {}
    for path, (value, _) in merged.items():
        *sections, name = path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    origins = {path: name for path, (_, name) in merged.items()}
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        raise ConfigurationError(explain(error, origins)) from error
    files = {path: attrgetter(f"{path}_file")(settings) for path in FROM_FILES}
    return settings.with_origins(origins | {path: f"file {file}" for path, file in files.items() if file is not None})
