"""Cycles of references: what Python finds only when it searches for them, while nothing else runs."""

from __future__ import annotations

import gc
import logging
import time

import psutil

MEBIBYTE = 1024 * 1024
GROWTH = 1.25
LEAST_BYTES = 64 * MEBIBYTE
REST_SECONDS = 60.0

logger = logging.getLogger(__name__)


def tune_garbage_collection() -> None:
    """Look for cycles of references less often, and never among what was made at start.

    Managers, connections and events are built without cycles and go at once. At Python's defaults the search would cost
    a new user as much as everything else, among many users: see the benchmark of the registry.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class FullSearch:
    """Searches everything for cycles when memory has grown: left to the thresholds, gigabytes could come before it.

    It stops the event loop for about 80 µs for each connected user, 0.8 s for 10,000. So it is not made at intervals,
    but when the process has a quarter and 64 MiB more than after the last one, and once a minute at most: a few times
    while users come, and while their number stays the same not at all, unless something leaves cycles behind.
    """

    def __init__(self) -> None:
        """Begin with the memory that the process has now."""
        self._process = psutil.Process()
        self._bytes = self._resident()
        self._next = time.monotonic() + REST_SECONDS

    def look(self) -> None:
        """See whether it is time, and search then. To be called often; costs next to nothing."""
        begun = time.monotonic()
        if begun < self._next:
            return
        self._next = begun + REST_SECONDS
        if self._resident() < max(self._bytes * GROWTH, self._bytes + LEAST_BYTES):
            return
        found = gc.collect()
        self._bytes = self._resident()
        figures = {"found": found, "seconds": round(time.monotonic() - begun, 3), "mib": self._bytes // MEBIBYTE}
        logger.info("searched for cycles of references", extra=figures)

    def _resident(self) -> int:
        return self._process.memory_info().rss
