"""What an audit says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """Where an owner reaches an object: the name of the owner, and the path."""

    owner: str
    path: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that several owners reach. Made of names and paths; nothing of any content is in it.

    Attributes:
        type: class of the object.
        first, second: two owners, and how each of them reaches the object.
        owners: how many owners reach it.
        weak: at least one of the two reaches it by a weak reference alone.
    """

    type: str
    first: Place
    second: Place
    owners: int
    weak: bool

    def __str__(self) -> str:
        """Both paths, for people."""
        places = f"{self.first.owner}: {self.first.path} and {self.second.owner}: {self.second.path}"
        kind = f"are one {self.type}" + (", reached weakly" if self.weak else "")
        return f"{places} {kind}" + (f" ({self.owners} owners reach it)" if self.owners > 2 else "")


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    Attributes:
        owners: instances that were walked.
        objects: objects that they reach, atoms and what is shared not counted.
        shared: mutable objects that several owners reach. What is reached only through one of them is not listed.
        weak: mutable objects that an owner reaches by a weak reference alone, and another owner in whatever way.
        unread: types of which objects were reached that hide what they refer to.
        truncated: there is more than what is listed.
    """

    owners: int
    objects: int
    shared: tuple[Finding, ...]
    weak: tuple[Finding, ...]
    unread: tuple[str, ...]
    truncated: bool

    @property
    def isolated(self) -> bool:
        """No two owners share a mutable object. Weak references and types that hide something do not count."""
        return not self.shared
