"""The WebSocket transport of the client protocol, on ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from app.origins import OriginCheck
from app.realtime.clock import Timer
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.connection import ClientConnection, ConnectionState
from app.realtime.control import Control
from app.realtime.outbound import Write
from app.realtime.violation import IsolationViolation
from containers import GatewayContainer
from containers.violations import violation
from providers import NotFreshError

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
        self._metrics = container.metrics()
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
        try:
            await _Exchange(self._new_connection(), self._control, receive, send).run(self._clock.call_later)
        except IsolationViolation:  # it began with nothing: what it was to get is another client's
            code = DisconnectCode.INTERNAL_SERVER_ERROR
            await send({"type": "websocket.close", "code": code.code, "reason": code.reason})

    def _new_connection(self) -> ClientConnection:
        try:
            return self._connection()
        except NotFreshError as error:
            raise violation(error, "", self._metrics) from None

    def _refusal(self, scope: Scope, subprotocol: str | None) -> Disconnect | None:
        headers = Headers(scope=scope)
        if not self._origins.allows(headers):
            return Disconnect(DisconnectCode.PERMISSION_DENIED, "permission denied: origin not allowed")
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if subprotocol == PROTOBUF or "protobuf" in query.get("cf_protocol", ()):
            return Disconnect(DisconnectCode.INAPPROPRIATE_PROTOCOL, "inappropriate protocol: only JSON is spoken here")
        return Disconnect(DisconnectCode.SHUTDOWN) if self._control.draining else None


class _Exchange:
    """One connection: this task reads, and what is to be written writes itself."""

    # Methods and slots, not closures: there is one of these for every connection that waits.
    __slots__ = ("_call_later", "_connection", "_control", "_given_up", "_reader", "_receive", "_send", "_timer")

    def __init__(self, connection: ClientConnection, control: Control, receive: Receive, send: Send) -> None:
        self._connection = connection
        self._control = control
        self._receive = receive
        # ASGI says awaitable; every server's `send` is a coroutine function.
        self._send = cast("Callable[[Message], Write]", send)
        self._timer: Timer | None = None
        self._given_up = False

    async def run(self, call_later: CallLater) -> None:
        reader, connection = asyncio.current_task(), self._connection
        assert reader is not None
        self._reader, self._call_later = reader, call_later
        connection.open(self._write, self._end)
        try:
            await self._read()
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            reader.uncancel()
        finally:
            connection.close(DisconnectCode.CONNECTION_CLOSED.code)
            connection.outbound.abort()
            if self._timer is not None:
                self._timer.cancel()

    def _write(self, text: str) -> Write:
        return self._send({"type": "websocket.send", "text": text})

    def _end(self, reason: Disconnect) -> Callable[[], Write]:
        self._timer = self._call_later(CLOSE_SECONDS, self._give_up)
        return partial(self._send, {"type": "websocket.close", "code": reason.disconnect.code, "reason": reason.reason})

    def _give_up(self) -> None:
        # The client did not answer the close frame, or reads so slowly that it never got there.
        self._given_up = True
        self._reader.cancel()

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
