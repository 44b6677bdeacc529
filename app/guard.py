"""What is refused before any route sees it."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BodyTooLarge, Problem, problem_response


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
