"""PerKey: one instance per key, alive as long as it is held, and a provider like any other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Hashable
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.errors import Error

from providers import (
    Fresh,
    InvalidKeyError,
    MissingArgumentError,
    NotFreshError,
    NotWeakReferenceableError,
    PerKey,
    RecursiveBuildError,
    Shared,
)


class Manager:
    def __init__(self, user: str, clock: object = None) -> None:
        self.user = user
        self.clock = clock


class Clock:
    pass


class Keys:
    def __init__(self, prefix: str = "user") -> None:
        self.prefix = prefix

    def __call__(self, user: str, **_: object) -> Hashable:
        return f"{self.prefix}:{user}"


class Container(containers.DeclarativeContainer):
    clock = Shared(Clock, reason="keeps no state of a user")
    manager = PerKey(Fresh(Manager, clock=clock), key=Shared(Keys, reason="keeps no state of a user"))


class Page:
    def __init__(self, manager: Manager) -> None:
        self.manager = manager


def by_user(user: str, *_: object, **__: object) -> str:
    return user


def test_a_key_has_one_instance() -> None:
    manager = PerKey(Manager, key=by_user)
    alice = manager("alice")
    assert manager("alice") is alice
    assert alice.user == "alice"


def test_two_keys_have_two_instances() -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    alice, bob = manager("alice"), manager("bob")
    assert alice is not bob
    assert (alice.user, bob.user) == ("alice", "bob")
    assert manager.count() == 2


def test_the_key_is_computed_from_the_arguments_of_the_call() -> None:
    manager = PerKey(Manager, key=lambda user, clock: (clock, user))
    held = manager("alice", clock="a")
    assert manager(user="alice", clock="a") is held
    assert manager("alice", clock="b") is not held


def test_one_and_true_are_one_key_and_text_another() -> None:
    manager: PerKey[Manager] = PerKey(Manager, key=lambda user: user)
    held = manager(1)
    assert manager(True) is held
    assert manager("1") is not held


def test_an_instance_lives_as_long_as_it_is_held() -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    held = manager("alice")
    reference = weakref.ref(held)
    gc.collect()
    assert manager("alice") is held
    del held
    assert reference() is None
    assert manager.count() == 0


def test_ten_thousand_keys_gone_leave_nothing() -> None:
    manager = PerKey(Manager, key=by_user)
    for number in range(100):
        manager(f"warm-{number}")
    gc.collect()
    before = len(gc.get_objects())
    for number in range(10_000):
        manager(f"user-{number}")
    gc.collect()
    assert manager.count() == 0
    assert manager.instances() == []
    assert len(gc.get_objects()) - before < 50


def test_an_instance_in_a_cycle_goes_with_the_cycle() -> None:
    manager = PerKey(Manager, key=by_user)
    held = manager("alice")
    held.clock = held
    del held
    gc.collect()
    assert manager.count() == 0


def test_no_key_function_is_an_error_that_says_so() -> None:
    attempts: tuple[dict[str, Any], ...] = ({}, {"key": None}, {"key": "user"})
    for wrong in attempts:
        with pytest.raises(MissingArgumentError, match="PerKey requires the keyword argument 'key'") as refusal:
            PerKey(Manager, **wrong)
        assert refusal.value.argument == "key"


def test_a_provider_that_was_made_empty_says_so_at_the_call() -> None:
    empty: PerKey[Manager] = PerKey()
    empty.set_provides(Manager)
    with pytest.raises(MissingArgumentError, match="'key'"):
        empty("alice")


def test_a_key_that_is_not_hashable_is_an_error_that_says_so() -> None:
    def key(user: str) -> Any:
        return [user]

    manager = PerKey(Manager, key=key)
    with pytest.raises(InvalidKeyError, match=r"builtins\.list as key.*hashable") as refusal:
        manager("alice")
    assert refusal.value.provider is manager
    assert refusal.value.key_type is list
    with pytest.raises(InvalidKeyError):
        manager.peek("alice")


def test_a_key_that_is_a_coroutine_is_an_error_that_says_so() -> None:
    async def key(user: str) -> str:
        return user

    with pytest.raises(InvalidKeyError, match="coroutine as key"):
        PerKey(Manager, key=key)("alice")  # type: ignore[arg-type]  # the types say so, too


async def test_a_key_that_is_a_future_is_an_error_that_says_so() -> None:
    future = asyncio.get_running_loop().create_future()
    with pytest.raises(InvalidKeyError, match="Future as key"):
        PerKey(Manager, key=lambda _: future)("alice")


def test_an_error_of_the_key_function_passes_through() -> None:
    def key(user: str) -> str:
        raise LookupError(user)

    manager = PerKey(Manager, key=key)
    with pytest.raises(LookupError):
        manager("alice")


@pytest.mark.parametrize("provides", [tuple, dict, lambda _: None])
def test_an_instance_without_weak_references_is_an_error_that_says_so(provides: Any) -> None:
    manager: PerKey[Any] = PerKey(provides, key=lambda _: "key")
    for _ in range(2):
        with pytest.raises(NotWeakReferenceableError, match=r"PerKey\(.*has no weak references"):
            manager([])


def test_an_instance_of_two_keys_is_refused_by_fresh() -> None:
    one = Manager("everybody")
    manager = PerKey(Fresh(lambda _: one), key=by_user)
    assert manager("alice") is one
    with pytest.raises(NotFreshError):
        manager("bob")
    assert manager.peek("alice") is one
    assert manager.peek("bob") is None


def test_a_failure_is_not_kept() -> None:
    def build(user: str, *, fail: bool = False) -> Manager:
        if fail:
            raise ConnectionError("no route")
        return Manager(user)

    manager = PerKey(build, key=by_user)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            manager("alice", fail=True)
    held = manager("alice")
    assert manager("alice", fail=True) is held


def test_a_factory_that_asks_for_its_own_key_is_an_error_and_not_a_deadlock() -> None:
    def build(user: str) -> Manager:
        return Manager(user, manager(user))

    manager: PerKey[Manager] = PerKey(build, key=by_user)
    with pytest.raises(
        RecursiveBuildError, match=r"PerKey\(.*asked for an instance that cannot be finished"
    ) as refusal:
        manager("alice")
    assert refusal.value.provider is manager
    assert manager.count() == 0


def test_a_factory_may_ask_for_other_keys_as_long_as_no_circle_arises() -> None:
    def build(user: str, friends: tuple[str, ...] = ()) -> Manager:
        return Manager(user, manager(friends[0], friends[1:]) if friends else None)

    manager: PerKey[Manager] = PerKey(build, key=by_user)
    alice = manager("alice", ("bob", "carol"))
    assert alice.clock is manager("bob")
    assert manager.count() == 3
    with pytest.raises(RecursiveBuildError):
        manager("dave", ("erin", "dave"))
    assert manager.count() == 3


def test_two_providers_that_need_each_other_are_an_error() -> None:
    left: PerKey[Manager] = PerKey(lambda user: Manager(user, right(user)), key=by_user)
    right: PerKey[Manager] = PerKey(lambda user: Manager(user, left(user)), key=by_user)
    with pytest.raises(RecursiveBuildError):
        left("alice")


def test_a_finalizer_that_asks_for_the_key_being_built_is_an_error_and_not_a_deadlock() -> None:
    seen: list[type] = []

    class Goodbye:
        def __del__(self) -> None:
            try:
                manager("alice")
            except RecursiveBuildError as error:
                seen.append(type(error))

    def build(user: str) -> Manager:
        knot: list[Any] = [Goodbye()]
        knot.append(knot)
        del knot
        gc.collect()
        return Manager(user)

    manager = PerKey(build, key=by_user)
    held = manager("alice")
    assert manager("alice") is held
    assert seen == [RecursiveBuildError]


def test_peek_builds_nothing() -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    assert manager.peek("alice") is None
    assert manager.count() == 0
    held = manager("alice")
    assert manager.peek("alice") is held


def test_peek_honours_an_override() -> None:
    manager, other = PerKey(Manager, key=by_user), PerKey(Manager, key=by_user)
    mine, theirs = manager("alice"), other("alice")
    with manager.override(other):
        assert manager.peek("alice") is theirs
        assert manager.peek("bob") is None
    with manager.override(Manager("fake")):
        assert manager.peek("alice") is None
    assert manager.peek("alice") is mine


def test_instances_gives_what_lives() -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    alice, bob = manager("alice"), manager("bob")
    manager("carol")
    assert sorted(each.user for each in manager.instances()) == ["alice", "bob"]
    del alice
    assert manager.instances() == [bob]


def test_reset_forgets_and_holders_keep_what_they_hold() -> None:
    manager = PerKey(Fresh(Manager), key=by_user)
    before = manager("alice")
    with manager.reset() as entered:
        assert entered is manager
        inside = manager("alice")
        assert inside is not before
    after = manager("alice")
    assert after is not inside
    assert before.user == "alice"
    assert manager.instances() == [after]


def test_the_end_of_an_instance_from_before_a_reset_spares_the_new_one() -> None:
    manager = PerKey(Manager, key=by_user)
    before = manager("alice")
    manager.reset()
    after = manager("alice")
    del before
    assert manager("alice") is after


def test_full_reset_reaches_the_singletons_behind_it() -> None:
    clock = providers.Singleton(Clock)
    manager = PerKey(Fresh(Manager, clock=clock), key=by_user)
    held, ticking = manager("alice"), clock()
    manager.full_reset()
    assert manager("alice") is not held
    assert clock() is not ticking


def test_reset_singletons_of_a_container_resets_it() -> None:
    container = Container()
    held = container.manager("alice")
    with container.reset_singletons():
        assert container.manager("alice") is not held


def test_the_function_of_a_key_provider_gets_the_arguments() -> None:
    container = Container()
    held = container.manager("alice")
    assert container.manager("alice") is held
    assert isinstance(container.manager.key, Shared)
    plain = PerKey(Manager, key=by_user)
    assert plain.key is by_user


def test_a_key_provider_is_overridden_like_any_provider() -> None:
    keys = providers.Singleton(Keys, "user")
    manager = PerKey(Manager, key=keys)
    held = manager("alice")
    with keys.override(providers.Singleton(Keys, "session")):
        assert manager("alice") is not held
    assert manager("alice") is held


def test_two_containers_share_nothing() -> None:
    one, other = Container(), Container()
    mine, theirs = one.manager("alice"), other.manager("alice")
    assert mine is not theirs
    assert mine.clock is one.clock()
    assert theirs.clock is other.clock()
    assert one.manager.key is not other.manager.key
    one.manager.reset()
    assert other.manager("alice") is theirs


def test_a_copy_begins_empty_and_keeps_key_injections_and_overrides() -> None:
    fake = Manager("fake")
    manager = PerKey(Fresh(Manager), clock="c", key=by_user).add_attributes(colour="red")
    held = manager("alice")
    copied = providers.deepcopy(manager)
    assert isinstance(copied, PerKey)
    assert copied.count() == 0
    made = copied("alice")
    assert made is not held
    assert vars(made) == {"user": "alice", "clock": "c", "colour": "red"}
    assert copied.key is by_user

    manager.override(providers.Object(fake))
    assert providers.deepcopy(manager)("alice").user == "fake"


def test_a_copy_and_its_key_provider_are_copied_once() -> None:
    keys = Shared(Keys, reason="keeps no state of a user")
    manager = PerKey(Manager, key=keys)
    copies = providers.deepcopy([manager, keys, manager])
    assert copies[0] is copies[2]
    assert copies[0].key is copies[1]
    assert copies[1] is not keys


def test_injections_can_be_changed_as_in_a_singleton() -> None:
    def show(*args: object, **kwargs: object) -> Any:
        made = Manager("")
        made.clock = (args, kwargs)
        return made

    manager: PerKey[Any] = PerKey(show, 1, key=lambda *_, **__: object(), a=1)
    assert manager().clock == ((1,), {"a": 1})
    assert manager(9, b=9).clock == providers.Singleton(lambda *args, **kwargs: (args, kwargs), 1, a=1)(9, b=9)
    assert manager.add_args(2) is manager
    assert manager.add_kwargs(b=2) is manager
    assert manager.add_attributes(colour="red") is manager
    assert manager().clock == ((1, 2), {"a": 1, "b": 2})
    assert manager().colour == "red"
    assert [*manager.args] == [1, 2]
    assert (manager.kwargs, manager.attributes) == ({"a": 1, "b": 2}, {"colour": "red"})
    manager.set_args(3).set_kwargs(c=3).set_attributes(size=3)
    assert manager().clock == ((3,), {"c": 3})
    assert vars(manager())["size"] == 3
    assert "colour" not in vars(manager())
    manager.clear_args().clear_kwargs().clear_attributes()
    assert manager().clock == ((), {})
    assert "size" not in vars(manager())
    assert manager.set_provides(lambda: Manager("other")) is manager
    assert manager().user == "other"
    assert manager.cls is manager.provides


def test_injections_named_like_the_keyword_are_added_afterwards() -> None:
    def build(user: str, *, key: str) -> Manager:
        return Manager(user, key)

    manager = PerKey(build, key=by_user).add_kwargs(key="injected")
    assert manager("alice").clock == "injected"


def test_provider_injections_are_resolved_at_each_build() -> None:
    manager = PerKey(Manager, clock=providers.Factory(Clock), key=by_user)
    alice, bob = manager("alice"), manager("bob")
    assert isinstance(alice.clock, Clock)
    assert alice.clock is not bob.clock


def test_a_type_can_be_demanded() -> None:
    class ManagerPerKey(PerKey[Any]):
        provided_type = Manager  # type: ignore[assignment]  # the stubs say = for :

    with pytest.raises(Error, match="can provide only"):
        ManagerPerKey(Clock, key=by_user)


def test_an_override_takes_the_place_and_leaves_nothing_behind() -> None:
    manager = PerKey(Manager, key=by_user)
    held = manager("alice")
    with manager.override(providers.Factory(Manager, "fake")):
        assert manager().user == "fake"
    assert manager("alice") is held
    manager.override(Manager("fake"))
    manager.reset_override()
    assert manager("alice") is held
    assert not manager.overridden


def test_a_container_override_reaches_it() -> None:
    class Fakes(containers.DeclarativeContainer):
        clock = providers.Object("fake")

    container = Container()
    with container.override_providers(clock=providers.Object("stopped")):
        assert container.manager("alice").clock == "stopped"
    container.override(Fakes())
    assert container.manager("alice").clock == "fake"
    container.reset_override()
    assert isinstance(container.manager("alice").clock, Clock)


def test_a_subclassed_container_can_replace_it() -> None:
    class Own(Container):
        manager = PerKey(Manager, key=lambda user: user.lower())

    container = Own()
    held = container.manager("Alice")
    assert container.manager("alice") is held


def test_traversal_finds_it_and_everything_behind_it() -> None:
    container = Container()
    assert list(container.traverse(types=[PerKey])) == [container.manager]
    behind: list[providers.Provider[Any]] = list(container.manager.traverse())
    assert container.clock in behind
    assert container.manager.key in behind
    assert container.manager.provides in behind
    plain = PerKey(Manager, providers.Object(1), key=by_user, clock=providers.Object(2))
    assert len(list(plain.related)) == 2
    fake = providers.Object(3)
    plain.override(fake)
    assert fake in list(plain.related)


def test_its_instances_are_injected_into_other_providers() -> None:
    class Pages(containers.DeclarativeContainer):
        manager = PerKey(Manager, "everybody", key=lambda: "one")
        page = providers.Factory(Page, manager)

    pages, others = Pages(), Pages()
    first, second = pages.page(), pages.page()
    assert first is not second
    assert first.manager is second.manager
    assert others.page().manager is not first.manager


def test_the_provider_itself_and_parts_of_the_instance_can_be_injected() -> None:
    manager = PerKey(Manager, "everybody", clock=("tick", "tock"), key=lambda: "one")
    page: providers.Factory[Any] = providers.Factory(Page, manager.provider)
    assert page().manager is manager
    assert providers.Callable(str, manager.provided.user)() == "everybody"
    assert providers.Callable(str, manager.provided.clock[1])() == "tock"
    assert providers.Callable(str, manager.provided.user.upper.call())() == "EVERYBODY"
    assert manager.provided.user() == "everybody"


def test_it_serves_selectors_aggregates_lists_and_dicts() -> None:
    manager, other = PerKey(Manager, key=by_user), PerKey(Manager, key=by_user)
    held = manager("alice")
    selector = providers.Selector(lambda: "manager", manager=manager, other=other)
    assert selector("alice") is held
    aggregate = providers.Aggregate(manager=manager, other=other)
    assert aggregate("manager", "alice") is held
    assert aggregate.other is other
    one = PerKey(Manager, "everybody", key=lambda: "one")
    kept = one()
    assert providers.List(one, one)() == [kept, kept]
    assert providers.Dict(manager=one)() == {"manager": kept}


def test_it_fills_dependencies() -> None:
    class Needs(containers.DeclarativeContainer):
        manager: providers.Dependency[Manager] = providers.Dependency(instance_of=Manager)
        gateway = providers.DependenciesContainer()
        page = providers.Factory(Page, gateway.manager)

    manager = PerKey(Manager, "everybody", key=lambda: "one")
    gateway = providers.DependenciesContainer(manager=manager)
    container = Needs(manager=manager, gateway=gateway)
    held = manager()
    assert container.manager() is held
    assert container.page().manager is held
    default: providers.Dependency[Manager] = providers.Dependency(default=manager)
    assert default.is_defined
    assert default() is held


def test_it_works_in_a_sub_container() -> None:
    class Outer(containers.DeclarativeContainer):
        inner = providers.Container(Container)

    one, other = Outer(), Outer()
    held = one.inner.manager("alice")
    assert one.inner.manager("alice") is held
    assert other.inner.manager("alice") is not held


def test_it_works_in_a_dynamic_container() -> None:
    container = containers.DynamicContainer()
    container.manager = PerKey(Manager, key=by_user)
    held = container.manager("alice")
    assert container.manager("alice") is held


def test_an_abstract_singleton_takes_it() -> None:
    abstract: providers.AbstractSingleton[Manager] = providers.AbstractSingleton(Manager)
    manager = PerKey(Manager, key=by_user)
    abstract.override(manager)
    held = manager("alice")
    assert abstract("alice") is held


def test_it_shows_what_it_provides() -> None:
    assert "PerKey" in str(PerKey(Manager, key=by_user))
    assert "Manager" in repr(PerKey(Manager, key=by_user))


@pytest.mark.parametrize("path", ["Manager", "tests.providers.test_per_key.Manager", ".test_per_key.Manager"])
def test_an_import_path_is_found_from_the_users_module(path: str) -> None:
    manager: PerKey[Manager] = PerKey(path, key=by_user)
    assert type(manager("alice")) is Manager
    manager.set_provides(path)
    assert type(manager("alice")) is Manager
