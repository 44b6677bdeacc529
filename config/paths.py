"""Settings by name: `history.size` in TOML and on the command line, `BULKHEAD_HISTORY__SIZE` in the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from config.settings import ENV_PREFIX, Settings


def leaves(tree: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value of a nested mapping with its path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def setting_paths() -> tuple[str, ...]:
    """Give the path of every setting, in the order of the tree."""
    return tuple(path for path, _ in leaves(Settings().model_dump()))


def env_name(path: str) -> str:
    """Give the environment variable of a setting."""
    return ENV_PREFIX + path.upper().replace(".", "__")


def closest(path: str) -> str | None:
    """Give the setting, or the section, that a mistyped path was probably meant to be."""
    paths = setting_paths()
    sections = {path.partition(".")[0] for path in paths if "." in path}
    return next(iter(get_close_matches(path, [*paths, *sections], n=1)), None)
