"""How the broker is made: the engine that the settings name, and what metrics tell of it."""

from __future__ import annotations

from functools import partial

from app.realtime.broker import Broker
from app.realtime.clock import Clock
from app.realtime.memory import MemoryBroker
from app.realtime.metrics import Metrics
from app.realtime.redis import RedisBroker, RedisOptions, servers
from config import Settings

# Fields of MemoryStats, and what they tell whoever looks at the metrics.
BROKER_GAUGES = (
    ("users", "User keys that have streams."),
    ("subscribers", "User keys that have connections."),
    ("streams", "Streams of all users."),
    ("bytes", "Memory of all streams, as broker.max_bytes counts it."),
    ("idempotency_keys", "Idempotency keys that are remembered."),
    ("presences", "Connections in channels, as presence counts them."),
)


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
