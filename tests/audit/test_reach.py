"""What is reached, what it is called, where a walk ends, and that it leaves everything as it was."""

from __future__ import annotations

import abc
import asyncio
import collections
import dataclasses
import doctest
import enum
import functools
import gc
import itertools
import logging
import sys
import types
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any, ClassVar

import msgspec
import pydantic
import pytest
from dependency_injector import containers, providers

from providers import kinds, readers
from providers.reach import reachable

from .owners import Owner


def paths(root: object, to: object, **options: Any) -> list[str]:
    return [reached.path for reached in reachable(root, **options) if reached.object is to]


def own(root: object, **options: Any) -> set[str]:
    """Paths of the mutable objects that are reached, without the root."""
    return {reached.path for reached in reachable(root, **options) if reached.mutable and reached.object is not root}


@pytest.mark.parametrize("name", ["audit", "immutable", "reach"])
def test_the_examples_run(name: str) -> None:
    results = doctest.testmod(import_module(f"providers.{name}"))
    assert results.attempted > 0
    assert results.failed == 0


def test_each_object_comes_once_by_a_shortest_way() -> None:
    inner: list[int] = []
    root = Owner(a=[[[inner]]], b=[inner])
    assert paths(root, inner) == ["Owner.b[0]"]


def test_the_root_comes_first_even_if_it_is_shared_and_an_atom_reaches_nothing() -> None:
    root = [{}, 1]
    assert [reached.path for reached in reachable(root, shared=[root])] == ["list", "list[0]"]
    assert [*reachable("atom")] == []


def test_an_object_of_an_unknown_type_is_walked_without_a_name() -> None:
    inner: list[int] = []
    assert paths([itertools.cycle(inner)], inner) == ["list[0].?.?"]


class Slotted:
    __slots__ = ("__hidden", "empty")

    def __init__(self, hidden: object) -> None:
        self.__hidden = hidden


def test_an_empty_slot_does_no_harm() -> None:
    inner: list[int] = []
    assert paths(Slotted(inner), inner) == ["Slotted._Slotted__hidden"]


def test_of_an_object_that_the_garbage_collector_does_not_know_the_slots_and_the_class_are_read() -> None:
    class Unknown(msgspec.Struct, gc=False):
        kept: ClassVar[list[int]] = []
        hidden: object
        empty: object = None

    inner: list[int] = []
    root = Unknown(inner)
    del root.empty
    assert paths(root, inner) == ["Unknown.hidden"]
    assert paths(root, Unknown.kept) == ["Unknown.<class Unknown>.kept"]


def test_a_way_through_a_method_a_partial_and_a_default() -> None:
    inner: list[int] = []

    def function(first: int, second: list[int] = inner, *, third: object = ()) -> None: ...

    root = [functools.partial(Owner(x=(function,)).__init__)]  # type: ignore[misc]
    assert paths(root, inner) == ["list[0].func.__self__.x[0].<default of second>"]


def test_keys_and_contents_are_not_in_a_path() -> None:
    inner: list[int] = []
    for root in ({"secret": inner}, types.MappingProxyType({"secret": inner}), Owner(x={"secret": {"secret": inner}})):
        (path,) = paths(root, inner)
        assert "secret" not in path


def test_a_dictionary_with_attributes_of_its_own_is_read() -> None:
    class Attributed(dict[str, int]):
        pass

    root = Attributed()
    root.kept = []  # type: ignore[attr-defined]
    assert own(root) == {"Attributed.__dict__", "Attributed.kept"}


def test_a_weak_reference_is_given_last_and_not_walked() -> None:
    target = Owner(inner=[])
    found = list(reachable([weakref.ref(target), 1]))
    assert (found[-1].object, found[-1].weak, found[-1].path) == (target, True, "list[0]()")
    assert not any(reached.object is vars(target)["inner"] for reached in found)


def test_an_object_that_is_reached_both_ways_is_not_weak() -> None:
    target = Owner(n=1)
    (reached,) = (reached for reached in reachable([weakref.ref(target), (target,)]) if reached.object is target)
    assert (reached.weak, reached.path) == (False, "list[1][0]")


def test_a_released_view_a_spent_finalizer_and_an_empty_closure_are_nothing() -> None:
    view = memoryview(bytearray(b"x"))
    finalizer = weakref.finalize(watched := Owner(), print)
    del watched

    def outer() -> Callable[[], object]:
        def inner() -> object:
            return later

        if not view.nbytes:
            later = 1
        return inner

    empty = outer()
    view.release()
    assert own((view, finalizer, empty)) == {"tuple[1]"}


def test_what_a_suspended_coroutine_holds_is_read_and_not_kept() -> None:
    async def work(mine: Owner) -> None:
        await asyncio.get_running_loop().create_future()
        del mine
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        mine = Owner(n=1)
        task = asyncio.get_running_loop().create_task(work(mine))
        await asyncio.sleep(0)
        assert paths(task, mine) == ["Task._coro.<local mine>"]
        gone = weakref.ref(mine)
        del mine
        waiter: Any = task
        (waiter,) = (reached.object for reached in reachable(task) if reached.path == "Task._fut_waiter")
        waiter.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gone() is None
        task.cancel()

    asyncio.run(main())


def test_the_frame_of_a_suspended_coroutine_is_read_through_a_traceback_and_keeps_nothing() -> None:
    def generate(mine: Owner) -> Iterator[ValueError]:
        try:
            raise ValueError
        except ValueError as error:
            caught = error
        yield caught
        caught = ValueError()
        del mine
        yield caught

    mine = Owner(n=1)
    generator = generate(mine)
    error = next(generator)
    gone = weakref.ref(mine)
    for _ in range(2):
        assert paths(error, mine) == ["ValueError.__traceback__.tb_frame.<local mine>"]
        assert len(own((generator, error))) == len(own((error, generator))) > 3
    del mine
    error = next(generator)
    assert gone() is None


def test_an_empty_dictionary_of_a_coroutine_is_read() -> None:
    def generate(mine: dict[str, str]) -> Iterator[None]:
        yield
        assert not mine

    inner: dict[str, str] = {}
    generator = generate(inner)
    next(generator)
    for _ in range(3):
        assert paths([generator], inner) == ["list[0].<local mine>"]


def test_locals_that_somebody_else_has_asked_for_are_left_alone() -> None:
    def generate(mine: list[int]) -> Iterator[dict[str, Any]]:
        yield locals()

    generator = generate([1])
    asked = next(generator)
    mine = asked["mine"]
    assert paths(generator, mine) == ["generator.<local mine>"]
    assert asked == {"mine": [1]}


def test_a_running_generator_is_not_read() -> None:
    def generate(into: list[set[str]]) -> Iterator[None]:
        mine = [1]
        into.append(own((generator,)))
        yield
        assert mine

    seen: list[set[str]] = []
    generator = generate(seen)
    next(generator)
    assert seen == [{"tuple[0]"}]
    assert own((generator,)) > {"tuple[0].<local mine>"}


async def test_what_an_async_generator_awaits_is_read() -> None:
    inner: list[int] = []

    async def wait(kept: list[int]) -> None:
        await asyncio.get_running_loop().create_future()
        kept.append(1)

    async def generate() -> AsyncIterator[None]:
        await wait(inner)
        yield

    generator = generate()
    step = generator.__anext__()
    task = asyncio.ensure_future(step)
    await asyncio.sleep(0)
    assert paths(task, inner)
    task.cancel()


def test_of_a_traceback_the_frames_are_read_but_no_namespace_of_a_module_and_no_caller() -> None:
    module = types.ModuleType("failing")
    source = "kept = []\nclass Failing:\n    kept = []\n    raise ValueError"
    mine: list[int] = []

    def call() -> ValueError:
        try:
            eval(compile(source, "failing", "exec"), vars(module))  # noqa: S307
        except ValueError as error:
            return error
        raise AssertionError

    error = call()
    assert not paths(error, vars(module)["kept"])
    assert not paths(error, mine)
    assert paths(error, module) == []


def test_a_variable_that_a_function_of_hundreds_of_variables_assigns_is_found() -> None:
    names = [f"name_{number}" for number in range(300)]
    source = (
        f"def outer():\n    last = ''\n    def inner():\n        nonlocal last\n        {' = '.join(names)} = 1\n"
        "        last = 'x'\n    return inner\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(source, "hundreds", "exec"), namespace)  # noqa: S102
    assert own(namespace["outer"]()) == {"function.<closure last>"}


class Parked:
    kept: list[int] = []  # noqa: RUF012

    def method(self) -> None: ...


class Container(containers.DeclarativeContainer):
    kept: list[int] = []  # noqa: RUF012
    part: providers.Singleton[list[int]] = providers.Singleton(list)


def test_the_stops_end_a_walk() -> None:
    logger = logging.getLogger("stops")
    loop = asyncio.new_event_loop()
    try:
        found = own((loop, sys, Container, logger, asyncio.Queue, print, Parked.method))
        assert found == set()
    finally:
        loop.close()


def test_a_container_and_its_providers_are_no_hiding_place_for_what_they_keep() -> None:
    container = Container()
    part = container.part()
    assert part in [reached.object for reached in reachable((container,))]
    assert own((container.part,)) == {"tuple[0].?"}
    assert own((providers.Factory(list),)) == set()


async def test_a_transport_of_the_loop_and_a_protocol_of_the_server_end_a_walk_but_are_found() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        protocol = writer.transport.get_protocol()
        assert own((writer.transport, protocol)) == {"tuple[0]", "tuple[1]"}
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_a_protocol_of_ones_own_and_what_only_looks_like_a_transport_are_walked() -> None:
    class Protocol(asyncio.Protocol):
        def __init__(self) -> None:
            self.kept: list[int] = []

    class Track:
        def __init__(self) -> None:
            self.kept: list[int] = []

        def get_extra_info(self) -> None: ...

        def get_protocol(self) -> None: ...

    assert own((Protocol(), Track())) == {"tuple[0]", "tuple[0].kept", "tuple[1]", "tuple[1].kept"}


def test_a_shared_object_that_cannot_change_shares_not_what_its_class_keeps() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        seen: ClassVar[list[int]] = []
        size: int = 1

    shared = Options()
    assert own((shared, Options()), shared=[shared]) == {"tuple[1].<class Options>.seen"}
    assert own((shared, Options()), shared=[shared, Options]) == set()


class Unwilling(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("my code runs")


class UnwillingList(list[Any]):
    _fields = ("a",)

    def __iter__(self) -> Any:
        raise RuntimeError("my code runs")


class UnwillingTuple(tuple[Any, ...]):
    __slots__ = ()
    _fields = ("a",)


class Made(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("my code runs")


class OfMade(Owner, metaclass=Made):
    pass


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda part: Unwilling(a=part), "Owner.x.values()[0]"),
        (lambda part: UnwillingList([1, part]), "Owner.x[1]"),
        (lambda part: UnwillingTuple((1, part)), "Owner.x[1]"),
        (lambda part: OfMade(part=part), "Owner.x.part"),
        (lambda part: types.MappingProxyType(Unwilling(a=part)), "Owner.x.<mapping>.values()[0]"),
    ],
)
def test_no_code_of_an_object_runs_when_it_is_read_and_named(make: Callable[[object], object], path: str) -> None:
    part: list[int] = []
    assert paths(Owner(x=make(part)), part) == [path]


def test_classes_that_a_library_makes_for_others_are_read_as_theirs() -> None:
    made = types.new_class("Made", (), {}, lambda namespace: namespace.update(kept=[]))
    generated = dataclasses.make_dataclass("Generated", [("a", int, 1)], namespace={"kept": []})
    assert own(made) == {"type.kept"}
    assert own(generated) == {"type.kept"}


@pytest.mark.parametrize(
    "name",
    [
        "__private_attributes__",
        "__class_vars__",
        "__signature__",
        "__msgspec_cache__",
        "__parameters__",
        "__pydantic_x__",
    ],
)
def test_names_by_which_libraries_describe_their_classes_hide_nothing_on_others(name: str) -> None:
    kept: list[int] = []
    assert [path for path in paths(type("Plain", (), {name: kept}), kept) if path == f"type.{name}"]


@pytest.mark.parametrize(
    ("root", "path"),
    [
        (Parked, "type.kept"),
        (Parked.method, None),
        ([Parked()], "list[0].<class Parked>.kept"),
        ([Parked().method], "list[0].__self__.<class Parked>.kept"),
    ],
)
def test_a_class_is_no_hiding_place(root: object, path: str | None) -> None:
    assert paths(root, Parked.kept) == ([] if path is None else [path])


@pytest.mark.parametrize("stop", [kinds.STOP_WIRING, kinds.STOP_INTERPRETER, kinds.STOP_LOOP, kinds.STOP_TRANSPORT])
def test_a_stop_hides_nothing_that_is_held_besides(stop: tuple[type, ...]) -> None:
    inner: list[int] = []
    for class_ in stop:
        derived = types.new_class("Derived", (class_,)) if class_.__flags__ & 1 << 10 else class_
        holder = [derived, inner]
        assert paths(holder, inner) == ["list[1]"]


METADATA = sorted(frozenset[str]().union(*(names for _, names in readers.METADATA_OF)))


@pytest.mark.parametrize("name", METADATA)
def test_a_name_under_which_a_library_describes_a_class_is_a_name_like_others_elsewhere(name: str) -> None:
    class_ = type("Ordinary", (Owner,), {name: []})
    assert paths(class_(), vars(class_)[name]) == [f"Ordinary.<class Ordinary>.{name}"]


class Sort(abc.ABC):  # noqa: B024
    kept: ClassVar[list[int]] = []


class Colour(enum.Enum):
    RED = 1
    kept = enum.nonmember(list[int]())


class Pair(collections.namedtuple("Pair", "left")):
    kept: ClassVar[list[int]] = []


class Model(pydantic.BaseModel):
    kept: ClassVar[list[int]] = []


@pytest.mark.parametrize("one", [Sort(), Colour.RED, Model(), Pair(1)])
def test_of_a_class_that_a_library_describes_everything_else_is_read(one: Any) -> None:
    (path,) = paths(one, type(one).kept)
    assert path.endswith(f".<class {type(one).__name__}>.kept")
    assert own([type(one)]) == {"list[0].kept"}


def test_what_a_library_keeps_at_a_function_is_a_name_like_others_at_a_function_of_ones_own() -> None:
    @functools.singledispatch
    def convert(value: object) -> None: ...

    def ordinary() -> None: ...

    ordinary.registry = []  # type: ignore[attr-defined]
    assert own((convert,)) == set()
    assert own((ordinary,)) == {"tuple[0].registry"}


def test_of_an_object_of_a_library_everything_is_read_but_its_class() -> None:
    inner: list[int] = []
    assert paths(types.SimpleNamespace(kept=inner), inner) == ["SimpleNamespace.kept"]


def test_what_the_garbage_collector_knows_is_reached() -> None:
    """Readers of their own give all that the collector gives but types, and parts instead of what just holds these."""

    class Attributed:
        def __init__(self) -> None:
            self.a = [1]

        def method(self, default: object = ({},)) -> object:
            return lambda: (self, default)

    one = Attributed()
    zoo: list[Any] = [one, one.method, one.method(), functools.partial(print, [1]), {}, {1: [2]}, (1, [2]), iter([1])]
    zoo += [property(one.method), weakref.ref(one, lambda _: None), memoryview(bytearray(1)), staticmethod(one.method)]
    holders = (type, dict, tuple, types.CellType, types.ModuleType)
    for thing in zoo:
        reached = {id(found.object) for found in reachable(thing)}
        for referent in gc.get_referents(thing):
            if kinds.classify(type(referent)) is not None and not isinstance(referent, holders):
                assert id(referent) in reached or type(thing) is memoryview, (thing, referent)
