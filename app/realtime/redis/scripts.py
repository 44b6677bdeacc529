"""What the servers carry out in one step, and the keys that it is carried out on."""

from __future__ import annotations

import hashlib
import secrets
from importlib.resources import files

import msgspec

from app.realtime.redis.servers import Command

FOR_DEADLINE = None
"""The place in a command where a `Lane` puts the deadline, when it sends it."""


class RedisOptions(msgspec.Struct, frozen=True):
    """Bounds and times of a `RedisBroker`; see `config.sections` for each. Seconds, where nothing else is said."""

    history_size: int
    history_ttl: float
    max_streams_per_user: int
    idempotency_ttl: float
    idempotency_keys_per_user: int
    presence_ttl: float
    prefix: str
    timeout: float
    check_interval: float
    pending: int


class Scripts:
    """Builds commands.

    Every key of a user begins with the same hash tag, so that a Cluster keeps all of them in one slot.

    Args:
        options: bounds.
        database: number of the one that the keys lie in: two gateways may have one each, and see the same channels.

    Attributes:
        load: the commands that make the scripts known to a server.
    """

    def __init__(self, options: RedisOptions, database: int = 0) -> None:
        """Read the scripts."""
        here = files("app.realtime.redis")
        stream = here.joinpath("stream.lua").read_text()

        def script(name: str) -> str:
            return stream + here.joinpath(f"{name}.lua").read_text()

        sources = tuple(map(script, ("publish", "history", "hold", "present", "presence", "streams")))
        self.load: tuple[Command, ...] = tuple(["SCRIPT LOAD", source] for source in sources)
        shas = (hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest() for source in sources)
        self._publish, self._history, self._hold, self._present, self._presence, self._streams = shas
        self._prefix = f"{options.prefix}@{database}" if database else options.prefix
        self._size = options.history_size
        self._ttl = _milliseconds(options.history_ttl)
        self._streams_limit = options.max_streams_per_user
        self._idempotency_ttl = _milliseconds(options.idempotency_ttl)
        self._idempotency_keys = options.idempotency_keys_per_user
        self._presence_ttl = _milliseconds(options.presence_ttl)

    def base(self, key: str) -> str:
        """What all keys of a user key begin with; also the name of their pub/sub channel."""
        if "}" in key or "%" in key:
            # A brace would end the hash tag. With it, what it is encoded by, or two keys could have one name.
            key = key.replace("%", "%25").replace("}", "%7D")
        return f"{{{self._prefix}:{key}}}"

    def own(self, name: str) -> str:
        """The same for what is the nodes' own; no user key begins so, as no prefix has a slash."""
        return f"{{{self._prefix}/{name}}}"

    def publish(
        self, base: str, lineage: str, channel: str, head: str, ticket: str, *, again: bool, idempotency_key: str
    ) -> Command:
        """Append and hand out; the reply is (kind, offset, epoch)."""
        keys = (f"{base}:m", f"{base}:s:{channel}", f"{base}:i", f"{base}:q", base)
        limits = (self._size, self._ttl, self._streams_limit, self._idempotency_ttl, self._idempotency_keys)
        what = (channel, head, ticket, "1" if again else "", idempotency_key)
        return ["EVALSHA", self._publish, len(keys), *keys, *what, *limits, _epoch(), lineage, FOR_DEADLINE]

    def history(
        self, base: str, lineage: str, channel: str, *, offset: int, epoch: str, limit: int, reverse: bool
    ) -> Command:
        """Read; the reply is (kind, offset, epoch, entries)."""
        keys = (f"{base}:m", f"{base}:s:{channel}")
        what = (channel, offset, epoch, limit, "1" if reverse else "")
        return ["EVALSHA", self._history, 2, *keys, *what, self._ttl, self._streams_limit, _epoch(), lineage]

    def hold(self, base: str, share: float) -> Command:
        """Hold the positions for a share of the time that history is kept."""
        return ["EVALSHA", self._hold, 1, f"{base}:m", round(self._ttl * share)]

    def present(self, base: str, channel: str, client: str, info: str) -> Command:
        """Say, or say again, that a connection is in a channel."""
        return ["EVALSHA", self._present, 1, f"{base}:p:{channel}", client, self._presence_ttl, info]

    def absent(self, base: str, channel: str, client: str) -> Command:
        """Say that it left."""
        return ["HDEL", f"{base}:p:{channel}", client]

    def presence(self, base: str, channel: str) -> Command:
        """Who is in a channel: client, info, client..."""
        return ["EVALSHA", self._presence, 1, f"{base}:p:{channel}"]

    def streams(self, base: str, lineage: str) -> Command:
        """The streams of a user: channel, offset, epoch, channel..."""
        return ["EVALSHA", self._streams, 1, f"{base}:m", lineage]

    def length(self, base: str, channel: str) -> Command:
        """How many publications a stream keeps."""
        return ["XLEN", f"{base}:s:{channel}"]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _epoch() -> str:
    return secrets.token_hex(4)
