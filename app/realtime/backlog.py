"""Publishes that wait while the broker is not to be used: bounded, ordered, and out again when it is back."""

from __future__ import annotations

from collections import deque

import msgspec


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A publish that waits.

    Attributes:
        serial: counts what was ever let wait, from 1; live subscriptions remember what they saw by it.
        ticket: of an earlier attempt whose fate is uncertain (`BrokerUnavailable`); empty: there was none.
        since: when it began to wait, by the steady clock.
    """

    serial: int
    channel: str
    data: str
    info: str
    idempotency_key: str | None
    size: int
    ticket: str = ""
    since: float = 0


WAITING_OVERHEAD = 256
"""Bytes that a waiting publish takes beside its text."""


class BacklogFull(Exception):
    """Nothing more can wait."""

    def __init__(self, limit: int, setting: str) -> None:
        """Keep the limit, in bytes."""
        super().__init__(f"{limit} bytes wait for the broker already ({setting})")
        self.limit = limit
        self.setting = setting


class Backlog:
    """Waiting publishes by user key.

    Args:
        max_bytes: memory of all that waits, each publish with its overhead (`WAITING_OVERHEAD`).
        max_bytes_per_user: the same for one user key.

    Attributes:
        size: bytes that wait.
    """

    def __init__(self, *, max_bytes: int, max_bytes_per_user: int) -> None:
        """Start empty."""
        self._max_bytes = max_bytes
        self._max_bytes_per_user = max_bytes_per_user
        self.size = 0
        self._serial = 0
        self._queues: dict[str, _Queue] = {}

    def __contains__(self, key: str) -> bool:
        """Whether something waits for this user key."""
        return key in self._queues

    @property
    def serial(self) -> int:
        """Serial of the last publish that was let wait, for whatever user key; 0 for none."""
        return self._serial

    def keys(self) -> list[str]:
        """User keys for which something waits."""
        return list(self._queues)

    def append(
        self,
        key: str,
        channel: str,
        data: str,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
        since: float = 0,
    ) -> int | None:
        """Let a publish wait; its serial, or None if one with this idempotency key waits already.

        Raises:
            BacklogFull: there is no room; nothing was kept.
        """
        size = WAITING_OVERHEAD + sum(map(_width, (channel, data, info, idempotency_key or "")))
        queue = self._queues.get(key) or _Queue()
        if idempotency_key is not None and (channel, idempotency_key) in queue.idempotency_keys:
            return None
        if queue.size + size > self._max_bytes_per_user:
            raise BacklogFull(self._max_bytes_per_user, "modes.buffer_bytes_per_user")
        if self.size + size > self._max_bytes:
            raise BacklogFull(self._max_bytes, "modes.buffer_bytes")
        self._queues[key] = queue
        self._serial += 1
        if idempotency_key is not None:
            queue.idempotency_keys.add((channel, idempotency_key))
        queue.waiting.append(Waiting(self._serial, channel, data, info, idempotency_key, size, ticket, since))
        queue.size += size
        self.size += size
        return self._serial

    def first(self, key: str) -> Waiting | None:
        """The publish that waits longest."""
        queue = self._queues.get(key)
        return queue.waiting[0] if queue is not None else None

    def waiting(self, key: str) -> tuple[Waiting, ...]:
        """Everything that waits for a user key, in order."""
        queue = self._queues.get(key)
        return () if queue is None else tuple(queue.waiting)

    def keep_ticket(self, key: str, ticket: str) -> None:
        """The first one was tried and its fate is uncertain, unless the ticket is empty."""
        if ticket:
            waiting = self._queues[key].waiting
            waiting[0] = msgspec.structs.replace(waiting[0], ticket=ticket)

    def done(self, key: str) -> None:
        """The first one went out; forget it."""
        queue = self._queues[key]
        waiting = queue.waiting.popleft()
        queue.size -= waiting.size
        if waiting.idempotency_key is not None:
            queue.idempotency_keys.discard((waiting.channel, waiting.idempotency_key))
        self.size -= waiting.size
        if not queue.waiting:
            del self._queues[key]


def _width(text: str) -> int:
    """Bytes of memory, at most: a character beyond ASCII can widen all to four bytes."""
    return len(text) if text.isascii() else 4 * len(text)


class _Queue:
    __slots__ = ("idempotency_keys", "size", "waiting")

    def __init__(self) -> None:
        self.size = 0
        self.waiting: deque[Waiting] = deque()
        self.idempotency_keys: set[tuple[str, str]] = set()
