"""How the parts of the container are made from the settings."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

import psutil

from app.realtime.auth_token import AuthToken, TokenIssuer
from app.realtime.backlog import Backlog
from app.realtime.broker import Broker
from app.realtime.clock import Clock
from app.realtime.connection import ConnectionOptions
from app.realtime.connections import ConnectionTable
from app.realtime.control import Control
from app.realtime.emergency import EmergencyOptions, EmergencyWatch
from app.realtime.envelope import Envelopes
from app.realtime.identity import UserContext
from app.realtime.lifecycle import LifecycleLog, LifecycleRecord
from app.realtime.manager import UserManager
from app.realtime.messages import OperatorModes
from app.realtime.metrics import Metrics
from app.realtime.modes import ManagerMode, ModePolicy
from app.realtime.publisher import Publisher
from app.realtime.services import SessionOptions
from config import Settings
from containers.violations import VIOLATIONS, violation
from providers import Claims, PerKey

# A recovery or a history must leave room in the queue for what is live; a publisher in a loop must yield before a queue
# is full. Both are a part of limits.queue_bytes.
REPLY_SHARE = 2
YIELD_SHARE = 2


def policy(settings: Settings, clock: Clock) -> ModePolicy:
    """Modes by configuration."""
    return ModePolicy(
        default=settings.mode,
        rules=settings.mode_rules,
        clock=clock,
        max_user_modes=settings.modes.max_user_modes,
    )


def keys(policy: ModePolicy) -> Callable[[UserContext], Hashable]:
    """What derives the key of a manager from a context."""
    return policy.key


def lifecycle(settings: Settings, clock: Clock, metrics: Metrics) -> LifecycleLog[UserManager]:
    """The log of all managers."""
    log: LifecycleLog[UserManager] = LifecycleLog(clock, settings.lifecycle.events)
    metrics.observe("managers", "Managers that live.", log.__len__)
    return log


def backlog(settings: Settings, metrics: Metrics) -> Backlog:
    """What waits in degraded mode."""
    waiting = Backlog(max_bytes=settings.modes.buffer_bytes, max_bytes_per_user=settings.modes.buffer_bytes_per_user)
    metrics.observe("backlog_bytes", "Bytes that wait for the broker.", lambda: waiting.size)
    return waiting


def publisher(
    settings: Settings, clock: Clock, policy: ModePolicy, broker: Broker, backlog: Backlog, metrics: Metrics
) -> Publisher[UserManager]:
    """The way in."""
    return Publisher(
        broker=broker,
        policy=policy,
        backlog=backlog,
        envelopes=Envelopes(clock, settings.limits.event_bytes),
        metrics=metrics,
        critical_types=settings.modes.critical_types,
        retry_after=settings.modes.retry_after,
        clock=clock,
        patience=settings.history.ttl,
        yield_bytes=settings.limits.queue_bytes // YIELD_SHARE,
    )


def session_options(settings: Settings) -> SessionOptions:
    """What a session may do."""
    return SessionOptions(
        channels=settings.limits.channels_per_connection,
        streams=settings.broker.max_streams_per_user,
        event_bytes=settings.limits.event_bytes,
        reply_bytes=settings.limits.queue_bytes // REPLY_SHARE,
        hold_bytes=settings.limits.queue_bytes,
        concurrent_rpcs=settings.limits.concurrent_rpcs,
        presence=settings.channels.presence,
        join_leave=settings.channels.join_leave,
        client_publish=settings.channels.client_publish,
        personal=settings.channels.personal,
    )


def connection_options(settings: Settings) -> ConnectionOptions:
    """What a connection may do."""
    return ConnectionOptions(
        queue_bytes=settings.limits.queue_bytes,
        message_bytes=settings.limits.message_bytes,
        commands_per_second=settings.limits.commands_per_second,
        command_burst=settings.limits.command_burst,
        authentication_seconds=settings.limits.authentication_seconds,
        ping_interval=settings.ping.interval,
        ping_timeout=settings.ping.timeout,
        position_check=settings.channels.position_check,
        anonymous=settings.auth.anonymous,
    )


def mode(policy: ModePolicy, context: UserContext) -> ManagerMode:
    """A mode object for one manager."""
    kind, since, reason = policy.mode(context)
    return ManagerMode(kind, since, reason)


def auth_token(issuer: TokenIssuer, key: str) -> AuthToken:
    """A token for one manager."""
    return issuer.issue(key)


def connections(settings: Settings) -> ConnectionTable:
    """A connection table for one manager."""
    return ConnectionTable(settings.limits.connections_per_user)


def lifecycle_record(settings: Settings, log: LifecycleLog[UserManager]) -> LifecycleRecord:
    """A record for one manager."""
    return LifecycleRecord(log, settings.lifecycle.events_per_user)


class MakeMode(Protocol):
    """The provider of modes."""

    def __call__(self, context: UserContext) -> ManagerMode:
        """A mode for the manager of `context`."""


def next_mode(make_mode: MakeMode, claims: Claims, metrics: Metrics) -> Callable[[UserContext, str], ManagerMode]:
    """What gives the manager of a context and key its next mode."""

    def take(context: UserContext, key: str) -> ManagerMode:
        try:
            mode = make_mode(context)
            claims.claim(key, mode)
        except VIOLATIONS as error:
            raise violation(error, key, metrics) from None
        return mode

    return take


def new_manager(
    context: UserContext,
    *,
    keys: Callable[[UserContext], str],
    make_mode: MakeMode,
    make_auth_token: Callable[[str], AuthToken],
    next_mode: Callable[[UserContext, str], ManagerMode],
    token_issuer: TokenIssuer,
    connections: ConnectionTable,
    record: LifecycleRecord,
    lifecycle: LifecycleLog[UserManager],
    publisher: Publisher[UserManager],
    claims: Claims,
    metrics: Metrics,
) -> UserManager:
    """A manager for the key of `context`, of parts that are its own: claimed before anything can use them."""
    key = keys(context)
    mode, auth_token = make_mode(context), make_auth_token(key)
    claims.claim(key, mode, auth_token, connections, record)
    made = UserManager(
        key=key,
        context=context,
        mode=mode,
        make_mode=next_mode,
        auth_token=auth_token,
        token_issuer=token_issuer,
        connections=connections,
        record=record,
        publisher=publisher,
        metrics=metrics,
    )
    claims.claim(key, made)
    lifecycle.track(made)
    return made


def manager(
    context: UserContext,
    *,
    make: Callable[[UserContext], UserManager],
    keys: Callable[[UserContext], str],
    metrics: Metrics,
) -> UserManager:
    """A new manager, or the error of who asked.

    Raises:
        IsolationViolation: a part of it is another manager's, or was given out before. Nobody has seen the new one.
    """
    try:
        return make(context)
    except VIOLATIONS as error:
        raise violation(error, keys(context), metrics) from None


def control(
    settings: Settings,
    policy: ModePolicy,
    lifecycle: LifecycleLog[UserManager],
    publisher: Publisher[UserManager],
    broker: Broker,
    managers: PerKey[UserManager],
) -> Control:
    """What operators work with."""
    return Control(
        policy=policy,
        lifecycle=lifecycle,
        publisher=publisher,
        broker=broker,
        operators=OperatorModes(policy, broker, settings.modes.max_user_modes),
        peek=managers.peek,
    )


def emergency(
    settings: Settings,
    clock: Clock,
    policy: ModePolicy,
    control: Control,
    lifecycle: LifecycleLog[UserManager],
    backlog: Backlog,
    metrics: Metrics,
) -> EmergencyWatch:
    """What looks for emergencies by rule."""
    process = psutil.Process()
    return EmergencyWatch(
        options=EmergencyOptions(**settings.modes.emergency.model_dump()),
        clock=clock,
        policy=policy,
        control=control,
        lifecycle=lifecycle,
        backlog=backlog,
        metrics=metrics,
        memory=lambda: process.memory_info().rss,
    )


def probes() -> Mapping[str, tuple[tuple[UserContext, ...], tuple[UserContext, ...]]]:
    """For `providers.prove`: what is asked for users, and the arguments of the calls for two that exist nowhere."""
    first, second = (
        UserContext(user_id=f"isolation-probe-{uuid.uuid4()}", session_id=f"isolation-probe-{uuid.uuid4()}")
        for _ in range(2)
    )
    return {"manager": ((first,), (second,)), "connection": ((), ())}
