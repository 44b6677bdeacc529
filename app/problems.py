"""Errors of the HTTP API: problem details (RFC 9457), rendered in one place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.realtime.authentication import KeysUnavailable
from app.realtime.broker import BrokerError, BrokerFull, StreamLimitExceeded
from app.realtime.codes import DisconnectCode
from app.realtime.envelope import EventTooLarge, InvalidData
from app.realtime.identity import IdentityError
from app.realtime.modes import ModeLimitExceeded, SessionRequired
from app.realtime.publisher import Refused
from app.realtime.violation import IsolationViolation

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error (RFC 9457, 3.1).

    Attributes:
        type: a URN that programs can compare; `about:blank` when the status says it all.
        title: the kind of problem, the same each time.
        status: HTTP status.
        detail: this problem, and what to do about it.
        errors: for each field at fault, where it is and what is wrong. Never its value.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    errors: tuple[dict[str, str], ...] = ()


class BodyTooLarge(HTTPException):
    """The body of a request is larger than allowed. FastAPI lets an `HTTPException` pass while it reads a body."""

    def __init__(self, limit: int) -> None:
        """Keep the limit in bytes."""
        super().__init__(413, f"The body has more than {limit} bytes (limits.body_bytes).")
        self.limit = limit


class ProblemError(Exception):
    """An error that is a problem already.

    Args:
        status: HTTP status.
        kind: last part of the URN, in kebab case.
        detail: what is wrong and what to do.
        close_code: how a WebSocket is closed for it; default: 3501 for good, or 3004 from status 500 on.
        headers: headers of the response.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        close_code: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what happened."""
        super().__init__(detail)
        self.problem = Problem(f"urn:bulkhead:problem:{kind}", kind.replace("-", " ").capitalize(), status, detail)
        by_status = DisconnectCode.BAD_REQUEST if status < 500 else DisconnectCode.INTERNAL_SERVER_ERROR
        self.close_code = close_code or by_status.code
        self.headers = dict(headers or {})
        if status == HTTPStatus.UNAUTHORIZED:
            self.headers.setdefault("WWW-Authenticate", "Bearer" if kind != "invalid-api-key" else "ApiKey")


GATEWAY_ERRORS: tuple[type[Exception], ...] = (
    ProblemError,
    ClientDisconnect,
    BodyTooLarge,
    EventTooLarge,
    InvalidData,
    IdentityError,
    SessionRequired,
    Refused,
    ModeLimitExceeded,
    KeysUnavailable,
    BrokerError,
    IsolationViolation,
)
"""What `as_problem_error` knows; subclasses are meant as well."""


def as_problem_error(error: Exception) -> ProblemError | None:
    """The problem that an error of the gateway is; None for an error that is none of these."""
    match error:
        case ProblemError():
            return error
        case ClientDisconnect():  # within its body; nobody is left to read this
            return ProblemError(400, "client-disconnected", "The body is not complete.")
        case BodyTooLarge():
            return ProblemError(413, "body-too-large", error.detail)
        case EventTooLarge():
            return ProblemError(413, "event-too-large", f"{error}.")
        case InvalidData():
            return ProblemError(422, "invalid-data", f"{error}.")
        case IdentityError():
            return ProblemError(422, "invalid-id", f"{error}.")
        case SessionRequired():
            return ProblemError(422, "session-required", f"{error}.")
        case Refused():
            return ProblemError(503, "refused", f"{error}.", headers={"Retry-After": str(error.retry_after)})
        case StreamLimitExceeded():
            return ProblemError(409, "stream-limit-exceeded", f"{error.reason}.")
        case ModeLimitExceeded():
            return ProblemError(409, "mode-limit-exceeded", f"{error}.")
        case KeysUnavailable():
            detail = "The keys that verify tokens cannot be had now."
            return ProblemError(503, "keys-unavailable", detail, headers={"Retry-After": "1"})
        case BrokerFull():
            return ProblemError(503, "broker-full", f"{error.reason}.", headers={"Retry-After": "1"})
        case BrokerError():
            return ProblemError(
                503, "broker-unavailable", "The broker cannot be reached.", headers={"Retry-After": "1"}
            )
        case IsolationViolation():
            return ProblemError(503, "isolation-violation", f"{error}.".capitalize())
        case _:
            return None


def unknown_problem(error: Exception) -> Problem:
    """The problem of an error that nobody foresaw; it is logged."""
    # The text of an unknown exception may carry payload; its type does not.
    logger.error("a request failed: %s", type(error).__name__)
    return Problem("about:blank", "Internal Server Error", 500)


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response."""
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


async def close_for(error: ProblemError, websocket: WebSocket) -> None:
    """Close a WebSocket for a problem."""
    reason = error.problem.detail.encode()[:123].decode(errors="ignore")
    with suppress(WebSocketDisconnect):  # there is nobody left to tell
        if websocket.application_state is WebSocketState.CONNECTING:
            # Accepted first: SDKs take a refused upgrade for a network fault and try for ever.
            await websocket.accept()
        await websocket.close(error.close_code, reason)


def install_gateway_problems(app: Starlette) -> None:
    """Make errors of the gateway problems, and close WebSockets for them with a code that SDKs understand."""

    async def known(connection: HTTPConnection, error: Exception) -> Response | None:
        problem_error = as_problem_error(error)
        assert problem_error is not None
        if isinstance(connection, WebSocket):
            await close_for(problem_error, connection)
            return None
        return problem_response(problem_error.problem, problem_error.headers)

    for kind in GATEWAY_ERRORS:
        app.add_exception_handler(kind, cast(Any, known))


def install_problems(app: FastAPI) -> None:
    """Make every error of an application a problem."""
    install_gateway_problems(app)

    async def http(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        detail = "" if error.detail == phrase else str(error.detail)
        return problem_response(Problem("about:blank", phrase, error.status_code, detail), error.headers)

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = tuple({"at": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors())
        title, detail = "Invalid request", "Some fields are not acceptable; see errors."
        return problem_response(Problem("urn:bulkhead:problem:invalid-request", title, 422, detail, errors))

    async def unknown(request: Request, error: Exception) -> Response:
        return problem_response(unknown_problem(error))

    handlers: dict[Any, Any] = {HTTPException: http, RequestValidationError: invalid, Exception: unknown}
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
