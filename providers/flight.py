"""Single flight: one build of a key at a time, and everybody who asks meanwhile waits for that one.

Without locks: a key is claimed by ``dict.setdefault``, which is atomic among threads and in finalizers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any
from weakref import WeakValueDictionary


class Build:
    """One call that builds an instance or waits for the build of another.

    Contexts keep builds alive (a task started by a factory copies the context that names the build), so a build that is
    over holds neither its instance nor anything of it.
    """

    __slots__ = ("_outer", "_over", "_waiters", "_waits_for", "pending", "task")

    def __init__(self) -> None:
        self._outer = CURRENT.get()
        self._over = False
        self._waiters: list[Future[Any]] = []
        self._waits_for: dict[Build, None] = {}
        self.pending: Future[Any] | None = None  # what an asynchronous build will give
        self.task: asyncio.Future[Any] | None = None  # the event loop holds its tasks weakly
        if self._outer is not None:
            self._outer._waits_for[self] = None

    def can_wait_for(self, other: Build) -> bool:
        """Note that this call waits for the other, and tell whether the other does not wait for this one.

        Two that start to wait for each other at once both note it first, so that at least one of them sees the circle.
        """
        self._waits_for[other] = None
        seen: set[Build] = set()
        path = [other]
        while path:
            build = path.pop()
            if build is self:
                return False
            if build not in seen:
                seen.add(build)
                path.extend(build._waits_for.copy())  # a copy is atomic: other threads add to it
        return True

    def wait(self) -> Any | None:
        """Block until the factory has returned; give the instance, or None when the caller has to look again."""
        waiter: Future[Any] = Future()
        self._waiters.append(waiter)
        # Looked at after the append, and written before the list is read: one of the two sides sees the other.
        return None if self._over else waiter.result()

    def returned(self, instance: Any | None) -> None:
        """Wake those who wait for the factory; None when it failed or gave an awaitable."""
        self._over = True
        while self._waiters:
            self._waiters.pop().set_result(instance)

    def leave(self, _: object = None) -> None:
        """End the call: nothing waits through it any more, and it keeps nothing."""
        self.pending = self.task = None
        self._waits_for.clear()
        if self._outer is not None:
            self._outer._waits_for.pop(self, None)
            self._outer = None  # or instances whose tasks ask for the next instance would make an endless chain


CURRENT: ContextVar[Build | None] = ContextVar("build", default=None)
"""The build in which this code runs: threads and tasks that a factory uses are part of its build."""


class Registry:
    """The instances of one provider by key, and the builds that are under way."""

    __slots__ = ("building", "instances")

    def __init__(self) -> None:
        # Its public methods suffice: an entry goes by a removal that is atomic and that spares an entry whose object
        # lives, so the end of an old instance never takes a newer one along, whatever threads do in between.
        self.instances: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self.building: dict[Hashable, Build] = {}
