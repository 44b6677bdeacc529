"""A line disturbs what it carries as it was told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.line import Line, line_to

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo_line() -> AsyncIterator[tuple[Line, Callable[[], Awaitable[Peer]]]]:
    """A line to a server that sends lines of text back, and what connects through it."""
    writers: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while text := await reader.readline():
                writer.write(text)
        except ConnectionError:
            pass

    async def connect() -> Peer:
        peer = await asyncio.open_connection("127.0.0.1", line.port)
        writers.append(peer[1])
        return peer

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(10), line_to(listener.sockets[0].getsockname()[1]) as line:
            yield line, connect
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()


async def ask(peer: Peer, text: str) -> str:
    peer[1].write(f"{text}\n".encode())
    return (await peer[0].readline()).decode().strip()


async def is_silent(answer: Awaitable[object]) -> bool:
    try:
        await asyncio.wait_for(answer, 0.2)
    except TimeoutError:
        return True
    return False


async def test_a_dropped_connection_ends_and_the_next_one_is_carried() -> None:
    async with echo_line() as (line, connect):
        peer = await connect()
        assert await ask(peer, "one") == "one"
        line.drop()
        with pytest.raises(ConnectionResetError):
            await peer[0].read()
        assert await ask(await connect(), "two") == "two"


async def test_a_cut_line_refuses_until_it_is_healed() -> None:
    async with echo_line() as (line, connect):
        peer = await connect()
        assert await ask(peer, "one") == "one"
        line.cut()
        with pytest.raises(ConnectionResetError):
            await peer[0].read()
        with pytest.raises(ConnectionRefusedError):
            await connect()
        await line.heal()
        assert await ask(await connect(), "two") == "two"


async def test_a_hanging_line_tells_nobody_and_passes_on_what_waited() -> None:
    async with echo_line() as (line, connect):
        old = await connect()
        assert await ask(old, "one") == "one"
        line.hang()
        assert await is_silent(ask(old, "two"))
        new = await connect()
        assert await is_silent(ask(new, "three"))
        await line.heal()
        assert await old[0].readline() == b"two\n"
        assert await new[0].readline() == b"three\n"


async def test_a_hanging_line_keeps_the_end_of_a_connection_to_itself() -> None:
    async with echo_line() as (line, connect):
        peer = await connect()
        assert await ask(peer, "one") == "one"
        line.hang()
        peer[1].write_eof()
        assert await is_silent(peer[0].read())
        await line.heal()
        assert await peer[0].read() == b""


async def test_a_line_can_hang_for_those_alone_that_sent_something() -> None:
    async with echo_line() as (line, connect):
        victim, other = await connect(), await connect()
        assert [await ask(victim, "subscribe"), await ask(other, "publish")] == ["subscribe", "publish"]
        line.hang(b"subscribe")
        assert await is_silent(ask(victim, "one"))
        assert await ask(other, "two") == "two"
        late = await connect()
        assert await ask(late, "three") == "three"
        assert await is_silent(ask(late, "subscribe"))
        await line.heal()
        assert await victim[0].readline() == b"one\n"
        assert await late[0].readline() == b"subscribe\n"
