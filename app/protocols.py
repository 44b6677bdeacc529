"""HTTP, and WebSocket after it, on one connection: what that may cost before anybody has shown a key or a token."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame

from app.descriptors import DescriptorWatch
from app.problems import MEDIA_TYPE, Problem
from config.sections import LimitSettings

HEAD_BYTES = 65536
PIPELINED = 8
FRAMES = 1024


class Config(uvicorn.Config):
    """uvicorn's, and what the protocols need.

    Args:
        app: the application.
        limits: what a connection may use.
        options: of uvicorn.
    """

    def __init__(self, app: Any, limits: LimitSettings, **options: Any) -> None:
        """Load nothing yet."""
        # Of what uvicorn offers, the fastest: see the benchmarks.
        super().__init__(app, http=HttpProtocol, ws=WebSocketProtocol, **options)
        self.limits = limits
        self.descriptors = DescriptorWatch()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, bounded: it takes what a client sends for as long as it sends, in bytes and in time.

    - A head, or a trailer, of more than `HEAD_BYTES` is answered with 431. It may take that, and what comes at once.
    - `limits.request_seconds` after the connection, or the begin of a request, its head is there, or else: 408. So is
      its body, or as much of it as a head may have; it begins anew then, and while the application does not read.
    - At most `PIPELINED` requests wait for the one that runs; with one more the connection ends.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: state of the lifespan.
    """

    cycle: Any  # uvicorn's, None while there was no request

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Wait for a connection."""
        super().__init__(config, server_state, app_state, _loop)
        self._descriptors = config.descriptors
        self._seconds = config.limits.request_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._fruitless = 0  # bytes since the parser last found the end of a head, a part of a body or the end of it
        self._body = 0  # bytes since the deadline began
        self._status = HTTPStatus.BAD_REQUEST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._descriptors.look(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nothing behind for the garbage collector: requests that wait refer to this protocol, and it to them."""
        super().connection_lost(exc)
        self._relax()
        self._unset_keepalive_if_required()
        self.pipeline.clear()
        self.cycle = None

    def data_received(self, data: bytes) -> None:
        """Parse it, and look at what has come of it."""
        self._fruitless += len(data)
        super().data_received(data)
        if self._fruitless > HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        # What is a whole request, as most are, needs no deadline. uvicorn has forgotten its own, for idle connections.
        elif (self._in_head or self._in_body or self._idle()) and self._deadline is None:
            self._expect()

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= PIPELINED:
            self._stop_parsing(HTTPStatus.TOO_MANY_REQUESTS)
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if self._fruitless > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            self._stop_parsing(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._fruitless = self._body = 0
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # else the connection may be handed over, at the end of the request
            self._in_head, self._in_body = False, True
            self.headers = []  # for a trailer, which is not to be taken for a part of the head (RFC 9110, 6.5.1)

    def on_body(self, body: bytes) -> None:
        """A part of its body is there."""
        self._fruitless = 0
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._in_head = self._in_body = False
        self._fruitless = 0
        if self._deadline is not None:
            self._relax()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._relax()
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        if isinstance(websocket, WebSocketProtocol) and not websocket.handshake_initiated:
            # What it answered is where uvicorn does not look.
            self.transport.write(b"".join(websocket.conn.data_to_send()))
            self.transport.close()
        # The two refer to each other, and nobody will tell this one of the end of the connection.
        self.parser = None  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, or a callback of it."""
        self._refuse(self._status)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)

    def _expect(self) -> None:
        if self in self.connections:  # neither closed nor a WebSocket by now
            self._deadline = self.loop.call_later(self._seconds, self._expire)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._in_body and not self._idle() and (self.flow.read_paused or self._body >= HEAD_BYTES):
            self._body = 0
            self._expect()
        elif self._in_head or self._in_body:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:  # An answer to nothing would be taken for that to the next request.
            self.transport.close()

    def _stop_parsing(self, status: HTTPStatus) -> NoReturn:
        self._status = status
        raise ConnectionAbortedError  # for uvicorn, which calls `send_400_response`

    def _refuse(self, status: HTTPStatus) -> None:
        if self.transport.is_closing():
            return
        # Answers have the order of the requests: it goes out if this request is next, and not answered yet.
        if not (self.cycle.response_started or self.pipeline) if self._in_body else self._idle():
            content = msgspec.json.encode(Problem("about:blank", status.phrase, status))
            headers = (
                *self.server_state.default_headers,
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", b"%d" % len(content)),
                (b"connection", b"close"),
            )
            lines = (b"HTTP/1.1 %d %b" % (status, status.phrase.encode()), *map(b": ".join, headers), b"", content)
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, bounded: what passes the application by is limited here.

    - A connection that does not read the answers to its pings ends when more than `limits.queue_bytes` of them wait.
    - A message of more than `FRAMES` frames is closed with 1009, as one of too many bytes is.
    - One that is not UTF-8 is closed with 1007, and nothing is logged, as that is the client's fault.

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: state of the lifespan.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Wait for a connection."""
        super().__init__(config, server_state, app_state, _loop)
        self._queue_bytes = config.limits.queue_bytes

    def handle_ping(self) -> None:
        """Answer a ping."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > self._queue_bytes:
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        """Take another frame of a message."""
        if len(self.frames) < FRAMES:
            super().handle_cont(event)
        elif not self.close_sent:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many frames")

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message over."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not all(map(bytes.isascii, self.frames)):
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "not UTF-8")
                return
        super().send_receive_event_to_app()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()
