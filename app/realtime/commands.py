"""The commands of a connected client."""

from __future__ import annotations

from msgspec import Raw

from app.realtime.authentication import ForeignToken, SubscriptionGrant
from app.realtime.broker import Position
from app.realtime.codes import CommandError, Disconnect, DisconnectCode, ErrorCode
from app.realtime.identity import IdentityError, check_id
from app.realtime.modes import ModeKind
from app.realtime.protocol import (
    ChannelRequest,
    Command,
    DataRequest,
    Empty,
    HistoryRequest,
    HistoryResult,
    MalformedCommand,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    RefreshResult,
    Result,
    RPCRequest,
    SubRefreshRequest,
    SubscribeRequest,
    one_line,
    reply,
)
from app.realtime.services import Services
from app.realtime.session import Session
from app.realtime.surrogates import HALF_A_PAIR


class Commands:
    """Carries out what a client asks for, within its session.

    Args:
        services: what every session is given.
        session: the client's.
    """

    __slots__ = ("_services", "_session")

    def __init__(self, services: Services, session: Session) -> None:
        """Keep both."""
        self._services = services
        self._session = session

    async def handle(self, command: Command) -> None:
        """Carry out a command and queue its reply.

        Raises:
            CommandError: the reply is this error.
            Disconnect: the connection must end.
        """
        match command:
            case Command(unsubscribe=ChannelRequest() as request):
                self._session.unsubscribe(request.channel)
                self._reply(command, "unsubscribe", Empty())
            case Command(sub_refresh=SubRefreshRequest() as request):
                self._reply(command, "sub_refresh", await self._sub_refresh(request))
            case Command(publish=PublishRequest() as request):
                await self._publish(request)
                self._reply(command, "publish", Empty())
            case _ if self._session.manager.mode.kind is ModeKind.EMERGENCY:
                raise CommandError(ErrorCode.EMERGENCY)
            case Command(subscribe=SubscribeRequest() as request):
                await self._subscribe(command, request)
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
                self._session.calls.start(
                    request.method, request.data, self._session.manager, self._session.push, command.id
                )
            case Command(send=DataRequest() as request):
                self._session.calls.start("send", request.data, self._session.manager, self._session.push)
            case Command(ping=Empty()):
                raise CommandError(ErrorCode.NOT_AVAILABLE)
            case MalformedCommand():
                raise CommandError(ErrorCode.BAD_REQUEST, f"bad request: {HALF_A_PAIR}")
            case _:
                raise CommandError(ErrorCode.METHOD_NOT_FOUND)

    def _reply(self, command: Command, method: str, result: Result) -> None:
        self._session.push(reply(command.id, method, result))

    async def _subscribe(self, command: Command, request: SubscribeRequest) -> None:
        channel = self._channel(request.channel)
        if channel in self._session.subscriptions:
            raise CommandError(ErrorCode.ALREADY_SUBSCRIBED)
        if len(self._session.subscriptions) >= self._services.options.channels:
            raise CommandError(
                ErrorCode.LIMIT_EXCEEDED, f"limit exceeded: {self._services.options.channels} channels a connection"
            )
        grant = await self._grant(request.token, channel) if request.token else None
        position, result = await self._session.subscribe(channel, request, server_side=False, grant=grant)
        self._reply(command, "subscribe", result)
        self._session.announce(channel, position)

    async def _publish(self, request: PublishRequest) -> None:
        channel = self._channel(request.channel)
        if not self._services.options.client_publish or channel.startswith("#"):
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        data = one_line(bytes(request.data))
        if len(data.encode()) > self._services.options.event_bytes:
            raise CommandError(ErrorCode.LIMIT_EXCEEDED)
        subscription = self._session.subscriptions.get(channel)
        info = self._session.info if subscription is None else subscription.info
        await self._services.publisher.publish(
            self._session.manager.key, channel, data, mode=self._session.manager.mode.kind, info=info
        )

    async def _history(self, request: HistoryRequest) -> HistoryResult:
        channel, since = self._channel(request.channel), request.since
        if request.limit < -1 or (request.reverse and since is not None and since.offset == 0):
            raise CommandError(ErrorCode.BAD_REQUEST)
        history = await self._services.broker.history(
            self._session.manager.key,
            channel,
            since=None if since is None else Position(since.offset, since.epoch),
            limit=request.limit,
            reverse=request.reverse,
        )
        if not self._session.fits(history):
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
        return await self._services.broker.presence(self._session.manager.key, channel)

    async def _sub_refresh(self, request: SubRefreshRequest) -> RefreshResult:
        channel = self._channel(request.channel)
        subscription = self._session.subscriptions.get(channel)
        grant = await self._grant(request.token, channel) if subscription is not None else None
        # Looked up again: it may have ended while this waited.
        if subscription is None or grant is None or self._session.subscriptions.get(channel) is not subscription:
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        ttl = self._session.expire(subscription, grant.expire_at)
        return RefreshResult(expires=ttl > 0, ttl=ttl)

    async def _grant(self, token: str, channel: str) -> SubscriptionGrant:
        try:
            return await self._services.authenticator.authenticate_subscription(
                token, user_id=self._session.identity.context.user_id, client=self._session.id, channel=channel
            )
        except ForeignToken as error:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, f"invalid token: {error.why}") from None

    def _channel(self, name: str) -> str:
        if name == self._session.manager.personal_channel:
            return name  # first: it is longer by one than the id, which may be as long as a name
        try:
            check_id("channel", name)
        except IdentityError as error:
            raise CommandError(ErrorCode.BAD_REQUEST, f"bad request: {error}") from None
        if name.startswith("#"):
            raise CommandError(ErrorCode.PERMISSION_DENIED)
        return name
