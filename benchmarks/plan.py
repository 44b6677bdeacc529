"""The baseline of the registry: one manager per user as the original plan had it.

A dict behind a lock; every new manager is compared with all others, attribute by attribute and by identity; a list of
what happened to each. In one respect it is better than the plan: modes are objects of their own, otherwise it would
refuse the second user of a mode. The key is the plain user id.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

ATTRIBUTES = ("mode", "auth_token", "connections", "context")


class PlanMode:
    """A mode that is an object of its own."""

    def __init__(self, value: str) -> None:
        self.value = value


class PlanManager:
    """A manager as the plan had it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.mode = PlanMode("unified")
        self.auth_token = secrets.token_hex(16)
        self.connections: dict[str, Any] = {}
        self.created_at = time.time()


class PlanRegistry:
    """All managers there ever were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._managers: dict[str, PlanManager] = {}
        self._lifecycle: dict[str, list[dict[str, Any]]] = {}

    def get(self, context: Any) -> PlanManager:
        """The manager of a user, created and checked against all others if there is none."""
        key = context.user_id
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                manager = PlanManager(context)
                self._validate(manager)
                self._managers[key] = manager
                self._lifecycle[key] = [{"event": "created", "at": time.time()}]
            else:
                self._lifecycle[key].append({"event": "accessed", "at": time.time()})
            return manager

    def fill(self, context: Any) -> PlanManager:
        """Put a manager in without the validation, whose cost would add up to hours."""
        self._lifecycle[context.user_id] = []
        return self._managers.setdefault(context.user_id, PlanManager(context))

    def remove(self, context: Any) -> None:
        """What the plan never does: the benchmark, to stay at a number of users."""
        del self._managers[context.user_id], self._lifecycle[context.user_id]

    def _validate(self, manager: PlanManager) -> None:
        for other in self._managers.values():
            for attribute in ATTRIBUTES:
                if getattr(other, attribute) is getattr(manager, attribute):
                    raise ValueError(f"managers share internal state: attribute {attribute!r}")
