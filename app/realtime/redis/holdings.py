"""What this node says again and again, so that it is forgotten when the node is gone: its users and who is present."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from app.realtime.broker import BrokerError
from app.realtime.redis.attachment import Attachment
from app.realtime.redis.scripts import RedisOptions, Scripts

ROUNDS = 3
"""How often a thing is said within the time that it holds."""

BATCH = 200
"""What is said in one turn of the event loop."""


class Holdings:
    """The user keys that this node has a subscriber of, and its connections in channels.

    Args:
        scripts: builds commands.
        options: for how long things hold.
    """

    SHARE = 1 + 1 / ROUNDS
    """Of the time that positions are kept: until the next round, and then for all of it."""

    def __init__(self, scripts: Scripts, options: RedisOptions) -> None:
        """Nothing yet."""
        self._scripts = scripts
        self._interval = min(options.history_ttl, options.presence_ttl) / ROUNDS
        self._held: dict[str, None] = {}
        self._present: dict[tuple[str, str, str], str] = {}

    def hold(self, base: str) -> None:
        """Hold the positions of a user's streams."""
        self._held[base] = None

    def let_go(self, base: str) -> None:
        """Hold them no longer."""
        self._held.pop(base, None)

    def enter(self, base: str, channel: str, client: str, info: str) -> None:
        """A connection is in a channel."""
        self._present[base, channel, client] = info

    def exit(self, base: str, channel: str, client: str) -> bool:
        """It left; whether it was there."""
        return self._present.pop((base, channel, client), None) is not None

    async def say(self, attachment: Attachment, seconds: float = 0) -> None:
        """Say all of it, spread over a time, or as fast as the servers take it.

        Raises:
            BrokerError: a server that has to hear it is not there, or has too much waiting for it.
        """
        said: list[str | tuple[str, str, str]] = [*self._held, *self._present]
        for number, item in enumerate(said, 1):
            self._say(attachment, item)
            if number % BATCH == 0:
                await asyncio.sleep(seconds * BATCH / len(said))
                await attachment.flush()

    async def refresh(self, attached: Callable[[], Attachment]) -> None:
        """Say all of it, round after round, until cancelled."""
        while True:
            with contextlib.suppress(BrokerError):
                await self.say(attached(), self._interval / 2)
            await asyncio.sleep(self._interval / 2)

    def _say(self, attachment: Attachment, item: str | tuple[str, str, str]) -> None:
        if isinstance(item, str):
            if item in self._held:
                attachment.lane(item)[0].post(self._scripts.hold(item, self.SHARE))
        elif (info := self._present.get(item)) is not None:
            base, channel, client = item
            attachment.lane(base)[0].post(self._scripts.present(base, channel, client, info))
