"""A TCP line between an SDK and a gateway that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

from tests.gateway import RunningGateway


class Line:
    """Carries bytes to a gateway and back; `cut` resets what is open, and new connections are carried again."""

    def __init__(self, gateway: RunningGateway) -> None:
        """Nobody is connected yet."""
        self._gateway = gateway
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def websocket_url(self) -> str:
        """Where SDKs connect, through this line."""
        return f"ws://127.0.0.1:{self.port}/connection/websocket"

    def cut(self) -> None:
        """Reset every connection."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until it ends."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def line_to(gateway: RunningGateway) -> AsyncIterator[Line]:
    """A line, until the block ends."""
    line = Line(gateway)
    listener = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.port = listener.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        listener.close()
        await listener.wait_closed()
