"""A stream in the memory of this process, and what it weighs."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from math import inf

from app.realtime.broker import Position, Publication

PUBLICATION_OVERHEAD = 224
"""Bytes that a kept publication takes beside its text: the struct, two numbers, the string's head, a place in line."""

STREAM_OVERHEAD = 896
"""Bytes that a stream takes, with its names and a user key that has no other: measured, as is the next one."""

KEEPING_OVERHEAD = 960
"""Bytes that a stream with publications takes beside them: most of it is the first block of their line."""


def weight(publication: Publication) -> int:
    """Bytes of memory that a kept publication takes, at most: a character beyond ASCII can widen all to four bytes."""
    text = publication.text
    return PUBLICATION_OVERHEAD + (publication.size if text.isascii() else 4 * len(text))


@dataclass(slots=True, eq=False)
class User:
    """A user key that has streams.

    Attributes:
        key: the user key.
        streams: by channel.
        kept: those with publications, by the last one, longest ago first.
        weight: of all that they keep.
        forget_at: steady time at which positions are forgotten; counts only for a user who has left.
    """

    key: str
    streams: dict[str, Stream] = field(default_factory=dict)
    kept: OrderedDict[Stream, None] = field(default_factory=OrderedDict)
    weight: int = 0
    forget_at: float = inf


@dataclass(slots=True, eq=False)
class Stream:
    """One channel of a user key.

    Attributes:
        user: whose it is.
        channel: its name.
        expires: steady time at which it expires; infinity once it has, and only the position is left.
        epoch: what offsets are relative to; a stream that starts anew has another.
        top: offset of the last publication.
        publications: what is kept: without a gap, and up to the top.
        weight: of the publications together, with `KEEPING_OVERHEAD` if there are any.
    """

    user: User
    channel: str
    expires: float
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    top: int = 0
    # An empty deque takes more memory than all the rest of a stream, and many streams are only a position.
    publications: deque[Publication] | tuple[()] = ()
    weight: int = 0

    @property
    def position(self) -> Position:
        """The top position."""
        return Position(self.top, self.epoch)

    def read(self, since: Position | None, limit: int, reverse: bool) -> tuple[Publication, ...]:
        """See `Broker.history`; the epoch is the caller's to check."""
        kept = self.publications
        if limit == 0 or not kept:
            return ()
        low, high = 0, len(kept)
        if since is not None:
            # Without gaps the place in line follows from the offset.
            place = since.offset - kept[0].offset
            if reverse:
                high = min(high, max(0, place))
            else:
                low = min(high, max(0, place + 1))
        count = high - low if limit < 0 else min(limit, high - low)
        if reverse:
            behind = len(kept) - high
            return tuple(islice(reversed(kept), behind, behind + count))
        return tuple(islice(kept, low, low + count))
