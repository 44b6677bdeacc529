"""What was published, and what became of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

CANARY = re.compile(r"canary:(\w+)/(\w*);")


@dataclass(frozen=True)
class Owner:
    """Whose streams they are: a user, or one session of an isolated user.

    Attributes:
        session: empty: the user is not isolated.
    """

    user: str
    session: str = ""

    @property
    def canary(self) -> str:
        """In everything that is published for this owner, and nowhere else."""
        return f"canary:{self.user}/{self.session};"

    @property
    def claims(self) -> dict[str, str]:
        """Of its tokens, beside the user."""
        return {"sid": self.session, "tier": "apart"} if self.session else {}

    @property
    def personal(self) -> str:
        """The channel that the server subscribes it to."""
        return f"#{self.user}"


@dataclass(frozen=True)
class Stream:
    """One channel of an owner."""

    owner: Owner
    channel: str


class Outcome(Enum):
    """What the publisher was told.

    Underway: nothing yet. Kept: its place in the stream. Queued: it waits, and was delivered live. Refused: nothing was
    kept. Unknown: the node ended before it said anything.
    """

    UNDERWAY = auto()
    KEPT = auto()
    QUEUED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


@dataclass
class Event:
    """One event, which its stream, its publisher and a number name.

    Attributes:
        started: when the publisher asked for the first time, in seconds.
        attempts: how often the publisher asked.
        by: the node that answered.
        epoch, offset: the place that the publisher was told, if it is kept.
        held_by: if it is queued: where, and which life of that node.
    """

    stream: Stream
    publisher: str
    number: int
    started: float = field(default_factory=time.monotonic)
    outcome: Outcome = Outcome.UNDERWAY
    epoch: str = ""
    offset: int = 0
    attempts: int = 0
    by: str = ""
    held_by: tuple[str, int] = ("", 0)

    @property
    def name(self) -> str:
        """What its data and the devices call it."""
        return f"{self.publisher}.{self.number}"

    @property
    def acknowledged(self) -> bool:
        """Whether the publisher was told that it is published or will be."""
        return self.outcome in (Outcome.KEPT, Outcome.QUEUED)

    def body(self) -> dict[str, Any]:
        """For `POST /v1/users/{user_id}/events`; every other one with an idempotency key."""
        owner = self.stream.owner
        body: dict[str, Any] = {"type": "tick", "data": {"of": owner.canary, "name": self.name}}
        if owner.session:
            body["session_id"] = owner.session
        if self.stream.channel != owner.personal:
            body["channel"] = self.stream.channel
        if self.has_key:
            body["idempotency_key"] = self.name
        return body

    @property
    def has_key(self) -> bool:
        """Whether its publisher may try again without publishing it twice."""
        return self.number % 2 == 0


class Ledger:
    """All events, by stream and name."""

    def __init__(self) -> None:
        """Empty."""
        self.events: dict[Stream, dict[str, Event]] = {}
        self._numbers: dict[tuple[str, Stream], int] = {}

    def __iter__(self) -> Iterator[Event]:
        """All events."""
        for events in self.events.values():
            yield from events.values()

    def next(self, publisher: str, stream: Stream) -> Event:
        """The next event that a publisher is about to publish to a stream."""
        number = self._numbers.get((publisher, stream), 0) + 1
        self._numbers[publisher, stream] = number
        event = Event(stream, publisher, number)
        self.events.setdefault(stream, {})[event.name] = event
        return event
