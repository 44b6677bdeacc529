"""The way out of a connection: in order, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.realtime.outbound import MESSAGE_BYTES, OutboundQueue, Turn
from app.realtime.protocol import Frame, frame


class Transport:
    """What a queue writes to.

    Attributes:
        written: messages, the close frame as `None`.
        failures: how often the queue said that writing failed.
    """

    def __init__(self) -> None:
        """Neither full nor broken."""
        self.written: list[str | None] = []
        self.failures = 0
        self.broken: Exception | None = None
        self.on_write: Callable[[], object] = lambda: None
        self._room = asyncio.Event()
        self._room.set()

    def fill(self) -> None:
        """Let writes wait."""
        self._room.clear()

    def drain(self) -> None:
        """Let them go on."""
        self._room.set()

    async def send(self, text: str | None) -> None:
        """Write one message."""
        await self._room.wait()
        if self.broken is not None:
            raise self.broken
        self.written.append(text)
        self.on_write()

    async def end(self) -> None:
        """Write the close frame."""
        await self.send(None)

    def failed(self) -> None:
        """Writing failed."""
        self.failures += 1


@asynccontextmanager
async def opened(limit: int = 1000) -> AsyncIterator[tuple[OutboundQueue, Transport]]:
    """An open queue and its transport."""
    queue, transport = OutboundQueue(limit, Turn()), Transport()
    queue.open(transport.send, transport.failed)
    yield queue, transport
    queue.abort()


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def bytes_of(size: int, letter: str = "x") -> Frame:
    return frame(letter * size)


async def test_frames_of_one_turn_leave_together_and_in_order() -> None:
    async with opened() as (queue, transport):
        for text in ("a", "b", "c"):
            assert queue.put(frame(text))
        assert (queue.size, transport.written) == (3, [])
        await turns()
        queue.put(frame("d"))
        await turns()
        assert (queue.size, transport.written) == (0, ["a\nb\nc", "d"])


async def test_frames_that_wait_for_a_transport_leave_when_there_is_one() -> None:
    queue, transport = OutboundQueue(100, Turn()), Transport()
    queue.put(frame("early"))
    await turns()
    queue.open(transport.send, transport.failed)
    await turns()
    assert transport.written == ["early"]
    queue.abort()


async def test_writing_costs_no_task_while_the_transport_has_room() -> None:
    async with opened() as (queue, transport):
        tasks = len(asyncio.all_tasks())
        for _ in range(10):
            queue.put(frame("a"))
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == tasks
        assert len(transport.written) == 10
        transport.fill()
        queue.put(frame("b"))
        await turns()
        assert len(asyncio.all_tasks()) == tasks + 1
        transport.drain()
        await turns()
        assert len(asyncio.all_tasks()) == tasks


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f512"])
async def test_a_queue_takes_bytes_up_to_its_limit_and_not_one_more(letter: str) -> None:
    width = len(letter.encode())
    async with opened(limit=10 * width) as (queue, transport):
        assert queue.put(bytes_of(6, letter))
        assert not queue.put(bytes_of(5, letter))
        assert queue.put(bytes_of(4, letter))
        assert not queue.put(frame("x"))
        assert queue.size == 10 * width
        await turns()
        assert transport.written == [letter * 6 + "\n" + letter * 4]
        assert queue.put(bytes_of(10, letter))


async def test_what_is_being_written_counts() -> None:
    async with opened(limit=10) as (queue, transport):
        transport.fill()
        queue.put(bytes_of(10))
        await turns()
        assert queue.size == 10
        assert not queue.put(frame("y"))
        transport.drain()
        await turns()
        assert queue.size == 0
        assert queue.put(frame("y"))
        await turns()
        assert transport.written == ["x" * 10, "y"]


async def test_a_message_gathers_frames_up_to_a_bound() -> None:
    async with opened(limit=10 * MESSAGE_BYTES) as (queue, transport):
        third = MESSAGE_BYTES // 3
        for _ in range(7):
            queue.put(bytes_of(third))
        queue.put(bytes_of(2 * MESSAGE_BYTES, "y"))
        queue.put(frame("z"))
        await turns()
        lines = [message.split("\n") for message in transport.written if message]
        assert [len(message) for message in lines] == [3, 3, 1, 1, 1]
        assert lines[3] == ["y" * 2 * MESSAGE_BYTES]
        assert sum(map(len, lines), 0) == 9
        assert queue.size == 0


async def test_frames_put_while_others_are_written_come_after_them() -> None:
    async with opened() as (queue, transport):
        transport.on_write = lambda: len(transport.written) < 4 and queue.put(frame(str(len(transport.written))))
        queue.put(frame("0"))
        await turns()
        assert transport.written == ["0", "1", "2", "3"]
        transport.fill()
        queue.put(frame("a"))
        await turns()
        queue.put(frame("b"))
        queue.put(frame("c"))
        transport.drain()
        await turns()
        assert transport.written[4:] == ["a", "b\nc"]


@pytest.mark.parametrize("full", [False, True], ids=["room", "full"])
async def test_a_queue_that_is_closed_writes_what_waits_and_then_the_end_once(full: bool) -> None:
    async with opened() as (queue, transport):
        if full:
            transport.fill()
        queue.put(frame("a"))
        await turns(3 if full else 0)
        queue.put(frame("b"))
        queue.close(transport.end, drop=False)
        assert queue.put(frame("ignored"))
        transport.drain()
        await turns()
        assert transport.written == (["a", "b", None] if full else ["a\nb", None])
        assert queue.put(bytes_of(10_000))
        await turns()
        assert transport.written[-1] is None


async def test_a_queue_that_is_closed_with_drop_writes_the_end_at_once() -> None:
    async with opened(limit=10) as (queue, transport):
        transport.fill()
        queue.put(frame("a"))
        await turns()
        queue.put(frame("b"))
        queue.close(transport.end, drop=True)
        assert queue.size == 1
        transport.drain()
        await turns()
        assert (transport.written, queue.size) == (["a", None], 0)


async def test_an_idle_queue_that_is_closed_writes_the_end() -> None:
    async with opened() as (queue, transport):
        queue.close(transport.end, drop=False)
        await turns()
        assert transport.written == [None]


@pytest.mark.parametrize("full", [False, True], ids=["at once", "after a wait"])
async def test_a_write_that_fails_is_told_once_and_ends_it(full: bool) -> None:
    async with opened() as (queue, transport):
        if full:
            transport.fill()
        transport.broken = OSError("gone")
        queue.put(frame("a"))
        await turns()
        queue.put(frame("b"))
        transport.drain()
        await turns()
        assert (transport.failures, transport.written) == (1, [])
        transport.broken = None
        assert queue.put(bytes_of(10_000))
        queue.close(transport.end, drop=False)
        await turns()
        assert (transport.failures, transport.written) == (1, [])


@pytest.mark.parametrize("full", [False, True], ids=["due", "blocked"])
async def test_an_aborted_queue_writes_nothing_any_more(full: bool) -> None:
    tasks = len(asyncio.all_tasks())
    async with opened() as (queue, transport):
        if full:
            transport.fill()
        queue.put(frame("a"))
        await turns(3 if full else 0)
        queue.put(frame("b"))
    transport.drain()
    await turns()
    assert (transport.written, transport.failures, len(asyncio.all_tasks())) == ([], 0, tasks)
    assert queue.put(bytes_of(10_000))


async def test_a_queue_aborted_before_its_write_could_wait_writes_nothing() -> None:
    async with opened() as (queue, transport):
        transport.fill()
        queue.put(frame("a"))
        await asyncio.sleep(0)
    transport.drain()
    await turns()
    assert transport.written == []


async def test_a_transport_that_fails_when_it_is_cancelled_is_nobodys_failure() -> None:
    async def send(_: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("gone") from None

    failures: list[None] = []
    queue = OutboundQueue(100, Turn())
    queue.open(send, lambda: failures.append(None))
    queue.put(frame("a"))
    await turns()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    queue.abort()
    (result,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert result is None
    assert failures == []


async def test_a_transport_that_waits_without_a_future_is_waited_for() -> None:
    written = []

    async def send(text: str) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        written.append(text)

    queue = OutboundQueue(100, Turn())
    queue.open(send, lambda: None)
    queue.put(frame("a"))
    await asyncio.sleep(0.02)
    queue.put(frame("b"))
    await asyncio.sleep(0.02)
    assert written == ["a", "b"]
    queue.abort()


async def test_what_befalls_one_queue_of_a_turn_keeps_no_other_waiting() -> None:
    turn, transports = Turn(), [Transport(), Transport(), Transport()]
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fails() -> None:
        raise LookupError("whoever owns the queue")

    queues = [OutboundQueue(100, turn) for _ in transports]
    for queue, transport in zip(queues, transports, strict=True):
        queue.open(transport.send, fails)
    await turns()
    transports[0].broken = OSError("gone")
    transports[1].on_write = lambda: queues[2].put(frame("more"))
    for queue in queues:
        queue.put(frame("a"))
    await turns()
    queues[1].put(frame("b"))
    await turns()
    assert [transport.written for transport in transports] == [[], ["a", "b"], ["a\nmore", "more"]]
    assert [type(context["exception"]) for context in reported] == [LookupError]
    for queue in queues:
        queue.abort()
