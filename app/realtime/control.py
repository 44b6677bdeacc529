"""What reaches living managers: operators who look at users, end connections and set modes, incidents, and the stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec

from app.realtime.again import Again
from app.realtime.broker import Broker, BrokerError, BrokerUnavailable, StreamInfo
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.identity import IdentityError, UserContext
from app.realtime.lifecycle import LifecycleLog
from app.realtime.manager import UserManager
from app.realtime.messages import DisconnectUser, OperatorModes, SetMode, decode_message, encode_message
from app.realtime.modes import ModeKind, ModePolicy, SessionRequired
from app.realtime.publisher import Publisher
from app.realtime.violation import IsolationViolation

logger = logging.getLogger(__name__)

# While it works through many managers, the event loop gets a turn after so many.
BATCH = 200
FLUSH_AGAIN_SECONDS = 0.1
REFUSED_AGAIN_SECONDS = 1


class UserReport(msgspec.Struct, frozen=True):
    """What is known of one manager's user.

    Attributes:
        key: user key; an isolated user has one for each session.
        mode: mode now, and why.
        connections: client ids.
        streams: streams and their positions; no content.
    """

    key: str
    mode: ModeKind
    reason: str
    connections: tuple[str, ...]
    streams: tuple[StreamInfo, ...]


class Control:
    """Operations on living managers. Runs in the gateway's event loop.

    Args:
        policy: where modes are decided.
        lifecycle: knows the managers that live.
        publisher: flushes what waited when degraded mode ends.
        broker: knows streams, and other nodes.
        operators: tells other nodes what operators set.
        peek: the living manager of a context, if any.
    """

    def __init__(
        self,
        *,
        policy: ModePolicy,
        lifecycle: LifecycleLog[UserManager],
        publisher: Publisher[UserManager],
        broker: Broker,
        operators: OperatorModes,
        peek: Callable[[UserContext], UserManager | None],
    ) -> None:
        """Not draining."""
        self._policy = policy
        self._lifecycle = lifecycle
        self._publisher = publisher
        self._broker = broker
        self._operators = operators
        self._peek = peek
        self._draining = False
        self._behind = False
        self._again = Again(self._try_again, REFUSED_AGAIN_SECONDS)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def draining(self) -> bool:
        """Whether the gateway is about to stop and takes no new connections."""
        return self._draining

    def ready(self) -> bool:
        """Whether new connections and publishes are welcome."""
        return not self._draining and not self._behind and self._broker.healthy()

    async def report(self, user_id: str) -> tuple[UserReport, ...]:
        """What is known of a user on this node, for each of their keys that lives or has streams.

        Raises:
            IdentityError: the id breaks a rule.
        """
        managers = self._managers(user_id)
        if managers:
            return tuple([await self._report(m.key, m.mode.kind, m.mode.reason, m) for m in managers])
        decision = self._policy.decide(user_id)
        report = await self._report(UserContext(user_id=user_id).key, decision.kind, decision.reason, None)
        return (report,) if report.streams else ()

    async def disconnect(self, user_id: str) -> int:
        """End a user's connections on all nodes with 3503, after which SDKs do not come back by themselves.

        Returns:
            Those on this node.

        Raises:
            IdentityError: the id breaks a rule.
            BrokerUnavailable: other nodes cannot be told; here they are ended.
        """
        ended = self._disconnect(user_id)
        await self._broker.broadcast(encode_message(DisconnectUser(user_id)))
        return ended

    def _disconnect(self, user_id: str) -> int:
        reason = Disconnect(DisconnectCode.FORCE_DISCONNECT)
        return sum(manager.disconnect_all(reason) for manager in self._managers(user_id))

    async def set_mode(self, kind: ModeKind | None, user_id: str | None = None) -> int:
        """Set the mode of one user or of all, on all nodes; None gives the decision back to the configuration.

        While other nodes cannot be told, it holds here, and there as soon as they can. Managers whose key would now be
        another one (unified to isolated or back) end their connections with 3011, so that clients come back to the
        right one. Leaving degraded mode publishes what waited.

        Returns:
            Managers that the change reached, on this node.

        Raises:
            IdentityError: the id breaks a rule.
            ModeLimitExceeded: modes of too many users are set.
            BrokerError: what waited could not be published, or others could not be told; it is tried again.
            IsolationViolation: a manager's new mode is another manager's. It keeps the mode it has; all others changed.
        """
        managers = self._whose(user_id)
        self._operators.set(user_id, kind)
        try:
            return await self._refresh(managers)
        finally:
            await self._insist(self._tell())

    async def refresh_modes(self) -> int:
        """Give every manager the mode that the policy has for it now, in batches, and publish what waits no longer.

        Returns, Raises: as `set_mode`.
        """
        return await self._refresh(self._lifecycle.living())

    async def broker_lost(self, reason: str) -> None:
        """The broker cannot be reached: all are degraded until `broker_restored`, but for those in emergency.

        Args:
            reason: for the log; clients are told no more than `broker lost`.
        """
        logger.warning("broker lost: %s", reason)
        self._behind = True
        self._policy.set_incident(ModeKind.DEGRADED, "broker lost")
        await self._take_modes(self._lifecycle.living())

    async def broker_restored(self) -> None:
        """The broker is back: what waited goes out, and managers return to their modes and get what they missed.

        What the broker refuses of one user waits on and is tried again; it is nothing to the others.

        Raises:
            BrokerUnavailable: it went away again; what is left waits on.
        """
        logger.warning("broker restored")
        self._policy.clear_incident(ModeKind.DEGRADED)
        await self.synchronize()
        managers, failed = self._lifecycle.living(), None
        for start in range(0, len(managers), BATCH):
            # Together, as each waits for the broker, which carries out many commands at once.
            batch = managers[start : start + BATCH]
            for error in await asyncio.gather(*map(self._catch_up, batch), return_exceptions=True):
                if isinstance(error, BrokerUnavailable):
                    raise error
                if not isinstance(error, BrokerError | None):
                    failed = error
        try:
            await self._flush()
        except BrokerUnavailable:
            raise
        except BrokerError as error:
            logger.error("the broker refuses what waited for it, which is tried again: %s", error.reason)
        self._behind = False
        if failed is not None:
            raise failed

    async def _catch_up(self, manager: UserManager) -> None:
        decided = self._policy.decide(manager.context.user_id, manager.context.claims).kind
        with contextlib.suppress(IsolationViolation):  # counted and logged; the manager keeps the mode it has
            await self._publisher.catch_up(
                manager.key, flush=decided is not ModeKind.DEGRADED, settle=partial(self._apply, manager)
            )

    async def synchronize(self) -> None:
        """Tell other nodes what operators set here while the broker was lost, and learn what they set elsewhere.

        What the broker refuses is tried again.

        Raises:
            BrokerUnavailable: the broker cannot be reached.
        """
        try:
            await self._insist(self._operators.tell())
            await self._insist(self._operators.load())
        except BrokerUnavailable:
            raise
        except BrokerError as error:
            logger.error("the broker refuses what operators set, which is tried again: %s", error.reason)

    def broker_message(self, message: str) -> None:
        """Another node told something. Does not wait."""
        try:
            told = decode_message(message)
            match told:
                case DisconnectUser(user_id):
                    self._disconnect(user_id)
                case SetMode(user_id):
                    self._whose(user_id)  # whose id breaks no rule
                    self._later(self._learn(user_id))
        except (msgspec.DecodeError, IdentityError):
            logger.warning("another node said something that this version does not understand")

    def _later(self, work: Coroutine[Any, Any, int]) -> None:
        async def run() -> None:
            try:
                await work
            except (BrokerError, IsolationViolation) as error:
                logger.warning("a mode that another node told of: %s", type(error).__name__)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh(self, managers: Iterable[UserManager]) -> int:
        changed, violation = await self._take_modes(managers)
        await self._flush()
        if violation is not None:
            raise violation
        return changed

    async def _take_modes(self, managers: Iterable[UserManager]) -> tuple[int, IsolationViolation | None]:
        """Managers that changed, and the last one's error that was refused its mode; it is counted and logged."""
        changed, refused = 0, None
        for number, manager in enumerate(managers, 1):
            try:
                changed += self._apply(manager)
            except IsolationViolation as violation:
                # Another error, as the traceback of this one holds the manager.
                refused = IsolationViolation(violation.key, violation.net)
            if number % BATCH == 0:
                await asyncio.sleep(0)
        return changed, refused

    async def _flush(self) -> None:
        if ModeKind.DEGRADED not in self._policy.incidents:
            await self._insist(self._publisher.flush_all())

    async def _insist(self, work: Awaitable[object]) -> None:
        """Do something, and again later if the broker refuses it."""
        try:
            await work
        except BrokerUnavailable:
            raise
        except BrokerError:
            self._again.begin()
            raise

    async def _tell(self) -> None:
        for user_id in await self._operators.tell():
            await self._refresh(self._whose(user_id))

    async def _learn(self, user_id: str | None) -> int:
        await self._operators.learn(user_id)
        return await self._refresh(self._whose(user_id))

    async def _try_again(self) -> None:
        await self._tell()
        await self._flush()

    async def drain(self, seconds: float) -> int:
        """Take no new connections and end all with 3001, spread out so that they do not all come back at once.

        Args:
            seconds: over which they are spread.

        Returns:
            Connections ended.
        """
        self._draining = True
        ended, managers = 0, self._lifecycle.living()
        for number, manager in enumerate(managers, 1):
            ended += manager.disconnect_all(Disconnect(DisconnectCode.SHUTDOWN))
            if number % BATCH == 0 and number < len(managers):
                await asyncio.sleep(seconds * BATCH / len(managers))
        return ended

    async def flush(self, seconds: float) -> None:
        """Publish everything that waits, whatever the modes say: the gateway stops, and what is left goes with it.

        Args:
            seconds: for which a broker that cannot be reached is waited for.
        """
        self._again.end()
        try:
            async with asyncio.timeout(seconds):
                while not await self._flushed():  # noqa: ASYNC110 - there is no event to wait for
                    await asyncio.sleep(FLUSH_AGAIN_SECONDS)
        except (TimeoutError, BrokerError):
            logger.error("publishes were lost that waited for the broker")
        except asyncio.CancelledError:
            logger.error("publishes were lost that waited for the broker: the gateway was told to stop at once")
            raise

    async def _flushed(self) -> bool:
        try:
            await self._publisher.flush_all(whatever_the_mode=True)
        except BrokerUnavailable:
            return False
        return True

    def _apply(self, manager: UserManager) -> bool:
        try:
            moved = self._policy.key(manager.context) != manager.key
        except SessionRequired:
            moved = True
        if moved:
            manager.disconnect_all(Disconnect(DisconnectCode.FORCE_RECONNECT))
        return manager.refresh_mode() or moved

    def _whose(self, user_id: str | None) -> list[UserManager]:
        return self._lifecycle.living() if user_id is None else self._managers(user_id)

    def _managers(self, user_id: str) -> list[UserManager]:
        context = UserContext(user_id=user_id)
        managers = self._publisher.connected(user_id)
        try:
            idle = self._peek(context)
        except SessionRequired:
            return managers
        return managers if idle is None or idle in managers else [*managers, idle]

    async def _report(self, key: str, kind: ModeKind, reason: str, manager: UserManager | None) -> UserReport:
        ids = () if manager is None else tuple(connection.id for connection in manager.connections)
        return UserReport(key, kind, reason, ids, await self._broker.streams(key))
