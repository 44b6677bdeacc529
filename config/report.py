"""Settings for the eyes of people: every value with where it came from, secrets masked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from config.paths import leaves
from config.settings import Settings

MASK = "**********"


class Row(NamedTuple):
    """A setting, its value as JSON knows it with secrets masked, and where the value came from."""

    setting: str
    value: Any
    origin: str


def describe(settings: Settings) -> Iterator[Row]:
    """Give a row for every setting, in the order of the tree."""
    for path, value in leaves(settings.model_dump(mode="json")):
        yield Row(path, mask_url(value) if isinstance(value, str) else value, settings.origin(path))


def mask_url(text: str) -> str:
    """Mask what stands before the host in a URL, where user names and passwords go."""
    return re.sub("://[^/]*@", f"://{MASK}@", text)
