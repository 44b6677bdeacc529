"""A publish load that does not stop while nodes come and go: back ends that try again elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.events import API_KEY, user

BACK_ENDS = 16
ANSWER_SECONDS = 5.0
AGAIN_SECONDS = 0.05


class Load:
    """Publishes to one user after the other over HTTP, each event with its number and until it is acknowledged.

    A user's events come from one back end, one after the other, so that their order is known. Each has an idempotency
    key: an attempt whose answer was lost is safe to repeat.

    Args:
        users: how many.
        rate: events a second.
        choose: port of a node that is ready.

    Attributes:
        published: acknowledged events by user.
        repeated: attempts that had no answer, or one that said to try again.
        running: until it is set to False.
    """

    def __init__(self, users: int, rate: float, choose: Callable[[], int | None]) -> None:
        """Nothing is published yet."""
        self.published: Counter[int] = Counter()
        self.repeated = 0
        self.running = True
        self._users = users
        self._rate = rate
        self._choose = choose

    async def run(self) -> None:
        """Publish until told to end."""
        await asyncio.gather(*(self._back_end(number) for number in range(min(BACK_ENDS, self._users))))

    async def _back_end(self, number: int) -> None:
        line = BackEnd(self._choose)
        interval = BACK_ENDS / self._rate
        due = time.perf_counter() + random.uniform(0, interval)
        for who in itertools.cycle(range(number, self._users, BACK_ENDS)):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if not self.running:
                break
            due = max(due + interval, time.perf_counter() - 1)  # what was missed for longer is not made up for
            count = self.published[who] + 1
            event = {"type": "token", "data": {"n": count, "t": time.time_ns()}, "idempotency_key": f"{who}-{count}"}
            while not await line.post(f"/v1/users/{user(who)}/events", event):
                self.repeated += 1
                await asyncio.sleep(AGAIN_SECONDS)
            self.published[who] = count
        line.close()


class BackEnd:
    """One kept-alive HTTP connection to some node that is ready."""

    def __init__(self, choose: Callable[[], int | None]) -> None:
        """Not connected."""
        self._choose = choose
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: object) -> bool:
        """Whether it was answered with 200; if not, the next attempt goes over another connection."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if await self._exchange(path, json.dumps(body).encode()):
                    return True
        except (OSError, EOFError):  # TimeoutError is the first, an incomplete answer the second
            pass
        self.close()
        return False

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, path: str, content: bytes) -> bool:
        if self._streams is None:
            port = self._choose()
            if port is None:
                return False
            self._streams = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = self._streams
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        return answer.startswith(b"HTTP/1.1 200")
