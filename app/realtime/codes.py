"""The catalogue of errors, disconnects and unsubscribes of the client protocol. docs/protocol.md is generated from it.

SDKs act on the numbers: a temporary error is tried again, a disconnect from 3500 to 3999 or 4500 to 4999 is final,
after any other the SDK reconnects, after an unsubscribe from 2500 it subscribes again.
"""

from __future__ import annotations

from enum import Enum


class ErrorCode(Enum):
    """Answers to a command that failed: code, message, temporary."""

    INTERNAL = (100, "internal server error", True)
    UNAUTHORIZED = (101, "unauthorized", False)
    UNKNOWN_CHANNEL = (102, "unknown channel", False)
    PERMISSION_DENIED = (103, "permission denied", False)
    METHOD_NOT_FOUND = (104, "method not found", False)
    ALREADY_SUBSCRIBED = (105, "already subscribed", False)
    LIMIT_EXCEEDED = (106, "limit exceeded", False)
    BAD_REQUEST = (107, "bad request", False)
    NOT_AVAILABLE = (108, "not available", False)
    TOKEN_EXPIRED = (109, "token expired", False)
    EXPIRED = (110, "expired", False)
    TOO_MANY_REQUESTS = (111, "too many requests", True)
    UNRECOVERABLE_POSITION = (112, "unrecoverable position", False)
    CONCURRENT_PAGINATION = (113, "concurrent pagination", True)
    EMERGENCY = (1503, "emergency mode: try again later", True)

    def __init__(self, code: int, message: str, temporary: bool) -> None:
        """Name the parts."""
        self.code = code
        self.message = message
        self.temporary = temporary


class DisconnectCode(Enum):
    """Close codes and reasons of a WebSocket."""

    MESSAGE_TOO_BIG = (1009, "message too big")
    CONNECTION_CLOSED = (3000, "connection closed")
    SHUTDOWN = (3001, "shutdown")
    INTERNAL_SERVER_ERROR = (3004, "internal server error")
    EXPIRED = (3005, "connection expired")
    SUBSCRIPTION_EXPIRED = (3006, "subscription expired")
    SLOW = (3008, "slow")
    WRITE_ERROR = (3009, "write error")
    INSUFFICIENT_STATE = (3010, "insufficient state")
    FORCE_RECONNECT = (3011, "force reconnect")
    NO_PONG = (3012, "no pong")
    TOO_MANY_REQUESTS = (3013, "too many requests")
    STATE_INVALIDATED = (3014, "state invalidated")
    INVALID_TOKEN = (3500, "invalid token")
    BAD_REQUEST = (3501, "bad request")
    STALE = (3502, "stale")
    FORCE_DISCONNECT = (3503, "force disconnect")
    CONNECTION_LIMIT = (3504, "connection limit")
    CHANNEL_LIMIT = (3505, "channel limit")
    INAPPROPRIATE_PROTOCOL = (3506, "inappropriate protocol")
    PERMISSION_DENIED = (3507, "permission denied")
    NOT_AVAILABLE = (3508, "not available")
    TOO_MANY_ERRORS = (3509, "too many errors")

    def __init__(self, code: int, reason: str) -> None:
        """Name the parts."""
        self.code = code
        self.reason = reason

    @property
    def final(self) -> bool:
        """Whether an SDK stops for good."""
        return self.code >= 3500 or self is DisconnectCode.MESSAGE_TOO_BIG


class UnsubscribeCode(Enum):
    """Why the server ended a subscription."""

    FINAL = (2000, "unsubscribed by the server")
    INSUFFICIENT_STATE = (2500, "insufficient state")
    EXPIRED = (2501, "subscription expired")
    STATE_INVALIDATED = (2502, "state invalidated")

    def __init__(self, code: int, reason: str) -> None:
        """Name the parts."""
        self.code = code
        self.reason = reason


class CommandError(Exception):
    """A command failed; its reply says why and the connection goes on.

    Attributes:
        code, message, temporary: what the reply carries.
    """

    def __init__(self, error: ErrorCode, message: str | None = None) -> None:
        """Keep the error and, if given, a message that says more than the catalogue's."""
        self.code = error.code
        self.message = message or error.message
        self.temporary = error.temporary
        super().__init__(f"{self.code} {self.message}")


class Disconnect(Exception):
    """The connection must end. `reason` has at most 123 bytes: RFC 6455, 5.5, allows 125 with the code."""

    def __init__(self, disconnect: DisconnectCode, reason: str | None = None) -> None:
        """Keep the code and the reason, the catalogue's by default."""
        self.disconnect = disconnect
        self.reason = (reason or disconnect.reason).encode()[:123].decode(errors="ignore")
        super().__init__(f"{disconnect.code} {self.reason}")
