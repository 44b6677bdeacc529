"""File descriptors: each connection takes one, and the system has no more for a process than it is allowed."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

if sys.platform != "win32":
    import resource

SHARE = 0.9
REMINDER_SECONDS = 60.0

logger = logging.getLogger(__name__)


class DescriptorWatch:
    """Warns, once a minute at most, when connections have taken nearly all file descriptors of the process.

    Without it nobody would know: the event loop closes connections for which there is none, and says nothing.
    """

    def __init__(self) -> None:
        """Nothing was told."""
        self._told = -REMINDER_SECONDS

    def look(self, transport: asyncio.Transport) -> None:
        """See how far a new connection is from the end: the system gives the lowest number that is free."""
        connection = transport.get_extra_info("socket")
        if sys.platform == "win32" or connection is None:
            return
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        now = time.monotonic()
        if connection.fileno() >= SHARE * allowed and now - self._told >= REMINDER_SECONDS:
            self._told = now
            logger.warning("file descriptors run out (ulimit -n)", extra={"allowed": allowed})
