"""One client's connection, from its first byte to its last."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable
from enum import Enum, auto
from typing import NoReturn

import msgspec

from app.realtime.authentication import Authenticated, ExpiredToken, InvalidToken, KeysUnavailable
from app.realtime.broker import BrokerError
from app.realtime.clock import Timer
from app.realtime.codes import CommandError, Disconnect, DisconnectCode, ErrorCode
from app.realtime.commands import Commands
from app.realtime.failures import command_error
from app.realtime.heartbeat import Heartbeat
from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from app.realtime.metrics import Metrics
from app.realtime.modes import SessionRequired
from app.realtime.outbound import OutboundQueue, Write
from app.realtime.protocol import (
    VERSION,
    Command,
    ConnectRequest,
    ConnectResult,
    RefreshRequest,
    RefreshResult,
    decode_commands,
    encode,
    error_reply,
    reply,
)
from app.realtime.rate_limit import TokenBucket
from app.realtime.services import Services
from app.realtime.session import REFRESH_GRACE, Session
from app.realtime.violation import IsolationViolation

logger = logging.getLogger(__name__)


class ConnectionState(Enum):
    """Opened: only `connect` may come. Connecting: it runs. Connected: any command. Closed: nothing more goes in."""

    OPENED = auto()
    CONNECTING = auto()
    CONNECTED = auto()
    CLOSED = auto()


class ConnectionOptions(msgspec.Struct, frozen=True):
    """What connections may do; see `config.sections` for each."""

    queue_bytes: int
    message_bytes: int
    commands_per_second: float
    command_burst: int
    authentication_seconds: float
    ping_interval: float
    ping_timeout: float
    position_check: float
    anonymous: bool


class ClientConnection:
    """The state machine of a connection. The transport feeds it frames and writes what `outbound` holds.

    Used in one event loop. `disconnect` may be called at any moment, by anybody; it leaves the manager before it
    returns.

    Args:
        options: limits and times.
        services: what its session is given.
        managers: provider of managers, called with the identity, and again with that of a refresh.
        metrics: counts.
    """

    __slots__ = (
        "__weakref__",
        "_bucket",
        "_end",
        "_expiry",
        "_heartbeat",
        "_managers",
        "_metrics",
        "_options",
        "_positions_checked_at",
        "_services",
        "_session",
        "_stale",
        "_state",
        "id",
        "outbound",
    )

    def __init__(
        self,
        *,
        options: ConnectionOptions,
        services: Services,
        managers: Callable[[UserContext], UserManager],
        metrics: Metrics,
    ) -> None:
        """Opened, with the time to authenticate not yet running."""
        self.id = str(uuid.uuid4())
        self.outbound = OutboundQueue(options.queue_bytes, services.turn)
        self._options = options
        self._services = services
        self._managers = managers
        self._metrics = metrics
        self._state = ConnectionState.OPENED
        self._session: Session | None = None
        self._bucket = TokenBucket(services.clock, options.commands_per_second, options.command_burst)
        self._stale: Timer | None = None
        self._expiry: Timer | None = None
        self._heartbeat: Heartbeat | None = None
        self._positions_checked_at = services.clock.monotonic()
        self._end: Callable[[Disconnect], Callable[[], Write]] | None = None

    @property
    def state(self) -> ConnectionState:
        """Where it is."""
        return self._state

    def open(self, send: Callable[[str], Write], end: Callable[[Disconnect], Callable[[], Write]]) -> None:
        """Begin to write, and start the time within which `connect` must come.

        Args:
            send: writes a message.
            end: called once, when the server ends the connection; what it returns writes the close frame when it is
                time.

        Raises:
            IsolationViolation: it was opened before; nothing is done with it.
        """
        if self._end is not None or self._state is not ConnectionState.OPENED:
            self._doubt()
        self._end = end
        self.outbound.open(send, lambda: self.close(DisconnectCode.WRITE_ERROR.code))
        self._metrics.connections.inc()
        self._stale = self._services.clock.call_later(
            self._options.authentication_seconds, lambda: self.disconnect(Disconnect(DisconnectCode.STALE))
        )

    def _doubt(self) -> NoReturn:
        owner = "" if self._session is None else self._session.manager.key
        self._metrics.violations.labels("fresh").inc()
        extra = {"net": "fresh", "refused": "", "owner": owner}
        logger.error("isolation violated: a connection was to serve a second client", extra=extra)
        raise IsolationViolation("", "fresh")

    async def receive(self, text: str) -> None:
        """Carry out the commands of one text frame, in order. What goes wrong ends in a reply or a disconnect."""
        try:
            if len(text) > self._options.message_bytes or len(text.encode()) > self._options.message_bytes:
                raise Disconnect(DisconnectCode.MESSAGE_TOO_BIG)
            for command in decode_commands(text):
                if self._state is ConnectionState.CLOSED:
                    return
                if command.id == 0 and not command.method:
                    await self._pong()
                else:
                    await self._command(command)
        except Disconnect as reason:
            self.disconnect(reason)

    def disconnect(self, reason: Disconnect) -> None:
        """End the connection from this side: leave the manager now, say why to the client when the transport can."""
        if self._state is ConnectionState.CLOSED:
            return
        self._metrics.disconnects.labels(str(reason.disconnect.code)).inc()
        end = self._end
        self.close(reason.disconnect.code)
        if end is not None:
            # A copy: an exception that was raised keeps the frames it passed, and those hold the manager.
            write_end = end(Disconnect(reason.disconnect, reason.reason))
            self.outbound.close(write_end, drop=reason.disconnect is DisconnectCode.SLOW)

    def close(self, code: int) -> None:
        """Leave everything: the client is gone, or about to be told to. Does not wait; harmless when repeated."""
        if self._state is ConnectionState.CLOSED:
            return
        self._state = ConnectionState.CLOSED
        self._end = None  # the transport, which owns this: no cycle may keep them
        self._metrics.connections.dec()
        self._stop_waiting()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        session, self._session = self._session, None
        if session is not None:
            session.end(code)

    def _stop_waiting(self) -> None:
        if self._stale is not None:
            self._stale.cancel()
            self._stale = None

    async def _command(self, command: Command) -> None:
        method = command.method
        if not self._bucket.take():
            raise Disconnect(DisconnectCode.TOO_MANY_REQUESTS)
        if command.id <= 0 and method != "send":
            raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: a command needs an id above 0")
        self._metrics.commands.labels(method).inc()
        broken = False
        try:
            if command.connect is not None:
                await self._connect(command.id, command.connect)
            elif self._session is None or self._state is not ConnectionState.CONNECTED:
                raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: the first command must be connect")
            elif command.refresh is not None:
                await self._refresh(command.id, command.refresh, self._session)
            else:
                await Commands(self._services, self._session).handle(command)
        except Disconnect as reason:
            broken = reason.disconnect is DisconnectCode.INTERNAL_SERVER_ERROR
            raise
        except IsolationViolation:
            broken = True
            # Whoever goes on could get what is another's. SDKs come back, with a delay that grows.
            raise Disconnect(DisconnectCode.INTERNAL_SERVER_ERROR) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            broken = self._fail(command.id, error)
        finally:
            if self._session is not None:  # or whoever has no token could make an emergency for all
                self._metrics.tried += 1
                self._metrics.broken += broken

    def _fail(self, command_id: int, error: Exception) -> bool:
        """Answer; whether the fault is here. Whoever caught the error must keep no answer: it may be the error itself,
        which keeps the frame it was caught in, and so the manager.
        """
        answer = command_error(error)
        self._metrics.errors.labels(str(answer.code)).inc()
        if command_id and self._state is not ConnectionState.CLOSED:
            self._push_reply(command_id, answer)
        # Which keys to ask for is the client's own choice.
        return answer.code == ErrorCode.INTERNAL.code and not isinstance(error, KeysUnavailable)

    def _push_reply(self, command_id: int, error: CommandError) -> None:
        if not self.outbound.put(error_reply(command_id, error.code, error.message, error.temporary)):
            raise Disconnect(DisconnectCode.SLOW)

    async def _connect(self, command_id: int, request: ConnectRequest) -> None:
        if self._state is not ConnectionState.OPENED:
            raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: connect comes once")
        self._state = ConnectionState.CONNECTING
        try:
            identity = await self._identify(request.token)
            await self._begin(command_id, request, identity)
        except ExpiredToken:
            if not self._closed_meanwhile():
                self._state = ConnectionState.OPENED  # the SDK gets a fresh token and connects again
            raise
        except (InvalidToken, SessionRequired) as error:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, f"invalid token: {error}") from None
        except (BrokerError, KeysUnavailable) as error:
            # Its text: whoever keeps log records must not keep the error, its frames, and so the manager.
            logger.error("connect failed: %s", str(error))
            raise Disconnect(DisconnectCode.INTERNAL_SERVER_ERROR) from None

    async def _identify(self, token: str) -> Authenticated:
        if token:
            return await self._services.authenticator.authenticate(token)
        if not self._options.anonymous:
            raise InvalidToken("connect needs a token")
        # An identity of its own for every connection; its id is random, so nobody can guess or share it.
        return Authenticated(UserContext(session_id=f"anonymous-{uuid.uuid4()}"), None, "", ())

    async def _begin(self, command_id: int, request: ConnectRequest, identity: Authenticated) -> None:
        if self._closed_meanwhile():
            return
        session = Session(
            self._services,
            client=self.id,
            manager=self._managers(identity.context),
            identity=identity,
            outbound=self.outbound,
            disconnect=self.disconnect,
        )
        # From here on `close` ends the session, whatever happens below.
        self._session = session
        subscribed = await session.start(request.subs)
        if self._closed_meanwhile():
            return
        self._state = ConnectionState.CONNECTED
        clock, mode = self._services.clock, session.manager.mode
        ttl = self._expire_at(identity.expire_at)
        result = ConnectResult(
            client=self.id,
            version=VERSION,
            expires=ttl > 0,
            ttl=ttl,
            data=msgspec.Raw(encode({"mode": mode.kind.value}).encode()),
            subs={channel: result for channel, (_, result) in subscribed.items()},
            ping=math.ceil(self._options.ping_interval),
            pong=True,
            time=int(clock.time() * 1000),
        )
        session.push(reply(command_id, "connect", result))
        session.go_live({channel: position for channel, (position, _) in subscribed.items()})
        if self._closed_meanwhile():
            return  # too slow for what it missed
        self._stop_waiting()
        self._heartbeat = Heartbeat(
            clock,
            interval=self._options.ping_interval,
            timeout=self._options.ping_timeout,
            outbound=self.outbound,
            disconnect=self.disconnect,
        )

    def _closed_meanwhile(self) -> bool:
        # By a timer, an operator or a slow client, while this waited. Whoever closed it has cleaned up.
        return self._state is ConnectionState.CLOSED

    async def _refresh(self, command_id: int, request: RefreshRequest, session: Session) -> None:
        try:
            identity = await self._services.authenticator.authenticate(request.token)
        except ExpiredToken:
            raise
        except InvalidToken as error:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, f"invalid token: {error}") from None
        if self._closed_meanwhile():
            return
        if identity.context.key != session.identity.context.key:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, "invalid token: it is another user's")
        try:
            # Another session matters where sessions are apart, and other claims where rules on modes read them.
            if self._managers(identity.context) is not session.manager:
                raise Disconnect(DisconnectCode.FORCE_RECONNECT, "force reconnect: the token leads to another manager")
        except SessionRequired as error:
            raise Disconnect(DisconnectCode.INVALID_TOKEN, f"invalid token: {error}") from None
        session.identity = identity
        ttl = self._expire_at(identity.expire_at)
        session.push(
            reply(command_id, "refresh", RefreshResult(client=self.id, version=VERSION, expires=ttl > 0, ttl=ttl))
        )

    def _expire_at(self, expire_at: float | None) -> int:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if expire_at is None:
            return 0
        ttl = max(1, math.ceil(expire_at - self._services.clock.time()))
        self._expiry = self._services.clock.call_later(
            ttl + REFRESH_GRACE, lambda: self.disconnect(Disconnect(DisconnectCode.EXPIRED))
        )
        return ttl

    async def _pong(self) -> None:
        if self._heartbeat is None or self._session is None:
            raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: a pong before connect")
        self._heartbeat.pong()
        now = self._services.clock.monotonic()
        if now - self._positions_checked_at >= self._options.position_check:
            self._positions_checked_at = now
            try:
                await self._session.check_positions()
            except BrokerError as error:
                logger.warning("positions were not checked: %s", error.reason)
