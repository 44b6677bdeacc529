"""What is refused before any route sees it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from app.gateway import Gateway
from app.problems import BodyTooLarge, Problem, ProblemError, close_for, problem_response


class StartGuard:
    """ASGI middleware: serves nobody unless the gateway has started, and with that proved that it keeps users apart.

    An application that mounts another one does not run its lifespan by itself, and servers can leave lifespans out.

    Args:
        app: what is guarded.
        gateway: the one of the application.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        """Look at nothing yet."""
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may be served."""
        if self._gateway.started or scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._gateway.check_started()
        except ProblemError as error:
            if scope["type"] == "websocket":
                await close_for(error, WebSocket(scope, receive, send))
            else:
                await problem_response(error.problem)(scope, receive, send)


class RequestGuard:
    """ASGI middleware: bounds the bodies of HTTP requests, and refuses paths that could be taken for another one.

    Servers decode a path before applications see it, and what is not UTF-8 becomes U+FFFD, whatever it was; and the
    regular expression of a route overlooks a line break at the end. Neither may name somebody else.

    Args:
        app: what is guarded.
        body_bytes: bytes of a body that are allowed.
    """

    def __init__(self, app: ASGIApp, body_bytes: int) -> None:
        """Take the limit."""
        self._app = app
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is acceptable."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not is_exact(scope):
            detail = "The path has a line break, or is not UTF-8 when percent-decoded."
            problem = Problem("urn:bulkhead:problem:invalid-path", "Invalid path", 422, detail)
            await problem_response(problem)(scope, receive, send)
            return
        read, limit = 0, self._body_bytes

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, bounded, send)


def is_exact(scope: Scope) -> bool:
    """Whether the path of a request is the one that was sent, and could not be taken for another."""
    path: str = scope["path"]
    if "\ufffd" in path:
        # Written as such in UTF-8 it is a character like any other.
        try:
            unquote_to_bytes(scope.get("raw_path") or b"\xff").decode()
        except UnicodeDecodeError:
            return False
    return "\n" not in path
