"""What a connection may cost before anybody has shown a key or a token."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat

import pytest
from fastapi import FastAPI, Request

from app import create_app
from app.testing import serve
from tests.gateway import API_KEY, SECONDS, build_container, serving

LIMIT = 65536
READY = b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n"


class Wire:
    """A TCP connection of which every byte is seen."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, chunks: Iterable[bytes], most: int, pause: float = 0) -> int:
        """Send until the peer ends the connection, or `most` bytes are out: how many were."""
        sent = 0
        try:
            for chunk in chunks:
                await self.send(chunk)
                sent += len(chunk)
                if sent >= most:
                    break
                await asyncio.sleep(pause)
        except ConnectionError:
            pass
        return sent

    async def status(self) -> int:
        """Status of the next response, whose body is read."""
        async with asyncio.timeout(SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await self.reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split()[1])

    async def ended(self) -> bool:
        """Whether the connection ends, with nothing more to read."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def head(size: int, path: bytes = b"/ready") -> bytes:
    """The head of a request, of so many bytes as the limit counts them, but for its method and version."""
    names = b"GET " + path + b" HTTP/1.1\r\nhost: x\r\nx-long: "
    return names + b"a" * (size - len(names) + len(b"GET  HTTP/1.1\r\n") - len(b"\r\n")) + b"\r\n\r\n"


async def test_a_head_of_64_kib_is_served_and_a_longer_one_is_answered_with_431() -> None:
    async with serving() as gateway:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 431)):
            for parts in (1, 5):
                async with wire(gateway.port) as line:
                    sent = head(size)
                    for start in range(0, len(sent), step := -(-len(sent) // parts)):
                        await line.send(sent[start : start + step])
                        await asyncio.sleep(0.01)
                    assert await line.status() == status
                    assert status == 200 or await line.ended()


ENDLESS = (
    pytest.param(b"GET /ready HTTP/1.1\r\n", b"x-a: aaaaaaaaaaaaaaaaaa\r\n" * 1000, id="headers"),
    pytest.param(b"GET /ready HTTP/1.1\r\nx-a: ", b"a" * 20_000, id="a value"),
    pytest.param(b"GET /ready HTTP/1.1\r\n", b"a" * 20_000, id="a name"),
    pytest.param(b"GET /", b"a" * 20_000, id="a path"),
    pytest.param(b"", b"\r\n" * 10_000, id="nothing"),
    pytest.param(
        b"POST /ready HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        b"x-a: aaaaaaaaaaaaaaaaaa\r\n" * 1000,
        id="a trailer",
    ),
)


@pytest.mark.parametrize(("begin", "rest"), ENDLESS)
async def test_what_never_becomes_a_request_ends_the_connection(begin: bytes, rest: bytes) -> None:
    async with serving() as gateway, wire(gateway.port) as line:
        await line.send(begin)
        assert await line.flood(repeat(rest), 20_000_000) < 10_000_000


async def test_a_trailer_is_no_header() -> None:
    async with serving() as gateway, wire(gateway.port) as line:
        await line.send(b"POST /v1/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n")
        await line.send(b"0\r\nx-api-key: " + API_KEY.encode() + b"\r\n\r\n")
        assert await line.status() == 401


async def test_a_body_is_no_head_however_long() -> None:
    async with serving() as gateway, wire(gateway.port) as line:
        body = b"[" + b" " * 3_000_000 + b"]"
        request = b"POST /v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\ncontent-length: %d\r\n\r\n"
        for _ in range(2):
            await line.send(request % (API_KEY.encode(), len(body)) + body)
            assert await line.status() == 200


async def test_a_request_that_does_not_come_is_given_up() -> None:
    async with serving(build_container(limits={"request_seconds": 0.3})) as gateway:
        begun = time.monotonic()
        for sent, status in (
            (b"", 0),
            (b"GET /ready HTTP/1.1\r\nhost:", 408),
            (b"POST /v1/events HTTP/1.1\r\ncontent-length: 9\r\nx-api-key: %b\r\n\r\n[" % API_KEY.encode(), 408),
            (READY, 200),
        ):
            async with wire(gateway.port) as line:
                await line.send(sent)
                assert not status or await line.status() == status
                if status == 200:  # an idle connection may last longer; bytes that are no request do not renew that
                    await asyncio.sleep(0.4)
                    await line.send(READY)
                    assert await line.status() == 200
                    await line.send(b"\r\n")
                assert await line.ended()
        assert time.monotonic() - begun > 1.2


async def test_a_request_that_comes_in_drops_is_given_up_too() -> None:
    async with serving(build_container(limits={"request_seconds": 0.3})) as gateway, wire(gateway.port) as line:
        begun = time.monotonic()
        await line.send(b"GET /ready HTTP/1.1\r\n")
        assert await line.flood(repeat(b"x"), 200, pause=0.02) < 200
        assert time.monotonic() - begun < 2


async def slow_echo(request: Request) -> int:
    size = 0
    async for part in request.stream():
        size += len(part)
        await asyncio.sleep(0.1)
    return size


@asynccontextmanager
async def slow_application() -> AsyncIterator[int]:
    app: FastAPI = create_app(build_container(limits={"request_seconds": 0.3}))
    app.add_api_route("/slow", slow_echo, methods=["POST"])
    async with serve(app) as url:
        yield int(url.rpartition(":")[2])


async def test_an_upload_may_take_as_long_as_the_application_does() -> None:
    async with slow_application() as port, wire(port) as line:
        begun = time.monotonic()
        await line.send(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" + b"a" * 3_000_000)
        assert await line.status() == 200
        assert time.monotonic() - begun > 0.6


async def test_requests_that_wait_for_another_are_answered_in_order_and_few() -> None:
    async with slow_application() as port:
        first = b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na"
        missing = b"GET /missing HTTP/1.1\r\nhost: x\r\n\r\n"
        async with wire(port) as line:
            await line.send(first + READY + missing + READY * 6)
            assert [await line.status() for _ in range(9)] == [200, 200, 404, *[200] * 6]
        async with wire(port) as line:
            await line.send(first + READY * 9)
            assert await line.ended()


async def test_pipelined_requests_leave_nothing_behind() -> None:
    async with serving() as gateway:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                async with wire(gateway.port) as line:
                    await line.flood(repeat(READY * 5000), 2_000_000)
            await asyncio.sleep(0.1)
            assert gc.collect() < 5_000
        finally:
            gc.enable()


async def test_few_file_descriptors_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as gateway:
        async with wire(gateway.port) as line:
            await line.send(READY)
            assert await line.status() == 200
            assert "file descriptors run out (ulimit -n)" not in caplog.messages
            with socket.socket() as unused:
                last = unused.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (last + 3, allowed[1]))
            try:
                for _ in range(2):
                    async with wire(gateway.port) as other:
                        await other.send(READY)
                        assert await other.status() == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert caplog.messages.count("file descriptors run out (ulimit -n)") == 1
