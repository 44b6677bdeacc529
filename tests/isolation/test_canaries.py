"""Every payload carries a word of its owner's. Whatever users do at once, no socket gets another owner's word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from app.realtime.modes import ModeKind, SessionRequired
from containers import GatewayContainer
from tests.gateway import Client, RunningGateway, build_container, eventually, serving, token

USERS = ("ann", "ben", "cat")
SESSIONS = ("s1", "s2")
CHANNELS = ("news", "room", "#personal")
DEVICES = tuple((user, session) for user in USERS for session in SESSIONS)


def word(user: str, session: str = "") -> str:
    """What marks a payload of a user, and of one of their sessions alone."""
    return f"<canary of {user}{'/' + session if session else ''}>"


class Watched(Client):
    """A device; every frame is searched for the words of others before anybody looks at it."""

    def __init__(self, client: Client, user: str, session: str) -> None:
        """Take over the socket of a client."""
        super().__init__(client.socket)
        others = [name for name in USERS if name != user]
        siblings = [one for one in SESSIONS if one != session]
        self.forbidden = (
            *(f"canary of {other}" for other in others),
            *(f'"{other}"' for other in others),
            *(f"#{other}" for other in others),
            *(word(user, sibling) for sibling in siblings),
        )
        self.searched = 0
        self.canaries = 0

    async def frame(self) -> str:
        """The next message, if it is this device's to see."""
        text = await super().frame()
        assert not any(found in text for found in self.forbidden), text
        self.searched += 1
        self.canaries += text.count("<canary of")
        return text


@dataclass
class World:
    """A gateway, the devices that are connected, and what an operator set."""

    gateway: RunningGateway
    devices: dict[tuple[str, str], tuple[Watched, AsyncExitStack]] = field(default_factory=dict)
    payloads: int = 0
    canaries: int = 0

    @property
    def container(self) -> GatewayContainer:
        """The gateway's."""
        return self.gateway.container

    async def connect(self, user: str, session: str) -> None:
        """Connect a device, or connect it again."""
        await self.drop(user, session)
        stack = AsyncExitStack()
        client = Watched(await stack.enter_async_context(self.gateway.client(max_queue=None)), user, session)
        self.devices[user, session] = client, stack
        proof = token(user, sid=session, info={"of": word(user)})
        await client.result("connect", {"token": proof, "subs": {f"#{user}": {"recover": True}}})

    async def drop(self, user: str, session: str) -> None:
        """Pull a device's plug."""
        client, stack = self.devices.pop((user, session), (None, None))
        if client is not None and stack is not None:
            self.canaries += client.canaries
            client.socket.transport.abort()
            await stack.aclose()

    async def command(self, user: str, session: str, method: str, channel: str) -> None:
        """Let a device give a command; the gateway may refuse it."""
        if (user, session) not in self.devices:
            return
        name = f"#{user}" if channel == "#personal" else channel
        request: dict[str, Any] = {"channel": name}
        match method:
            case "publish":
                apart = self.container.policy().keyed_by(user) is ModeKind.ISOLATED
                request["data"] = {"from": word(user, session if apart else "")}
            case "history":
                request["limit"] = -1
            case "subscribe":
                request |= {"recover": True, "join_leave": True}
        await self.devices[user, session][0].call(method, request)

    async def publish(self, user: str, session: str | None, channel: str) -> None:
        """Publish as a back end; only the session's, where sessions are apart."""
        apart = self.container.policy().keyed_by(user) is ModeKind.ISOLATED
        if apart and session is None:
            try:
                await self.container.publisher().publish_to_user(user, "emergency", "nobody's")
            except SessionRequired:
                return
            raise AssertionError("an isolated user was published to without a session")
        self.payloads += 1
        data = {"number": self.payloads, "of": word(user, session or "") if apart else word(user)}
        await self.container.publisher().publish_to_user(
            user, "emergency", data, session_id=session, channel=None if channel == "#personal" else channel
        )

    async def set_mode(self, kind: ModeKind | None, user: str | None) -> None:
        """As an operator."""
        await self.container.control().set_mode(kind, user)

    async def read(self) -> None:
        """Let every device read what came; those that were disconnected are dropped."""
        for (user, session), (client, _) in list(self.devices.items()):
            try:
                await client.error("no_such_method")
            except ConnectionClosed:
                await self.drop(user, session)


def steps() -> st.SearchStrategy[tuple[Any, ...]]:
    """One thing that happens."""
    device = (st.sampled_from(USERS), st.sampled_from(SESSIONS))
    channel = st.sampled_from(CHANNELS)
    methods = ("subscribe", "subscribe", "unsubscribe", "publish", "history", "presence", "presence_stats")
    user = st.sampled_from(USERS)
    return st.one_of(
        st.tuples(st.just("connect"), *device),
        st.tuples(st.just("drop"), *device),
        st.tuples(st.just("command"), *device, st.sampled_from(methods), channel),
        st.tuples(st.just("command"), *device, st.sampled_from(methods), channel),
        st.tuples(st.just("publish"), user, st.none() | st.sampled_from(SESSIONS), channel),
        st.tuples(st.just("publish"), user, st.none() | st.sampled_from(SESSIONS), channel),
        st.tuples(st.just("set_mode"), st.none() | st.sampled_from(ModeKind), st.none() | user),
    )


async def take(world: World, step: tuple[Any, ...]) -> None:
    """Take one step. A device that the gateway has disconnected meanwhile is dropped."""
    try:
        await getattr(world, step[0])(*step[1:])
    except ConnectionClosed:
        await world.drop(step[1], step[2])


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A gateway with every device connected; in the end nothing of them is left."""
    async with serving(build_container()) as gateway:
        made = World(gateway)
        for device in DEVICES:
            await made.connect(*device)
        yield made
        for device in DEVICES:
            await made.drop(*device)
        await eventually(lambda: not gateway.container.manager.count())


async def live(batches: list[list[tuple[Any, ...]]]) -> None:
    async with world() as made:
        for batch in batches:
            # Steps of different devices run at once; a device, as a client does, has one command under way.
            for _, group in sorted(by_device(batch).items()):
                made_tasks = [take(made, step) for step in group]
                await asyncio.gather(*made_tasks)
            await made.read()
        # Whatever happened: in the end everybody gets their own again.
        await made.set_mode(None, None)
        for user in USERS:
            await made.set_mode(None, user)
        await made.read()
        for user, session in DEVICES:
            await made.connect(user, session)
        await asyncio.gather(*(made.publish(user, None, "#personal") for user in USERS))
        await made.read()
        assert all(client.canaries > 0 for client, _ in made.devices.values())
        assert made.container.metrics().violation_count() == 0


def by_device(batch: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    """Rounds of steps; in one round no device has two."""
    rounds: dict[int, list[tuple[Any, ...]]] = {}
    count: dict[Any, int] = {}
    for step in batch:
        device = step[1:3] if step[0] in ("connect", "drop", "command") else step[0]
        count[device] = count.get(device, 0) + 1
        rounds.setdefault(count[device], []).append(step)
    return rounds


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.lists(steps(), min_size=2, max_size=8), min_size=4, max_size=12))
def test_no_socket_ever_gets_what_is_another_users(batches: list[list[tuple[Any, ...]]]) -> None:
    asyncio.run(live(batches))


async def test_a_gateway_that_mixes_users_up_would_be_found_out() -> None:
    async with world() as made:
        ben, _ = made.devices["ben", "s1"]
        await made.container.publisher().publish_to_user("ben", "leak", word("ann"))
        with pytest.raises(AssertionError, match=word("ann")):
            await ben.push()
