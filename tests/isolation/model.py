"""Users, devices, operators and failures around one gateway.

`World.together` lets things happen at once and compares with the truth. Time stands still unless `World.wait` moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote

from app.realtime.broker import BrokerError
from app.realtime.identity import UserContext, user_of
from app.realtime.modes import ModeKind, SessionRequired
from app.realtime.publisher import Refused
from tests.clock import ManualClock
from tests.engine.server import StandAlone
from tests.gateway import build_container, eventually, serving
from tests.isolation.actions import SESSIONS, Action
from tests.isolation.device import Gone
from tests.isolation.receiver import Place
from tests.isolation.truth import FITS, HISTORY, TTL, Truth

PING_INTERVAL, PING_TIMEOUT, STEP = 60.0, 50.0, 45.0
ROUND_TRIPS = 5
"""What a check of all positions of a connection takes."""
CHECKED_AFTER = 4 * STEP
"""Seconds after which every position was checked: every 40 s, at the next ping, in whole steps."""


class World(Truth):
    """What may happen; see `actions`."""

    async def together(self, actions: Sequence[Action]) -> None:
        """Let things happen at once, but for those of one lane; then look."""
        self.faults = self.crashed = False
        self.strained = {user for user in self.users if self.is_degraded(user)}
        lanes: dict[object, list[Action]] = {}
        for action in actions:
            lanes.setdefault(action.lane, []).append(action)
        await asyncio.gather(*map(self._follow, lanes.values()))
        await self.broker.settle()
        self.broker.before.clear()
        self.broker.after.clear()
        self.broker.lose = 0
        await self.look()

    async def _follow(self, actions: list[Action]) -> None:
        for action in actions:
            self.tally[f"action {action.name}"] += 1
            try:
                await getattr(self, action.name)(*action.arguments)
            except (Gone, BrokerError, Refused):
                pass  # a device is sent away, a broker fails and a mode refuses: whoever asked is told

    async def wait(self, seconds: float) -> None:
        """Let time pass, in steps within which pings are answered. Then everybody has been told what was lost."""
        self.faults = False
        for _ in range(int(seconds / STEP)):
            self.clock.advance(STEP)
            await self.catch_up()
            await self.broker.settle(ROUND_TRIPS)
        if seconds >= CHECKED_AFTER:
            for stream in self.ledger.streams.values():
                stream.lost = False
        await self.look()

    async def retire(self, user: int) -> None:
        """Let a user leave for good, and somebody new come."""
        for place, device in self.devices.items():
            if place[0] == user:
                await device.drop()
        await self.set_mode(None, user)
        self.replace(user)

    async def everybody(self) -> None:
        """Whatever happened: when it is over, everybody is connected and gets their own, and nothing else."""
        for user in (None, *range(len(self.users))):
            await self.set_mode(None, user)
        for device in self.devices.values():
            device.resume()
        await self.wait(CHECKED_AFTER)
        places = list(self.devices)
        await self.together([Action("connect", place) for place in places if not self.devices[place].client])
        if missing := [device for device in self.devices.values() if not device.client]:
            self.violate(f"{missing} cannot connect")
        await self.together([Action("publish", (*place[:2], None, 1, 0)) for place in places])

    async def connect(self, *place: int) -> None:
        """Connect a device, or connect it again."""
        await self.devices[place[0], place[1], place[2]].connect()

    async def vanish(self, user: int, session: int, number: int, turns: int) -> None:
        """Let a device go while it connects."""
        await self.devices[user, session, number].connect_and_vanish(turns)

    async def drop(self, user: int, session: int, number: int, politely: bool) -> None:
        """Let a device go."""
        await self.devices[user, session, number].drop(politely=politely)

    async def subscribe(self, user: int, session: int, number: int, channel: str) -> None:
        """Let a device subscribe, or subscribe again."""
        device = self.devices[user, session, number]
        if not device.places.get(channel, Place()).subscribed:
            await device.subscribe(channel)

    async def unsubscribe(self, user: int, session: int, number: int, channel: str) -> None:
        """Let a device unsubscribe."""
        device = self.devices[user, session, number]
        if device.places.get(channel, Place()).subscribed:
            await device.call("unsubscribe", {"channel": channel})

    async def ask(self, user: int, session: int, number: int, method: str, channel: str | None) -> None:
        """Let a device ask for something."""
        device = self.devices[user, session, number]
        limit = {"limit": -1} if method == "history" else {}
        await device.call(method, {"channel": channel or device.personal, **limit})

    async def send(self, user: int, session: int, number: int, channel: str) -> None:
        """Let a device publish."""
        device = self.devices[user, session, number]
        key = device.key
        payload = self.payload(device.user, device.session if key.startswith("user-session:") else None)
        reply = await device.call("publish", {"channel": channel, "data": payload})
        if "publish" in reply:
            self.accepted(key, channel, payload["n"], "", 0, by_client=True)

    async def pause(self, *place: int) -> None:
        """Let a device read nothing for a while."""
        self.devices[place[0], place[1], place[2]].pause()

    async def resume(self, *place: int) -> None:
        """Let it read on."""
        self.devices[place[0], place[1], place[2]].resume()

    async def publish(self, user: int, session: int, channel: str | None, count: int, size: int) -> None:
        """Publish some events, as a back end does in the process; large ones strain whoever reads."""
        name, sid = self.users[user], SESSIONS[session]
        if count * size > FITS:
            self.strained.add(name)
        for _ in range(count):
            apart, key = self.modes.apart(name), self.modes.key(name, sid)
            payload = self.payload(name, sid if apart else None, size)
            published = await self.container.publisher().publish_to_user(
                name, "emergency", payload, session_id=sid, channel=channel
            )
            self.accepted(key, channel or f"#{name}", payload["n"], published.epoch, published.offset)

    async def publish_without_session(self, user: int) -> None:
        """Publish to a user, which is refused where only a session would be meant."""
        name, key = self.users[user], self.modes.key(self.users[user], "-")
        apart, payload = self.modes.apart(name), self.payload(name, None)
        try:
            published = await self.container.publisher().publish_to_user(name, "emergency", payload)
        except SessionRequired:
            if not apart:
                self.violate(f"{name} needs no session")
            return
        if apart:
            self.violate(f"{name} is isolated and was published to without a session")
        self.accepted(key, f"#{name}", payload["n"], published.epoch, published.offset)

    async def emit(self, user: int, session: int, channel: str | None) -> None:
        """Publish from an endpoint of the user's."""
        name, sid = self.users[user], SESSIONS[session]
        manager = self.container.manager(UserContext(user_id=name, session_id=sid))
        if manager.key != self.modes.key(name, sid):
            self.violate(f"the manager of {name} {sid} has the key {manager.key}")
        payload = self.payload(name, sid if self.modes.apart(name) else None)
        published = await manager.emit("emergency", payload, channel=channel)
        self.accepted(manager.key, channel or f"#{name}", payload["n"], published.epoch, published.offset)

    async def post(self, user: int, session: int) -> None:
        """Publish over HTTP, where the mode may be another one by the time the request arrives."""
        name = self.users[user]
        event = {"type": "emergency", "data": self.payload(name, None), "session_id": SESSIONS[session]}
        async with self.gateway.api() as api:
            response = await api.post(f"/v1/users/{quote(name, safe='')}/events", json=event)
        if response.status_code not in (200, 202) and not self.may_fail(name):
            self.violate(f"a publish over HTTP was answered with {response.status_code}")

    async def cancel(self, user: int, session: int, turns: int) -> None:
        """Cancel a publish under way; nobody knows what became of it."""
        publishing = asyncio.create_task(self.emit(user, session, None))
        for _ in range(turns):
            await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    async def set_mode(self, kind: ModeKind | None, user: int | None) -> None:
        """Let an operator set a mode; a broker that fails meanwhile makes them try again."""
        name = None if user is None else self.users[user]
        self.modes.set(kind, name)
        self.strained |= {one for one in self.users if self.is_degraded(one)}
        while True:
            try:
                await self.container.control().set_mode(kind, name)
            except BrokerError:
                continue
            return

    async def send_away(self, user: int) -> None:
        """Let an operator end a user's connections."""
        await self.container.control().disconnect(self.users[user])

    async def slow_broker(self, method: str, turns: int) -> None:
        """The next calls of the broker take some turns of the event loop, before and after."""

        async def linger() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.broker.before[method] = self.broker.after[method] = linger

    async def failing_broker(self, method: str) -> None:
        """The next call of the broker fails."""
        self.faults = True

        async def fail() -> None:
            self.broker.before.pop(method, None)
            raise BrokerError("a fault that was injected")

        self.broker.before[method] = fail

    async def losing_broker(self) -> None:
        """The next publication is kept and not delivered."""
        self.broker.lose = 1

    async def restart_broker(self) -> None:
        """All streams are lost."""
        await self.broker.restart()

    async def crash_engine(self, engine: StandAlone) -> None:
        """The engine ends, with all that it has, and starts again; until then all are degraded."""
        self.strained |= set(self.users)
        self.crashed = True
        self.ledger.start_anew()
        engine.kill()
        policy, backlog = self.container.policy(), self.container.backlog()
        await eventually(lambda: ModeKind.DEGRADED in policy.incidents)
        self.ledger.start_anew()
        await asyncio.to_thread(engine.start)
        await eventually(lambda: not policy.incidents and self.broker.healthy())
        await eventually(lambda: all(self.is_degraded(user_of(key) or "") for key in backlog.keys()))  # noqa: SIM118 - it is no dict
        await self.broker.settle(ROUND_TRIPS)


@asynccontextmanager
async def world(users: int, devices: int, engine: str = "", timeout: float = 0.5) -> AsyncIterator[World]:
    """A world; in the end everybody gets what is theirs once more, and then nothing of them is left.

    Args:
        users, devices, engine: see `Truth`.
        timeout: seconds that the engine has for an answer, or it is lost.
    """
    clock = ManualClock()
    container = build_container(
        clock=clock,
        ping={"interval": PING_INTERVAL, "timeout": PING_TIMEOUT},
        history={"size": HISTORY, "ttl": TTL},
        limits={"queue_bytes": 64 * 1024, "commands_per_second": 1e6, "command_burst": 10**6},
        broker={"max_bytes": 2**30, "timeout": timeout, "check_interval": 0.2},
        lifecycle={"events": 1000},
    )
    made = World(container, clock, users, devices, engine)
    async with serving(container) as gateway:
        made.gateway = gateway
        try:
            yield made
        finally:
            for device in made.devices.values():
                await device.drop()
        await eventually(lambda: container.manager.count() == 0)
