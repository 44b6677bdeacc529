"""What is published, on its way from one server."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

SUBSCRIBE, UNSUBSCRIBE = b"ssubscribe", b"sunsubscribe"

BATCH = 1000
"""Channels that are subscribed to together, before others get their turn."""


class Link:
    """One connection that is subscribed to the pub/sub channels of the users that this node holds, and to no others.

    It never connects again: what comes over it has no gap.

    Args:
        connection: not open yet.
        timeout: seconds to open, and for a subscription.
        receive: called with the channel and each message.
        failed: called once, with the reason, when the connection is of no use any more.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        *,
        timeout: float,
        receive: Callable[[bytes, bytes], None],
        failed: Callable[[str], None],
    ) -> None:
        """Not open yet."""
        self._connection = connection
        self._timeout = timeout
        self._receive = receive
        self._failed = failed
        # Commands that were not answered yet, in their order, with who waits.
        self._unanswered: deque[tuple[bytes, bytes, asyncio.Future[None] | None]] = deque()
        self._unsent: list[tuple[bytes, bytes]] = []
        self._loop = asyncio.get_running_loop()
        self._heard_at = 0.0
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect and begin to read.

        Raises:
            redis.RedisError, OSError, TimeoutError: it cannot.
        """
        async with asyncio.timeout(self._timeout):
            await self._connection.connect()  # type: ignore[no-untyped-call]
        self._task = self._loop.create_task(self._read())

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe; returns when the server has confirmed all, or the link is closed.

        Raises:
            TimeoutError: nothing at all came from the server for too long.
        """
        for start in range(0, len(channels), BATCH):
            *others, last = channels[start : start + BATCH]
            for channel in others:
                self._send(SUBSCRIBE, channel, None)
            confirmed: asyncio.Future[None] = self._loop.create_future()
            self._send(SUBSCRIBE, last, confirmed)
            await self._wait(confirmed)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe, in order with what was asked before."""
        self._send(UNSUBSCRIBE, channel, None)

    def close(self) -> None:
        """Read no more."""
        if self._closed:
            return
        self._closed = True
        for task in (self._task, *self._writes):
            if task is not None:
                task.cancel()
        for *_, future in self._unanswered:
            if future is not None and not future.done():
                future.set_result(None)
        self._unanswered.clear()

    async def disconnect(self) -> None:
        """Close the connection; after `close`. Harmless when repeated."""
        await self._connection.disconnect(nowait=True)

    async def _wait(self, confirmed: asyncio.Future[None]) -> None:
        """Thousands may subscribe at once; that takes its time, and as long as anything comes the server is there."""
        before = self._loop.time()
        while not confirmed.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await asyncio.shield(confirmed)
                    return
            await asyncio.sleep(0)  # if the event loop was late, something may have come
            if self._heard_at < before:
                raise TimeoutError
            before = self._loop.time()

    def _send(self, command: bytes, channel: str, future: asyncio.Future[None] | None) -> None:
        if self._closed:
            if future is not None:
                future.set_result(None)
            return
        if not self._unsent:
            # Thousands may connect in one turn of the loop: one write for all of them.
            self._loop.call_soon(self._flush)
        name = channel.encode()
        self._unsent.append((command, name))
        self._unanswered.append((command, name, future))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self._closed:
            # One command a channel: in a Cluster the channels of one command must lie in one slot.
            packed = self._connection.pack_commands(unsent)
            task = self._loop.create_task(self._write(packed))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def _write(self, packed: list[bytes]) -> None:
        if not self._connection.is_connected:  # redis-py would connect again
            return
        try:
            await self._connection.send_packed_command(packed, check_health=False)
        except Exception as error:  # noqa: BLE001 - as in `_read`
            self._fail(type(error).__name__)

    async def _read(self) -> None:
        connection = self._connection
        try:
            while True:
                kind, channel, message = await connection.read_response(timeout=math.inf)
                self._heard_at = self._loop.time()
                if kind == b"smessage":
                    self._receive(channel, message)
                elif not self._answered(kind, channel):
                    self._fail("a slot moved to another server")
                    return
        except ResponseError as error:
            self._fail(f"refused: {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would ever hear of it
            self._fail(f"{type(error).__name__}: nothing more comes")
        finally:
            await self.disconnect()

    def _answered(self, kind: bytes, channel: bytes) -> bool:
        """Whether it is the answer to what was asked first; a server also unsubscribes from a slot that leaves it."""
        if not self._unanswered or self._unanswered[0][:2] != (kind, channel):
            return False
        future = self._unanswered.popleft()[2]
        if future is not None and not future.done():
            future.set_result(None)
        return True

    def _fail(self, reason: str) -> None:
        if not self._closed:
            self._failed(reason)
