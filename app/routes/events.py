"""Publishing over HTTP: the path that every event of a back end takes, so it is kept short.

FastAPI describes these routes, and can carry them out; `Shortcut` calls the application of the route class instead, and
does without FastAPI's way to it. On both ways msgspec decodes the body once, and keeps `data` as the bytes it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, Meta, Raw, UnsetType
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.dependencies import check_api_key
from app.problems import BodyTooLarge, Problem, ProblemError, as_problem_error, unknown_problem
from app.realtime.manager import UserManager
from app.realtime.publisher import Publisher
from app.realtime.surrogates import HALF_A_PAIR, without_halves
from app.routes.keyed import KeyedRoute
from app.routes.schemas import json_answer, json_body, problem_answers
from containers import GatewayContainer

Type = Annotated[str, Meta(description="Event type, 1 to 255 bytes.", examples=["agent_started"])]
Data = Annotated[Raw, Meta(description="Any JSON; clients get it as it is.")]
ThreadId = Annotated[str | None, Meta(description="Conversation it belongs to.")]
Channel = Annotated[str | None, Meta(description="A channel of the user; default: the personal one.")]
SessionId = Annotated[str | None, Meta(description="Session of an isolated user.")]
IdempotencyKey = Annotated[str | None, Meta(description="Publishes once for each key.")]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event for one user."""

    type: Type
    data: Data
    thread_id: ThreadId = None
    channel: Channel = None
    session_id: SessionId = None
    idempotency_key: IdempotencyKey = None


class UserEvent(Event, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event of a batch."""

    user_id: Annotated[str, Meta(description="The user it is for.", examples=["alice"])]


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an event: where it is, or the error of this event alone."""

    epoch: Annotated[str | UnsetType, Meta(description="Epoch of the stream; empty while queued.")] = UNSET
    offset: Annotated[int | UnsetType, Meta(description="Place in the stream; 0 while queued.")] = UNSET
    connections: Annotated[int | UnsetType, Meta(description="Connections that it was handed to.")] = UNSET
    duplicate: Annotated[bool, Meta(description="Its idempotency key was used before.")] = False
    queued: Annotated[bool, Meta(description="Delivered live, and waiting for the broker (degraded mode).")] = False
    error: Annotated[Problem | UnsetType, Meta(description="Why this event was not published.")] = UNSET


NOT_UTF8 = "The body is not UTF-8."
Handler = Callable[[GatewayContainer, Scope, bytes], Coroutine[Any, Any, Receipt | list[Receipt]]]

_event = msgspec.json.Decoder(Event)
_user_event = msgspec.json.Decoder(UserEvent)
_batch = msgspec.json.Decoder(list[Raw])
_encoder = msgspec.json.Encoder()


class PublishRoute(KeyedRoute):
    """Checks the API key, reads the body, calls the endpoint and encodes what it returns: no dependencies are solved,
    and nothing else is done that an event can do without."""

    def __init__(self, path: str, endpoint: Handler, **described: Any) -> None:
        """Describe the endpoint as any other, by its name and docstring, and run it as it is."""

        async def answer(scope: Scope, receive: Receive) -> bytes:
            container = check_api_key(scope)  # by itself: the short way leads here as well
            body = await _body(receive, container.settings().limits.body_bytes)
            return _encoder.encode(await endpoint(container, scope, body))

        async def described_endpoint(request: Request) -> Response:
            return Response(await answer(request.scope, request.receive), media_type="application/json")

        described_endpoint.__name__, described_endpoint.__doc__ = endpoint.__name__, endpoint.__doc__
        super().__init__(path, described_endpoint, **described)

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            content = await answer(scope, receive)
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})

        self.app = run


router = APIRouter(prefix="/v1", tags=["events"], route_class=PublishRoute)


@router.post(
    "/users/{user_id:path}/events",
    summary="Publish an event to a user",
    response_model=None,
    openapi_extra={
        "parameters": [
            {
                "name": "user_id",
                "in": "path",
                "description": "The user it is for.",
                "required": True,
                "schema": {"type": "string"},
                "example": "alice",
            }
        ],
        "requestBody": json_body(Event, {"type": "agent_started", "data": {"agent": "planner"}, "thread_id": "t-7"}),
    },
    responses={
        200: json_answer(Receipt, {"epoch": "8c2f1a9d", "offset": 17, "connections": 2}, "It is in the stream."),
        **problem_answers(401, 409, 413, 422, 503),
    },
)
async def publish(container: GatewayContainer, scope: Scope, body: bytes) -> Receipt:
    """Append an event to the user's stream and deliver it to their connections, in order and once."""
    return await _publish(container.publisher(), scope["path_params"]["user_id"], _decode(_event, body))


@router.post(
    "/events",
    summary="Publish a batch of events",
    response_model=None,
    openapi_extra={
        "requestBody": json_body(list[UserEvent], [{"user_id": "alice", "type": "token", "data": {"text": "Hel"}}])
    },
    responses={
        200: json_answer(
            list[Receipt], [{"epoch": "8c2f1a9d", "offset": 18, "connections": 2}], "What became of each, in order."
        ),
        **problem_answers(401, 413, 422),
    },
)
async def publish_batch(container: GatewayContainer, scope: Scope, body: bytes) -> list[Receipt]:
    """Publish events to any users, in order. Each has its own result; one that fails harms no other."""
    items = _items(body)
    limit = container.settings().limits.batch_events
    if len(items) > limit:
        raise ProblemError(413, "batch-too-large", f"{len(items)} events; at most {limit} go (limits.batch_events).")
    publisher = container.publisher()
    return [await _publish_item(publisher, item) for item in items]


async def _body(receive: Receive, limit: int) -> bytes:
    left = limit
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        left -= len(chunk)
        if left < 0:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunk if len(chunks) == 1 else b"".join(chunks)


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes | Raw) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        # The decoder names the field and the types, or says that nesting is too deep; it does not repeat values.
        why = str(error) if without_halves(bytes(body)) is None else HALF_A_PAIR
        raise ProblemError(422, "invalid-request", f"{why}.") from None
    except UnicodeDecodeError:
        raise ProblemError(422, "invalid-request", NOT_UTF8) from None


def _items(body: bytes) -> list[Raw] | list[bytes]:
    """The events of a batch. One with half a surrogate pair must be told from the others to harm none of them."""
    try:
        return cast("list[Raw]", _decode(_batch, body))
    except ProblemError:
        if (mended := without_halves(body)) is None:
            raise
    # As long as the body, and between two items there is nothing that an item begins with.
    items, end = [], 0
    for item in _decode(_batch, mended):
        start = mended.index(item, end)
        end = start + len(item)
        items.append(body[start:end])
    return items


async def _publish_item(publisher: Publisher[UserManager], item: Raw | bytes) -> Receipt:
    try:
        event: UserEvent = _decode(_user_event, item)
        return await _publish(publisher, event.user_id, event)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this event's alone
        # An unforeseen one as well: what came before is published, and its receipts must not be lost.
        known = as_problem_error(error)
        return Receipt(error=unknown_problem(error) if known is None else known.problem)


async def _publish(publisher: Publisher[UserManager], user_id: str, event: Event) -> Receipt:
    published = await publisher.publish_to_user(
        user_id,
        event.type,
        event.data,
        session_id=event.session_id,
        thread_id=event.thread_id,
        channel=event.channel,
        idempotency_key=event.idempotency_key,
    )
    return Receipt(published.epoch, published.offset, published.connections, published.duplicate, published.queued)
