"""What comes to a device, held against what the gateway promises."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.gateway import RunningGateway
from tests.isolation.ledger import Ledger, Recorded

CANARY = re.compile(r"canary:(\w+)(?:/(\w+))?;")


class World(Protocol):
    """What a device is told of the rest."""

    gateway: RunningGateway
    ledger: Ledger
    tally: Counter[str]

    def violate(self, what: str) -> None:
        """Something was promised that is not so."""

    def may_fail(self, user: str) -> bool:
        """Whether the broker fails now, or more comes for the user than anybody has room for."""

    def must_recover(self, receiver: Receiver, channel: str, epoch: str, offset: int) -> bool:
        """Whether everything behind a position is still there, and fits."""


@dataclass
class Place:
    """What a device knows of a channel.

    Attributes:
        epoch, offset: the position it has reached.
        subscribed: publications come.
        live: numbers that came without a position, in degraded mode, since it subscribed. A device that subscribes
            again has no position behind them, and may get them again.
    """

    epoch: str = ""
    offset: int = 0
    subscribed: bool = False
    live: dict[int, None] = field(default_factory=dict)


class Receiver:
    """One device of a user and its places. It takes what comes and tells the world what should not have.

    Args:
        world: the truth.
        user: user id, itself a canary.
        session: its sign-in.

    Attributes:
        key: the user key that it is served under; empty unless connected.
        canaries: how many came.
    """

    def __init__(self, world: World, user: str, session: str) -> None:
        """Nothing has come."""
        self.world, self.user, self.session = world, user, session
        self.places: dict[str, Place] = {}
        self.key = ""
        self.canaries = 0

    def search(self, text: str) -> None:
        """Search a frame for what is not this device's, whatever it is a part of."""
        self.world.tally["frames searched"] += 1
        for owner, session in CANARY.findall(text):
            self.canaries += 1
            if f"canary:{owner};" != self.user or (session and session != self.session):
                self.violate(f"got what is {owner}'s {session}: {text[:300]}")

    def take_position(self, channel: str, request: dict[str, Any], result: dict[str, Any]) -> None:
        """Take the answer to a subscribe, with what was missed."""
        place, epoch = self.places[channel], result.get("epoch", "")
        publications = result.get("publications", [])
        seen, place.live, place.subscribed = place.live, {}, True
        if not epoch:
            if not self.world.may_fail(self.user):
                self.violate(f"{channel}: no position, although the broker is there")
            place.epoch, place.offset = "", 0  # it is told when the broker is back
            return
        if not result.get("recovered"):
            if publications:
                self.violate(f"{channel}: not recovered, and yet publications")
            if self.world.must_recover(self, channel, request["epoch"], request["offset"]):
                self.violate(f"{channel}: not recovered, although all of it is there")
            place.epoch, place.offset = epoch, result.get("offset", 0)
            self.world.tally["recovered: false"] += 1
            return
        if (request["epoch"] or epoch) != epoch:
            self.violate(f"{channel}: recovered in another epoch than asked for")
        place.epoch = epoch
        self._pass_over(channel, place, result.get("offset", 0), seen)
        self.world.tally["recovered: true" if request["epoch"] else "subscriptions from the beginning"] += 1
        for publication in publications:
            self.world.tally["publications received"] += 1
            self.compare(channel, epoch, publication)
            self._advance(channel, place, publication)

    def take_push(self, push: dict[str, Any]) -> None:
        """Take what was not asked for."""
        channel = push.get("channel", "")
        if "pub" in push:
            self.world.tally["publications received"] += 1
            place = self.places.get(channel)
            if place is None or not place.subscribed:
                self.violate(f"{channel}: a publication without a subscription")
            elif push["pub"].get("offset", 0):
                self.compare(channel, place.epoch, push["pub"], or_later=True)
                self._advance(channel, place, push["pub"])
            else:
                self._take_live(channel, place, number_of(push["pub"]))
        elif "subscribe" in push:
            place, position = self.places[channel], push["subscribe"]
            if not place.subscribed or position["epoch"] != place.epoch:
                self.violate(f"{channel}: moved to {position} from {place}")
            self._pass_over(channel, place, position["offset"], place.live)
            place.live = self._behind(channel, place)
        elif "unsubscribe" in push:
            self.places[channel].subscribed = False

    def _take_live(self, channel: str, place: Place, number: int) -> None:
        stream = self._stream(channel)
        behind = stream.epoch == place.epoch and stream.offsets.get(number, place.offset + 1) <= place.offset
        if number in place.live or behind:
            self.violate(f"{channel}: {number} came twice")
        place.live[number] = None

    def _advance(self, channel: str, place: Place, publication: dict[str, Any]) -> None:
        offset, number = publication["offset"], number_of(publication)
        if offset <= place.offset or number in place.live:
            self.violate(f"{channel}: {number} at {offset} came twice, or late: it was at {place.offset}")
        self._pass_over(channel, place, offset - 1, place.live)
        place.offset = offset
        place.live = self._behind(channel, place)

    def _pass_over(self, channel: str, place: Place, offset: int, seen: dict[int, None]) -> None:
        """Move to a position: what came in degraded mode has got its place meanwhile, and is not sent again."""
        stream = self._stream(channel)
        for skipped in range(place.offset + 1, offset + 1):
            entry = stream.entries.get(skipped)
            if stream.epoch == place.epoch and (entry is None or entry.number not in seen):
                self.violate(f"{channel}: it is behind {offset}, was at {place.offset}, and {skipped} never came")
        if offset < place.offset:
            self.violate(f"{channel}: it is to go back to {offset}, and was at {place.offset}")
        place.offset = offset

    def _behind(self, channel: str, place: Place) -> dict[int, None]:
        """What came without a position, and has none up to here."""
        offsets = self._stream(channel).offsets
        return {one: None for one in place.live if offsets.get(one, place.offset + 1) > place.offset}

    def compare(self, channel: str, epoch: str, publication: dict[str, Any], *, or_later: bool = False) -> None:
        """See that a publication is what is at its offset, in this life of the stream (`or_later`: or a later one)."""
        # After a restart the epoch that a device knows is no more, of which it will be told.
        lives, offset, number = self._stream(channel).lives, publication["offset"], number_of(publication)
        known = [life for name, life in lives.items() if or_later or name == epoch] if epoch in lives else []
        found = [life[offset].number for life in known if offset in life]
        if known and number not in found:
            self.violate(f"{channel}: at {offset} is {found}, and not {publication}")

    def _stream(self, channel: str) -> Recorded:
        return self.world.ledger.stream(self.key, channel)

    def violate(self, what: str) -> None:
        """Tell what should not be."""
        self.world.violate(f"{self!r} {what}")


def number_of(publication: dict[str, Any]) -> int:
    """The number in the payload, which an event of a back end wraps."""
    data = publication["data"]
    number: int = (data["data"] if "type" in data else data)["n"]
    return number
