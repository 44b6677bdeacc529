"""The engine for several nodes: Redis or Valkey, 7 and later, stand-alone, behind Sentinel, or as a Cluster."""

from app.realtime.redis.broker import RedisBroker
from app.realtime.redis.scripts import RedisOptions
from app.realtime.redis.servers import UnknownServers, servers

__all__ = ("RedisBroker", "RedisOptions", "UnknownServers", "servers")
