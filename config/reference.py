"""The reference page of all settings: `python -m config.reference > docs/configuration.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from config.paths import env_name
from config.settings import Settings

BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))

INTRODUCTION = """\
# Configuration

Every setting has a name in the tree below and can be given in six ways. The stronger wins, setting by setting; a
list is replaced as a whole.

| strength | source | `history.size` there |
|---|---|---|
| 1, weakest | default | |
| 2 | the profile, which comes with the gateway: `config/<profile>.toml` | `[history]` and `size = 10` |
| 3 | your own file: `bulkhead.toml` in the working directory | `[history]` and `size = 10` |
| 4 | `.env` in the working directory | `BULKHEAD_HISTORY__SIZE=10` |
| 5 | environment | `BULKHEAD_HISTORY__SIZE=10` |
| 6, strongest | command line | `bulkhead serve --history.size 10` |

- `bulkhead settings` shows each value and where it came from, `bulkhead check` what is wrong. Both take the same
  options as `bulkhead serve`. Switches are `--docs` and `--no-docs`.
- `BULKHEAD_CONFIG_FILE=/etc/bulkhead.toml`, in the environment or in `.env`, names a file of your own that has to be
  there; `bulkhead.toml` is not read then. Where several gateways differ, each can have a file.
- The profile is chosen on the command line, else in the environment, in `.env` or in your own file; without any it is
  `production`.
  `make run` chooses `development` unless `BULKHEAD_PROFILE` is set.
- Lists are written in JSON in `.env` and the environment: `BULKHEAD_API_KEYS='["key one", "key two"]'`.
- An empty variable counts as not set. A name that is no setting is an error, so that a typing error does not pass
  unnoticed. In Kubernetes a service called `bulkhead` puts names such as `BULKHEAD_PORT` into the environment of its
  pods; switch that off with `enableServiceLinks: false`.
- What the command line holds, other users of the machine can read: give secrets in the environment or in files.

## Secrets from files
`auth.hmac_secret_file`, `auth.public_key_file` and `api_keys_file` (one key per line) are read once, at start. A
source gives either the value or its file, never both. A stronger source replaces a weaker one's choice: whatever it
gives of `auth.hmac_secret`, `auth.public_key`, their files, `auth.jwks_file` and `auth.jwks_url` stands alone, and so
does whichever it gives of `api_keys` and `api_keys_file`.

## Who may connect from a browser
A request without an `Origin` header does not come from a browser's page and passes. Otherwise the origin must be in
`origins`, letter for letter; or `origins` must contain `*`; or `same_origin` must be on and the host and port in
`Origin` must be those of the `Host` header. The development profile switches `same_origin` on, so that its page works
on any port.

## What production refuses
In the production profile `bulkhead serve` refuses to start, and `bulkhead check` says so, with:

- no key to verify tokens with, unless `auth.anonymous` is on;
- an `auth.hmac_secret` shorter than 32 bytes, or the development profile's;
- no `api_keys`, a key shorter than 16 characters, or the development profile's;
- an `auth.jwks_url` with `http://`, unless its host is `localhost` or a loopback address;
- `*` in `origins`, or `same_origin` on;
- `docs` or `demo` on.

Every profile refuses more than one key for tokens, a key that does not fit `auth.algorithm`, one that could sign tokens
(a private `auth.public_key`, a private or secret key in `auth.jwks_file`), origins that no browser sends, rules on
modes that can never decide, and amounts that contradict each other.
"""


def render() -> str:
    """Give the page, in Markdown."""
    schema = Settings.model_json_schema()
    fields = {name: _resolve(field, schema) for name, field in schema["properties"].items()}
    lines = [INTRODUCTION, "## General", "", *_table("", fields)]
    for name, section in _sections(fields, schema):
        lines += ["", f"## `{name}`", section["description"], "", *_table(f"{name}.", section["properties"])]
    rule = schema["$defs"]["ModeRule"]
    lines += ["", "## A rule of `mode_rules`", rule["description"], "", "| name | value | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {_kind(field)} | {field['description']} |" for name, field in rule["properties"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page."""
    sys.stdout.write(render())


def _resolve(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return found


def _sections(
    fields: Mapping[str, Mapping[str, Any]], schema: Mapping[str, Any], within: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each section by its path, and those within it after it."""
    for name, field in fields.items():
        if "properties" in field:
            inner = {key: _resolve(value, schema) for key, value in field["properties"].items()}
            yield f"{within}{name}", {**field, "properties": inner}
            yield from _sections(inner, schema, f"{within}{name}.")


def _table(section: str, fields: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| setting | environment | value | default | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in fields.items():
        if "properties" not in field:
            path = f"{section}{name}"
            default = "" if field["default"] is None else f"`{json.dumps(field['default'])}`"
            yield f"| `{path}` | `{env_name(path)}` | {_kind(field)} | {default} | {field['description']} |"


def _kind(field: Mapping[str, Any]) -> str:
    """Describe the values of a field in the words of its JSON Schema."""
    match field:
        case {"enum": choices}:
            return ", ".join(f"`{choice}`" for choice in choices)
        case {"anyOf": choices}:
            return " or ".join(_kind(choice) for choice in choices if choice != {"type": "null"})
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"format": "password"}:
            return "secret"
        case {"format": name}:
            return str(name)
        case {"$ref": _}:
            return "rules"
        case _:
            limits = [f"{sign} {field[key]:g}" for key, sign in BOUNDS if key in field]
            return " ".join([field["type"], " and ".join(limits)]).strip()


if __name__ == "__main__":
    main()
