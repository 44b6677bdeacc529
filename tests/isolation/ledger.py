"""What really went through the broker: the truth that clients are held against."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dependency_injector import providers

from app.realtime.broker import Broker, BrokerError, History, Position, Published, Subscriber
from app.realtime.identity import user_of
from app.realtime.memory import MemoryBroker
from containers import GatewayContainer
from tests.wire.faulty import FaultyBroker

REMEMBERED = 2000
"""Publications of a stream that the ledger remembers; clients are never that far behind between two looks at them."""

LIVES = 4

NUMBER = re.compile(r'"n": ?(\d+)')

Name = tuple[str, str]


@dataclass
class Entry:
    """A publication: the number in its payload, its size, and when it was made."""

    number: int
    size: int
    at: float


@dataclass
class Recorded:
    """A stream.

    Attributes:
        epoch: which life of it; empty while nobody has read it in this life.
        top: offset of the last publication.
        entries: the last publications of this life, by offset.
        offsets: the same, by number.
        lives: the entries of this and some earlier lives, by epoch.
        lost: something of it was not delivered, and nobody was told yet.
    """

    epoch: str = ""
    top: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    lives: dict[str, dict[int, Entry]] = field(default_factory=dict)
    lost: bool = False

    def seen(self, position: Position) -> None:
        """Note its position, and that it lives anew if so; what comes late of an earlier life changes nothing."""
        if self.is_past(position.epoch):
            return
        if position.epoch != self.epoch:
            self.start_anew()
            self.epoch = position.epoch
            self.lives[self.epoch] = self.entries
            if len(self.lives) > LIVES:
                del self.lives[next(iter(self.lives))]
        self.top = max(self.top, position.offset)

    def is_past(self, epoch: str) -> bool:
        """Whether it is that of an earlier life."""
        return epoch != self.epoch and epoch in self.lives

    def start_anew(self) -> None:
        """A new life."""
        self.epoch, self.top, self.entries, self.offsets = "", 0, {}, {}

    def append(self, offset: int, entry: Entry) -> bool:
        """Add a publication; False if it was there before."""
        new = entry.number not in self.offsets
        self.entries[offset] = entry
        self.offsets[entry.number] = offset
        if (oldest := self.entries.pop(offset - REMEMBERED, None)) is not None:
            self.offsets.pop(oldest.number, None)
        return new

    def between(self, first: int, end: int) -> Iterator[Entry]:
        """The publications from one offset to before another."""
        return (self.entries[offset] for offset in range(first, end) if offset in self.entries)


class Ledger:
    """Records streams by user key and channel.

    Attributes:
        streams: all there were.
        owed: numbers that were accepted and are not in their stream yet, and whether their order is known.
        recent: numbers that have come since somebody cleared it.
        deaf: user keys to which nothing is delivered, as the broker has started anew and their subscriber is not back.
    """

    def __init__(self, now: Callable[[], float], violate: Callable[[str], None]) -> None:
        """Start empty.

        Args:
            now: steady time.
            violate: told what is wrong.
        """
        self._now = now
        self._violate = violate
        self.streams: dict[Name, Recorded] = {}
        self.owed: dict[Name, dict[int, bool]] = {}
        self.recent: set[int] = set()
        self.deaf: set[str] = set()

    def stream(self, key: str, channel: str) -> Recorded:
        """A stream, that nobody may have published to yet; that of nobody, who is not connected, is empty."""
        if not key:
            return Recorded()
        return self.streams.setdefault((key, channel), Recorded())

    def append(self, key: str, channel: str, position: Position, data: str) -> None:
        """A publication got its position, or came back from where it has it."""
        stream = self.stream(key, channel)
        stream.seen(position)
        found = NUMBER.search(data)
        assert found is not None, data
        number = int(found[1])
        self.recent.add(number)
        life = stream.lives.get(position.epoch, {})
        if (known := life.get(position.offset)) is not None and known.number == number:
            return
        if stream.is_past(position.epoch):
            life[position.offset] = Entry(number, len(data), self._now())
        elif not stream.append(position.offset, Entry(number, len(data), self._now())):
            self._violate(f"{key} {channel}: {number} was published twice")
        owed = self.owed.get((key, channel), {})
        if owed.pop(number, False) and any(owed.values()) and number > min(one for one in owed if owed[one]):
            self._violate(f"{key} {channel}: {number} left degraded mode out of order")

    def see(self, key: str, channel: str, position: Position) -> None:
        """Somebody read a stream's position."""
        self.stream(key, channel).seen(position)

    def owe(self, key: str, channel: str, number: int, *, in_order: bool) -> None:
        """A publish was accepted and waits; `in_order`: behind those with lower numbers."""
        self.owed.setdefault((key, channel), {})[number] = in_order

    def forget(self, user: str) -> None:
        """Forget the streams of a user who is gone for good, and what was owed and is paid."""
        self.streams = {name: stream for name, stream in self.streams.items() if user_of(name[0]) != user}
        self.owed = {name: owed for name, owed in self.owed.items() if owed}

    def start_anew(self) -> None:
        """All streams are lost."""
        for stream in self.streams.values():
            stream.start_anew()
            stream.lost = True


class RecordedBroker(MemoryBroker):
    """The broker in memory, with a ledger of what went through it.

    Attributes:
        ledger: of all brokers of a gateway.
        to_lose: how many of the next publications are not delivered.
    """

    ledger: Ledger
    to_lose: Callable[[], int]

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
    ) -> Published:
        """See `Broker.publish`. It is on record before any client can have it."""
        before = self.to_lose()
        result = await super().publish(key, channel, data, info=info, idempotency_key=idempotency_key, ticket=ticket)
        if self.to_lose() != before or key in self.ledger.deaf:
            self.ledger.stream(key, channel).lost = True
        if not result.duplicate:
            self.ledger.append(key, channel, result.position, data)
        return result

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """See `Broker.history`. Reading may start a stream."""
        history = await super().history(key, channel, since=since, limit=limit, reverse=reverse)
        self.ledger.see(key, channel, history.position)
        return history


class BreakableBroker(FaultyBroker):
    """A broker that is recorded, and can be restarted, by which all streams are lost."""

    def __init__(self, container: GatewayContainer, ledger: Ledger) -> None:
        """Start the first."""
        self._container = container
        self._ledger = ledger
        self._living: dict[str, Subscriber] = {}
        super().__init__(self._new())

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker`."""
        self._living[key] = subscriber
        await self._attach(key, subscriber)

    async def _attach(self, key: str, subscriber: Subscriber) -> None:
        broker = self.broker
        await super().subscribe(key, subscriber)
        if self.broker is broker:  # or that has started anew meanwhile
            self._ledger.deaf.discard(key)

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker`."""
        if self._living.get(key) is subscriber:
            del self._living[key]
            self._ledger.deaf.discard(key)
        super().unsubscribe(key, subscriber)

    async def settle(self, rounds: int = 1) -> None:
        """Until all that is on its way has arrived: here, at once."""

    async def restart(self) -> None:
        """Lose all streams and presences; subscribers stay, as an engine's client subscribes again by itself."""
        old, self.broker = self.broker, self._new()
        self._ledger.deaf.update(self._living)
        await old.close()
        self._ledger.start_anew()
        self.before.pop("subscribe", None)  # it is up again
        for key, subscriber in tuple(self._living.items()):
            while self._living.get(key) is subscriber and key in self._ledger.deaf:  # or it has left, or is back
                with contextlib.suppress(BrokerError):  # then it tries again
                    await self._attach(key, subscriber)

    def _new(self) -> Broker:
        settings = self._container.settings()
        made = RecordedBroker(
            clock=self._container.clock(),
            history_size=settings.history.size,
            history_ttl=settings.history.ttl,
            max_bytes=settings.broker.max_bytes,
            max_bytes_per_user=settings.broker.max_bytes_per_user,
            max_streams_per_user=settings.broker.max_streams_per_user,
            idempotency_ttl=settings.broker.idempotency_ttl,
            idempotency_keys_per_user=settings.broker.idempotency_keys_per_user,
            idempotency_keys=settings.broker.idempotency_keys,
        )
        made.ledger = self._ledger
        made.to_lose = lambda: self.lose
        return made


def make_breakable(container: GatewayContainer, ledger: Ledger) -> BreakableBroker:
    """Give a container a broker that is recorded and can be broken."""
    broker = BreakableBroker(container, ledger)
    container.broker.override(providers.Object(broker))
    return broker
