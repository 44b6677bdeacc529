"""What this node published for its own connections, and did not hear yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from app.realtime.broker import Position, Publication

OFFSET = ',"offset":'


class Ahead(msgspec.Struct, frozen=True, gc=False):
    """A publication that is in the stream.

    Attributes:
        base: whose.
        head: its JSON up to the offset.
    """

    base: bytes
    key: str
    channel: str
    head: str
    position: Position

    def live(self) -> Publication:
        """As a live one, which has no place in the stream."""
        text = f"{self.head.removesuffix(OFFSET)}}}"
        return Publication(self.key, self.channel, 0, "", text, len(text.encode()))


class Unheard:
    """By ticket, in the order in which the server answered.

    Args:
        limit: how many; what more comes is not noted.
    """

    def __init__(self, limit: int) -> None:
        """Nothing yet."""
        self._limit = limit
        self._published: dict[str, Ahead] = {}

    def add(self, ticket: str, ahead: Ahead) -> None:
        """It is published, and will come back."""
        if len(self._published) < self._limit:
            self._published[ticket] = ahead

    def heard(self, ticket: str) -> None:
        """It came, or it is somebody else's."""
        self._published.pop(ticket, None)

    def tickets(self) -> tuple[str, ...]:
        """Of all that is here now."""
        return tuple(self._published)

    def forget(self, tickets: Iterable[str]) -> None:
        """They will not come: what was published after them has."""
        for ticket in tickets:
            self._published.pop(ticket, None)

    def take(self) -> Iterator[Ahead]:
        """All, as they will not come any more."""
        published, self._published = self._published, {}
        return iter(published.values())
