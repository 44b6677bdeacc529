"""The routes of the chat: the page, a sign-in for development, and messages to the agent."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path
from typing import Final

from fastapi import APIRouter, BackgroundTasks, status
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.staticfiles import StaticFiles

from app.demo.agent import respond
from app.dependencies import CurrentManager, CurrentSettings
from app.problems import ProblemError
from app.realtime.broker import BrokerError
from app.realtime.identity import check_id
from app.realtime.manager import UserManager
from app.realtime.publisher import Refused
from app.tokens import TokenError, issue_token

TOKEN_SECONDS: Final = 3600

_logger: Final = logging.getLogger(__name__)
_STATIC: Final = Path(__file__).parent / "static"

# Everything the page needs comes from its own origin; 'self' covers ws: and wss: of that origin too (CSP Level 3).
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class SignIn(BaseModel):
    """Who somebody says they are. Nothing is checked: this is why the demo is for development."""

    name: str = Field(description="User id.", examples=["alice"])
    session: str | None = Field(None, description="Session to go on with when a token ran out; none: a new one.")


class SignedIn(BaseModel):
    """A token for the gateway and the demo, valid for an hour."""

    token: str
    user: str
    session: str


class Message(BaseModel):
    """What a person wrote to the agent."""

    text: str = Field(min_length=1, max_length=2000, examples=["What is 12 * (3 + 4)?"])


class Accepted(BaseModel):
    """The message is published and the agent at work; its events carry this thread id."""

    thread_id: str


router = APIRouter(tags=["demo"])


def static_files() -> StaticFiles:
    """The files of the page, to be mounted at `/demo/static`."""
    return StaticFiles(directory=_STATIC)


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The chat."""
    headers = {
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return FileResponse(_STATIC / "index.html", headers=headers)


@router.post("/demo/token")
async def sign_in(body: SignIn, settings: CurrentSettings) -> SignedIn:
    """A token for whoever asks, for any name that the rules of ids allow."""
    user = check_id("name", body.name)
    session = check_id("session", body.session or uuid.uuid4().hex)
    try:
        token = issue_token(settings.auth, user, seconds=TOKEN_SECONDS, session_id=session)
    except TokenError as error:
        raise ProblemError(503, "sign-in-unavailable", f"The demo cannot sign you in: {error}.") from error
    return SignedIn(token=token, user=user, session=session)


@router.post("/demo/messages", status_code=status.HTTP_202_ACCEPTED)
async def send(body: Message, manager: CurrentManager, background: BackgroundTasks) -> Accepted:
    """Publish a message to the user's own connections and let the agent answer it."""
    thread_id = uuid.uuid4().hex
    await manager.emit("user_message", {"text": body.text}, thread_id=thread_id)
    # The task holds the manager, so that it lives until the answer is complete, whoever disconnects.
    background.add_task(_answer, manager, body.text, thread_id)
    return Accepted(thread_id=thread_id)


async def _answer(manager: UserManager, text: str, thread_id: str) -> None:
    try:
        await respond(manager.emit, text, thread_id)
    except (Refused, BrokerError) as error:
        # Nothing can be published, so nobody can be told; the page shows the mode that is the cause.
        _logger.info("answer ended early", extra={"why": str(error)})
