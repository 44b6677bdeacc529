"""The way out of a connection: a bounded queue, and the one writer that empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from app.realtime.protocol import Frame

# Frames that wait together leave as one WebSocket message, up to this many bytes: fewer system calls under load, and a
# message is still small enough to be passed on at once by whoever stands in between.
MESSAGE_BYTES = 32 * 1024


class OutboundQueue:
    """Frames on their way to one client, bounded in bytes, including those being written.

    Used in the event loop of its connection alone. `put` never waits; `write` is the only one that does.

    Args:
        limit: bytes that may wait.
    """

    __slots__ = ("_closing", "_frames", "_limit", "_size", "_waiter")

    def __init__(self, limit: int) -> None:
        """Start empty and open."""
        self._limit = limit
        self._frames: deque[Frame] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closing = False

    @property
    def size(self) -> int:
        """Bytes that wait or are being written."""
        return self._size

    def put(self, frame: Frame) -> bool:
        """Append a frame; False, and nothing is appended, when the client is too slow. After `close`: ignored."""
        if self._closing:
            return True
        size = self._size + frame.size
        if size > self._limit:
            return False
        self._size = size
        self._frames.append(frame)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    def close(self, *, drop: bool) -> None:
        """Take no more part: the writer ends after what waits, or at once with `drop`."""
        self._closing = True
        if drop:
            self._frames.clear()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def write(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Write until closed.

        Args:
            send: writes one WebSocket text message; waits while the client's transport is full.
        """
        frames, loop = self._frames, asyncio.get_running_loop()
        while True:
            if not frames:
                if self._closing:
                    return
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
                continue
            frame = frames.popleft()
            if not frames:
                await send(frame.text)
                self._size -= frame.size
            else:
                text, size = self._gather(frame)
                await send(text)
                self._size -= size

    def _gather(self, frame: Frame) -> tuple[str, int]:
        texts, size, frames = [frame.text], frame.size, self._frames
        while frames and size + frames[0].size <= MESSAGE_BYTES:
            frame = frames.popleft()
            texts.append(frame.text)
            size += frame.size
        return "\n".join(texts), size
