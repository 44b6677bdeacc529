"""The way in: every publish, of back ends and of clients, passes here, under the mode of its user."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from app.realtime.backlog import Backlog, BacklogFull
from app.realtime.broker import Broker, BrokerError, BrokerUnavailable, Published, StreamLimitExceeded, Subscriber
from app.realtime.channels import channel_of
from app.realtime.clock import Clock
from app.realtime.envelope import Envelopes
from app.realtime.flush import Flusher
from app.realtime.identity import UserContext, check_id, encode_key, user_of
from app.realtime.metrics import Metrics
from app.realtime.modes import DEGRADED, EMERGENCY, ManagerMode, ModeKind, ModePolicy
from app.realtime.subscription import Subscription

PUSH_BYTES = 80
"""Bytes of a push around channel, data and info."""


WAIT_SECONDS = 0.02

logger = logging.getLogger(__name__)


class Refused(Exception):
    """The user's mode does not take the publish now. Nothing was kept or delivered.

    Attributes:
        why: reason, and what to do.
        retry_after: seconds after which another try makes sense.
    """

    def __init__(self, why: str, retry_after: int) -> None:
        """Keep the reason."""
        super().__init__(why)
        self.why = why
        self.retry_after = retry_after


class RefusedInEmergency(Refused):
    """The user is in emergency mode and the event's type is not critical."""


class LocalManager(Subscriber, Protocol):
    """The manager of a user key in this process, as the publisher sees it."""

    @property
    def key(self) -> str:
        """Its user key."""

    @property
    def context(self) -> UserContext:
        """Its identity."""

    @property
    def personal_channel(self) -> str:
        """The user's personal channel."""

    @property
    def mode(self) -> ManagerMode:
        """Its mode."""

    def subscriptions(self) -> list[Subscription]:
        """The subscriptions of all its connections."""


M = TypeVar("M", bound=LocalManager)


class Publisher(Generic[M]):
    """Publishes to streams, and knows what to do when a mode says otherwise.

    Args:
        broker: where streams are.
        policy: modes of users without a manager.
        backlog: where publishes wait in degraded mode.
        envelopes: wraps the events of back ends.
        metrics: counts.
        critical_types: event types that pass in emergency mode.
        retry_after: seconds told to who is refused.
        clock: its steady time.
        patience: seconds for which a publish that was let wait, and that the broker then refuses, is tried again.
        yield_bytes: after pushes of so many bytes a publisher gives the event loop one turn.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        policy: ModePolicy,
        backlog: Backlog,
        envelopes: Envelopes,
        metrics: Metrics,
        critical_types: tuple[str, ...],
        retry_after: int,
        clock: Clock,
        patience: float,
        yield_bytes: int,
    ) -> None:
        """Take the parts."""
        self._broker = broker
        self._policy = policy
        self._backlog = backlog
        self._local: dict[str, M] = {}
        # Only of isolated users: a unified one has one manager, whose key says it all.
        self._sessions: dict[str, dict[str, M]] = {}
        self._critical_types = frozenset(critical_types)
        self._retry_after = retry_after
        self._yield_bytes = yield_bytes
        self._unyielded = 0
        self._metrics = metrics
        self._refused = metrics.refused
        self._flusher = Flusher(
            broker=broker,
            backlog=backlog,
            local=self._local,
            metrics=metrics,
            clock=clock,
            patience=patience,
            breathe=self._breathe,
        )
        self.seal = envelopes.seal

    async def publish_to_user(
        self,
        user_id: str,
        type_: str,
        data: Any,
        *,
        session_id: str | None = None,
        thread_id: str | None = None,
        channel: str | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish an event to a user, connected or not: `POST /v1/users/{user_id}/events` in process.

        Raises:
            SessionRequired: the user is isolated and no session is named.
            Refused: see `publish`.
            IdentityError, InvalidData, EventTooLarge, TypeError: an argument is not acceptable.
            BrokerError: the broker cannot be reached.
        """
        key = self._policy.address(user_id, session_id)
        local = self._local.get(key)
        if local is None:
            personal, mode = f"#{user_id}", self._policy.decide(user_id).kind
        else:
            personal, mode = local.personal_channel, local.mode.kind
        channel = personal if channel is None else channel_of(channel, personal)
        if idempotency_key is not None:
            check_id("idempotency_key", idempotency_key)
        text = self.seal(type_, data, thread_id)
        return await self.publish(key, channel, text, mode=mode, type_=type_, idempotency_key=idempotency_key)

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        mode: ModeKind,
        type_: str = "",
        info: str = "",
        idempotency_key: str | None = None,
    ) -> Published:
        """Publish to a stream as a mode has it: to the broker, live and into the backlog, or not at all.

        Args:
            key, channel: the stream.
            data: JSON on one line.
            mode: the mode of the user.
            type_: event type; a client's publication has none.
            info: ClientInfo of the client that publishes, as JSON.
            idempotency_key: publishes once for each key.

        Raises:
            Refused: emergency mode and the type is not critical, or degraded mode and the backlog is full.
            BrokerError: the broker refused.
        """
        waits = mode is DEGRADED
        if mode is EMERGENCY:
            if type_ not in self._critical_types:
                self._refused.labels("emergency").inc()
                critical = ", ".join(sorted(self._critical_types))
                raise RefusedInEmergency(f"emergency mode takes only {critical}", self._retry_after)
            waits = DEGRADED in self._policy.incidents
        if waits or (self._backlog.size and key in self._backlog):
            return self._wait(key, channel, data, info, idempotency_key)
        try:
            published = await self._broker.publish(key, channel, data, info=info, idempotency_key=idempotency_key)
        except StreamLimitExceeded:
            raise
        except BrokerUnavailable as error:
            # The mode follows in a moment. What comes after this one waits behind it.
            return self._wait(key, channel, data, info, idempotency_key, error.ticket)
        except Exception:
            self._metrics.failed.inc()
            raise
        self._metrics.published += 1
        if self._breathe(channel, data, info):
            await asyncio.sleep(0)
        return published

    async def subscribe(self, manager: M) -> None:
        """From the return on, the manager gets what is published to its key.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        self._local[manager.key] = manager
        user_id = manager.context.user_id
        if user_id is not None and manager.key != manager.context.key:
            self._sessions.setdefault(user_id, {})[manager.key] = manager
        await self._broker.subscribe(manager.key, manager)

    def unsubscribe(self, manager: M) -> None:
        """Stop. Does not wait."""
        if self._local.get(manager.key) is manager:
            del self._local[manager.key]
            sessions = self._sessions.get(manager.context.user_id or "", {})
            if sessions.pop(manager.key, None) is not None and not sessions:
                del self._sessions[manager.context.user_id or ""]
        self._broker.unsubscribe(manager.key, manager)

    def connected(self, user_id: str) -> list[M]:
        """The user's managers that have connections: one, or one for each session of an isolated user."""
        unified = self._local.get(encode_key("user", user_id))
        sessions = list(self._sessions.get(user_id, {}).values())
        return sessions if unified is None else [unified, *sessions]

    @property
    def waiting_serial(self) -> int:
        """How far the backlog has come; see `Subscription.joined_at`."""
        return self._backlog.serial

    async def catch_up(self, key: str, *, flush: bool, settle: Callable[[], object]) -> None:
        """Publish what waits for a user key, and bring its connections up to date: see `Flusher.catch_up`."""
        await self._flusher.catch_up(key, flush=flush, settle=settle)

    async def flush_all(self, *, whatever_the_mode: bool = False) -> None:
        """Publish what waits for every user whose mode is not degraded any more, or for all.

        Raises:
            BrokerUnavailable: the broker went away again; what is left waits on.
            BrokerError: the broker refuses what waits for one of them, and it waits on; others are done.
        """
        refused = None
        for key in self._backlog.keys():  # noqa: SIM118 - a copy: flushing takes keys away
            try:
                await self._flush(key, whatever_the_mode)
            except BrokerUnavailable:
                raise
            except BrokerError as error:
                refused = error
        if dropped := self._flusher.dropped:
            self._flusher.dropped = 0
            logger.error("publishes that had waited were refused for good, and dropped", extra={"publishes": dropped})
        if refused is not None:
            raise refused

    async def _flush(self, key: str, whatever_the_mode: bool) -> None:
        local = self._local.get(key)
        kind = self._policy.decide(user_of(key)).kind if local is None else local.mode.kind
        if whatever_the_mode or kind is not ModeKind.DEGRADED:
            await self._flusher.catch_up(key)
        while whatever_the_mode and key in self._backlog:  # somebody else is at it, and may yet fail
            await asyncio.sleep(WAIT_SECONDS)
            await self._flusher.catch_up(key)

    def _wait(
        self, key: str, channel: str, data: str, info: str, idempotency_key: str | None, ticket: str = ""
    ) -> Published:
        try:
            return self._flusher.wait(key, channel, data, info, idempotency_key, ticket)
        except BacklogFull as full:
            self._refused.labels("backlog").inc()
            raise Refused(str(full), self._retry_after) from None

    def _breathe(self, channel: str, data: str, info: str) -> bool:
        # Publishers in a loop must not starve the writers: every client would look slow. Nobody waits for a client.
        size = len(channel) + len(data) + len(info) + PUSH_BYTES
        before = self._unyielded
        self._unyielded = before + (size if data.isascii() and info.isascii() else 4 * size)
        if self._unyielded <= self._yield_bytes:
            return False
        if before <= self._yield_bytes:
            # However many they are: together they put no more into a turn of the event loop.
            asyncio.get_running_loop().call_soon(self._turned)
        return True

    def _turned(self) -> None:
        self._unyielded = 0
