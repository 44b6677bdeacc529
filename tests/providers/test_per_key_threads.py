"""PerKey among threads: one build, one instance, no deadlock."""

from __future__ import annotations

import contextvars
import random
import time
import weakref
from itertools import count
from threading import Event, Thread

import pytest
from dependency_injector import providers

from providers import Fresh, PerKey, RecursiveBuildError

from .conftest import Together


class Manager:
    def __init__(self, user: str) -> None:
        self.user = user


def by_user(user: str, *_: object, **__: object) -> str:
    return user


def test_many_threads_at_once_get_one_instance_of_one_build(together: Together) -> None:
    for _ in range(5):
        builds = count()

        def build(user: str, builds: count[int] = builds) -> Manager:
            next(builds)
            time.sleep(0.01)
            return Manager(user)

        manager = PerKey(Fresh(build), key=by_user)
        held = together(16, lambda _, manager=manager: manager("alice"))  # type: ignore[misc]
        assert len({id(each) for each in held}) == 1
        assert next(builds) == 1


def test_a_fast_factory_runs_once_as_well(together: Together) -> None:
    for number in range(100):
        builds = count()

        def build(user: str, builds: count[int] = builds) -> Manager:
            next(builds)
            return Manager(user)

        manager = PerKey(build, key=by_user)
        held = together(4, lambda _, manager=manager, number=number: manager(str(number)))  # type: ignore[misc]
        assert len({id(each) for each in held}) == 1
        assert next(builds) == 1


def test_keys_are_built_side_by_side(together: Together) -> None:
    both = [Event(), Event()]

    def build(number: int) -> Manager:
        both[number].set()
        assert both[1 - number].wait(5), "the other key waited for this one"
        return Manager(str(number))

    manager = PerKey(build, key=lambda number: number)
    assert [each.user for each in together(2, manager)] == ["0", "1"]


def test_after_a_failure_those_who_waited_build_with_their_own_arguments(together: Together) -> None:
    building = Event()

    def build(user: str, *, fail: bool) -> Manager:
        building.set()
        if fail:
            time.sleep(0.02)
            raise ConnectionError("no route")
        return Manager(user)

    manager = PerKey(build, key=by_user)

    def ask(number: int) -> Manager | str:
        if number:
            building.wait(5)
        try:
            return manager("alice", fail=number == 0)
        except ConnectionError:
            return "failed"

    first, *rest = together(6, ask)
    assert first == "failed"
    assert len({id(each) for each in rest}) == 1
    assert isinstance(rest[0], Manager)


def test_those_who_wait_get_an_instance_that_its_builder_has_let_go() -> None:
    entered, leave = Event(), Event()
    builds = count()

    def build(user: str) -> Manager:
        next(builds)
        entered.set()
        leave.wait(5)
        return Manager(user)

    manager = PerKey(build, key=by_user)
    got: list[Manager] = []
    builder = Thread(target=manager, args=("alice",))
    waiter = Thread(target=lambda: got.append(manager("alice")))
    builder.start()
    entered.wait(5)
    waiter.start()
    time.sleep(0.05)
    leave.set()
    builder.join(5)
    waiter.join(5)
    assert manager.instances() == got
    assert next(builds) == 1


def test_those_who_wait_sleep(together: Together) -> None:
    entered = Event()

    def build(user: str) -> Manager:
        entered.set()
        time.sleep(0.3)
        return Manager(user)

    manager = PerKey(build, key=by_user)

    def ask(number: int) -> float:
        if number:
            entered.wait(5)
        before = time.thread_time()
        manager("alice")
        return time.thread_time() - before

    assert max(together(3, ask)) < 0.05


def test_never_two_living_instances_of_a_key(together: Together) -> None:
    keys = [f"user-{number}" for number in range(4)]
    living: dict[str, weakref.WeakSet[Manager]] = {key: weakref.WeakSet() for key in keys}
    doubles: list[str] = []

    def build(user: str) -> Manager:
        if len(list(living[user])) > 0:
            doubles.append(user)
        made = Manager(user)
        living[user].add(made)
        return made

    manager = PerKey(Fresh(build), key=by_user)
    until = time.monotonic() + 1.2

    def come_and_go(number: int) -> int:
        dice = random.Random(number)
        rounds = 0
        while time.monotonic() < until:
            key = dice.choice(keys)
            held = manager(key)
            if held.user != key or manager.peek(key) is not held or manager(key) is not held:
                doubles.append(key)
            if dice.random() < 0.1:
                time.sleep(0)
            del held
            rounds += 1
        return rounds

    assert sum(together(6, come_and_go)) > 1_000
    assert doubles == []
    assert manager.count() == 0


def test_the_instances_can_be_listed_while_keys_come_and_go(together: Together) -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    until = time.monotonic() + 0.5

    def work(number: int) -> int:
        rounds = 0
        while time.monotonic() < until:
            rounds += 1
            if number == 0:
                assert all(isinstance(each, Manager) for each in manager.instances())
                assert manager.count() >= 0
            else:
                held = [manager(f"{number}-{each}") for each in range(20)]
                del held
        return rounds

    assert min(together(4, work)) > 0
    assert manager.instances() == []


def test_a_reset_during_a_build_forgets_that_build() -> None:
    entered, leave = Event(), Event()

    def build(user: str) -> Manager:
        if not entered.is_set():
            entered.set()
            leave.wait(5)
        return Manager(user)

    manager = PerKey(build, key=by_user)
    got: list[Manager] = []
    builder = Thread(target=lambda: got.append(manager("alice")))
    builder.start()
    entered.wait(5)
    manager.reset()
    after = manager("alice")
    leave.set()
    builder.join(5)
    assert got[0] is not after
    assert manager("alice") is after


def test_two_threads_that_build_what_the_other_waits_for_get_an_error_and_no_deadlock(together: Together) -> None:
    started = [Event(), Event()]

    def build(number: int, ask: bool = True) -> Manager:
        if ask:
            started[number].set()
            started[1 - number].wait(5)
            manager(1 - number, ask=False)
        return Manager(str(number))

    manager: PerKey[Manager] = PerKey(build, key=lambda number, ask=True: number)

    def ask(number: int) -> Manager | str:
        try:
            return manager(number)
        except RecursiveBuildError:
            return "refused"

    results = together(2, ask)
    assert "refused" in results


def test_a_thread_that_a_factory_waits_for_is_part_of_the_build() -> None:
    refused: list[type] = []

    def build(user: str) -> Manager:
        def ask() -> None:
            with pytest.raises(RecursiveBuildError) as refusal:
                manager(user)
            refused.append(refusal.type)

        helper = Thread(target=contextvars.copy_context().run, args=(ask,))
        helper.start()
        helper.join(5)
        return Manager(user)

    manager = PerKey(build, key=by_user)
    assert manager("alice").user == "alice"
    assert refused == [RecursiveBuildError]


def test_a_thread_that_waits_twice_for_the_same_build_is_no_circle(together: Together) -> None:
    """The friends of both need a third: a diamond, not a circle."""

    def build(user: str, needs: tuple[str, ...] = ()) -> Manager:
        time.sleep(0.005)
        held = [manager(each, ("root",) if each != "root" else ()) for each in needs]
        made = Manager(user)
        made.__dict__["held"] = held
        return made

    manager: PerKey[Manager] = PerKey(build, key=by_user)
    made = together(6, lambda number: manager(f"top-{number}", ("left", "right")))
    roots = {id(side.held[0]) for each in made for side in each.held}
    assert len(roots) == 1


def test_two_threads_copy_and_use_containers_at_once(together: Together) -> None:
    manager = PerKey(Fresh(Manager), key=by_user)

    def use(_: int) -> bool:
        copied = providers.deepcopy(manager)
        held = copied("alice")
        return copied("alice") is held and manager.peek("alice") is None

    assert all(together(4, use))
