"""Settings for the eyes of people: every value with where it came from, secrets masked."""

from __future__ import annotations

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
    """Mask what can be a secret in a URL: all before the host, each value of the query, and all if nobody can tell.

    A password whose `/`, `#` or `@` is not percent-encoded is masked as well; one with a bare `?` makes a query of the
    rest, and then nothing but the scheme is shown.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        return text
    place, asked, query = rest.partition("?")
    _, at, host = place.rpartition("@")
    if "@" in query and not at:
        return f"{scheme}://{MASK}"
    place = f"{MASK}@{host}" if at else place
    return f"{scheme}://{place}{asked}{'&'.join(map(_mask_option, query.split('&')))}"


def _mask_option(text: str) -> str:
    name, equals, _ = text.partition("=")
    return f"{name}={MASK}" if equals else MASK if text else ""
