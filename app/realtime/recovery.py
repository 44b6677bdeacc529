"""What a client that subscribes is answered: whether it got all that it missed, and where it is now."""

from __future__ import annotations

from msgspec import Raw

from app.realtime.broker import History, Position
from app.realtime.protocol import SubscribeRequest, SubscribeResult


def recovered(request: SubscribeRequest, history: History) -> bool:
    """Whether `history`, read since the request's position, is all that the client missed (protocol, Recovery)."""
    if request.epoch and request.epoch != history.position.epoch:
        return False
    if not history.publications:
        return history.position.offset == request.offset
    first, last = history.publications[0].offset, history.publications[-1].offset
    whole = last - first + 1 == len(history.publications)
    return whole and first == request.offset + 1 and last == history.position.offset


def subscribe_result(
    request: SubscribeRequest, history: History | None, position: Position | None, ttl: int
) -> SubscribeResult:
    """The answer to a subscribe.

    Args:
        history: what the client missed, when it could be recovered.
        position: the stream's top; None: the broker cannot be asked.
        ttl: seconds until the subscription expires; 0: never.
    """
    if position is None:
        return SubscribeResult(expires=ttl > 0, ttl=ttl, was_recovering=request.recover)
    return SubscribeResult(
        expires=ttl > 0,
        ttl=ttl,
        recoverable=True,
        positioned=True,
        epoch=position.epoch,
        offset=position.offset if history is None else request.offset,
        recovered=history is not None,
        was_recovering=request.recover,
        publications=() if history is None else tuple(Raw(p.text.encode()) for p in history.publications),
    )
