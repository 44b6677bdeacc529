"""The connections of one manager."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.protocol import Frame
from app.realtime.subscription import Subscription


class Connection(Protocol):
    """A connection, as its manager sees it."""

    @property
    def id(self) -> str:
        """Client id."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for its client."""

    def tell(self, frame: Frame) -> None:
        """Queue a message to the client, once it is connected."""

    def disconnect(self, reason: Disconnect) -> None:
        """End the connection; it leaves its manager before this returns."""


class ConnectionTable:
    """The connections of one manager and their subscriptions, by channel.

    Used in the event loop of the gateway alone. Subscribers of a channel are a tuple that is replaced, so a delivery
    may end subscriptions while it runs.

    Args:
        limit: connections it takes.
    """

    __slots__ = ("__weakref__", "_channels", "_connections", "_limit")

    def __init__(self, limit: int) -> None:
        """Start empty."""
        self._limit = limit
        self._connections: dict[str, Connection] = {}
        self._channels: dict[str, tuple[Subscription, ...]] = {}

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        """The connections; the table may change meanwhile."""
        return iter(tuple(self._connections.values()))

    @property
    def channels(self) -> int:
        """Channels that anybody is subscribed to."""
        return len(self._channels)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for all clients."""
        return sum([connection.queued_bytes for connection in self._connections.values()])

    def add(self, connection: Connection) -> None:
        """Take a connection.

        Raises:
            Disconnect: 3504, there are as many as allowed.
        """
        if len(self._connections) >= self._limit:
            raise Disconnect(DisconnectCode.CONNECTION_LIMIT, f"connection limit: {self._limit} connections a user")
        self._connections[connection.id] = connection

    def remove(self, connection: Connection) -> bool:
        """Let a connection go; whether it was there."""
        return self._connections.pop(connection.id, None) is not None

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription to its channel."""
        self._channels[subscription.channel] = (*self.subscriptions(subscription.channel), subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription from its channel."""
        left = tuple(one for one in self.subscriptions(subscription.channel) if one is not subscription)
        if left:
            self._channels[subscription.channel] = left
        else:
            self._channels.pop(subscription.channel, None)

    def subscriptions(self, channel: str) -> tuple[Subscription, ...]:
        """The subscriptions to a channel."""
        return self._channels.get(channel, ())

    def all_subscriptions(self) -> list[Subscription]:
        """The subscriptions to all channels."""
        return [subscription for channel in self._channels.values() for subscription in channel]
