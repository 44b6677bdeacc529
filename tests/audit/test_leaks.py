"""Planted leaks: two owners that share what they must not, in every way that Python has. Each is found, with both ways.

A plant gives two owners, and the ways that the report must show, each from its owner; `{*}` stands for any text.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import enum
import fnmatch
import functools
import itertools
import logging
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from providers.report import Finding

from .owners import Owner, audited

Planted = tuple[object, object, str, str]
Plant = Callable[[], Planted]


def both(path: str, make: Callable[[], Any]) -> Planted:
    """Two owners of one object that is made once."""
    made = make()
    return Owner(x=made), Owner(x=made), path, path


def each(path: str, make: Callable[[list[int]], Any]) -> Planted:
    """Two owners of an object each, made around one list."""
    common = [1]
    return Owner(x=make(common)), Owner(x=make(common)), path, path


# Values and containers.


def an_attribute() -> Planted:
    return both("Owner.x", list)


def another_name_and_place() -> Planted:
    common: list[int] = []
    return Owner(record=Owner(events=[0, common])), Owner(y=(common,)), "Owner.record.events[[]1[]]", "Owner.y[[]0[]]"


def a_value_of_a_dictionary() -> Planted:
    return each("Owner.x.values()[[]0[]]", lambda common: {"secret": common})


def a_key_of_a_dictionary() -> Planted:
    return both("Owner.x.keys()[[]0[]]", lambda: MappingProxyType({Owner(n=1): 1}))


def a_member_of_a_set() -> Planted:
    common = Owner(n=1)
    return Owner(x={common}), Owner(x=frozenset([common])), "Owner.x{[*]}", "Owner.x{[*]}"


def an_item_of_a_deque() -> Planted:
    return each("Owner.x[[]1[]]", lambda common: collections.deque([0, common]))


def a_bytearray_behind_memoryviews() -> Planted:
    common = bytearray(b"secret")
    return Owner(x=memoryview(common)), Owner(x=memoryview(common)), "Owner.x.obj", "Owner.x.obj"


def an_iterator() -> Planted:
    return each("Owner.x.[?].[?]", itertools.cycle)


def a_named_tuple() -> Planted:
    pair = collections.namedtuple("pair", ["left", "right"])
    return each("Owner.x.right", lambda common: pair(1, common))


def a_lock() -> Planted:
    return both("Owner.x", threading.Lock)


# Attributes that hide.


class Base:
    __slots__ = ("__private",)

    def __init__(self, value: object) -> None:
        self.__private = value


class Derived(Base):
    __slots__ = ("other",)


def a_private_slot_of_a_base_class() -> Planted:
    common: list[int] = []
    return Derived(common), Derived(common), "Derived._Base__private", "Derived._Base__private"


def one_namespace() -> Planted:
    one, other, common = Owner(), Owner(), {"n": 1}
    one.__dict__ = other.__dict__ = common
    return one, other, "Owner.__dict__", "Owner.__dict__"


class Name(str):
    pass


def a_subclass_of_str_with_an_attribute() -> Planted:
    def make(common: list[int]) -> Name:
        name = Name("a name")
        name.tags = common  # type: ignore[attr-defined]
        return name

    return each("Owner.x.tags", make)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


def a_frozen_dataclass_with_a_list() -> Planted:
    return both("Owner.x.value", lambda: Frozen([]))


@dataclasses.dataclass(frozen=True)
class HalfFrozen:
    value: Any


class Thawed(HalfFrozen):
    pass


def a_subclass_that_is_not_frozen() -> Planted:
    return both("Owner.x", lambda: Thawed(1))


class Struct(msgspec.Struct, frozen=True):
    value: Any


class Untracked(msgspec.Struct, frozen=True, gc=False):
    value: Any


def a_struct() -> Planted:
    return both("Owner.x.value", lambda: Struct([]))


def a_struct_that_the_garbage_collector_ignores() -> Planted:
    return each("Owner.x.value", Untracked)


def a_read_only_view_of_a_dictionary() -> Planted:
    common: dict[str, int] = {}
    one, other = Owner(x=MappingProxyType(common)), Owner(x=MappingProxyType(common))
    return one, other, "Owner.x.<mapping>", "Owner.x.<mapping>"


def a_read_only_view_that_holds_a_list() -> Planted:
    return both("Owner.x.values()[[]0[]]", lambda: MappingProxyType({"key": []}))


class Colour(enum.Enum):
    RED = [1]  # noqa: RUF012


def an_enum_member_with_a_list() -> Planted:
    return Owner(x=Colour.RED), Owner(x=Colour.RED), "Owner.x.*", "Owner.x.*"


# Classes.


class Registry:
    users: dict[str, str] = {}  # noqa: RUF012


class Registered(Registry):
    pass


def an_attribute_of_a_base_class() -> Planted:
    path = "Registered.<class Registered>.<base Registry>.users"
    return Registered(), Registered(), path, path


class Meta(type):
    seen: list[str] = []  # noqa: RUF012


class WithMeta(metaclass=Meta):
    pass


def an_attribute_of_a_metaclass() -> Planted:
    path = "WithMeta.<class WithMeta>.<class Meta>.seen"
    return WithMeta(), WithMeta(), path, path


class OnItself:
    def __get__(self, instance: object, owner: type) -> Any:
        return self.value

    def __set__(self, instance: object, value: Any) -> None:
        self.value = value


class Described:
    field = OnItself()


def a_descriptor_that_stores_on_itself() -> Planted:
    one, other = Described(), Described()
    one.field = "a secret"
    path = "Described.<class Described>.field"
    return one, other, path, path


class InAList:
    def __init__(self) -> None:
        self.values: list[object] = []

    def __get__(self, instance: object, owner: type) -> Any:
        return self.values[-1]

    def __set__(self, instance: object, value: Any) -> None:
        self.values.append(value)


class Listed:
    field = InAList()


def a_descriptor_with_a_list() -> Planted:
    path = "Listed.<class Listed>.field.values"
    return Listed(), Listed(), path, path


class OnTheClass:
    def __set__(self, instance: object, value: Any) -> None:
        type(instance).kept = {"value": value}  # type: ignore[attr-defined]


class Keeping:
    field = OnTheClass()


def a_descriptor_that_stores_on_the_class() -> Planted:
    one, other = Keeping(), Keeping()
    one.field = 1
    path = "Keeping.<class Keeping>.kept"
    return one, other, path, path


class Cached:
    @functools.lru_cache  # noqa: B019
    def read(self) -> str:
        return "a secret"


def a_method_with_a_cache() -> Planted:
    path = "Cached.<class Cached>.read"
    return Cached(), Cached(), path, path


# Functions.


def a_mutable_default_argument() -> Planted:
    def collect(item: int, into: list[int] = []) -> list[int]:  # noqa: B006
        into.append(item)
        return into

    return Owner(x=collect(1)), Owner(x=collect(2)), "Owner.x", "Owner.x"


class Collecting:
    def collect(self, item: int, *, into: list[int] = []) -> None:  # noqa: B006
        into.append(item)


def a_mutable_default_of_a_method() -> Planted:
    path = "Collecting.<class Collecting>.collect.<default of into>"
    return Collecting(), Collecting(), path, path


def a_cache_of_a_module() -> Planted:
    module = types.ModuleType("module")
    module.cache = {}  # type: ignore[attr-defined]
    return Owner(x=module, y=module.cache), Owner(x=module, y=module.cache), "Owner.y", "Owner.y"


def a_cached_factory() -> Planted:
    @functools.lru_cache
    def make() -> dict[str, str]:
        return {}

    return Owner(x=make()), Owner(x=make()), "Owner.x", "Owner.x"


def a_closure_over_a_list() -> Planted:
    def make(common: list[int]) -> Callable[[int], None]:
        return lambda item: common.insert(0, item)

    return each("Owner.x.<closure common>", make)


def a_variable_that_a_closure_assigns() -> Planted:
    last = ""

    def keep(value: str) -> None:
        nonlocal last
        last = value

    keep("a secret")
    return Owner(x=keep), Owner(x=keep), "Owner.x.<closure last>", "Owner.x.<closure last>"


def a_variable_that_an_inner_function_assigns() -> Planted:
    last = ""

    def outer() -> Callable[[], None]:
        def inner() -> None:
            nonlocal last
            last = "a secret"

        return inner

    return Owner(x=outer), Owner(x=outer), "Owner.x.<closure last>", "Owner.x.<closure last>"


def an_attribute_of_a_function() -> Planted:
    def function() -> None: ...

    function.calls = []  # type: ignore[attr-defined]
    return Owner(x=function), Owner(x=function), "Owner.x.calls", "Owner.x.calls"


def an_argument_of_a_partial() -> Planted:
    return each("Owner.x.<argument common>", lambda common: functools.partial(print, common=common))


def a_positional_argument_of_a_partial() -> Planted:
    return each("Owner.x.args[[]0[]]", lambda common: functools.partial(print, common))


def a_method_of_another_owner() -> Planted:
    other = Owner(n=1)
    return Owner(callback=other.__init__), other, "Owner.callback.__self__", "Owner"  # type: ignore[misc]


def a_method_of_a_builtin() -> Planted:
    return each("Owner.x.__self__", lambda common: common.append)


def a_finalizer() -> Planted:
    def make(common: list[int]) -> Owner:
        watched = Owner()
        return Owner(watched=watched, finalizer=weakref.finalize(watched, print, common))

    return each("Owner.x.finalizer.<argument>", make)


# Frames, tasks, contexts.


def a_generator() -> Planted:
    def generate(common: list[int]) -> Iterator[None]:
        mine = (common,)
        yield
        assert mine

    def make(common: list[int]) -> Iterator[None]:
        generator = generate(common)
        next(generator)
        return generator

    return each("Owner.x.<local common>", make)


def an_async_generator() -> Planted:
    async def generate(common: list[int]) -> AsyncIterator[None]:
        yield
        common.append(1)

    return each("Owner.x.<local common>", generate)


def a_nested_function_in_a_frame() -> Planted:
    def generate(common: list[int]) -> Iterator[Callable[[], int]]:
        yield lambda: common.pop(0)

    def make(common: list[int]) -> Iterator[Any]:
        generator = generate(common)
        next(generator)
        return generator

    return each("Owner.x.<local common>", make)


def a_task_of_another_owner() -> Planted:
    common: list[int] = []

    async def work(mine: list[int]) -> None:
        await asyncio.sleep(60)
        mine.append(1)

    task = asyncio.get_running_loop().create_task(work(common))
    return Owner(task=task), Owner(work=common), "Owner.task._coro.<local mine>", "Owner.work"


def one_task() -> Planted:
    return both("Owner.x", lambda: asyncio.get_running_loop().create_task(asyncio.sleep(60)))


def a_callback_of_a_future() -> Planted:
    def make(common: list[int]) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: common.clear())
        return future

    return each("Owner.x.<callback>.<closure common>", make)


def a_result_of_a_future() -> Planted:
    def make(common: list[int]) -> asyncio.Future[list[int]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(common)
        return future

    return each("Owner.x._result", make)


def a_timer() -> Planted:
    def make(common: list[int]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(60, common.append, 1)

    return each("Owner.x._callback.__self__", make)


VARIABLE = contextvars.ContextVar[Any]("variable")
WITH_DEFAULT = contextvars.ContextVar[Any]("with_default", default=[])  # noqa: B039


def a_value_of_a_context_variable() -> Planted:
    def make() -> Owner:
        return Owner(x=asyncio.get_running_loop().create_task(asyncio.sleep(60)))

    def plant() -> tuple[Owner, Owner]:
        VARIABLE.set([])
        return make(), make()

    one, other = contextvars.copy_context().run(plant)
    return one, other, "Owner.x.<context>[[]variable[]]", "Owner.x.<context>[[]variable[]]"


def a_default_of_a_context_variable() -> Planted:
    return Owner(x=WITH_DEFAULT), Owner(x=WITH_DEFAULT), "Owner.x.[?]", "Owner.x.[?]"


def a_queue() -> Planted:
    return both("Owner.x", asyncio.Queue)


def an_event() -> Planted:
    return both("Owner.x", asyncio.Event)


def a_frame_in_a_traceback() -> Planted:
    def fail(mine: list[int]) -> None:
        raise ValueError(len(mine))

    def make(common: list[int]) -> ValueError:
        try:
            fail(common)
        except ValueError as error:
            return error
        raise AssertionError

    return each("Owner.x.__traceback__.tb_*.<local *>", make)


def a_transport() -> Planted:
    return both("Owner.x", asyncio.Transport)


# Weak containers, loggers.


def a_weak_dictionary() -> Planted:
    return both("Owner.x", weakref.WeakValueDictionary)


def a_callback_of_a_weak_reference() -> Planted:
    def make(common: list[int]) -> Owner:
        watched = Owner()
        return Owner(watched=watched, reference=weakref.ref(watched, lambda _: common.clear()))

    return each("Owner.x.reference.__callback__.<closure common>", make)


class Remembering(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []


def a_filter_of_a_logger() -> Planted:
    def make() -> logging.Logger:
        logger = logging.Logger("planted")  # noqa: LOG001
        logger.addFilter(Remembering())
        return logger

    return both("Owner.x.filters[[]0[]].seen", make)


def an_attribute_of_a_logger() -> Planted:
    def make() -> logging.Logger:
        logger = logging.Logger("planted")  # noqa: LOG001
        logger.users = {}  # type: ignore[attr-defined]
        return logger

    return both("Owner.x.users", make)


PLANTS: tuple[Plant, ...] = (
    *(an_attribute, another_name_and_place, a_value_of_a_dictionary, a_key_of_a_dictionary, a_member_of_a_set),
    *(an_item_of_a_deque, a_bytearray_behind_memoryviews, an_iterator, a_named_tuple, a_lock),
    *(a_private_slot_of_a_base_class, one_namespace, a_subclass_of_str_with_an_attribute),
    *(a_frozen_dataclass_with_a_list, a_subclass_that_is_not_frozen, a_struct),
    *(a_struct_that_the_garbage_collector_ignores, a_read_only_view_of_a_dictionary),
    *(a_read_only_view_that_holds_a_list, an_enum_member_with_a_list, an_attribute_of_a_base_class),
    *(an_attribute_of_a_metaclass, a_descriptor_that_stores_on_itself, a_descriptor_with_a_list),
    *(a_descriptor_that_stores_on_the_class, a_method_with_a_cache, a_mutable_default_argument),
    *(a_mutable_default_of_a_method, a_cache_of_a_module, a_cached_factory, a_closure_over_a_list),
    *(a_variable_that_a_closure_assigns, a_variable_that_an_inner_function_assigns, an_attribute_of_a_function),
    *(an_argument_of_a_partial, a_positional_argument_of_a_partial, a_method_of_another_owner),
    *(a_method_of_a_builtin, a_finalizer, a_generator, an_async_generator, a_nested_function_in_a_frame),
    *(a_task_of_another_owner, one_task, a_callback_of_a_future, a_result_of_a_future, a_timer),
    *(a_value_of_a_context_variable, a_default_of_a_context_variable, a_queue, an_event, a_frame_in_a_traceback),
    *(a_transport, a_weak_dictionary, a_callback_of_a_weak_reference, a_filter_of_a_logger),
    an_attribute_of_a_logger,
)


def shows(finding: Finding, first: str, second: str) -> bool:
    return fnmatch.fnmatchcase(finding.first.path, first) and fnmatch.fnmatchcase(finding.second.path, second)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
async def test_a_leak_is_found_with_the_way_from_each_owner(plant: Plant) -> None:
    one, other, first, second = plant()
    await asyncio.sleep(0)  # tasks begin
    report = audited(one, other)
    assert any(shows(finding, first, second) for finding in report.shared), [*map(str, report.shared)]
    assert all((finding.first.owner, finding.second.owner) == ("a", "b") for finding in report.shared)
    assert "secret" not in "".join(map(str, report.shared))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
async def test_owners_that_are_planted_apart_share_nothing_but_what_their_classes_hold(plant: Plant) -> None:
    """The same ways, each leading to an object of its own: what is found above is the leak and not the way."""
    (one, _, *_), (_, other, *_) = plant(), plant()
    await asyncio.sleep(0)
    shared = [finding for finding in audited(one, other).shared if "<class" not in str(finding)]
    process_wide = {an_enum_member_with_a_list, a_default_of_a_context_variable}
    assert bool(shared) is (plant in process_wide), [*map(str, shared)]
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
