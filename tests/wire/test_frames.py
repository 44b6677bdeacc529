"""Frames that no message comes of, on a socket that sends what no client does."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from tests.gateway import SECONDS, build_container, serving, token

TEXT, CONTINUATION, PING = 1, 0, 9
CONNECT = json.dumps({"id": 1, "connect": {"token": token("alice")}}).encode()
HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
)


def frame(opcode: int, data: bytes, *, last: bool = True) -> bytes:
    """A frame of a client, with a mask that changes nothing (RFC 6455, 5.2)."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    return bytes([last << 7 | opcode]) + length + bytes(4) + data


class Raw:
    """The socket of a client that has said hello."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def flood(self, chunks: Iterable[bytes], most: int) -> int:
        """Send, and read nothing, until the gateway ends the connection or `most` bytes are out: how many were."""
        sent = 0
        try:
            for chunk in chunks:
                self.writer.write(chunk)
                await self.writer.drain()
                sent += len(chunk)
                if sent >= most:
                    break
        except ConnectionError:
            pass
        return sent

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and content of the next frame."""
        async with asyncio.timeout(SECONDS):
            first, length = await self.reader.readexactly(2)
            size = length if length < 126 else struct.unpack("!H", await self.reader.readexactly(2))[0]
            return first & 15, await self.reader.readexactly(size)

    async def closed(self) -> int:
        """Code of the close frame, which must be next."""
        opcode, content = await self.frame()
        assert opcode == 8
        return int.from_bytes(content[:2])


@asynccontextmanager
async def raw(port: int, headers: bytes = b"") -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    try:
        writer.write(HANDSHAKE + headers + b"\r\n")
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"\r\n\r\n")
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_client_that_pings_and_reads_no_pongs_is_cut_off() -> None:
    async with serving(build_container(limits={"queue_bytes": 100_000})) as gateway, raw(gateway.port) as client:
        pings = frame(PING, b"a" * 125) * 500
        async with asyncio.timeout(20):
            assert await client.flood(repeat(pings), 100_000_000) < 50_000_000


async def test_pings_that_are_read_are_answered() -> None:
    async with serving(build_container(limits={"queue_bytes": 100_000})) as gateway, raw(gateway.port) as client:
        for _ in range(100):
            client.writer.write(frame(PING, b"a" * 125) * 100)
            for _ in range(100):
                assert await client.frame() == (10, b"a" * 125)


async def test_a_message_of_more_than_1024_frames_is_closed_with_1009() -> None:
    async with serving() as gateway:
        for count, answered in ((1024, True), (1025, False)):
            async with raw(gateway.port) as client:
                parts = [CONNECT, *[b" "] * (count - 2)]
                opcodes = (TEXT, *[CONTINUATION] * (count - 2))
                frames = [frame(opcode, part, last=False) for opcode, part in zip(opcodes, parts, strict=True)]
                client.writer.write(b"".join(frames) + frame(CONTINUATION, b""))
                if answered:
                    assert b"connect" in (await client.frame())[1]
                else:
                    assert await client.closed() == 1009


async def test_frames_without_content_are_not_kept() -> None:
    async with serving() as gateway, raw(gateway.port) as client:
        client.writer.write(frame(TEXT, b"{", last=False))
        empty = frame(CONTINUATION, b"", last=False) * 1000
        assert await client.flood(repeat(empty), 50_000_000) < 20_000_000


@pytest.mark.parametrize("parts", [(b"\xff",), (b'{"a":"\xc3', b"(")])
async def test_a_message_that_is_not_utf_8_is_closed_with_1007_and_is_no_error_here(
    parts: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as gateway, raw(gateway.port) as client:
        for number, part in enumerate(parts):
            client.writer.write(frame(CONTINUATION if number else TEXT, part, last=part is parts[-1]))
        assert await client.closed() == 1007
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_character_may_be_in_two_frames() -> None:
    async with serving() as gateway, raw(gateway.port) as client:
        connect = {"id": 1, "connect": {"name": "ä", "token": token("alice")}}
        first, second = json.dumps(connect, ensure_ascii=False).encode().split(b"\xa4")
        client.writer.write(frame(TEXT, first, last=False) + frame(CONTINUATION, b"\xa4" + second))
        assert json.loads((await client.frame())[1])["id"] == 1


async def test_a_header_that_the_handshake_does_not_take_is_answered_and_the_connection_ends() -> None:
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(HANDSHAKE + b"x-long: " + b"a" * 10_000 + b"\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()
