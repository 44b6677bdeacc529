"""The WebSocket transport of the client protocol, on ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.origins import OriginCheck
from app.realtime.clock import Timer
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.connection import ClientConnection, ConnectionState
from app.realtime.control import Control
from containers import GatewayContainer

# How long a client may take to answer a close frame before its connection is dropped.
CLOSE_SECONDS = 10.0
PROTOBUF = "centrifuge-protobuf"
SUBPROTOCOLS = ("centrifuge-json", PROTOBUF)

CallLater = Callable[[float, Callable[[], object]], Timer]


class WebSocketEndpoint:
    """ASGI application at `/connection/websocket`: one connection for each call.

    A refusal that must be final is accepted first and then closed: SDKs take a refused upgrade for a network fault and
    try for ever.

    Args:
        container: gives connections.
    """

    def __init__(self, container: GatewayContainer) -> None:
        """Resolve what is the same for every connection."""
        settings = container.settings()
        self._connection = container.connection
        self._control = container.control()
        self._clock = container.clock()
        self._origins = OriginCheck(settings.origins, settings.same_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until its end. A cancellation ends it as well; nothing of it stays."""
        await receive()  # websocket.connect
        # Clients drop a connection that selects none of the subprotocols they offered before they read a close code.
        subprotocol = next((name for name in SUBPROTOCOLS if name in scope.get("subprotocols", ())), None)
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        if (refusal := self._refusal(scope, subprotocol)) is not None:
            await send({"type": "websocket.close", "code": refusal.disconnect.code, "reason": refusal.reason})
            return
        await _Exchange(self._connection(), self._control, receive, send).run(self._clock.call_later)

    def _refusal(self, scope: Scope, subprotocol: str | None) -> Disconnect | None:
        headers = Headers(scope=scope)
        if not self._origins.allows(headers):
            return Disconnect(DisconnectCode.PERMISSION_DENIED, "permission denied: origin not allowed")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if subprotocol == PROTOBUF or "protobuf" in query.get("cf_protocol", ()):
            return Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL, "inappropriate protocol: only JSON is spoken here")
        return Disconnect(DisconnectCode.SHUTDOWN) if self._control.draining else None


class _Exchange:
    """Reads and writes of one connection: this task reads, another one writes."""

    def __init__(self, connection: ClientConnection, control: Control, receive: Receive, send: Send) -> None:
        self._connection = connection
        self._control = control
        self._receive = receive
        self._send = send

    async def run(self, call_later: CallLater) -> None:
        connection, loop = self._connection, asyncio.get_running_loop()
        reader = asyncio.current_task()
        assert reader is not None
        timers: list[Timer] = []
        given_up = False

        def give_up() -> None:
            # The client did not answer the close frame, or reads so slowly that it never got there.
            nonlocal given_up
            given_up = True
            reader.cancel()

        writer = loop.create_task(self._write())
        connection.open(lambda: timers.append(call_later(CLOSE_SECONDS, give_up)))
        try:
            await self._read()
        except asyncio.CancelledError:
            if not given_up:
                raise
            reader.uncancel()
        finally:
            connection.close(DisconnectCode.CONNECTION_CLOSED.code)
            writer.cancel()
            for timer in timers:
                timer.cancel()

    async def _read(self) -> None:
        while (message := await self._receive())["type"] == "websocket.receive":
            text = message.get("text")
            if self._control.draining and self._connection.state is ConnectionState.OPENED:
                self._connection.disconnect(Disconnect(DisconnectCode.SHUTDOWN))
            elif text is None:
                self._connection.disconnect(
                    Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL, "inappropriate protocol: send text, not binary")
                )
            else:
                await self._connection.receive(text)

    async def _write(self) -> None:
        try:
            await self._connection.outbound.write(self._send_text)
            if (closing := self._connection.closing) is not None:
                code = closing.disconnect.code
                await self._send({"type": "websocket.close", "code": code, "reason": closing.reason})
        except Exception:  # noqa: BLE001 - whatever a server raises when the client is gone
            self._connection.close(DisconnectCode.WRITE_ERROR.code)

    def _send_text(self, text: str) -> Awaitable[None]:
        return self._send({"type": "websocket.send", "text": text})
