"""Remote procedure calls of one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from app.realtime.broker import BrokerFull, BrokerUnavailable, StreamLimitExceeded
from app.realtime.codes import CommandError, ErrorCode
from app.realtime.failures import command_error
from app.realtime.manager import UserManager
from app.realtime.protocol import Frame, RPCResult, error_reply, reply
from app.realtime.publisher import Refused

logger = logging.getLogger(__name__)

RPCHandler = Callable[[UserManager, Any], Awaitable[Any]]
"""Answers an RPC: called with the caller's manager and the decoded data; what it returns is encoded as the result."""


class RPCError(Exception):
    """What a handler raises to answer with an error of its own.

    Args:
        code: 400 to 1999, the application's range.
        message: for the caller.
        temporary: another try may succeed.

    Raises:
        ValueError: the code is outside the application's range.
    """

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        """Keep the error."""
        if not 400 <= code <= 1999:
            raise ValueError(f"RPC error codes go from 400 to 1999, got {code}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.temporary = temporary


class Calls:
    """The calls of one connection that run now. Each is a task, so that a slow one holds up no ping; they end with it.

    Args:
        handlers: by method; `send` names the one for messages that want no reply.
        limit: calls that run at once.
    """

    __slots__ = ("_handlers", "_limit", "_running")

    def __init__(self, handlers: Mapping[str, RPCHandler], limit: int) -> None:
        """Nothing runs yet."""
        self._handlers = handlers
        self._limit = limit
        self._running: dict[asyncio.Task[None], None] = {}  # smaller than a set while empty, as it nearly always is

    def start(
        self, method: str, data: Raw, manager: UserManager, answer: Callable[[Frame], None], command_id: int = 0
    ) -> None:
        """Run a handler.

        Args:
            answer: takes the reply; not called for command id 0, a message that wants none.

        Raises:
            CommandError: no handler has this name, or too many calls run.
        """
        handler = self._handlers.get(method)
        if handler is None:
            raise CommandError(ErrorCode.METHOD_NOT_FOUND if command_id else ErrorCode.NOT_AVAILABLE)
        if len(self._running) >= self._limit:
            raise CommandError(ErrorCode.TOO_MANY_REQUESTS, f"too many requests: {self._limit} calls run already")

        async def run() -> None:
            reply_frame = await _answer(handler, manager, data, command_id)
            if command_id:
                answer(reply_frame)

        task = asyncio.get_running_loop().create_task(run())
        self._running[task] = None
        task.add_done_callback(self._running.pop)

    def cancel(self) -> None:
        """End every call."""
        for task in self._running:
            task.cancel()


async def _answer(handler: RPCHandler, manager: UserManager, data: Raw, command_id: int) -> Frame:
    try:
        result = await handler(manager, msgspec.json.decode(data))
        return reply(command_id, "rpc", RPCResult(Raw(msgspec.json.encode(result))))
    except (RPCError, CommandError) as error:
        return error_reply(command_id, error.code, error.message, error.temporary)
    except (Refused, BrokerUnavailable, BrokerFull, StreamLimitExceeded) as refusal:
        # Of what the handler publishes: the caller hears what their own publish would be told.
        told = command_error(refusal)
        return error_reply(command_id, told.code, told.message, told.temporary)
    except Exception as error:  # noqa: BLE001 - an application's handler may raise anything
        # The text of an unknown exception may carry payload; its type does not.
        logger.error("an RPC handler raised %s", type(error).__name__)
        internal = ErrorCode.INTERNAL
        return error_reply(command_id, internal.code, internal.message, internal.temporary)
