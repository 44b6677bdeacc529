"""The audit itself: whom it compares, what it says, and how it goes on in steps."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterable
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from providers.audit import Audit, audit
from providers.immutable import is_immutable
from providers.report import Report

from .owners import Owner, audited

STEP = 0.001


def in_steps(running: Audit, between: Callable[[], object] = bool) -> Report:
    while not running.step(0):
        between()
    return running.report()


def test_owners_that_share_nothing_are_isolated() -> None:
    report = audited(Owner(x=[]), Owner(x=[]))
    assert report.isolated
    assert (report.shared, report.weak, report.unread, report.truncated, report.owners) == ((), (), (), False, 2)


def test_a_finding_reads_as_a_sentence() -> None:
    common: list[str] = []
    report = audited(Owner(record=Owner(events=common)), Owner(x=common))
    assert not report.isolated
    assert [*map(str, report.shared)] == ["a: Owner.record.events and b: Owner.x are one builtins.list"]


def test_a_leak_among_many_owners_is_one_finding_that_counts_them() -> None:
    common: list[str] = []
    owners = [Owner(x=common) for _ in range(5)]
    (finding,) = audit(*owners, Owner()).shared
    assert finding.owners == 5
    assert str(finding) == ("Owner #1: Owner.x and Owner #2: Owner.x are one builtins.list (5 owners reach it)")


def test_what_is_reached_only_through_a_leak_is_not_listed_but_what_is_reached_besides_is() -> None:
    inner: list[str] = []
    common = {"inner": inner}
    assert len(audited(Owner(x=common), Owner(x=common)).shared) == 1
    report = audited(Owner(x=common), Owner(x=common, y=inner))
    assert {finding.second.path for finding in report.shared} == {"Owner.x", "Owner.y"}


def test_an_owner_that_reaches_another_owner_is_found() -> None:
    one = Owner(n=1)
    other = Owner(friends=[one])
    (finding,) = audited(one, other).shared
    assert str(finding) == "a: Owner and b: Owner.friends[0] are one tests.audit.owners.Owner"


def test_a_leak_is_found_whichever_owner_comes_first() -> None:
    common: list[str] = []
    one, other = Owner(x=common), Owner(y=Owner(z=common))
    assert len(audited(one, other).shared) == len(audited(other, one).shared) == 1


def test_an_owner_given_twice_is_one_owner() -> None:
    owner = Owner(x=[])
    assert audit(owner, owner) == audit(owner)


def test_what_is_marked_as_shared_is_no_finding_and_not_walked() -> None:
    queues: dict[str, int] = {}
    publisher = Owner(queues=queues)
    one, other = Owner(x=publisher, y=queues), Owner(x=publisher)
    assert audited(one, other, shared=[publisher]).isolated
    other.y = queues  # type: ignore[attr-defined]
    (finding,) = audited(one, other, shared=[publisher]).shared
    assert finding.first.path == "Owner.y"


def test_a_shared_object_that_cannot_change_stands_for_what_it_holds() -> None:
    handlers: dict[str, str] = {}
    services = (handlers, ("name", [1]))
    one, other = Owner(x=services, y=handlers), Owner(x=services, y=handlers)
    assert audited(one, other, shared=[services]).isolated


def test_objects_of_classes_of_a_framework_can_be_left_out() -> None:
    common = Owner(x=[])
    assert audited({"x": common}, {"x": common}, stop=(Owner,)).isolated


def test_a_weak_way_is_counted_apart() -> None:
    one = Owner(session=Owner(n=1))
    other = Owner(reference=weakref.ref(one.session))  # type: ignore[attr-defined]
    report = audited(one, other)
    assert report.isolated
    assert [*map(str, report.weak)] == [
        "a: Owner.session and b: Owner.reference() are one tests.audit.owners.Owner, reached weakly"
    ]


def test_two_weak_ways_to_what_no_owner_holds_are_found() -> None:
    elsewhere = Owner(n=1)
    (finding,) = audited(Owner(x=weakref.proxy(elsewhere)), Owner(x=weakref.ref(elsewhere))).weak
    assert (finding.first.path, finding.second.path) == ("Owner.x()", "Owner.x()")


def test_weak_references_in_what_owners_have_in_common_are_seen() -> None:
    one = Owner(n=1)
    reference = weakref.ref(one)
    (finding,) = audited(one, Owner(x=(reference,)), Owner(x=(reference,))).weak
    assert (finding.owners, finding.first.path) == (3, "Owner")


@pytest.mark.parametrize("make", [weakref.ref, weakref.proxy])
def test_a_weak_reference_to_what_is_gone_or_ones_own_is_nothing(make: Callable[[object], object]) -> None:
    gone = Owner(n=1)
    one = Owner(x=make(gone), y=Owner(n=1))
    one.z = make(one.y)  # type: ignore[attr-defined]
    common = Owner(n=2)
    del gone
    report = audited(one, Owner(x=make(common), y=(1,)))
    assert (report.shared, report.weak) == ((), ())


def test_a_weak_way_to_what_cannot_change_is_nothing() -> None:
    kept = frozenset([1])
    report = audited(Owner(x=weakref.ref(kept)), Owner(x=weakref.ref(kept)))
    assert (report.shared, report.weak) == ((), ())


def test_a_strong_leak_is_not_listed_as_weak_besides() -> None:
    common = Owner(n=1)
    report = audited(Owner(x=common), Owner(x=common, y=weakref.ref(common)))
    assert (len(report.shared), report.weak) == (1, ())


def test_findings_are_bounded_and_the_report_says_so() -> None:
    common = [[n] for n in range(5)]
    report = audited(Owner(x=common.copy()), Owner(x=common.copy()), limit=2)
    assert (len(report.shared), report.truncated) == (2, True)
    assert not audited(Owner(x=common.copy()), Owner(x=common.copy())).truncated


def test_types_that_hide_what_they_refer_to_are_named() -> None:
    assert audited(Owner(x=msgspec.Raw(b"1")), Owner(x=bytearray())).unread == ("msgspec.Raw",)


def test_an_owner_without_weak_references_can_be_audited() -> None:
    common: list[int] = []
    assert len(audit({"x": common}, {"x": common}).shared) == 1


def test_owners_of_nothing_and_objects_that_were_never_finished_do_no_harm() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(frozen=True)

    unfinished = Model.__new__(Model)
    assert audit("atom", 1, None).isolated
    assert audit(Owner(x=unfinished), Owner(x=unfinished)).isolated


def test_an_audit_in_steps_finds_the_same() -> None:
    common: list[int] = []
    owners = [Owner(x=common, y=[[n] for n in range(100)], z=weakref.ref(gc.callbacks.__class__)) for n in range(9)]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    assert in_steps(Audit(owners), count) == audit(*owners)
    assert steps > 20


@pytest.mark.parametrize("many", [list, tuple, lambda values: MappingProxyType(dict(enumerate(values)))])
def test_a_step_takes_little_more_than_its_time_and_one_after_the_end_does_nothing(
    many: Callable[[Iterable[object]], object],
) -> None:
    owners = [Owner(x=many([n] for n in range(20_000))) for _ in range(5)]
    running = Audit(owners)
    took = []
    over = False
    while not over:
        began = time.perf_counter()
        over = running.step(STEP)
        took.append(time.perf_counter() - began)
    assert len(took) > 10
    assert sorted(took)[len(took) // 2] < 5 * STEP
    assert running.step(STEP)


def test_an_audit_keeps_no_owner_alive_and_leaves_out_who_has_gone() -> None:
    owners = [Owner(x=[n]) for n in range(10)]
    gone = weakref.ref(owners[9])
    running = Audit(owners)
    running.step(0)
    del owners[9]
    assert gone() is None
    assert in_steps(running).owners == 9


def test_nothing_that_an_owner_held_outlives_the_owner_between_its_walk_and_the_end() -> None:
    owners = [Owner(x=Owner(n=n)) for n in range(50)]
    parts = [weakref.ref(vars(owner)["x"]) for owner in owners]
    running = Audit(owners)
    while running.report().owners < 25:
        running.step(0)
    del owners[:20]
    assert [part() for part in parts[:20]] == [None] * 20


def test_memory_that_is_used_again_and_objects_that_moved_raise_no_alarm() -> None:
    owners = [Owner(x=[[n] for n in range(30)]) for n in range(40)]

    def churn() -> None:
        vars(owners[0])["x"].clear()
        owners.append(owners.pop(0))
        vars(owners[0])["y"] = [[n] for n in range(30)]
        vars(owners[0])["y"].append(vars(owners[-1]).pop("y", None))

    report = in_steps(Audit(owners), churn)
    assert [*map(str, report.shared)] == []


def test_memory_in_which_an_atom_lies_now_raises_no_alarm() -> None:
    class Pair:
        __slots__ = ("first", "second")

    one, other = Owner(x=[Pair() for _ in range(100)]), Owner(x=Owner())
    before = {*map(id, vars(one)["x"])}
    running = Audit((one, other))
    while not running.report().owners:
        running.step(0)
    vars(one)["x"].clear()
    there = [value for value in [Fraction(number, 3) for number in range(100)] if id(value) in before]
    assert there
    vars(other)["x"] = there
    assert [*map(str, in_steps(running).shared)] == []


def test_a_leak_that_lasts_is_found_although_everything_else_changes() -> None:
    common: list[int] = []
    owners = [Owner(x=[[n] for n in range(30)]) for n in range(40)]
    vars(owners[3])["leak"] = vars(owners[33])["leak"] = common

    def churn() -> None:
        for owner in owners[::7]:
            vars(owner)["x"] = [[n] for n in range(30)]

    (finding,) = in_steps(Audit(owners), churn).shared
    assert (finding.first, finding.second) == (("Owner #4", "Owner.leak"), ("Owner #34", "Owner.leak"))


def test_the_work_is_linear_in_the_number_of_owners() -> None:
    common = (Owner, in_steps, (1, 2))

    def steps(count: int) -> int:
        owners: list[Any] = [Owner(x=[{}, []], y=common) for _ in range(count)]
        running, taken = Audit(owners), 0
        while not running.step(0):
            taken += 1
        return taken

    few, many = steps(100), steps(1000)
    assert many < 12 * few


def test_what_owners_have_in_common_is_looked_into_again_in_the_next_audit() -> None:
    class Common(Owner):
        pass

    owners = [Common() for _ in range(3)]
    assert audit(*owners).isolated
    Common.users = []  # type: ignore[attr-defined]
    (finding,) = audit(*owners).shared
    assert finding.first.path == "Common.<class Common>.users"


def test_a_coroutine_of_another_owner_is_found_wherever_it_stands_in_a_chain() -> None:
    async def last(mine: list[int]) -> None:
        await asyncio.sleep(mine[0])

    async def middle(mine: list[int]) -> None:
        await last(mine)

    async def first(mine: list[int]) -> None:
        await middle(mine)

    async def main() -> None:
        mine = [60]
        task = asyncio.get_running_loop().create_task(first(mine))
        await asyncio.sleep(0)
        chain = [task.get_coro()]
        while hasattr(chain[-1], "cr_await"):
            chain.append(chain[-1].cr_await)
        for link in chain[:4]:
            (finding,) = audited(Owner(x=task), Owner(y=link)).shared
            assert finding.first.path.startswith("Owner.x._coro")
            assert finding.second.path == "Owner.y"
        task.cancel()

    asyncio.run(main())


def test_a_class_that_leaks_is_read_once_for_all_owners() -> None:
    class Leaky(Owner):
        users: list[str] = []  # noqa: RUF012

    owners = [Leaky() for _ in range(2000)]
    began = time.perf_counter()
    (finding,) = audit(*owners).shared
    assert finding.owners == 2000
    assert time.perf_counter() - began < 2


def test_immutable_is_what_an_audit_would_let_owners_share() -> None:
    assert is_immutable((1, "a", frozenset([b"b"])))
    assert not is_immutable((1, []))
    assert not is_immutable(weakref.ref(Owner()))
