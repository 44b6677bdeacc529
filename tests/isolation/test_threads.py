"""One manager per user key, from however many threads and tasks at once, without locks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from containers import GatewayContainer
from tests.gateway import build_container
from tests.realtime.peer import Peer

THREADS = 8

pytestmark = pytest.mark.usefixtures("frequent_switches")


def together(function: Callable[[int], None]) -> None:
    """Call the function in every thread, from the same moment on."""
    barrier = Barrier(THREADS, timeout=10)

    def start(number: int) -> None:
        barrier.wait()
        function(number)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(start, number) for number in range(THREADS)]:
            future.result(timeout=30)


def living(container: GatewayContainer, key: str) -> set[UserManager]:
    return {manager for manager in container.lifecycle().living() if manager.key == key}


def test_threads_that_ask_for_one_user_at_once_get_one_manager() -> None:
    container = build_container()
    got: list[list[UserManager]] = [[] for _ in range(100)]

    def ask(_: int) -> None:
        for number, managers in enumerate(got):
            managers.append(container.manager(UserContext(user_id=f"user-{number}")))

    together(ask)
    assert all(len(managers) == THREADS and len(set(managers)) == 1 for managers in got)
    assert len({manager for managers in got for manager in managers}) == container.manager.count() == 100
    assert container.lifecycle().total == 100


def test_a_user_never_has_two_living_managers_while_threads_take_and_drop_them() -> None:
    container = build_container(lifecycle={"events": 10})

    def take_and_drop(thread: int) -> None:
        chance = random.Random(thread)
        for _ in range(400):
            context = UserContext(user_id=f"user-{chance.randrange(3)}", session_id=f"thread-{thread}")
            manager = container.manager(context)
            assert manager.key == context.key
            assert living(container, context.key) == {manager}
            assert container.manager(context) is manager
            del manager

    together(take_and_drop)
    assert container.manager.count() == len(container.lifecycle()) == 0
    assert container.lifecycle().total % 2 == 0


def test_different_users_in_different_threads_never_get_each_others_manager() -> None:
    container = build_container(mode="isolated")

    def ask(thread: int) -> None:
        for number in range(100):
            context = UserContext(user_id=f"user-{thread}", session_id=f"session-{number}")
            manager = container.manager(context)
            assert manager.key == f"user-session:user-{thread}:session-{number}"
            assert manager.context == context
            assert manager.auth_token.key == manager.key

    together(ask)
    assert container.manager.count() == 0


async def test_threads_and_connections_that_ask_at_once_get_one_manager() -> None:
    container = build_container()
    context = UserContext(user_id="alice")
    stop = False

    def ask() -> int:
        asked = 0
        while not stop or not asked:
            manager = container.manager(context)
            assert living(container, "user:alice") == {manager}
            del manager
            asked += 1
        return asked

    threads = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(3)]
    for _ in range(100):
        async with Peer(container) as peer:
            await peer.connect("alice")
            (manager,) = living(container, "user:alice")
            assert [connection.id for connection in manager.connections] == [peer.connection.id]
            assert (await manager.emit("tick", 1)).connections == 1
            del manager
    stop = True
    assert all(asked > 0 for asked in await asyncio.gather(*threads))
    assert container.manager.count() == 0


async def test_tasks_that_ask_for_one_user_at_once_get_one_manager() -> None:
    container = build_container()
    held: list[UserManager] = []

    async def ask(number: int) -> None:
        for _ in range(number % 5):
            await asyncio.sleep(0)
        held.append(container.manager(UserContext(user_id="alice", request_id=f"r{number}")))

    await asyncio.gather(*(ask(number) for number in range(500)))
    assert len(held) == 500
    assert len(set(held)) == container.manager.count() == 1
