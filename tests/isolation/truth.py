"""What has to be true of a gateway, whatever its users, operators and failures do."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from app.realtime.identity import user_of
from app.realtime.modes import ModeKind
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import RunningGateway, eventually
from tests.isolation.actions import SESSIONS, Modes
from tests.isolation.device import Device, Gone
from tests.isolation.engine import make_breakable_engine
from tests.isolation.ledger import Ledger, make_breakable
from tests.isolation.receiver import Receiver

HISTORY, TTL = 50, 400.0
FITS = 16 * 1024
"""Bytes of a recovery that there is always room for."""


class Truth:
    """One gateway, its users with a few devices each, and the truth about what was published.

    Args:
        container: of the gateway that is tried.
        clock: its clock.
        users: how many.
        devices: of each session.
        engine: address of a Redis or Valkey; empty: streams are in memory.

    Attributes:
        violations: what was promised and is not so.
        tally: of what happened.
        users: their ids, by place.
        devices: by place of the user, of the session, and number.
        strained: users for whom more comes than anybody has room for, or who are degraded.
        faults: a broker fails in what happens now.
        crashed: it ended in what happens now.
    """

    gateway: RunningGateway

    def __init__(
        self, container: GatewayContainer, clock: ManualClock, users: int, devices: int, engine: str = ""
    ) -> None:
        """Nobody is connected."""
        self.container, self.clock = container, clock
        self.violations: list[str] = []
        self.ledger = Ledger(clock.monotonic, self.violate)
        self.broker = (
            make_breakable_engine(container, self.ledger, engine) if engine else make_breakable(container, self.ledger)
        )
        self.modes = Modes()
        self.faults = False
        self.crashed = False
        self.tally: Counter[str] = Counter()
        self.strained: set[str] = set()
        self.users: list[str] = []
        self.devices: dict[tuple[int, int, int], Device] = {}
        self._per_session = devices
        self._numbers = 0
        self._born = 0
        for user in range(users):
            self.users.append("")
            self.replace(user)

    def violate(self, what: str) -> None:
        """See `receiver.World`."""
        self.violations.append(what)

    def replace(self, user: int) -> None:
        """Put somebody new in the place of a user, whose devices must have been dropped."""
        self._born += 1
        self.ledger.forget(self.users[user])
        self.users[user] = f"canary:u{self._born};"
        for session, name in enumerate(SESSIONS):
            for number in range(self._per_session):
                self.devices[user, session, number] = Device(self, self.users[user], name, number)

    def may_fail(self, user: str) -> bool:
        """See `receiver.World`."""
        return self.faults or user in self.strained

    def must_recover(self, receiver: Receiver, channel: str, epoch: str, offset: int) -> bool:
        """See `receiver.World`."""
        stream = self.ledger.stream(receiver.key, channel)
        missed = list(stream.between(offset + 1, stream.top + 1))
        return (
            bool(receiver.key and epoch)
            and stream.epoch == epoch
            and receiver.user not in self.strained
            and len(missed) == stream.top - offset <= HISTORY
            and sum(entry.size for entry in missed) < FITS
            and all(entry.at + TTL > self.clock.monotonic() for entry in missed)
        )

    async def look(self) -> None:
        """Compare what every device has, and is told, with the truth."""
        await self.broker.settle()
        await self.catch_up()
        for device in self.devices.values():
            if device.client and not device.paused:
                self._look_at(device)
        publisher = self.container.publisher()

        def served() -> set[str]:
            managers = (manager for user in self.users for manager in publisher.connected(user))
            return {connection.id for manager in managers for connection in manager.connections}

        def connected() -> dict[str, Device]:
            return {device.client: device for device in self.devices.values() if device.client}

        # Either side learns a moment later that the other one ended, and a client that does not read much later.
        unread = {client for client, device in connected().items() if device.paused}
        try:
            await eventually(lambda: served() - unread == connected().keys() - unread)
        except TimeoutError:
            for client in connected().keys() - unread - served():
                self.violate(f"{connected()[client]!r} is not served, and was not told so")
            if strangers := served() - connected().keys():
                self.violate(f"{len(strangers)} connections are served that nobody has")
        for (key, channel), owed in self.ledger.owed.items():
            if owed and not self.is_degraded(user_of(key) or ""):
                self.violate(f"{key} {channel}: {list(owed)} were accepted, and lost")
        self.ledger.recent.clear()
        if count := self.container.metrics().violation_count():
            self.violate(f"the gateway counts {count} violations")

    def _look_at(self, device: Device) -> None:
        if device.key != (expected := self.modes.key(device.user, device.session)):
            self.violate(f"{device!r} is served as {device.key}, and is {expected}")
        for channel, place in device.places.items():
            stream = self.ledger.stream(device.key, channel)
            if not place.subscribed or stream.lost:
                continue
            if place.epoch != stream.epoch:
                self.violate(f"{device!r} was not told that {channel} began anew")
            missing = [e.number for e in stream.between(place.offset + 1, stream.top + 1) if e.number not in place.live]
            if missing:
                self.violate(f"{device!r} {channel}: has {place.offset} of {stream.top} and lacks {missing}")

    async def catch_up(self) -> None:
        """Wait until all devices that read have read what was sent to them up to now."""

        async def ask(device: Device) -> None:
            try:
                await device.catch_up()
            except Gone:
                pass  # sent away; it comes back when it is told to

        await asyncio.gather(*(ask(one) for one in self.devices.values() if one.client and not one.paused))

    def is_degraded(self, user: str) -> bool:
        """Whether publishes wait, and nothing is recovered."""
        return self.modes.kind(user) is ModeKind.DEGRADED

    def payload(self, user: str, session: str | None, size: int = 0) -> dict[str, Any]:
        """What is published: a number, and the canary of its owner."""
        self._numbers += 1
        of = user if session is None else f"{user[:-1]}/{session};"
        return {"n": self._numbers, "of": of, "x": "x" * size}

    def accepted(
        self, key: str, channel: str, number: int, epoch: str, offset: int, *, by_client: bool = False
    ) -> None:
        """A publish was accepted: it is where it was said to be, or is to be there when degraded mode ends."""
        self.tally["events accepted"] += 1
        stream = self.ledger.stream(key, channel)
        if number not in self.ledger.recent:
            # What was on its way at a crash waits in nobody knows what order: nobody had an answer yet.
            self.ledger.owe(key, channel, number, in_order=not by_client and not self.crashed)
        if offset and stream.epoch == epoch and stream.offsets.get(number) != offset:
            self.violate(f"{key} {channel}: {number} was said to be at {offset}")
