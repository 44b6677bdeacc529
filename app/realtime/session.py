"""A connected client: its manager and its subscriptions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

import msgspec

from app.realtime.authentication import Authenticated, SubscriptionGrant
from app.realtime.broker import BrokerUnavailable, History, Position, StreamLimitExceeded
from app.realtime.codes import CommandError, Disconnect, DisconnectCode, ErrorCode, UnsubscribeCode
from app.realtime.manager import UserManager
from app.realtime.modes import ModeKind
from app.realtime.outbound import OutboundQueue
from app.realtime.protocol import (
    Frame,
    SubscribeRequest,
    SubscribeResult,
)
from app.realtime.pushes import client_info, presence_push, subscribe_push, unsubscribe_push, with_chan_info
from app.realtime.recovery import recovered, subscribe_result
from app.realtime.rpc import Calls
from app.realtime.services import Services
from app.realtime.subscription import Subscription

REFRESH_GRACE = 25.0  # seconds after expiry within which a refresh still counts (protocol, Connect and tokens)


class Session:
    """One connected client: its place in its manager, and its subscriptions, from `connect` to its end.

    Args:
        services: what every session is given.
        client: client id.
        manager: the user's manager, held until the end.
        identity: what the token proved.
        outbound: where frames go.
        disconnect: ends the connection.
    """

    __slots__ = (
        "_ended",
        "_live",
        "_moved",
        "_outbound",
        "_services",
        "_unsent",
        "calls",
        "disconnect",
        "id",
        "identity",
        "info",
        "manager",
        "subscriptions",
    )

    def __init__(
        self,
        services: Services,
        *,
        client: str,
        manager: UserManager,
        identity: Authenticated,
        outbound: OutboundQueue,
        disconnect: Callable[[Disconnect], None],
    ) -> None:
        """Nothing is subscribed yet."""
        self.id = client
        self.identity = identity
        self.manager = manager
        self.subscriptions: dict[str, Subscription] = {}
        self.calls = Calls(services.rpc, services.options.concurrent_rpcs)
        self.disconnect = disconnect
        self._services = services
        self._outbound = outbound
        self._live = False
        self._ended = False
        self._moved: dict[str, Position] = {}
        self._unsent = 0  # bytes of recoveries that the answer to `connect` will carry
        self.info = client_info(identity.context.subject, client, identity.info)

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the client."""
        return self._outbound.size

    def push(self, frame: Frame) -> None:
        """Queue a frame; a client too slow for it is disconnected, and nobody waits for it."""
        if not self._outbound.put(frame):
            self.disconnect(Disconnect(DisconnectCode.SLOW))

    def tell(self, frame: Frame) -> None:
        """Queue a message about the connection; before `connect` is answered nothing, as the answer will say it."""
        if self._live:
            self.push(frame)

    def lost_position(self, subscription: Subscription) -> None:
        """Make the client recover: by subscribing again, or by connecting again for a server-side subscription."""
        if subscription.server_side:
            self.disconnect(Disconnect(DisconnectCode.INSUFFICIENT_STATE))
        else:
            self._end_subscription(subscription, UnsubscribeCode.INSUFFICIENT_STATE)

    def moved(self, subscription: Subscription) -> None:
        """Tell the client of a position behind what it got live, or it would get that again when it recovers.

        A server-side subscription is told by a `subscribe` push. The client alone moves one of its own: it subscribes
        again, and `subscribe` goes on from here.
        """
        if subscription.server_side:
            self.push(subscribe_push(subscription.channel, subscription.epoch, subscription.offset))
        else:
            self._moved[subscription.channel] = Position(subscription.offset, subscription.epoch)
            self._end_subscription(subscription, UnsubscribeCode.INSUFFICIENT_STATE)

    async def start(
        self, requests: Mapping[str, SubscribeRequest]
    ) -> dict[str, tuple[Position | None, SubscribeResult]]:
        """Join the manager and subscribe to the server-side channels; `go_live` after the reply is queued.

        Args:
            requests: positions that the client wants to recover from, by channel.

        Raises:
            Disconnect: 3504 or 3505, the limit of connections or channels is reached; the session ended meanwhile.
            BrokerError: the broker cannot be reached.
        """
        options = self._services.options
        personal = (self.manager.personal_channel,) if options.personal else ()
        channels = dict.fromkeys((*personal, *self.identity.channels))
        if len(channels) > options.channels:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT, f"channel limit: {options.channels} channels a connection")
        await self.manager.join(self)
        try:
            return {
                channel: await self.subscribe(channel, requests.get(channel, SubscribeRequest()), server_side=True)
                for channel in channels
            }
        except StreamLimitExceeded as error:
            raise Disconnect(DisconnectCode.CHANNEL_LIMIT, f"channel limit: {error.limit} streams a user") from None

    def go_live(self, positions: Mapping[str, Position | None]) -> None:
        """Pass on what came while `start` ran."""
        self._live = True
        self._unsent = 0
        for channel, position in positions.items():
            if (subscription := self.subscriptions.get(channel)) is not None:
                subscription.go_live(position)

    def announce(self, channel: str, position: Position | None) -> None:
        """Pass on what came while a client subscribed, and tell the others that it joined."""
        if (subscription := self.subscriptions.get(channel)) is not None:
            subscription.go_live(position)
            if self.subscriptions.get(channel) is subscription:  # or it could not go on from there
                subscription.announced = True
                self._notify(subscription, "join")

    def end(self, code: int) -> None:
        """Leave everything. Does not wait, so no cancellation can cut it off; harmless when repeated."""
        self._ended = True
        self.calls.cancel()
        for subscription in list(self.subscriptions.values()):
            self._drop(subscription)
        self.manager.leave(self, code)

    async def subscribe(
        self, channel: str, request: SubscribeRequest, *, server_side: bool, grant: SubscriptionGrant | None = None
    ) -> tuple[Position | None, SubscribeResult]:
        """Subscribe to a channel; it holds what comes until `go_live`, when the reply is queued.

        Args:
            grant: what its token proves, if it has one.

        Returns:
            The position that the client has with the reply, or None while the broker cannot be asked, and the reply.

        Raises:
            CommandError: 112, the position cannot be recovered and the request wants nothing else.
            Disconnect: the session ended meanwhile.
            BrokerError: the broker cannot be reached.
        """
        options, key = self._services.options, self.manager.key
        subscription = Subscription(
            self,
            key,
            channel,
            server_side=server_side,
            join_leave=request.join_leave and options.join_leave,
            hold_limit=options.hold_bytes,
        )
        subscription.joined_at = self._services.publisher.waiting_serial
        subscription.info = self.info if grant is None else with_chan_info(self.info, grant.info)
        self.subscriptions[channel] = subscription
        self.manager.connections.subscribe(subscription)
        try:
            request, history = await self._missed(channel, request)
            whole = history if history is not None and self._is_recovered(request, history) else None
            if whole is None and request.recover and request.flag & 2 and not server_side:
                raise CommandError(ErrorCode.UNRECOVERABLE_POSITION)
            if options.presence:
                with contextlib.suppress(BrokerUnavailable):  # it is said as soon as the broker is back
                    await self._services.broker.add_presence(key, channel, self.id, subscription.info)
            if self._ended or self.subscriptions.get(channel) is not subscription:
                # Ended from elsewhere while this waited, or too much came; what was added since must not stay.
                raise Disconnect(DisconnectCode.CONNECTION_CLOSED) if self._ended else CommandError(ErrorCode.INTERNAL)
        except BaseException:
            self._drop(subscription)
            raise
        if server_side and whole is not None:
            self._unsent += _size(whole)
        ttl = self.expire(subscription, None if grant is None else grant.expire_at)
        position = None if history is None else history.position
        return position, subscribe_result(request, whole, position, ttl)

    async def _missed(self, channel: str, request: SubscribeRequest) -> tuple[SubscribeRequest, History | None]:
        """The request, as of where the client really is, and what it missed; None while the broker cannot be asked."""
        moved = self._moved.pop(channel, None)
        if moved is not None and request.epoch == moved.epoch and request.offset <= moved.offset:
            request = msgspec.structs.replace(request, offset=moved.offset)
        since = Position(request.offset, "") if request.recover else None
        limit = -1 if request.recover else 0
        try:
            return request, await self._services.broker.history(self.manager.key, channel, since=since, limit=limit)
        except BrokerUnavailable:
            if self.manager.connections.channels > (streams := self._services.options.streams):
                raise StreamLimitExceeded(streams) from None  # as the broker would, which knows of others, too
            self.subscriptions[channel].interrupt()
            return request, None

    def _is_recovered(self, request: SubscribeRequest, history: History) -> bool:
        if not request.recover or self.manager.mode.kind is ModeKind.DEGRADED:
            return False
        # A recovery that does not fit the queue would end the connection as slow, again and again.
        return self.fits(history) and recovered(request, history)

    def fits(self, history: History) -> bool:
        """Whether a reply with this history leaves room in the queue for what is live."""
        room = self._services.options.reply_bytes - self._outbound.size - self._unsent
        return _size(history) <= room

    def unsubscribe(self, channel: str) -> None:
        """End a subscription, if there is one."""
        subscription = self.subscriptions.get(channel)
        if subscription is not None:
            self._drop(subscription)

    def expire(self, subscription: Subscription, expire_at: float | None) -> int:
        """Let a subscription expire at a time, or never, instead of when it would have; the seconds until then."""
        if subscription.expiry is not None:
            subscription.expiry.cancel()
            subscription.expiry = None
        if expire_at is None:
            return 0
        ttl = max(1, math.ceil(expire_at - self._services.clock.time()))
        subscription.expiry = self._services.clock.call_later(
            ttl + REFRESH_GRACE, lambda: self._end_subscription(subscription, UnsubscribeCode.EXPIRED)
        )
        return ttl

    async def check_positions(self) -> None:
        """Compare each live subscription with its stream; one that fell behind must recover."""
        for subscription in list(self.subscriptions.values()):
            before = subscription.offset
            top = await self._top(subscription)
            if subscription.is_behind(top, before):
                # What is missing may be on its way, over another connection; it is here before a second answer is.
                await self._top(subscription)
                if subscription.is_behind(top, before):
                    self.lost_position(subscription)

    async def _top(self, subscription: Subscription) -> Position:
        return (await self._services.broker.history(self.manager.key, subscription.channel, limit=0)).position

    def _end_subscription(self, subscription: Subscription, code: UnsubscribeCode) -> None:
        self._drop(subscription)
        self.push(unsubscribe_push(subscription.channel, code))

    def _drop(self, subscription: Subscription) -> None:
        subscription.end()
        channel = subscription.channel
        self.subscriptions.pop(channel, None)
        self.manager.connections.unsubscribe(subscription)
        if self._services.options.presence:
            self._services.broker.remove_presence(self.manager.key, channel, self.id)
        if subscription.announced:
            self._notify(subscription, "leave")

    def _notify(self, subscription: Subscription, kind: str) -> None:
        if self._services.options.join_leave:
            push = presence_push(subscription.channel, kind, subscription.info)
            self._services.broker.notify(self.manager.key, subscription.channel, push)


def _size(history: History) -> int:
    return sum(publication.size for publication in history.publications)
