"""A connected client: its manager, its subscriptions, and the commands it may give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw

from app.realtime.authentication import Authenticated, Authenticator, ForeignToken
from app.realtime.broker import Broker, History, Position
from app.realtime.clock import Clock
from app.realtime.codes import CommandError, Disconnect, DisconnectCode, ErrorCode, UnsubscribeCode
from app.realtime.identity import IdentityError, check_id
from app.realtime.manager import UserManager
from app.realtime.modes import ModeKind
from app.realtime.outbound import OutboundQueue
from app.realtime.protocol import (
    ChannelRequest,
    Command,
    DataRequest,
    Empty,
    Frame,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    RefreshResult,
    Result,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
    SubscribeResult,
    one_line,
    presence_push,
    reply,
    unsubscribe_push,
)
from app.realtime.publisher import Publisher
from app.realtime.rpc import Calls, RPCHandler
from app.realtime.subscription import Subscription, client_info, recovered, subscribe_result

REFRESH_GRACE = 25.0  # seconds after expiry within which a refresh still counts (protocol, Connect and tokens)


class SessionOptions(msgspec.Struct, frozen=True):
    """What sessions may do; see `config.settings` for each."""

    channels: int
    event_bytes: int
    reply_bytes: int
    hold_bytes: int
    concurrent_rpcs: int
    presence: bool
    join_leave: bool
    client_publish: bool
    personal: bool


class Services(NamedTuple):
    """What every session is given, all of it shared by design: see the container."""

    options: SessionOptions
    clock: Clock
    broker: Broker
    publisher: Publisher[UserManager]
    authenticator: Authenticator
    rpc: Mapping[str, RPCHandler]


class Session:
    """The commands of one connected client, from `connect` to its end.

    Args:
        services: what every session is given.
        client: client id.
        manager: the user's manager, held until the end.
        identity: what the token proved.
        outbound: where frames go.
        disconnect: ends the connection.
    """

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
        self._services = services
        self._outbound = outbound
        self.disconnect = disconnect
        self._calls = Calls(services.rpc, services.options.concurrent_rpcs)
        self._live = False
        self._ended = False
        self._unsent = 0  # bytes of recoveries that the answer to `connect` will carry
        self._info = client_info(identity.context.subject, client, identity.info)

    # What the manager and the subscriptions call.

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

    # Begin and end.

    async def start(self, requests: Mapping[str, SubscribeRequest]) -> dict[str, tuple[Position, SubscribeResult]]:
        """Join the manager and subscribe to the server-side channels; `go_live` after the reply is queued.

        Args:
            requests: positions that the client wants to recover from, by channel.
        """
        await self.manager.join(self)
        personal = (self.manager.personal_channel,) if self._services.options.personal else ()
        return {
            channel: await self._subscribe(channel, requests.get(channel, SubscribeRequest()), server_side=True)
            for channel in dict.fromkeys((*personal, *self.identity.channels))
        }

    def go_live(self, positions: Mapping[str, Position]) -> None:
        """Pass on what came while `start` ran."""
        self._live = True
        self._unsent = 0
        for channel, position in positions.items():
            if (subscription := self.subscriptions.get(channel)) is not None:
                subscription.go_live(position)

    def end(self, code: int) -> None:
        """Leave everything. Does not wait, so no cancellation can cut it off; harmless when repeated."""
        self._ended = True
        self._calls.cancel()
        for subscription in list(self.subscriptions.values()):
            self._drop(subscription)
        self.manager.leave(self, code)

    # Commands.

    async def handle(self, command: Command) -> None:
        """Carry out a command and queue its reply.

        Raises:
            CommandError: the reply is this error.
            Disconnect: the connection must end.
        """
        match command:
            case Command(unsubscribe=ChannelRequest() as request):
                self._unsubscribe(request)
                self._reply(command, "unsubscribe", Empty())
            case Command(sub_refresh=SubRefreshRequest() as request):
                self._reply(command, "sub_refresh", await self._sub_refresh(request))
            case _ if self.manager.mode.kind is ModeKind.EMERGENCY:
                raise CommandError(ErrorCode.EMERGENCY)
            case Command(subscribe=SubscribeRequest() as request):
                await self._handle_subscribe(command, request)
            case Command(publish=PublishRequest() as request):
                await self._publish(request)
                self._reply(command, "publish", Empty())
            case Command(history=HistoryRequest() as request):
                self._reply(command, "history", await self._history(request))
            case Command(presence=ChannelRequest() as request):
                present = await self._presence(request)
                result = PresenceResult({client: Raw(info.encode()) for client, info in present.items()})
                self._reply(command, "presence", result)
            case Command(presence_stats=ChannelRequest() as request):
                # Every channel is private to the user, so whoever is present is the one user.
                clients = len(await self._presence(request))
                self._reply(command, "presence_stats", PresenceStatsResult(clients, min(1, clients)))
            case Command(rpc=RPCRequest() as request):
                self._calls.start(request.method, request.data, self.manager, self.push, command.id)
            case Command(send=DataRequest() as request):
                self._calls.start("send", request.data, self.manager, self.push)
            case Command(ping=Empty()):
                raise CommandError(ErrorCode.NOT_AVAILABLE)
            case _:
                raise CommandError(ErrorCode.METHOD_NOT_FOUND)

    def _reply(self, command: Command, method: str, result: Result) -> None:
        self.push(reply(command.id, method, result))

    async def _handle_subscribe(self, command: Command, request: SubscribeRequest) -> None:
        channel = self._channel(request.channel)
        if channel in self.subscriptions:
            raise CommandError(ErrorCode.ALREADY_SUBSCRIBED)
        if len(self.subscriptions) >= self._services.options.channels:
            raise CommandError(
                ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: {self._services.options.channels} channels a connection"
            )
        expire_at = await self._grant(request.token, channel) if request.token else None
        position, result = await self._subscribe(channel, request, server_side=False, expire_at=expire_at)
        self._reply(command, "subscribe", result)
        if (subscription := self.subscriptions.get(channel)) is not None:
            subscription.go_live(position)
            subscription.announced = True
            self._notify(channel, "join")

    async def _subscribe(
        self, channel: str, request: SubscribeRequest, *, server_side: bool, expire_at: float | None = None
    ) -> tuple[Position, SubscribeResult]:
        options, key = self._services.options, self.manager.key
        subscription = Subscription(
            self,
            channel,
            server_side=server_side,
            join_leave=request.join_leave and options.join_leave,
            hold_limit=options.hold_bytes,
        )
        subscription.joined_at = self._services.publisher.waiting_serial
        self.subscriptions[channel] = subscription
        self.manager.connections.subscribe(subscription)
        try:
            history = await self._missed(channel, request)
            whole = history if self._is_recovered(request, history) else None
            if whole is None and request.recover and request.flag & 2 and not server_side:
                raise CommandError(ErrorCode.UNRECOVERABLE_POSITION)
            if options.presence:
                await self._services.broker.add_presence(key, channel, self.id, self._info)
            if self._ended or self.subscriptions.get(channel) is not subscription:
                # Ended from elsewhere while this waited, or too much came; what was added since must not stay.
                raise Disconnect(DisconnectCode.CONNECTION_CLOSED) if self._ended else CommandError(ErrorCode.INTERNAL)
        except BaseException:
            self._drop(subscription)
            raise
        if server_side and whole is not None:
            self._unsent += _size(whole)
        ttl = self._expire(subscription, expire_at)
        return history.position, subscribe_result(request, whole, history.position, ttl)

    async def _missed(self, channel: str, request: SubscribeRequest) -> History:
        since = Position(request.offset, "") if request.recover else None
        return await self._services.broker.history(
            self.manager.key, channel, since=since, limit=-1 if request.recover else 0
        )

    def _is_recovered(self, request: SubscribeRequest, history: History) -> bool:
        if not request.recover or self.manager.mode.kind is ModeKind.DEGRADED:
            return False
        # A recovery that does not fit the queue would end the connection as slow, again and again.
        return self._fits(history) and recovered(request, history)

    def _fits(self, history: History) -> bool:
        room = self._services.options.reply_bytes - self._outbound.size - self._unsent
        return _size(history) <= room

    def _unsubscribe(self, request: ChannelRequest) -> None:
        subscription = self.subscriptions.get(request.channel)
        if subscription is not None:
            self._drop(subscription)

    async def _publish(self, request: PublishRequest) -> None:
        channel = self._channel(request.channel)
        if not self._services.options.client_publish or channel.startswith("#"):
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        data = one_line(bytes(request.data))
        if len(data.encode()) > self._services.options.event_bytes:
            raise CommandError(ErrorCode.LIMIT_EXCEEDED)
        await self._services.publisher.publish(
            self.manager.key, channel, data, mode=self.manager.mode.kind, info=self._info
        )

    async def _history(self, request: HistoryRequest) -> HistoryResult:
        channel, since = self._channel(request.channel), request.since
        if request.limit < -1 or (request.reverse and since is not None and since.offset == 0):
            raise CommandError(ErrorCode.BAD_REQUEST)
        history = await self._services.broker.history(
            self.manager.key,
            channel,
            since=None if since is None else Position(since.offset, since.epoch),
            limit=request.limit,
            reverse=request.reverse,
        )
        if not self._fits(history):
            raise CommandError(ErrorCode.LIMIT_EXCEEDED, "limit exceeded: ask for fewer publications with limit")
        return HistoryResult(
            tuple(Raw(publication.text.encode()) for publication in history.publications),
            history.position.epoch,
            history.position.offset,
        )

    async def _presence(self, request: ChannelRequest) -> dict[str, str]:
        channel = self._channel(request.channel)
        if not self._services.options.presence:
            raise CommandError(ErrorCode.NOT_AVAILABLE)
        return await self._services.broker.presence(self.manager.key, channel)

    async def _sub_refresh(self, request: SubRefreshRequest) -> RefreshResult:
        channel = self._channel(request.channel)
        subscription = self.subscriptions.get(channel)
        expire_at = await self._grant(request.token, channel) if subscription is not None else None
        # Looked up again: it may have ended while this waited.
        if subscription is None or self.subscriptions.get(channel) is not subscription:
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        ttl = self._expire(subscription, expire_at)
        return RefreshResult(expires=ttl > 0, ttl=ttl)

    async def _grant(self, token: str, channel: str) -> float | None:
        try:
            grant = await self._services.authenticator.authenticate_subscription(
                token, user_id=self.identity.context.user_id, client=self.id, channel=channel
            )
        except ForeignToken as error:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, f"invalid token: {error.why}") from None
        return grant.expire_at

    def _expire(self, subscription: Subscription, expire_at: float | None) -> int:
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

    # Positions.

    async def check_positions(self) -> None:
        """Compare each live subscription with its stream; one that fell behind must recover."""
        for subscription in list(self.subscriptions.values()):
            before = subscription.offset
            history = await self._services.broker.history(self.manager.key, subscription.channel, limit=0)
            if subscription.is_behind(history.position, before):
                self.lost_position(subscription)

    # Parts.

    def _channel(self, name: str) -> str:
        try:
            check_id("channel", name)
        except IdentityError as error:
            raise CommandError(ErrorCode.BAD_REQUEST, f"bad request: {error}") from None
        if name.startswith("#") and name != self.manager.personal_channel:
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        return name

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
            self._notify(channel, "leave")

    def _notify(self, channel: str, kind: str) -> None:
        if self._services.options.join_leave:
            self._services.broker.notify(self.manager.key, channel, presence_push(channel, kind, self._info))


def _size(history: History) -> int:
    return sum(publication.size for publication in history.publications)
