"""A Python SDK client that notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from centrifuge import Client, ClientEventHandler, Subscription, SubscriptionEventHandler

from tests.gateway import SECONDS, RunningGateway
from tests.line import Line


class Recorder(ClientEventHandler):
    """Events of a client and of its server-side subscriptions, in order."""

    def __init__(self) -> None:
        """Nothing happened yet."""
        self.events: list[tuple[str, Any]] = []
        self._changed = asyncio.Event()

    def note(self, name: str, context: Any) -> None:
        """Note an event."""
        self.events.append((name, context))
        self._changed.set()

    def named(self, name: str) -> list[Any]:
        """The contexts of all events of this name."""
        return [context for event, context in self.events if event == name]

    def data(self, name: str = "publication") -> list[Any]:
        """The data of all publications."""
        return [context.pub.data for context in self.named(name)]

    async def wait(self, name: str, count: int = 1) -> Any:
        """Until this happened so often; the context of the last one."""
        async with asyncio.timeout(SECONDS):
            while len(self.named(name)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.named(name)[count - 1]

    async def on_connecting(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("connecting", ctx)

    async def on_connected(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("connected", ctx)

    async def on_disconnected(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("disconnected", ctx)

    async def on_error(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("error", ctx)

    async def on_subscribed(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("subscribed", ctx)

    async def on_publication(self, ctx: Any) -> None:
        """See the SDK."""
        self.note("publication", ctx)


class SubscriptionRecorder(SubscriptionEventHandler):
    """Passes the events of a subscription to a recorder, as `sub <name>`."""

    def __init__(self, recorder: Recorder) -> None:
        """Pass them to this one."""
        self._recorder = recorder

    async def on_subscribing(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub subscribing", ctx)

    async def on_subscribed(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub subscribed", ctx)

    async def on_unsubscribed(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub unsubscribed", ctx)

    async def on_publication(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub publication", ctx)

    async def on_join(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub join", ctx)

    async def on_leave(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub leave", ctx)

    async def on_error(self, ctx: Any) -> None:
        """See the SDK."""
        self._recorder.note("sub error", ctx)


class Device:
    """A client with its recorder."""

    def __init__(self, client: Client, recorder: Recorder) -> None:
        """Take both."""
        self.client = client
        self.recorder = recorder

    async def subscribe(self, channel: str, **options: Any) -> Subscription:
        """Subscribe, and wait until it is done."""
        count = len(self.recorder.named("sub subscribed"))
        handler = SubscriptionRecorder(self.recorder)
        subscription = self.client.new_subscription(channel, events=handler, **options)
        await subscription.subscribe()
        await self.recorder.wait("sub subscribed", count + 1)
        return subscription


@asynccontextmanager
async def device(
    gateway: RunningGateway | Line,
    get_token: Callable[[], Awaitable[str]] | None = None,
    token: str = "",
    **options: Any,
) -> AsyncIterator[Device]:
    """A device that has been told to connect, until the block ends."""
    recorder = Recorder()
    settings = {"min_reconnect_delay": 0.01, "max_reconnect_delay": 0.05, "proxy": None, **options}
    client = Client(gateway.websocket_url, events=recorder, token=token, get_token=get_token, **settings)
    await client.connect()
    try:
        yield Device(client, recorder)
    finally:
        await client.disconnect()
