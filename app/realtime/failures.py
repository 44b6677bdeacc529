"""What a client is told of a command that failed."""

from __future__ import annotations

import logging

from app.realtime.authentication import ExpiredToken, InvalidToken, KeysUnavailable
from app.realtime.broker import BrokerFull, BrokerUnavailable, StreamLimitExceeded, UnrecoverablePosition
from app.realtime.codes import CommandError, ErrorCode
from app.realtime.publisher import Refused, RefusedInEmergency

logger = logging.getLogger(__name__)


def command_error(error: Exception) -> CommandError:
    """The error of the catalogue that an exception is; one that is not expected is logged, by its type alone."""
    match error:
        case CommandError():
            return error
        case ExpiredToken():
            return CommandError(ErrorCode.TOKEN_EXPIRED)
        case InvalidToken():
            return CommandError(ErrorCode.PERMISSION_DENIED, f"permission denied: {error.why}")
        case RefusedInEmergency():
            return CommandError(ErrorCode.EMERGENCY)
        case Refused():
            return CommandError(ErrorCode.TOO_MANY_REQUESTS, str(error))
        case StreamLimitExceeded():
            return CommandError(ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: {error.reason}")
        case BrokerUnavailable() | BrokerFull() | KeysUnavailable():
            return CommandError(ErrorCode.INTERNAL)  # temporary: the client tries again
        case UnrecoverablePosition():
            return CommandError(ErrorCode.UNRECOVERABLE_POSITION)
        case _:
            # The text of an unknown exception may carry payload; its type does not.
            logger.error("a command failed: %s", type(error).__name__)
            return CommandError(ErrorCode.INTERNAL)
