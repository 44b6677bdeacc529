"""How the parts of the container are made from the settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Protocol

import psutil

from app.realtime.auth_token import AuthToken, TokenIssuer
from app.realtime.authentication import Authenticator, KeySet, KeySource, RemoteKeySet, StaticKey
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
from app.realtime.memory import MemoryBroker
from app.realtime.messages import OperatorModes
from app.realtime.metrics import Metrics
from app.realtime.modes import ManagerMode, ModePolicy
from app.realtime.publisher import Publisher
from app.realtime.redis import RedisBroker, RedisOptions, servers
from app.realtime.services import SessionOptions
from config import Settings
from containers.violations import VIOLATIONS, violation
from providers import Claims, PerKey

# A recovery or a history must leave room in the queue for what is live; a publisher in a loop must yield before a queue
# is full. Both are a part of limits.queue_bytes.
REPLY_SHARE = 2
YIELD_SHARE = 2

# Fields of MemoryStats, and what they tell whoever looks at the metrics.
BROKER_GAUGES = (
    ("users", "User keys that have streams."),
    ("subscribers", "User keys that have connections."),
    ("streams", "Streams of all users."),
    ("bytes", "Memory of all streams, as broker.max_bytes counts it."),
    ("idempotency_keys", "Idempotency keys that are remembered."),
    ("presences", "Connections in channels, as presence counts them."),
)


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


def broker(settings: Settings, clock: Clock, metrics: Metrics) -> Broker:
    """The engine that `broker.url` names."""
    engine = (
        _memory(settings, clock, metrics) if settings.broker.url.startswith("memory://") else _redis(settings, metrics)
    )
    metrics.observe("broker_up", "Whether publishes, reads and deliveries work.", engine.healthy)
    return engine


def _redis(settings: Settings, metrics: Metrics) -> RedisBroker:
    wanted = settings.broker
    options = RedisOptions(
        history_size=settings.history.size,
        history_ttl=settings.history.ttl,
        max_streams_per_user=wanted.max_streams_per_user,
        idempotency_ttl=wanted.idempotency_ttl,
        idempotency_keys_per_user=wanted.idempotency_keys_per_user,
        presence_ttl=wanted.presence_ttl,
        prefix=wanted.prefix,
        timeout=wanted.timeout,
        check_interval=wanted.check_interval,
        pending=wanted.pending,
    )
    engine = RedisBroker(servers(wanted.url, wanted.timeout), options)
    counted = engine.statistics
    metrics.count("broker_losses", "How often Redis or Valkey was lost.", lambda: counted.losses)
    metrics.count("broker_lost_seconds", "Seconds for which it was lost.", counted.lost_seconds)
    metrics.count("broker_messages", "Messages that it sent to this node.", lambda: counted.messages)
    metrics.count("broker_strays", "Of these, those for no user of this node.", lambda: counted.strays)
    metrics.observe("broker_echo_seconds", "What the last check of it took.", lambda: counted.echo_seconds)
    metrics.observe("broker_waiting", "Commands that it has not answered yet.", engine.waiting)
    return engine


def _memory(settings: Settings, clock: Clock, metrics: Metrics) -> MemoryBroker:
    memory = MemoryBroker(
        clock=clock,
        history_size=settings.history.size,
        history_ttl=settings.history.ttl,
        max_bytes=settings.broker.max_bytes,
        max_bytes_per_user=settings.broker.max_bytes_per_user,
        max_streams_per_user=settings.broker.max_streams_per_user,
        idempotency_ttl=settings.broker.idempotency_ttl,
        idempotency_keys_per_user=settings.broker.idempotency_keys_per_user,
        idempotency_keys=settings.broker.idempotency_keys,
    )
    for name, text in BROKER_GAUGES:
        metrics.observe(f"broker_{name}", text, partial(_statistic, memory, name))
    return memory


def _statistic(memory: MemoryBroker, name: str) -> float:
    return float(getattr(memory.stats(), name))


def backlog(settings: Settings, metrics: Metrics) -> Backlog:
    """What waits in degraded mode."""
    waiting = Backlog(max_bytes=settings.modes.buffer_bytes, max_bytes_per_user=settings.modes.buffer_bytes_per_user)
    metrics.observe("backlog_bytes", "Bytes that wait for the broker.", lambda: waiting.size)
    return waiting


def authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """What verifies tokens, with the keys that are configured."""
    auth = settings.auth
    return Authenticator(
        keys=_key_source(settings),
        algorithm=auth.algorithm,
        audience=auth.audience,
        issuer=auth.issuer,
        leeway=auth.leeway,
        session_claim=auth.session_claim,
        clock=clock,
    )


def _key_source(settings: Settings) -> KeySource | None:
    auth = settings.auth
    if auth.jwks_url is not None:
        return RemoteKeySet(str(auth.jwks_url), auth.jwks_ttl)
    if auth.jwks_file is not None:
        return KeySet(json.loads(auth.jwks_file.read_text()))
    if auth.public_key is not None:
        return StaticKey(auth.public_key)
    if auth.hmac_secret is not None:
        return StaticKey(auth.hmac_secret.get_secret_value())
    return None


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
