"""What endpoints ask for: FastAPI `Annotated` types, alike in HTTP and WebSocket endpoints, `async def` and `def`.

    from app.dependencies import CurrentManager

    @router.post("/orders")
    async def order(manager: CurrentManager) -> None:
        await manager.emit("order_received", {"total": 12})

The container comes from the application that serves the request, never from a global. A manager is held by the
request's own reference: there is nothing to release, so neither an error nor a cancellation can forget it.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import Scope

from app.gateway import gateway_of
from app.isolation import Auditor
from app.problems import ProblemError
from app.realtime import publisher
from app.realtime.authentication import InvalidToken
from app.realtime.control import Control
from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from app.realtime.modes import SessionRequired
from config import Settings
from containers import GatewayContainer


def started_container(app: Starlette) -> GatewayContainer:
    """See `current_container`."""
    gateway = gateway_of(app)
    gateway.check_started()
    return gateway.container


async def current_container(connection: HTTPConnection) -> GatewayContainer:
    """The container of the gateway that serves this request, or is mounted in the application that does.

    Raises:
        app.gateway.NoGateway: there is none.
        ProblemError: 503, it has not started; a WebSocket is accepted and closed with 3004.
    """
    return started_container(connection.app)


Container = Annotated[GatewayContainer, Depends(current_container)]


async def current_auditor(connection: HTTPConnection) -> Auditor:
    """What audits the managers of the application that serves this request."""
    auditor: Auditor = connection.app.state.auditor
    return auditor


async def current_settings(container: Container) -> Settings:
    """The settings of the gateway."""
    return container.settings()


async def current_user(connection: HTTPConnection, container: Container) -> UserContext:
    """Who the bearer token (RFC 6750, `Authorization` header) says this is.

    Raises:
        ProblemError: 401; a WebSocket is accepted and closed with 3500.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ProblemError(401, "unauthorized", "Send a token: Authorization: Bearer <JWT>.", close_code=3500)
    try:
        return (await container.authenticator().authenticate(token.strip())).context
    except InvalidToken as error:
        raise ProblemError(401, "invalid-token", f"{error.why}.", close_code=3500) from None


async def current_manager(container: Container, user: Annotated[UserContext, Depends(current_user)]) -> UserManager:
    """The manager of the current user, of this request and of every connection of theirs.

    Raises:
        ProblemError: 401, the user is isolated and the token names no session.
    """
    try:
        return container.manager(user)
    except SessionRequired as error:
        raise ProblemError(401, "session-required", f"{error}.", close_code=3500) from None


async def current_publisher(container: Container) -> publisher.Publisher[UserManager]:
    """What publishes to any user, as back ends do over HTTP."""
    return container.publisher()


async def current_control(container: Container) -> Control:
    """What operators may do."""
    return container.control()


def is_api_key(settings: Settings, given: str | None) -> bool:
    """Whether this is one of the keys, compared in a time that tells nothing about them."""
    if not given:
        return False
    matches = [hmac.compare_digest(given.encode(), key.get_secret_value().encode()) for key in settings.api_keys]
    return any(matches)


bearer = HTTPBearer(scheme_name="Bearer", bearerFormat="JWT", auto_error=False)


def check_api_key(scope: Scope) -> GatewayContainer:
    """Let back ends and operators pass. Looks at headers alone: who has no key must not have a body read and parsed.

    Returns:
        The container of the application.

    Raises:
        ProblemError: 401, no key or none of ours; 503, the gateway has not started.
    """
    container = started_container(scope["app"])
    given = None
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            given = value.decode("latin-1")
            break
    if not is_api_key(container.settings(), given):
        raise ProblemError(401, "invalid-api-key", "Send one of the configured keys in X-API-Key.")
    return container


CurrentSettings = Annotated[Settings, Depends(current_settings)]
CurrentUser = Annotated[UserContext, Depends(current_user)]
CurrentManager = Annotated[UserManager, Depends(current_manager)]
Publisher = Annotated[publisher.Publisher[UserManager], Depends(current_publisher)]
CurrentAuditor = Annotated[Auditor, Depends(current_auditor)]
CurrentControl = Annotated[Control, Depends(current_control)]
