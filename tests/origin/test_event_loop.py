"""Row: the lock protects: it stalled the event loop for 25 s, and around an `await` it excluded nobody.

That no module has a lock: tests/test_architecture.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.realtime.authentication import Authenticated
from app.realtime.identity import UserContext
from containers import GatewayContainer
from tests.gateway import token
from tests.realtime.gates import Gate
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty

STALL = 1.0
"""Seconds for which a loop may stand on a busy machine: the original stood for 25."""


@asynccontextmanager
async def measured() -> AsyncIterator[list[float]]:
    """Measure how late the event loop is meanwhile: in the end, the list has the seconds between its turns."""
    gaps: list[float] = []

    async def watch() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watcher = asyncio.create_task(watch())
    yield gaps
    await asyncio.sleep(0.005)
    watcher.cancel()


async def test_five_waiting_coroutines_stall_nobody(container: GatewayContainer) -> None:
    # All five wait inside the making of a connection, for as long as a slow broker likes.
    faulty = make_faulty(container)
    gate = faulty.before["history"] = Gate()
    peers = [Peer(container) for _ in range(5)]
    async with measured() as gaps:
        for peer in peers:
            await peer.__aenter__()
        waiting = [asyncio.create_task(peer.call("connect", {"token": token("alice")})) for peer in peers]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        container.manager(UserContext(user_id="bob"))
        gate.opened.set()
        assert all("connect" in reply for reply in await asyncio.gather(*waiting))
    assert len(gaps) > 20
    assert max(gaps) < STALL
    assert container.manager.count() == 1
    for peer in peers:
        peer.leave()


async def test_a_hundred_new_users_at_once_stall_nobody(container: GatewayContainer) -> None:
    async def come(number: int) -> None:
        async with Peer(container) as peer:
            await peer.connect(f"user-{number}")
            await asyncio.sleep(0.01)

    async with measured() as gaps:
        await asyncio.gather(*(come(number) for number in range(100)))
    assert max(gaps) < STALL
    assert container.manager.count() == 0


async def test_ten_coroutines_around_an_await_still_get_one_manager(container: GatewayContainer) -> None:
    inside, most = 0, 0
    seen = set()

    async def ask() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        identity: Authenticated = await container.authenticator().authenticate(token("alice"))
        await asyncio.sleep(0)
        manager = container.manager(identity.context)
        await asyncio.sleep(0)
        seen.add(manager)
        inside -= 1

    await asyncio.gather(*(ask() for _ in range(10)))
    assert most == 10  # nobody is excluded, and nobody needs to be
    assert len(seen) == container.manager.count() == 1
