"""The manager: everything of one user key that lives in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from app.realtime.auth_token import AuthToken, TokenIssuer
from app.realtime.broker import Position, Publication, Published
from app.realtime.channels import channel_of
from app.realtime.codes import Disconnect
from app.realtime.connections import Connection, ConnectionTable
from app.realtime.identity import UserContext
from app.realtime.lifecycle import LifecycleRecord
from app.realtime.metrics import Metrics
from app.realtime.modes import ManagerMode
from app.realtime.protocol import frame
from app.realtime.publisher import Publisher
from app.realtime.pushes import message_push, publication_push
from app.realtime.subscription import Subscription

logger = logging.getLogger(__name__)


class UserManager:
    """One user's manager: their mode, token, connections and lifecycle record, and the way to publish to them.

    Built by the container, one for each user key, and alive as long as somebody holds it: a connection, a request, a
    task. There is nothing to close: with its last connection it leaves the broker, with its last holder it is gone.

    Args:
        key: user key.
        context: identity it was first asked for with.
        mode: its own mode object.
        make_mode: provider of the next one, called with the context and the key.
        auth_token: the container's token for `key`.
        token_issuer: what verifies the token.
        connections: its own connection table.
        record: its own lifecycle record.
        publisher: what publishes to it.
        metrics: where a violation is counted.

    Raises:
        InvalidAuthToken: the token is none, another key's or another container's.
    """

    __slots__ = (
        "__weakref__",
        "_connections",
        "_make_mode",
        "_metrics",
        "_mode",
        "_publisher",
        "auth_token",
        "context",
        "key",
        "personal_channel",
        "record",
    )

    def __init__(
        self,
        *,
        key: str,
        context: UserContext,
        mode: ManagerMode,
        make_mode: Callable[[UserContext, str], ManagerMode],
        auth_token: AuthToken,
        token_issuer: TokenIssuer,
        connections: ConnectionTable,
        record: LifecycleRecord,
        publisher: Publisher[UserManager],
        metrics: Metrics,
    ) -> None:
        """Check the token before anything else."""
        self.auth_token = token_issuer.verify(auth_token, key)
        self.key = key
        self.context = context
        self.personal_channel = f"#{context.subject}"
        self.record = record
        self._mode = mode
        self._make_mode = make_mode
        self._connections = connections
        self._publisher = publisher
        self._metrics = metrics

    def __repr__(self) -> str:
        """Key and mode."""
        return f"<UserManager {self.key!r} {self._mode.kind.value}, {len(self._connections)} connections>"

    @property
    def mode(self) -> ManagerMode:
        """The mode now."""
        return self._mode

    @property
    def connections(self) -> ConnectionTable:
        """The connections now."""
        return self._connections

    async def emit(self, type: str, data: Any, thread_id: str | None = None, channel: str | None = None) -> Published:
        """Publish an event to the user's stream: every connection gets it once, in order; a lost one recovers it.

        Args:
            type: event type, such as `agent_started`.
            data: what the event carries: `bytes` are JSON already, anything else is encoded.
            thread_id: conversation it belongs to.
            channel: one of the user's channels; default: the personal one.

        Raises:
            Refused: the user's mode does not take the event now; it says when to try again.
            IdentityError, InvalidData, EventTooLarge, TypeError: type, ids or data are not acceptable.
            BrokerError: the broker cannot be reached.
        """
        channel = channel_of(channel, self.personal_channel)
        text = self._publisher.seal(type, data, thread_id)
        return await self._publisher.publish(self.key, channel, text, mode=self._mode.kind, type_=type)

    async def join(self, connection: Connection) -> None:
        """Take a connection; the first one subscribes the manager to its key.

        Raises:
            Disconnect: 3504, there are as many as allowed.
            BrokerError: the broker cannot be reached.
        """
        self._connections.add(connection)
        self.record.append("connected", self.key, connection.id)
        await self._publisher.subscribe(self)

    def leave(self, connection: Connection, code: int) -> None:
        """Let a connection go; with the last one the manager leaves the broker.

        Does not wait, so it cannot be cut off.
        """
        if not self._connections.remove(connection):
            return
        self.record.append("disconnected", self.key, f"{connection.id} {code}")
        if not self._connections:
            self._publisher.unsubscribe(self)

    def subscriptions(self) -> list[Subscription]:
        """The subscriptions of all connections."""
        return self._connections.all_subscriptions()

    def deliver(self, publication: Publication) -> int:
        """Hand a publication to the connections in its channel; called by the broker. The path of every event.

        Raises:
            ForeignPublication: it is another user key's; nobody got it.
        """
        key = self.key
        if publication.key != key:
            self._doubt(publication.key)
            raise ForeignPublication(key, publication.key)
        subscriptions = self._connections.subscriptions(publication.channel)
        if not subscriptions:
            return 0
        push = publication_push(subscriptions[0].head, publication.text, publication.size)
        foreign = 0
        for subscription in subscriptions:
            if subscription.key == key:
                subscription.deliver(publication, push)
            else:
                foreign += self._expel(subscription)
        return len(subscriptions) - foreign

    def notify(self, key: str, channel: str, push: str) -> None:
        """Hand a join or leave to the connections in its channel; called by the broker.

        Raises:
            ForeignPublication: it is another user key's; nobody got it.
        """
        if key != self.key:
            self._doubt(key)
            raise ForeignPublication(self.key, key)
        shared = frame(push)
        for subscription in self._connections.subscriptions(channel):
            if subscription.key == key:
                subscription.notify(shared)
            else:
                self._expel(subscription)

    def subscribed(self, channel: str) -> int:
        """How many connections are subscribed to a channel."""
        return len(self._connections.subscriptions(channel))

    def interrupt(self) -> None:
        """The broker lost what it delivers over; called by the broker."""
        for subscription in self._connections.all_subscriptions():
            subscription.interrupt()

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        """Hand a publication live to the connections in its channel that will not get it otherwise for a while.

        Raises:
            ForeignPublication: it is another user key's; nobody got it.
        """
        if publication.key != self.key:
            self._doubt(publication.key)
            raise ForeignPublication(self.key, publication.key)
        for subscription in self._connections.subscriptions(publication.channel):
            if subscription.key == self.key:
                push = publication_push(subscription.head, publication.text, publication.size)
                subscription.deliver_ahead(publication, push, position)
            else:
                self._expel(subscription)

    def _expel(self, subscription: Subscription) -> bool:
        """Drop a subscription of another user key, which got here in nobody knows what way."""
        self._doubt(subscription.key)
        self._connections.unsubscribe(subscription)
        return True

    def _doubt(self, foreign: str) -> None:
        self._metrics.violations.labels("delivery").inc()
        extra = {"net": "delivery", "refused": foreign, "owner": self.key}
        logger.error("isolation violated: a manager was to deliver what is another's, or to another", extra=extra)

    def refresh_mode(self) -> bool:
        """Take a new mode object if another kind holds now, and tell the clients; whether it changed.

        If only the reason is another one, clients are not told.

        Raises:
            IsolationViolation: the new one is another manager's; this one keeps the mode it has.
        """
        mode = self._make_mode(self.context, self.key)
        if mode.kind is self._mode.kind:
            if mode.reason != self._mode.reason:
                self._mode = mode
            return False
        self._mode = mode
        self.record.append("mode_changed", self.key, mode.kind.value)
        told = message_push({"type": "mode", "mode": mode.kind.value, "reason": mode.reason})
        for connection in self._connections:
            connection.tell(told)
        return True

    def disconnect_all(self, reason: Disconnect) -> int:
        """End every connection; their number."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.disconnect(reason)
        return len(connections)


class ForeignPublication(Exception):
    """Something of another user key reached a manager. Nothing was delivered.

    Attributes:
        key: the manager's.
        foreign: the other one.
    """

    def __init__(self, key: str, foreign: str) -> None:
        """Keep both keys."""
        super().__init__(f"the manager of {key!r} refused what belongs to {foreign!r}")
        self.key = key
        self.foreign = foreign
