"""The way out of a connection: a bounded queue that writes itself out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from enum import Enum, auto
from typing import Any

from app.realtime.protocol import Frame

# Frames that wait together leave as one WebSocket message, up to this many bytes: fewer system calls under load, and a
# message is still small enough to be passed on at once by whoever stands in between.
MESSAGE_BYTES = 32 * 1024

Write = Coroutine[Any, Any, None]


class QueueState(Enum):
    """Where a queue is.

    Unopened: no transport yet. Idle: nothing waits. Due: written in this turn of the loop. Blocked: the transport is
    full. Ended: nothing is written any more.
    """

    UNOPENED = auto()
    IDLE = auto()
    DUE = auto()
    BLOCKED = auto()
    ENDED = auto()


# Names are found several times as fast as members of an enum class, and these are looked for with every event.
UNOPENED, IDLE, DUE, BLOCKED, ENDED = QueueState


class Turn:
    """The queues that are due in this turn of the event loop: one call at its end writes them all."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        """Nothing is due."""
        self._due: list[OutboundQueue] = []

    def add(self, queue: OutboundQueue, loop: asyncio.AbstractEventLoop) -> None:
        """Let a queue be written at the end of the turn. Every queue of a turn is of the same loop."""
        if not self._due:
            loop.call_soon(self._end, loop)
        self._due.append(queue)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        due, self._due = self._due, []
        for queue in due:
            try:
                queue.flush()
            except Exception as error:  # noqa: BLE001 - whatever befell one client must not keep others waiting
                loop.call_exception_handler({"message": "a queue could not be written", "exception": error})


class OutboundQueue:
    """Frames on their way to one client, bounded in bytes, including those being written.

    All frames that are put in one turn of the event loop are written together at its end, by a plain call and not by a
    task: an event costs neither a task nor a switch to one. Only while the transport is full does a task wait for it.

    Used in the event loop of its connection alone. Nothing here waits.

    Args:
        limit: bytes that may wait.
        turn: where it says that something waits.
    """

    __slots__ = (
        "_closed",
        "_end",
        "_failed",
        "_frames",
        "_limit",
        "_loop",
        "_send",
        "_size",
        "_state",
        "_task",
        "_turn",
        "_writing",
    )

    def __init__(self, limit: int, turn: Turn) -> None:
        """Start empty, for frames to wait until there is a transport."""
        self._limit = limit
        self._turn = turn
        # A list: nearly always empty or of one, for which a deque would take ten times the memory.
        self._frames: list[Frame] = []
        self._size = 0
        self._writing = 0
        self._state = UNOPENED
        self._closed = False
        self._end: Callable[[], Write] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Bytes that wait or are being written."""
        return self._size

    def open(self, send: Callable[[str], Write], failed: Callable[[], None]) -> None:
        """Begin to write.

        Args:
            send: writes one message; its coroutine ends at once unless the transport is full.
            failed: called once, when writing failed and no more is tried.
        """
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._failed = failed
        self._state = IDLE
        self._make_due()

    def put(self, frame: Frame) -> bool:
        """Append a frame; False, and nothing is appended, when the client is too slow. After `close`: ignored."""
        if self._closed:
            return True
        size = self._size + frame.size
        if size > self._limit:
            return False
        self._size = size
        self._frames.append(frame)
        if self._state is IDLE:
            self._make_due()
        return True

    def close(self, end: Callable[[], Write], *, drop: bool) -> None:
        """Take no more, and end after what waits, or at once with `drop`.

        Args:
            end: writes the close frame.
        """
        self._closed = True
        self._end = end
        if drop:
            self._size = self._writing
            self._frames.clear()
        self._make_due()

    def abort(self) -> None:
        """Write nothing any more: the transport is gone. Called once, at the end."""
        if self._task is not None:
            self._task.cancel()
        if self._state is not UNOPENED:
            del self._send, self._failed  # the transport, and whoever owns this: no cycle may keep them
        self._stop()

    def _make_due(self) -> None:
        if self._state is IDLE:
            self._state = DUE
            self._turn.add(self, self._loop)

    def flush(self) -> None:
        """Write what waits, unless the transport is full."""
        while self._state is DUE:
            if not self._frames and self._end is None:
                self._state = ENDED if self._closed else IDLE
                return
            write = self._next()
            try:
                waits_for = write.send(None)
            except StopIteration:
                self._size -= self._writing
                self._writing = 0
            except Exception:  # noqa: BLE001 - whatever a server raises when the client is gone
                self._fail()
            else:
                self._state = BLOCKED
                self._task = self._loop.create_task(self._finish(_Begun(write, waits_for)))

    def _next(self) -> Write:
        frames = self._frames
        if not frames:
            end, self._end = self._end, None
            assert end is not None
            return end()
        if len(frames) == 1:
            frame = frames.pop()
            self._writing = frame.size
            return self._send(frame.text)
        texts: list[str] = []
        size = 0
        for frame in frames:
            if texts and size + frame.size > MESSAGE_BYTES:
                break
            texts.append(frame.text)
            size += frame.size
        del frames[: len(texts)]
        self._writing = size
        return self._send("\n".join(texts))

    async def _finish(self, begun: _Begun) -> None:
        try:
            await begun
        except Exception:  # noqa: BLE001 - as above
            self._fail()
            return
        self._size -= self._writing
        self._writing = 0
        self._task = None
        self._state = DUE
        self.flush()

    def _fail(self) -> None:
        if self._state is not ENDED:  # or it was aborted, and there is nobody to tell
            self._stop()
            self._failed()

    def _stop(self) -> None:
        self._closed = True
        self._end = None
        self._state = ENDED
        self._frames.clear()


class _Begun:
    """Goes on, in a task, with a coroutine that was begun outside of one.

    Args:
        coroutine: what was begun.
        waits_for: the future that it stopped at.
    """

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Write, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:  # noqa: BLE001 - a cancellation, most of all, belongs to the coroutine
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(value)
        except StopIteration:
            return
