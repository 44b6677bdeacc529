"""How long everybody is without the engine when it dies, or falls silent, and comes back."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial

from benchmarks.client import TIMEOUT, Reader, Tally, WrongCount
from benchmarks.setups import Setup, setup
from benchmarks.valkey import LASTING, stand_alone

MODE = re.compile(rb'"mode": ?"(degraded|unified)"')
MODE_BYTES = 24


class Modes:
    """How many connections have been told of each mode, and when the last of them was."""

    def __init__(self) -> None:
        """Nobody was told anything."""
        self._told = {b"degraded": 0, b"unified": 0}
        self._last = 0.0

    def add(self, mode: bytes) -> None:
        """Count a connection."""
        self._told[mode] += 1
        self._last = time.perf_counter()

    async def all_told(self, mode: bytes, times: int) -> float:
        """Wait until so many were told; when the last one was.

        Raises:
            WrongCount: they were not.
        """
        deadline = time.perf_counter() + TIMEOUT
        while self._told[mode] < times:
            if time.perf_counter() > deadline:
                raise WrongCount(f"{self._told[mode]} of {times} were told {mode.decode()}")
            await asyncio.sleep(0.001)
        return self._last


class ModeReader(Reader):
    """Also counts what it is told of modes."""

    def __init__(self, modes: Modes, tally: Tally, lost: asyncio.Future[bytes]) -> None:
        super().__init__(tally, lost)
        self._modes = modes
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        text, end = self._rest + data, 0
        for match in MODE.finditer(text):
            end = match.end()
            self._modes.add(match[1])
        self._rest = text[max(end, len(text) - MODE_BYTES) :]
        super().data_received(data)


async def outages(users: int, times: int) -> dict[str, list[float]]:
    """Seconds, by what was measured, of a server that is killed and of one that is stopped, on two nodes."""
    found: dict[str, list[float]] = {}
    modes, count = Modes(), 0
    with stand_alone(LASTING) as engine:
        async with setup(2, engine, partial(ModeReader, modes)) as made:
            await made.connect(users)
            for _ in range(times):
                for what, end, back in (
                    ("killed", engine.servers[0].kill, engine.servers[0].start),
                    ("silent", engine.servers[0].pause, engine.servers[0].resume),
                ):
                    count += 1
                    start = time.perf_counter()
                    end()
                    degraded = await modes.all_told(b"degraded", count * made.users) - start
                    reached = await _publish(made)
                    await asyncio.to_thread(back)
                    start = time.perf_counter()
                    caught_up = max(
                        await modes.all_told(b"unified", count * made.users), await made.crowds[0].received(reached)
                    )
                    for crowd in made.crowds:
                        await crowd.check(count)
                    found.setdefault(f"engine {what} to all told, s", []).append(degraded)
                    found.setdefault(f"engine {what}: back to all caught up, s", []).append(caught_up - start)
    return found


async def _publish(made: Setup) -> asyncio.Future[float]:
    """One event for each user from the first node: it waits there, and its own users have it at once."""
    reached = made.tally.after(made.users)
    await made.servers[0].ask("flood", events=made.users, users=made.users, at_once=1)
    return reached
