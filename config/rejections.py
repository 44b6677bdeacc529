"""What validation refused, told by the name under which the person set it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.paths import closest, env_name
from config.problems import Problem


def explain(error: ValidationError, origins: Mapping[str, str]) -> Iterator[Problem]:
    """Give a problem for each error; `origins` says which source each given path came from.

    What was given is never shown: it may be a secret.
    """
    for details in error.errors(include_url=False, include_input=False):
        path = ".".join(map(str, details["loc"]))
        origin = next((source for given, source in origins.items() if _related(given, path)), "default")
        if path not in origins and f"{path}_file" in origins:  # what cannot be used is the file
            path, origin = f"{path}_file", origins[f"{path}_file"]
        if details["type"] == "extra_forbidden":
            yield unknown(path, origin)
        else:
            yield Problem(path, _message(details), origin)


def unknown(path: str, origin: str) -> Problem:
    """Say that a name is not a setting, and which one was probably meant, spelled as in its source."""
    spell = {"environment": env_name, ".env": env_name, "command line": "--{}".format}.get(origin, str)
    meant = closest(path.replace("__", "."))
    remedy = f"Did you mean {spell(meant)}?" if meant else "`bulkhead settings` lists all settings."
    return Problem(spell(path), "is not a setting", origin, remedy)


def _related(given: str, path: str) -> bool:
    return given == path or given.startswith(f"{path}.") or path.startswith(f"{given}.")


def _message(details: ErrorDetails) -> str:
    match details["type"]:
        case "tuple_type":
            return 'should be a list; in the environment, `.env` and arguments in JSON: ["one", "two"]'
        case "model_type":
            return "is a section: set the settings in it"
        case "value_error":
            return str(details["ctx"]["error"])
        case _:
            return details["msg"].removeprefix("Input ")
