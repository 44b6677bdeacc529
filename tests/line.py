"""A TCP line to a server on this machine that can be disturbed.

async with line_to(gateway.port) as line:
    ...                # connect to line.port instead
    line.drop()        # what is open is reset; new connections are carried
    line.cut()         # what is open is reset; new connections are refused
    line.hang()        # nothing passes, and nobody is told
    line.hang(b"PING") # so, but only on connections over which this was sent near the begin
    await line.heal()  # all is well; what waited while it hung goes on its way
    line.lead_to(port) # what is open is reset; new connections go to another server
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from tests.ports import free_port

BEGIN = 4096
"""Bytes of what is sent over a connection by which it is known."""


class Line:
    """Carries bytes from `port` to a server and back."""

    def __init__(self, server_port: int) -> None:
        """Refuses connections until it is healed for the first time."""
        self.port = free_port()
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._mark: bytes | None = None
        self._carried: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where browsers go, through this line."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Where SDKs connect, through this line."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def drop(self) -> None:
        """Reset every connection."""
        for task in self._carried:
            task.cancel()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop()

    def hang(self, mark: bytes = b"") -> None:
        """Let nothing pass, ends of connections neither; new connections are accepted, and get no answer.

        Args:
            mark: hang those alone over which this was or is sent, within their first bytes. It passes itself.
        """
        self._mark = mark
        self._flowing.clear()

    async def heal(self) -> None:
        """Carry everything again. What was sent while the line hung arrives late, as after a short loss of packets."""
        self._mark = None
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def lead_to(self, server_port: int) -> None:
        """Reset every connection, and carry new ones to another server."""
        self._server_port = server_port
        self.drop()

    async def close(self) -> None:
        """End everything."""
        self.cut()
        await asyncio.gather(*self._carried, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)
        task.add_done_callback(lambda _: _reset(writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin = bytearray()
        await self._passage(begin)
        with contextlib.suppress(ConnectionError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            try:
                await asyncio.gather(self._copy(reader, far_writer, begin), self._copy(far_reader, writer, begin))
            finally:
                _reset(far_writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begin: bytearray) -> None:
        to_server = writer.get_extra_info("peername")[1] == self._server_port
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._passage(begin)
                if to_server and len(begin) < BEGIN:
                    begin += data[:BEGIN]
                writer.write(data)
                await writer.drain()
            await self._passage(begin)
        writer.close()

    async def _passage(self, begin: bytearray) -> None:
        """Wait while the line hangs, if a connection that began so hangs with it."""
        while self._mark is not None and self._mark in begin:
            await self._flowing.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        return  # what it still has to send may go
    no_linger = struct.pack("ii", 1, 0)  # closing then sends RST, and not FIN as after a proper end
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def line_to(server_port: int) -> AsyncIterator[Line]:
    """A line that is whole, until the block ends."""
    line = Line(server_port)
    await line.heal()
    try:
        yield line
    finally:
        await line.close()
