"""A connection's place in one channel."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from app.realtime.broker import Position, Publication
from app.realtime.clock import Timer
from app.realtime.protocol import Frame
from app.realtime.pushes import publication_head

Delivery = tuple[Publication, Frame]


class SubscriptionState(Enum):
    """Where a subscription is.

    Holding: what arrives is held until the position is known. Live: it goes out. Skipping: it goes out, but for some
    that the client has seen and that are still to come. Interrupted: the broker was lost; only what has no offset goes
    out, and the rest is read when it is back. Ended: it is dropped.
    """

    HOLDING = auto()
    LIVE = auto()
    SKIPPING = auto()
    INTERRUPTED = auto()
    ENDED = auto()


# A name is found several times as fast as a member of an enum class, and this one is looked for with every event.
LIVE = SubscriptionState.LIVE


class Outlet(Protocol):
    """The connection, as its subscriptions see it."""

    def push(self, frame: Frame) -> None:
        """Queue a frame; a client too slow for it is disconnected."""

    def lost_position(self, subscription: Subscription) -> None:
        """The subscription's stream has a gap or another epoch: the client must recover."""

    def moved(self, subscription: Subscription) -> None:
        """The position is further than the client knows, which got what lies between before it had an offset."""


class Subscription:
    """Delivers each publication of a stream once, in order, from a position on.

    Publications that arrive while the position is being read are held, in a bounded list, and merged after.

    Args:
        outlet: the connection.
        key: user key that the connection is for.
        channel: name of the channel.
        server_side: subscribed by the server in `connect`, not by the client's command.
        join_leave: the client asked for join and leave.
        hold_limit: bytes that may be held.

    Attributes:
        offset, epoch: the position reached; no epoch: it is not known.
        joined_at: `Backlog.serial` when it began: what waited then, it has not seen.
        announced: others were told that the client joined, and are to be told when it leaves.
        expiry: what ends it when its token has expired.
        info: who is subscribed, for the others in the channel: ClientInfo as JSON.
        head: how every push to it begins, encoded once.
    """

    __slots__ = (
        "_ahead",
        "_begun",
        "_doubtful",
        "_held",
        "_held_size",
        "_hold_limit",
        "_holds",
        "_interrupted",
        "_outlet",
        "_seen",
        "_state",
        "_untold",
        "announced",
        "channel",
        "epoch",
        "expiry",
        "head",
        "info",
        "join_leave",
        "joined_at",
        "key",
        "offset",
        "server_side",
    )

    def __init__(
        self, outlet: Outlet, key: str, channel: str, *, server_side: bool, join_leave: bool, hold_limit: int
    ) -> None:
        """Start holding."""
        self._outlet = outlet
        self._state = SubscriptionState.HOLDING
        self._begun = False
        self._ahead: tuple[tuple[Publication, Frame, Position], ...] = ()  # which is no object of its own
        self._interrupted = False
        self._doubtful = False
        self._untold = False
        self._held: list[Delivery] = []
        self._held_size = 0
        self._hold_limit = hold_limit
        self._holds = 1  # until `go_live`
        self._seen: dict[int, None] = {}  # of a third of the size of an empty set, in every connection
        self.key = key
        self.channel = channel
        self.head = publication_head(channel)
        self.server_side = server_side
        self.join_leave = join_leave
        self.offset = 0
        self.epoch = ""
        self.joined_at = 0
        self.announced = False
        self.expiry: Timer | None = None
        self.info = ""

    def deliver(self, publication: Publication, frame: Frame) -> None:
        """Pass a publication on, hold it, or drop it as seen; a gap or another epoch is reported."""
        if self._state is not LIVE:
            self._set_aside(publication, frame)
            return
        offset = publication.offset
        if offset:
            if publication.epoch != self.epoch:
                self._outlet.lost_position(self)
                return
            if offset <= self.offset:
                return
            if offset != self.offset + 1:
                self._outlet.lost_position(self)
                return
            self.offset = offset
        self._outlet.push(frame)

    def notify(self, frame: Frame) -> None:
        """Pass a join or leave on, if asked for."""
        if self.join_leave and self._state not in (SubscriptionState.HOLDING, SubscriptionState.ENDED):
            self._outlet.push(frame)

    def go_live(self, position: Position | None) -> None:
        """Take the position as reached and pass on what was held behind it, unless it is held for another reason, too.

        Args:
            position: what the client has, or is about to get in the reply; None: the broker cannot be asked.
        """
        self._begun = True
        if position is not None:
            self.offset, self.epoch = position.offset, position.epoch
        if self._ahead:
            ahead, self._ahead, later, self._held = self._ahead, (), self._held, []
            for each in ahead:
                self.deliver_ahead(*each)
            self._held += later
        self.release()
        if self._doubtful and self._state is not SubscriptionState.ENDED:
            self._outlet.lost_position(self)

    def hold(self) -> None:
        """Hold what arrives until `release`; may be repeated."""
        self._holds += 1
        if self._state is not SubscriptionState.ENDED:
            self._state = SubscriptionState.HOLDING

    def skip(self, offset: int) -> None:
        """While holding: the client got this one before it had an offset; the position passes over it when it comes."""
        self._seen[offset] = None

    def interrupt(self) -> None:
        """The broker was lost: what has an offset is not passed on until `catch_up`, as a gap may be before it."""
        self._interrupted = True
        self._held = [(publication, frame) for publication, frame in self._held if not publication.offset]
        self._held_size = sum(frame.size for _, frame in self._held)
        if self._state in (SubscriptionState.LIVE, SubscriptionState.SKIPPING):
            self._state = SubscriptionState.INTERRUPTED

    def deliver_ahead(self, publication: Publication, frame: Frame, position: Position) -> None:
        """While interrupted: pass on live what is in the stream at a position, unless the client has it.

        What follows live would otherwise come before it. `catch_up` passes over it.
        """
        if not self._begun:
            self._ahead += ((publication, frame, position),)
            return
        missing = position.epoch == self.epoch and position.offset > self.offset and position.offset not in self._seen
        if missing and self._interrupted:
            self.skip(position.offset)
            self._set_aside(publication, frame)

    @property
    def interrupted(self) -> bool:
        """Whether it waits for `catch_up`."""
        return self._interrupted

    def catch_up(self, top: Position | None, missed: Sequence[Delivery]) -> None:
        """While holding: put what was missed before what is held. A gap that cannot be closed is reported.

        Args:
            top: the stream's position; None: it cannot be read.
            missed: what the stream keeps, at least from behind this subscription's position.
        """
        if self._state is SubscriptionState.ENDED:
            return  # while the stream was read
        self._interrupted = False
        if not self._begun:
            self._doubtful = True  # what it missed before its position was known, nobody can say
            return
        missed = [(publication, frame) for publication, frame in missed if publication.offset > self.offset]
        size = sum(frame.size for _, frame in missed)
        whole = top is not None and self.epoch == top.epoch and len(missed) == top.offset - self.offset
        if whole and size <= self._hold_limit:
            self._held = [*missed, *self._held]
        else:
            self._outlet.lost_position(self)

    def release(self) -> None:
        """Take back one `hold`; after the last one, pass on what was held."""
        self._holds -= 1
        if self._holds or self._state is SubscriptionState.ENDED:
            return
        held, self._held, self._held_size = self._held, [], 0
        if self._interrupted:
            self._state = SubscriptionState.INTERRUPTED
            for publication, frame in held:
                if not publication.offset:
                    self._outlet.push(frame)
        else:
            self._replay(held)

    def is_behind(self, top: Position, before: int) -> bool:
        """Whether something was missed for good.

        Args:
            top: the stream's position.
            before: this subscription's offset when `top` was asked for; if it moved since, nothing can be said.
        """
        if self._state not in (SubscriptionState.LIVE, SubscriptionState.SKIPPING) or self.offset != before:
            return False
        # What the client has seen is not missed, though it has not come yet.
        missed = (offset for offset in range(self.offset + 1, top.offset + 1) if offset not in self._seen)
        return top.epoch != self.epoch or next(missed, None) is not None

    def end(self) -> None:
        """Deliver nothing any more."""
        self._state = SubscriptionState.ENDED
        self._held = []
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def _set_aside(self, publication: Publication, frame: Frame) -> None:
        if self._state is SubscriptionState.ENDED:
            return
        if self._state is SubscriptionState.INTERRUPTED:
            if not publication.offset:
                self._outlet.push(frame)
        elif self._state is SubscriptionState.SKIPPING:
            self._replay([(publication, frame)])
        else:
            self._held_size += frame.size
            if self._held_size > self._hold_limit:
                self._outlet.lost_position(self)
            else:
                self._held.append((publication, frame))

    def _replay(self, deliveries: Sequence[Delivery]) -> None:
        """Pass on, but for what the client has seen."""
        self._state = SubscriptionState.LIVE
        for publication, frame in deliveries:
            before = self.offset
            known = publication.offset in self._seen and publication.epoch == self.epoch
            if known and publication.offset == before + 1:
                self.offset += 1
                self._untold = True
            else:  # also what was seen behind a gap: the client must hear of the gap
                self.deliver(publication, frame)
                self._untold = self._untold and self.offset == before
            if self._state is not SubscriptionState.LIVE:
                return
        self._seen = {offset: None for offset in self._seen if offset > self.offset}
        if self._seen:
            self._state = SubscriptionState.SKIPPING
        elif self._untold:
            self._untold = False
            self._outlet.moved(self)
