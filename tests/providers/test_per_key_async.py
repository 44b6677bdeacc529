"""PerKey over asynchronous factories: one build for all who wait, whoever is cancelled."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from dependency_injector import containers, providers

from providers import Fresh, NotFreshError, NotWeakReferenceableError, PerKey, RecursiveBuildError


class Manager:
    def __init__(self, user: str, pool: object = None) -> None:
        self.user = user
        self.pool = pool


class Slow:
    """A factory that returns when it is told to, and counts its runs."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.runs = 0
        self.error: Exception | None = None

    async def __call__(self, user: str) -> Manager:
        self.runs += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Manager(user)


def by_user(user: str, *_: object, **__: object) -> str:
    return user


def asked(manager: PerKey[Any], *keys: str) -> list[asyncio.Task[Any]]:
    async def ask(key: str) -> Any:
        return await manager.async_(key)

    return [asyncio.create_task(ask(key)) for key in keys]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_during_a_build_get_its_instance() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(Fresh(slow), key=by_user)
    tasks = asked(manager, *["alice"] * 5, "bob")
    await settle()
    slow.gate.set()
    *alices, bob = await asyncio.gather(*tasks)
    assert len({id(each) for each in alices}) == 1
    assert bob is not alices[0]
    assert slow.runs == 2
    assert await manager.async_("alice") is alices[0]
    assert manager.is_async_mode_enabled()


async def test_nothing_is_there_to_peek_at_before_the_end() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    (task,) = asked(manager, "alice")
    await settle()
    assert manager.peek("alice") is None
    assert manager.count() == 0
    slow.gate.set()
    held = await task
    assert manager.peek("alice") is held


async def test_an_instance_lives_as_long_as_it_is_held() -> None:
    async def build(user: str) -> Manager:
        await asyncio.sleep(0)
        return Manager(user)

    manager: PerKey[Any] = PerKey(Fresh(build), key=by_user)
    gc.collect()
    gc.disable()
    try:
        held = await manager.async_("alice")
        reference = weakref.ref(held)
        await settle()
        assert await manager.async_("alice") is held
        del held
        await settle()
        assert reference() is None
        assert manager.count() == 0
    finally:
        gc.enable()


async def test_a_task_that_a_factory_starts_keeps_no_instance_alive() -> None:
    background: list[asyncio.Task[bool]] = []

    async def build(user: str) -> Manager:
        background.append(asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(0)
        return Manager(user)

    manager: PerKey[Any] = PerKey(build, key=by_user)
    gc.disable()
    try:
        held = await manager.async_("alice")
        await settle()
        del held
        assert manager.count() == 0
    finally:
        gc.enable()
        background[0].cancel()


async def test_a_chain_of_instances_whose_tasks_ask_for_the_next_one_keeps_nothing() -> None:
    """What a factory starts inherits its context; that must not become a list of all builds before."""
    manager: PerKey[Any]
    done = asyncio.get_running_loop().create_future()

    async def build(number: int) -> Manager:
        if number < 2_000:
            asyncio.get_running_loop().call_soon(follow, number + 1)
        else:
            done.set_result(asyncio.create_task(asyncio.Event().wait()))  # holds the context of the last build
        return Manager(str(number))

    waiting: set[asyncio.Future[Any]] = set()

    def follow(number: int) -> None:
        future = asyncio.ensure_future(manager.async_(number))
        waiting.add(future)
        future.add_done_callback(waiting.discard)

    manager = PerKey(build, key=lambda number: number)
    gc.collect()
    before = len(gc.get_objects())
    follow(0)
    background = await asyncio.wait_for(done, 10)
    await settle()
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    background.cancel()
    assert manager.count() == 0


async def test_the_cancellation_of_one_harms_no_other() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    first, second, third = asked(manager, "alice", "alice", "alice")
    await settle()
    first.cancel()
    third.cancel()
    await settle()
    slow.gate.set()
    held = await second
    assert first.cancelled()
    assert third.cancelled()
    assert await manager.async_("alice") is held
    assert slow.runs == 1


async def test_a_build_that_nobody_waits_for_any_more_leaves_nothing() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    (task,) = asked(manager, "alice")
    await settle()
    task.cancel()
    await settle()
    slow.gate.set()
    await settle()
    assert manager.count() == 0
    assert (await manager.async_("alice")).user == "alice"
    assert slow.runs == 2


async def test_a_failure_reaches_all_and_is_not_kept() -> None:
    slow = Slow()
    slow.error = ConnectionError("no route")
    slow.gate.set()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    results = await asyncio.gather(*asked(manager, "alice", "alice"), return_exceptions=True)
    assert results == [slow.error, slow.error]
    assert slow.runs == 1
    slow.error = None
    assert (await manager.async_("alice")).user == "alice"


async def test_a_build_that_is_cancelled_from_within_is_cancelled_for_all_and_not_kept() -> None:
    runs = count()

    async def build(user: str) -> Manager:
        await asyncio.sleep(0)
        if next(runs) == 0:
            raise asyncio.CancelledError
        return Manager(user)

    manager: PerKey[Any] = PerKey(build, key=by_user)
    tasks = asked(manager, "alice", "alice")
    await asyncio.wait(tasks, timeout=5)
    assert all(task.cancelled() for task in tasks)
    assert (await manager.async_("alice")).user == "alice"


async def test_an_instance_without_weak_references_is_an_error_to_the_awaiter() -> None:
    async def build(user: str) -> tuple[str]:
        return (user,)

    manager: PerKey[Any] = PerKey(build, key=by_user)
    for _ in range(2):
        with pytest.raises(NotWeakReferenceableError):
            await manager.async_("alice")


async def test_a_fresh_factory_that_gives_one_object_is_an_error_to_the_awaiter() -> None:
    one = Manager("everybody")

    async def build(user: str) -> Manager:
        return one

    manager: PerKey[Any] = PerKey(Fresh(build), key=by_user)
    assert await manager.async_("alice") is one
    with pytest.raises(NotFreshError):
        await manager.async_("bob")


async def test_a_factory_that_awaits_its_own_key_is_an_error_and_not_a_deadlock() -> None:
    manager: PerKey[Any]

    async def build(user: str) -> Manager:
        await asyncio.sleep(0)
        (pool,) = await asyncio.gather(*asked(manager, user))
        return Manager(user, pool)

    manager = PerKey(build, key=by_user)
    with pytest.raises(RecursiveBuildError):
        await asyncio.wait_for(manager.async_("alice"), 5)


async def test_two_factories_that_await_each_other_are_an_error_and_not_a_deadlock() -> None:
    manager: PerKey[Any]

    async def build(user: str) -> Manager:
        await asyncio.sleep(0)
        return Manager(user, await manager.async_("bob" if user == "alice" else "alice"))

    manager = PerKey(build, key=by_user)
    results = await asyncio.wait_for(asyncio.gather(*asked(manager, "alice", "bob"), return_exceptions=True), 5)
    assert {type(each) for each in results} == {RecursiveBuildError}


async def test_a_factory_may_await_other_keys() -> None:
    manager: PerKey[Any]

    async def build(user: str) -> Manager:
        await asyncio.sleep(0)
        return Manager(user, await manager.async_("root") if user != "root" else None)

    manager = PerKey(build, key=by_user)
    alice, bob = await asyncio.gather(*asked(manager, "alice", "bob"))
    assert alice.pool is bob.pool


async def test_a_diamond_of_factories_is_no_circle() -> None:
    gate = asyncio.Event()
    manager: PerKey[Any]
    needs = {"first": ("left", "right"), "second": ("first",), "left": ("root",), "right": ("root",), "root": ()}

    async def build(user: str) -> Manager:
        if user == "root":
            await gate.wait()
        return Manager(user, await asyncio.gather(*asked(manager, *needs[user])))

    manager = PerKey(build, key=by_user)
    (first,) = asked(manager, "first")
    await settle()
    (second,) = asked(manager, "second")
    await settle()
    gate.set()
    left, right = (await first).pool
    assert left.pool[0] is right.pool[0]
    assert (await second).pool == [await first]


async def test_a_reset_forgets_a_build_under_way_and_those_who_wait_still_get_it() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    (before,) = asked(manager, "alice")
    await settle()
    manager.reset()
    (after,) = asked(manager, "alice")
    slow.gate.set()
    assert await before is not await after
    assert slow.runs == 2


async def test_asynchronous_injections_of_a_container_work() -> None:
    async def open_pool() -> AsyncIterator[list[str]]:
        yield ["connection"]

    class Container(containers.DeclarativeContainer):
        pool: providers.Resource[list[str]] = providers.Resource(open_pool)
        manager = PerKey(Fresh(Manager, pool=pool), key=by_user)
        user = providers.Callable(lambda manager: manager.user, manager.provider)

    container = Container()
    alice, bob = await asyncio.gather(container.manager.async_("alice"), container.manager.async_("bob"))
    assert alice.pool is bob.pool
    assert alice is not bob
    assert await container.manager.async_("alice") is alice
    shutdown = container.shutdown_resources()
    assert shutdown is not None
    await shutdown


async def test_it_is_awaited_as_an_injection() -> None:
    async def build(user: str) -> Manager:
        return Manager(user)

    manager: PerKey[Any] = PerKey(build, "everybody", key=lambda: "one")
    held = await manager.async_()
    named: providers.Factory[Any] = providers.Factory(Manager, "page", pool=manager)
    assert (await named.async_()).pool is held
    assert await manager.provided.user.async_() == "everybody"


async def test_plain_and_asynchronous_builds_may_alternate() -> None:
    async def later(user: str) -> Manager:
        return Manager(user)

    manager: PerKey[Any] = PerKey(lambda user: later(user) if user == "bob" else Manager(user), key=by_user)
    alice = manager("alice")
    bob = await manager.async_("bob")
    assert manager("alice") is alice
    assert manager("bob") is bob


async def test_async_mode_can_be_set_as_for_any_provider() -> None:
    manager = PerKey(Manager, key=by_user)
    manager.enable_async_mode()
    held = await manager.async_("alice")
    assert await manager.async_("alice") is held
    manager.disable_async_mode()
    assert manager("alice") is held
    manager.reset_async_mode()
    assert manager.is_async_mode_undefined()


async def test_threads_with_loops_of_their_own_share_one_build() -> None:
    slow = Slow()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    (mine,) = asked(manager, "alice")
    await settle()
    asking = asyncio.Event()
    loop = asyncio.get_running_loop()

    def elsewhere() -> Any:
        async def ask() -> Any:
            pending = manager.async_("alice")
            loop.call_soon_threadsafe(asking.set)
            return await asyncio.wait_for(pending, 5)

        return asyncio.run(ask())

    theirs = asyncio.create_task(asyncio.to_thread(elsewhere))
    await asyncio.wait_for(asking.wait(), 5)
    slow.gate.set()
    assert await theirs is await mine
    assert slow.runs == 1


async def test_a_thread_that_waits_for_a_factory_gets_the_future_it_returns() -> None:
    entered, leave = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Manager] = loop.create_future()

    def build(user: str) -> asyncio.Future[Manager]:
        entered.set()
        leave.wait(5)
        return future

    manager: PerKey[Any] = PerKey(build, key=by_user)

    def elsewhere() -> Any:
        async def ask() -> Any:
            entered.wait(5)
            threading.Timer(0.05, leave.set).start()
            return await asyncio.wait_for(manager.async_("alice"), 5)

        return asyncio.run(ask())

    theirs = asyncio.create_task(asyncio.to_thread(elsewhere))
    await asyncio.sleep(0)
    pending = manager.async_("alice")
    future.set_result(Manager("alice"))
    assert await pending is await theirs


def test_an_asynchronous_factory_without_a_loop_is_an_error_and_leaves_no_claim() -> None:
    async def build(user: str) -> Manager:
        return Manager(user)

    coroutines: list[Any] = []

    def start(user: str) -> Any:
        coroutines.append(build(user))
        return coroutines[-1]

    manager: PerKey[Any] = PerKey(start, key=by_user)
    try:
        with pytest.raises((RuntimeError, DeprecationWarning)):
            manager("alice")
    finally:
        for coroutine in coroutines:
            coroutine.close()

    async def ask() -> Any:
        return await manager.async_("alice")

    assert asyncio.run(ask()).user == "alice"


async def test_an_abandoned_failure_is_reported_by_the_loop_and_blocks_nothing(caplog: Any) -> None:
    slow = Slow()
    slow.error = ConnectionError("no route")
    slow.gate.set()
    manager: PerKey[Any] = PerKey(slow, key=by_user)
    with caplog.at_level(logging.ERROR, "asyncio"):
        manager("alice")
        await settle()
        gc.collect()
    assert "never retrieved" in caplog.text
    slow.error = None
    assert (await manager.async_("alice")).user == "alice"
