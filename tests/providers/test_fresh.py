"""Fresh: a new object at every call, or an error that says why not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.errors import Error

from providers import Fresh, NotFreshError, NotWeakReferenceableError, ProviderError

from .conftest import Together


class Basket:
    def __init__(self, owner: str = "", *, size: int = 0) -> None:
        self.owner = owner
        self.size = size


class Mode(Enum):
    UNIFIED = "unified"
    ISOLATED = "isolated"


@dataclass(slots=True)
class Slotted:
    owner: str = ""


@dataclass(slots=True, weakref_slot=True)
class Watched:
    owner: str = ""


class Row(dict[str, int]):
    pass


def test_every_call_provides_a_new_object() -> None:
    basket = Fresh(Basket, "alice", size=3)
    baskets = [basket() for _ in range(100)]
    assert len({id(each) for each in baskets}) == 100
    assert {(each.owner, each.size) for each in baskets} == {("alice", 3)}


def test_an_enum_as_factory_is_refused_at_the_second_call() -> None:
    mode = Fresh(Mode, "unified")
    assert mode() is Mode.UNIFIED
    with pytest.raises(NotFreshError) as refusal:
        mode()
    assert refusal.value.provider is mode
    assert refusal.value.provided_type is Mode


def test_the_members_of_an_enum_are_told_apart() -> None:
    mode = Fresh(Mode)
    assert mode("unified") is Mode.UNIFIED
    assert mode("isolated") is Mode.ISOLATED
    with pytest.raises(NotFreshError):
        mode("isolated")


def test_the_refusal_names_the_provider_and_the_remedy() -> None:
    mode = Fresh(Mode, "unified")
    mode()
    with pytest.raises(
        NotFreshError, match=r"Fresh\(tests\.providers\.test_fresh\.Mode\).*an enum.*Shared\("
    ) as refusal:
        mode()
    assert isinstance(refusal.value, ProviderError)
    assert isinstance(refusal.value, Error)


def test_the_refusal_shows_no_arguments() -> None:
    @cache
    def connect(password: str) -> Basket:
        return Basket(password)

    basket = Fresh(partial(connect, "s3cret"))
    held = basket()
    with pytest.raises(NotFreshError, match=r"Fresh\(functools\.partial\)") as refusal:
        basket()
    assert held.owner not in str(refusal.value)


def test_a_cached_function_is_refused() -> None:
    @cache
    def basket_of(owner: str) -> Basket:
        return Basket(owner)

    basket = Fresh(basket_of)
    alice, bob = basket("alice"), basket("bob")
    with pytest.raises(NotFreshError):
        basket("alice")
    assert (alice.owner, bob.owner) == ("alice", "bob")


@pytest.mark.parametrize("shared", [providers.Singleton(Basket), providers.Object(Basket())])
def test_a_shared_object_as_provides_is_refused(shared: providers.Provider[Basket]) -> None:
    basket = Fresh(shared)
    held = basket()
    with pytest.raises(NotFreshError, match=r"Fresh\((Singleton|Object)\("):
        basket()
    assert held is shared()


def test_a_refused_object_is_refused_again_and_again() -> None:
    mode = Fresh(Mode, "unified")
    mode()
    for _ in range(3):
        with pytest.raises(NotFreshError):
            mode()


def test_two_providers_do_not_know_each_other() -> None:
    assert Fresh(Mode, "unified")() is Fresh(Mode, "unified")()


def test_an_id_that_is_used_again_is_no_error() -> None:
    basket = Fresh(Basket)
    ids = {id(basket()) for _ in range(1_000)}
    assert len(ids) < 1_000, "no id was used again, so this test shows nothing"


def test_nothing_is_kept_alive() -> None:
    basket = Fresh(Basket)
    held = basket()
    reference = weakref.ref(held)
    del held
    assert reference() is None


def test_memory_is_bounded_by_the_living_objects() -> None:
    basket = Fresh(Basket)
    for _ in range(100):
        basket()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10_000):
        basket()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_objects_in_a_cycle_are_forgotten_with_the_cycle() -> None:
    def knot() -> Basket:
        basket = Basket()
        basket.owner = basket  # type: ignore[assignment]
        return basket

    basket = Fresh(knot)
    for _ in range(1_000):
        basket()
    gc.collect()
    held = [basket() for _ in range(1_000)]
    assert len({id(each) for each in held}) == 1_000


@pytest.mark.parametrize("builtin", [dict, list, set, bytearray, object])
def test_the_mutable_builtins_are_fresh(builtin: type) -> None:
    provider: Fresh[Any] = Fresh(builtin)
    first, second = provider(), provider()
    assert first is not second
    assert type(first) is builtin


def test_a_builtin_out_of_a_function_cannot_be_watched() -> None:
    cart: list[str] = []
    with pytest.raises(NotWeakReferenceableError, match=r"builtins\.list.*weak references.*__weakref__") as refusal:
        Fresh(lambda: cart)()
    assert refusal.value.provided_type is list


def test_a_builtin_type_that_answers_with_another_type_cannot_be_watched() -> None:
    class Forger(type):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return kept

    class Forged(metaclass=Forger):
        pass

    kept: dict[str, str] = {}
    with pytest.raises(NotWeakReferenceableError):
        Fresh(Forged)()


@pytest.mark.parametrize("provides", [int, str, tuple, lambda: None, partial(defaultdict, list), Slotted])
def test_what_has_no_weak_references_is_refused(provides: Any) -> None:
    with pytest.raises(NotWeakReferenceableError):
        Fresh(provides)()


@pytest.mark.parametrize("provides", [Watched, Row, partial(Basket, "alice")])
def test_what_has_weak_references_is_provided(provides: Any) -> None:
    provider: Fresh[Any] = Fresh(provides)
    assert provider() is not provider()


def test_of_all_threads_that_are_given_one_object_one_gets_it(together: Together) -> None:
    baskets = [Basket() for _ in range(5_000)]
    basket = Fresh(lambda number: baskets[number])

    def ask(_: int) -> int:
        given = 0
        for number in range(len(baskets)):
            with suppress(NotFreshError):
                basket(number)
                given += 1
        return given

    assert sum(together(4, ask)) == len(baskets)


def test_many_threads_are_given_many_objects(together: Together) -> None:
    basket = Fresh(Basket)

    def ask(_: int) -> list[Basket]:
        for _ in range(500):
            basket()
        return [basket() for _ in range(50)]

    baskets = [each for some in together(8, ask) for each in some]
    assert len({id(each) for each in baskets}) == 400


async def test_a_coroutine_function_is_fresh() -> None:
    async def fetch(owner: str) -> Basket:
        await asyncio.sleep(0)
        return Basket(owner)

    basket: Fresh[Any] = Fresh(fetch)
    alice = await basket.async_("alice")
    bob = await basket.async_("bob")
    assert (alice.owner, bob.owner) == ("alice", "bob")
    assert basket.is_async_mode_enabled()


async def test_a_coroutine_function_that_gives_one_object_is_refused_to_the_awaiter() -> None:
    one = Basket()

    async def fetch() -> Basket:
        return one

    basket: Fresh[Any] = Fresh(fetch)
    assert await basket.async_() is one
    with pytest.raises(NotFreshError):
        await basket.async_()


async def test_a_coroutine_after_a_plain_result_is_checked_too() -> None:
    one = Basket()

    async def fetch() -> Basket:
        return one

    basket: Fresh[Any] = Fresh(lambda later: fetch() if later else Basket())
    basket(False)
    assert await basket.async_(True) is one
    with pytest.raises(NotFreshError):
        await basket.async_(True)


async def test_asynchronous_injections_and_attributes_are_checked_when_they_are_there() -> None:
    async def owner() -> str:
        await asyncio.sleep(0)
        return "alice"

    basket = Fresh(Basket, providers.Coroutine(owner)).add_attributes(size=providers.Coroutine(owner))
    first, second = await basket.async_(), await basket.async_()
    assert first is not second
    assert vars(first) == {"owner": "alice", "size": "alice"}

    one = Basket()
    same = Fresh(lambda _: one, providers.Coroutine(owner))
    await same.async_()
    pending = same.async_()
    with pytest.raises(NotFreshError):
        await pending


async def test_a_shared_resource_is_refused_to_the_awaiter() -> None:
    async def pool() -> AsyncIterator[Basket]:
        yield Basket()

    resource: providers.Resource[Basket] = providers.Resource(pool)
    basket = Fresh(resource)
    held = await basket.async_()
    with pytest.raises(NotFreshError):
        await basket.async_()
    assert isinstance(held, Basket)
    shutdown = resource.shutdown()
    assert shutdown is not None
    await shutdown


async def test_a_cancelled_wait_ends_what_is_waited_for() -> None:
    never: asyncio.Future[Basket] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(Fresh(lambda: never).async_())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert never.cancelled()


async def test_without_async_mode_a_future_is_itself_the_object() -> None:
    closed: Fresh[asyncio.Future[None]] = Fresh(asyncio.Future)
    closed.disable_async_mode()
    first, second = closed(), closed()
    assert first is not second
    first.set_result(None)
    await first

    same = Fresh(lambda: second)
    same.disable_async_mode()
    same()
    with pytest.raises(NotFreshError):
        same()


def test_an_override_takes_the_place_and_leaves_nothing_behind() -> None:
    basket = Fresh(Basket)
    fake = Basket("fake")
    with basket.override(fake):
        assert basket() is fake
        assert basket() is fake
    assert basket() is not fake


def test_a_copied_container_has_providers_of_its_own() -> None:
    class Container(containers.DeclarativeContainer):
        mode = Fresh(Mode, "unified")

    one, other = Container(), Container()
    assert one.mode() is other.mode()
    for container in (one, other):
        with pytest.raises(NotFreshError):
            container.mode()
    assert isinstance(one.mode, Fresh)


def test_injections_of_every_kind_reach_the_object() -> None:
    basket = Fresh(Basket, providers.Object("alice")).add_kwargs(size=providers.Object(2)).add_attributes(colour="red")
    made = basket()
    assert (made.owner, made.size, vars(made)["colour"]) == ("alice", 2, "red")
    assert [type(each).__name__ for each in basket.related] == ["Object", "Object"]
    assert basket.provided.owner() == "alice"
    delegate: providers.Provider[Any] = basket.provider
    assert delegate() is basket


@pytest.mark.parametrize("path", ["Basket", "tests.providers.test_fresh.Basket", ".test_fresh.Basket"])
def test_an_import_path_is_found_from_the_users_module(path: str) -> None:
    basket: Fresh[Basket] = Fresh(path)
    assert type(basket()) is Basket


def test_the_name_of_a_builtin_is_found() -> None:
    provider: Fresh[dict[str, str]] = Fresh("dict")
    assert provider() is not provider()
