"""Idempotency keys: what was published once is not published again."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from app.realtime.broker import Position

Name = tuple[str, str]


class IdempotencyKeys:
    """The idempotency keys of all user keys, each with the position its publication got.

    A user's keys push out only that user's: the oldest, once there are `per_user`.

    Args:
        ttl: seconds for which a key is remembered.
        per_user: keys remembered for one user key.
    """

    def __init__(self, *, ttl: float, per_user: int) -> None:
        """Remember nothing yet."""
        self._ttl = ttl
        self._per_user = per_user
        # Users by their last key, longest ago first; within a user, keys by age. Both orders are those of expiry.
        self._users: OrderedDict[str, OrderedDict[Name, tuple[Position, float]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Keys remembered; may count expired ones of users who came with others since."""
        return self._count

    @property
    def due(self) -> float:
        """Steady time at which `expire` next has something to do; infinity: never."""
        if not self._users:
            return inf
        keys = next(iter(self._users.values()))
        return keys[next(reversed(keys))][1]

    def find(self, key: str, name: Name, now: float) -> Position | None:
        """Where the publication went, if the user key had the name (channel, idempotency key) within the TTL."""
        keys = self._users.get(key)
        entry = None if keys is None else keys.get(name)
        return None if entry is None or entry[1] <= now else entry[0]

    def add(self, key: str, name: Name, position: Position, now: float) -> None:
        """Remember a name that `find` does not know."""
        keys = self._users.setdefault(key, OrderedDict())
        before = len(keys)
        keys[name] = position, now + self._ttl
        keys.move_to_end(name)
        while len(keys) > self._per_user or next(iter(keys.values()))[1] <= now:
            keys.popitem(last=False)
        self._count += len(keys) - before
        self._users.move_to_end(key)

    def expire(self, now: float) -> bool:
        """Forget one user key whose last name has expired, with all of its names; whether there was one."""
        if self.due > now:
            return False
        self._count -= len(self._users.popitem(last=False)[1])
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._users.clear()
        self._count = 0
