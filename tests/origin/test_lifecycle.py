"""Row: lifecycle shows creation and clean-up: it was never called, nothing was ever removed, +820 bytes a user and +272
an access for good, and the report failed under concurrency.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from app.realtime.identity import UserContext
from containers import GatewayContainer
from tests.gateway import build_container
from tests.realtime.peer import Peer


async def test_the_life_of_a_manager_is_recorded_from_creation_to_clean_up(container: GatewayContainer) -> None:
    async with Peer(container) as peer:
        await peer.connect("alice")
        manager = container.manager(UserContext(user_id="alice"))
        assert [event.event for event in manager.record.events] == ["created", "connected"]
        del manager
    events = container.lifecycle().events(10)
    assert [event.event for event in events] == ["created", "connected", "disconnected", "closed"]
    assert {event.key for event in events} == {"user:alice"}
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert container.lifecycle().total == 4


async def test_two_thousand_users_gone_leave_no_manager(container: GatewayContainer) -> None:
    # Without the garbage collector: a manager is gone with its last holder, not some time after.
    gc.disable()
    try:
        for number in range(2000):
            async with Peer(container) as peer:
                await peer.connect(f"user-{number}")
        assert container.manager.count() == len(container.lifecycle()) == 0
        assert container.lifecycle().living() == []
        assert Counter(event.event for event in container.lifecycle().events(10_000)) == dict.fromkeys(
            ("created", "connected", "disconnected", "closed"), 2000
        )
    finally:
        gc.enable()


async def test_two_thousand_users_gone_leave_no_memory() -> None:
    container = build_container(lifecycle={"events": 100}, channels={"personal": False})

    async def visit(first: int) -> None:
        for number in range(first, first + 1000):
            async with Peer(container) as peer:
                # Ids that no other test uses: what an id leaves behind, it leaves once.
                await peer.connect(f"passer-by-{number}", sid=f"visit-of-{number}")

    await visit(0)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await visit(1000)
        await visit(2000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000 * 82  # a tenth of what the original kept for each user


def test_an_access_leaves_no_memory(container: GatewayContainer) -> None:
    held = container.manager(UserContext(user_id="alice"))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            assert container.manager(UserContext(user_id="alice")) is held
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000 * 27  # a tenth of what the original kept for each access


def test_what_is_kept_of_lives_is_bounded_in_all_and_for_each_user() -> None:
    container = build_container(lifecycle={"events": 50, "events_per_user": 5})
    managers = [container.manager(UserContext(user_id=f"user-{number}")) for number in range(200)]
    for _ in range(20):
        managers[0].record.append("connected", managers[0].key)
    assert len(managers[0].record.events) == 5
    assert len(container.lifecycle().events(1000)) == 50
    assert container.lifecycle().total == 220


def test_the_report_is_safe_while_users_come_and_go(frequent_switches: None, container: GatewayContainer) -> None:
    threads, users = 6, 300
    stop = Event()

    def come_and_go(thread: int) -> None:
        for number in range(users):
            manager = container.manager(UserContext(user_id=f"user-{thread}-{number}"))
            assert manager in container.lifecycle().living()
            del manager

    def report() -> int:
        reports = 0
        while not stop.is_set():
            living = container.lifecycle().living()
            assert len({manager.key for manager in living}) == len(living)
            del living
            container.lifecycle().events(100)
            assert len(container.lifecycle()) >= 0
            assert container.manager.count() >= 0
            reports += 1
        return reports

    with ThreadPoolExecutor(threads + 2) as pool:
        reporting = [pool.submit(report) for _ in range(2)]
        for done in [pool.submit(come_and_go, thread) for thread in range(threads)]:
            done.result(timeout=20)
        stop.set()
        assert all(one.result(timeout=10) > 0 for one in reporting)
    assert container.manager.count() == len(container.lifecycle()) == 0
    assert container.lifecycle().total == 2 * threads * users
    assert Counter(event.event for event in container.lifecycle().events(10_000)) == {
        "created": threads * users,
        "closed": threads * users,
    }
