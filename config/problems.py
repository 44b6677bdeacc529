"""What is wrong with a configuration, told to the person who can put it right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    setting: its path (`history.size`), or the name it was given by. message: what is wrong, never a secret's value.
    origin: where the value came from, empty if that says nothing. remedy: what to do, empty if the message says it.
    """

    setting: str
    message: str
    origin: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        origin = f" (from {self.origin})" if self.origin else ""
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{self.setting}: {self.message}{origin}{remedy}"


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` are all that were found, not the first alone."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ArgumentError(ConfigurationError):
    """The command line cannot be understood."""
