"""Idempotency keys: what was published once is not published again."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from app.realtime.broker import Position

Name = tuple[str, str, str]
"""User key, channel and idempotency key."""


class IdempotencyKeys:
    """The idempotency keys of all user keys, each with the position its publication got.

    Where there are too many, the oldest goes: that of the user key, or of all.

    Args:
        ttl: seconds for which a key is remembered.
        per_user: keys remembered for one user key.
        limit: keys remembered for all.
    """

    def __init__(self, *, ttl: float, per_user: int, limit: int) -> None:
        """Remember nothing yet."""
        self._ttl = ttl
        self._per_user = per_user
        self._limit = limit
        # Both by age, which is the order of expiry: of all, and of each user key.
        self._all: OrderedDict[Name, tuple[Position, float]] = OrderedDict()
        self._users: dict[str, OrderedDict[Name, None]] = {}

    def __len__(self) -> int:
        """Keys remembered."""
        return len(self._all)

    @property
    def due(self) -> float:
        """Steady time at which `expire` next has something to do; infinity: never."""
        return self._all[next(iter(self._all))][1] if self._all else inf

    def find(self, name: Name, now: float) -> Position | None:
        """Where the publication went, if the name came within the TTL."""
        entry = self._all.get(name)
        return None if entry is None or entry[1] <= now else entry[0]

    def add(self, name: Name, position: Position, now: float) -> None:
        """Remember a name that `find` does not know."""
        if name in self._all:
            self._forget(name)  # it has expired
        names = self._users.setdefault(name[0], OrderedDict())
        names[name] = None
        self._all[name] = position, now + self._ttl
        if len(names) > self._per_user:
            self._forget(next(iter(names)))
        elif len(self._all) > self._limit:
            self._forget(next(iter(self._all)))

    def expire(self, now: float) -> bool:
        """Forget one name that has expired; whether there was one."""
        if self.due > now:
            return False
        self._forget(next(iter(self._all)))
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._users.clear()
        self._all.clear()

    def _forget(self, name: Name) -> None:
        del self._all[name]
        names = self._users[name[0]]
        del names[name]
        if not names:
            del self._users[name[0]]
