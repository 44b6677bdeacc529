"""Every provider of the library: what it may give to a user's instance, and what it may not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from dependency_injector import containers, providers
from dependency_injector.providers import Provider

from providers import Fresh, PerKey, Shared, prove, prove_async

from .wiring import PROBES, Box, Manager, by_user, container_of, failures_of, proof_of, verdicts_of

ONE = "one object for all keys; use Fresh, or Shared if it is safe"
LOCAL = "one object for all keys of a thread or context; use Fresh, or Shared if it is safe"


@dataclass(frozen=True)
class Point:
    x: int
    names: tuple[str, ...] = ()


class Colour(Enum):
    RED = "red"


def make_box() -> Box:
    return Box()


def make_point() -> Point:
    return Point(1)


def resource() -> Iterator[Box]:
    yield Box()


async def make_box_later() -> Box:
    return Box()


def constant() -> tuple[int, int]:
    return (1, 2)


def itself(value: Any) -> Any:
    return value


def gives(provider: Provider[Any]) -> Provider[Any]:
    return providers.Callable(itself, provider)


class Source:
    limit = 3

    def __init__(self) -> None:
        self.box = Box()
        self.items = {"box": Box(), "name": "n"}

    def make(self) -> Box:
        return Box()

    def keep(self) -> Box:
        return self.box


class BoxFactory(providers.Factory[Box]):
    provided_type = Box


class ForeignFactory(providers.Factory[Box]):
    def _provide(self, args: Any, kwargs: Any) -> Box:
        raise NotImplementedError


def overridden(provider: Provider[Any], by: Provider[Any]) -> Provider[Any]:
    provider.override(by)
    return provider


def selector(**branches: Provider[Any]) -> Provider[Any]:
    return providers.Selector(lambda: next(iter(branches)), **branches)


def option(value: object) -> Provider[Any]:
    config = providers.Configuration()
    config.from_dict({"option": value})
    found: Provider[Any] = config.option
    return found


def source() -> Provider[Source]:
    return Shared(Source, reason="test")


GOOD: dict[str, tuple[Callable[[], Any], str]] = {
    "Fresh of a class": (lambda: Fresh(Box), "fresh"),
    "Fresh of a function": (lambda: Fresh(make_box), "fresh, checked"),
    "Fresh of a provider": (lambda: Fresh(providers.Factory(Box)), "fresh"),
    "Factory of a class": (lambda: providers.Factory(Box), "fresh"),
    "Factory of a function": (lambda: providers.Factory(make_box), "fresh, probed"),
    "Factory of what cannot change": (lambda: providers.Factory(int, "7"), "immutable"),
    "subclass of Factory that restricts the type": (lambda: BoxFactory(Box), "fresh"),
    "Callable of a function": (lambda: providers.Callable(make_box), "fresh, probed"),
    "Callable of a constant": (lambda: providers.Callable(constant), "fresh, probed"),
    "delegate of Fresh": (lambda: Fresh(Box).provider, "fresh"),
    "delegate of a function": (lambda: providers.Callable(make_box).provider, "not called"),
    "DelegatedFactory": (lambda: providers.DelegatedFactory(Box), "fresh"),
    "DelegatedCallable": (lambda: providers.DelegatedCallable(make_box), "not called"),
    "FactoryDelegate": (lambda: providers.FactoryDelegate(providers.Factory(Box)), "fresh"),
    "Aggregate": (lambda: providers.Aggregate(a=Fresh(Box)), "wiring"),
    "FactoryAggregate": (lambda: providers.FactoryAggregate(a=providers.Factory(Box)), "wiring"),
    "Selector": (lambda: selector(a=Fresh(Box), b=providers.Callable(make_box)), "wiring"),
    "List": (lambda: providers.List(1, Fresh(Box)), "fresh"),
    "Dict": (lambda: providers.Dict(a=Fresh(Box)), "fresh"),
    "Shared": (lambda: Shared(Box, reason="test"), "shared"),
    "Object of what cannot change": (lambda: providers.Object(Point(1)), "immutable"),
    "Object of a provider": (lambda: providers.Object(Fresh(Box)), "fresh"),
    "Object of an enum member": (lambda: providers.Object(Colour.RED), "immutable"),
    "Singleton of what cannot change": (lambda: providers.Singleton(Point, 1, ("a",)), "immutable"),
    "ThreadSafeSingleton of what cannot change": (lambda: providers.ThreadSafeSingleton(make_point), "immutable"),
    "Resource of what cannot change": (lambda: providers.Resource(make_point), "immutable"),
    "option of a configuration": (lambda: option("text"), "immutable"),
    "option as a number": (lambda: option("7").as_int(), "immutable"),  # type: ignore[attr-defined]
    "option as a list of its own": (lambda: option(["a"]).as_(list), "fresh, probed"),  # type: ignore[attr-defined]
    "attribute of a Shared object": (lambda: source().provided.limit, "fresh, probed"),
    "provided instance of a Shared": (lambda: source().provided, "shared"),
    "provided instance of a Singleton": (lambda: providers.Singleton(Point, 1).provided, "immutable"),
    "provided instance of a Callable": (lambda: providers.Callable(constant).provided, "fresh, probed"),
    "Callable that gives a Shared object": (lambda: gives(source()), "fresh, probed"),
    "item in a Shared object": (lambda: source().provided.items["name"], "fresh, probed"),
    "method call that makes an object": (source().provided.make.call, "fresh, probed"),
    "method of a Shared object": (lambda: source().provided.make, "fresh, probed"),
    "attribute of a fresh object": (lambda: Fresh(Source).provided.box, "fresh, probed"),
    "attribute of a Singleton that cannot change": (
        lambda: providers.Singleton(Source).provided.limit,
        "fresh, probed",
    ),
    "Dependency with a default": (lambda: providers.Dependency(Box, default=Fresh(Box)), "fresh"),
    "Dependency that is provided": (lambda: overridden(providers.Dependency(Box), Fresh(Box)), "fresh"),
    "AbstractFactory that is overridden": (
        lambda: overridden(providers.AbstractFactory(Box), providers.Factory(Box)),
        "fresh",
    ),
    "Singleton that Fresh overrides": (lambda: overridden(providers.Singleton(Box), Fresh(Box)), "fresh"),
    "plain value": (lambda: ("a", 1, Point(2)), "immutable"),
    "function": (lambda: make_box, "immutable"),
    "class": (lambda: Box, "immutable"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_keeps_users_apart_passes(name: str) -> None:
    part, verdict = GOOD[name]
    container = container_of(part())
    assert failures_of(container) == []
    last = [finding for finding in proof_of(container).findings if finding.path[1:2] == ("part",)]
    assert verdict in {finding.verdict.value for finding in last}


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "Singleton": (lambda: providers.Singleton(Box), f"Singleton: {ONE}"),
    "Singleton of a function": (lambda: providers.Singleton(make_box), f"Singleton: {ONE}"),
    "ThreadSafeSingleton": (lambda: providers.ThreadSafeSingleton(Box), f"ThreadSafeSingleton: {ONE}"),
    "ThreadLocalSingleton": (lambda: providers.ThreadLocalSingleton(Box), f"ThreadLocalSingleton: {LOCAL}"),
    "ContextLocalSingleton": (lambda: providers.ContextLocalSingleton(Box), f"ContextLocalSingleton: {LOCAL}"),
    "DelegatedSingleton": (lambda: providers.DelegatedSingleton(Box), f"DelegatedSingleton: {ONE}"),
    "SingletonDelegate": (lambda: providers.SingletonDelegate(providers.Singleton(Box)), f"Singleton: {ONE}"),
    "Singleton of a frozen object that holds what can change": (
        lambda: providers.Singleton(Point, 1, names=[]),
        f"Singleton: {ONE}",
    ),
    "delegate of a Singleton": (lambda: providers.Singleton(Box).provider, f"Singleton: {ONE}"),
    "Fresh of a Singleton": (lambda: Fresh(providers.Singleton(Box)), f"Singleton: {ONE}"),
    "Factory that gets a Singleton": (lambda: providers.Factory(Box, providers.Singleton(Box)), f"Singleton: {ONE}"),
    "Factory with a Singleton as attribute": (
        lambda: providers.Factory(Box).add_attributes(extra=providers.Singleton(Box)),
        f"Singleton: {ONE}",
    ),
    "Resource": (lambda: providers.Resource(resource), f"Resource: {ONE}"),
    "ContextLocalResource": (lambda: providers.ContextLocalResource(resource), f"ContextLocalResource: {LOCAL}"),
    "Object": (
        lambda: providers.Object(Box()),
        "value: one object for all keys (Box can change); use Fresh, or Shared if it is safe",
    ),
    "List that holds a Singleton": (lambda: providers.List(providers.Singleton(Box)), f"Singleton: {ONE}"),
    "Dict that holds a Singleton": (lambda: providers.Dict({"a": providers.Singleton(Box)}), f"Singleton: {ONE}"),
    "Aggregate": (lambda: providers.Aggregate(a=providers.Singleton(Box)), f"Singleton: {ONE}"),
    "branch of a Selector that is not selected": (
        lambda: selector(a=Fresh(Box), b=providers.Singleton(Box)),
        f"Singleton: {ONE}",
    ),
    "attribute of a Shared object that can change": (lambda: source().provided.box, f"AttributeGetter: {ONE}"),
    "item in a Shared object that can change": (lambda: source().provided.items["box"], f"ItemGetter: {ONE}"),
    "method call that gives a kept object": (source().provided.keep.call, f"MethodCaller: {ONE}"),
    "method of a Singleton": (
        lambda: providers.Singleton(Source).provided.make,
        "AttributeGetter: one object for all keys (Source at method.__self__); use Fresh, or Shared if it is safe",
    ),
    "argument of a method call": (
        lambda: source().provided.make.call(providers.Singleton(Box)),
        f"Singleton: {ONE}",
    ),
    "provided instance": (lambda: providers.Singleton(Box).provided, f"ProvidedInstance: {ONE}"),
    "option as a list of lists that can change": (
        lambda: option([[]]).as_(list),  # type: ignore[attr-defined]
        "TypedConfigurationOption: one object for all keys (list at list[0]); use Fresh, or Shared if it is safe",
    ),
    "Dict with a key that can change": (
        lambda: providers.Dict({Source(): 1}),
        "value: one object for all keys (Source can change); use Fresh, or Shared if it is safe",
    ),
    "Dict with a provider as key": (lambda: providers.Dict({providers.Singleton(Box): 1}), f"Singleton: {ONE}"),
    "Aggregate with keys that are no names": (
        lambda: providers.Aggregate({1: providers.Singleton(Box)}),
        f"Singleton: {ONE}",
    ),
    "Shared without a reason": (Shared, "Shared: no reason why it may be shared"),
    "option that is a dict": (
        lambda: option({"a": 1}),
        "ConfigurationOption: one object for all keys (dict can change); inject the options in it one by one",
    ),
    "strict option that is missing": (
        lambda: providers.Configuration(strict=True).missing,
        "ConfigurationOption: cannot be read (dependency_injector.errors.Error); configure it before the proof",
    ),
    "Dependency without a provider": (
        lambda: providers.Dependency(Box),
        "Dependency: nothing provides this dependency; override it",
    ),
    "AbstractFactory": (
        lambda: providers.AbstractFactory(Box),
        "AbstractFactory: abstract, and nothing overrides it; override it",
    ),
    "provider of a class the proof does not know": (
        lambda: ForeignFactory(Box),
        "ForeignFactory: a class of provider that the proof does not know; use those of the library",
    ),
    "Factory of nothing": (providers.Factory, "Factory: provides nothing; say what it provides"),
    "PerKey of its own": (
        lambda: PerKey(Fresh(Box), key=lambda: "key"),
        "PerKey: leads to the instances of every key; let who calls it pass on the one instance",
    ),
    "override of Fresh": (
        lambda: overridden(Fresh(Box), providers.Singleton(Box)),
        f"Singleton, which overrides Fresh: {ONE}",
    ),
    "override of Shared": (
        lambda: overridden(Shared(Box, reason="test"), providers.Object(Box())),
        "value: one object for all keys (Box can change); use Fresh, or Shared if it is safe",
    ),
    "sub-container": (
        lambda: providers.Container(containers.DynamicContainer),
        "Container: leads to every provider of a container; inject the providers that are needed",
    ),
    "provider in a tuple": (
        lambda: (Fresh(Box),),
        "value: one object for all keys (Fresh at tuple[0] can change); use Fresh, or Shared if it is safe",
    ),
    "container": (
        containers.DynamicContainer,
        "value: one object for all keys (DynamicContainer can change); use Fresh, or Shared if it is safe",
    ),
    "list": (lambda: [1], "value: one object for all keys (list can change); use Fresh, or Shared if it is safe"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_users_would_share_is_caught_and_named(name: str) -> None:
    part, text = BAD[name]
    failures = failures_of(container_of(part()))
    assert any(failure.endswith(f"← {text}") for failure in failures), failures


class Table:
    """Has nothing to give at first."""

    def __init__(self) -> None:
        self.current: Box | None = None

    def get(self) -> Box | None:
        return self.current


def test_that_two_calls_gave_what_cannot_change_is_no_proof_of_the_next_one() -> None:
    def current(table: Table) -> Box | None:
        return table.current

    table = Shared(Table, reason="test")
    for part in (providers.Callable(current, table), table.provided.get.call()):
        (found,) = [one for one in proof_of(container_of(part)).findings if one.path == ("manager", "part")]
        assert found.verdict.value == "fresh, probed"
        assert found.reason == "two calls gave the same, and nobody can change it"


def test_what_is_handed_on_and_nobody_called_is_said_to_be_not_called() -> None:
    def make() -> Box:
        raise AssertionError("it was called")

    for part in (providers.Callable(make).provider, providers.Factory(make).provider):
        (found,) = [one for one in proof_of(container_of(part)).findings if one.path == ("manager", "part")]
        assert str(found) == f"manager → part ← {found.provider}: code makes it; not called by the proof"


def test_what_the_probe_called_itself_is_probed() -> None:
    container = container_of(box=providers.Factory(make_box))
    proof = prove(container, {**PROBES, "box": ((), ())})
    assert [(one.path, one.verdict.value) for one in proof.findings][-1] == (("box",), "fresh, probed")


def test_a_context_variable_counts_as_what_it_holds() -> None:
    variable: ContextVar[Any] = ContextVar("variable", default=None)
    assert failures_of(container_of(variable)) == []

    def held(value: Any) -> list[str]:
        variable.set(value)
        return failures_of(container_of((variable,)))

    values: tuple[Any, ...] = ([], ([],), {"a": 1})
    for value in values:
        assert any("can change" in failure for failure in copy_context().run(held, value))
    assert copy_context().run(held, (variable, "text")) == []
    assert "list at" in failures_of(container_of(ContextVar("one", default=[])))[0]  # noqa: B039 - that is the leak


def test_every_provider_of_the_library_is_known() -> None:
    provider_classes = {
        value
        for value in vars(providers).values()
        if isinstance(value, type) and issubclass(value, Provider) and value is not Provider
    }
    bases = {providers.BaseSingleton, providers.BaseResource}  # nobody uses these themselves
    for kind in provider_classes - bases:
        container = container_of()
        made = kind.__new__(kind)
        try:
            made.__init__()  # type: ignore[misc]
        except TypeError:
            continue
        container.manager.set_kwargs(part=made)
        assert not any("does not know" in failure for failure in failures_of(container)), kind


def test_a_message_names_the_way_in_the_container_and_the_remedy() -> None:
    mode = providers.Singleton(Box)
    assert failures_of(container_of(mode, mode=mode)) == [f"manager → mode ← Singleton: {ONE}"]


def test_an_alias_is_followed_to_what_it_names() -> None:
    mode = providers.Singleton(Box)
    assert failures_of(container_of(mode, mode=mode, alias=mode)) == [f"manager → mode ← Singleton: {ONE}"]


def test_the_provider_of_a_key_function_is_judged_too() -> None:
    class Keys:
        def __init__(self) -> None:
            self.given: list[str] = []

        def __call__(self, user: str) -> str:
            return user

    container = containers.DynamicContainer()
    container.keys = providers.Singleton(Keys)
    container.manager = PerKey(Fresh(Manager), key=container.keys)
    assert failures_of(container) == [f"manager → keys ← Singleton: {ONE}"]
    container.keys.override(Shared(Keys, reason="keeps no state"))
    assert failures_of(container) == []


def test_what_is_in_a_sub_container_is_named_by_both() -> None:
    class Storage(containers.DeclarativeContainer):
        session = providers.Singleton(Box)

    class App(containers.DeclarativeContainer):
        storage = providers.Container(Storage)
        manager = PerKey(Fresh(Manager, part=storage.session), key=by_user)

    container: Any = App()
    assert failures_of(container) == [f"manager → storage.session ← Singleton: {ONE}"]
    container.storage.session.override(Fresh(Box))
    assert failures_of(container) == []


def test_dependencies_of_a_container_are_followed_to_what_provides_them() -> None:
    class Feature(containers.DeclarativeContainer):
        core = providers.DependenciesContainer()
        manager = PerKey(Fresh(Manager, part=core.box), key=by_user)

    class Core(containers.DeclarativeContainer):
        box = providers.Singleton(Box)

    container: Any = Feature(core=Core())
    assert failures_of(container) == [
        f"manager → core.box ← Singleton, which overrides Dependency: {ONE}",
    ]


def test_the_container_itself_is_no_part_of_an_instance() -> None:
    class App(containers.DeclarativeContainer):
        __self__ = providers.Self()
        manager = PerKey(Fresh(Manager, part=__self__), key=by_user)

    container: Any = App()
    assert failures_of(container) == [
        "manager → part ← Self: leads to every provider of a container; inject the providers that are needed",
    ]


def test_an_override_of_the_manager_is_caught() -> None:
    container = container_of()
    container.manager.override(providers.Object(Manager("everybody")))
    assert failures_of(container) == [
        "manager ← Object, which overrides PerKey: there is not one instance for each key; undo the override",
    ]


def test_an_override_of_the_manager_by_another_per_key_is_proved_instead() -> None:
    container = container_of(providers.Singleton(Box))
    container.manager.override(PerKey(Fresh(Manager, part=Fresh(Box)), key=by_user))
    assert failures_of(container) == []
    assert verdicts_of(container)["manager → part"] == "fresh"


def test_a_subclass_of_per_key_that_the_proof_does_not_know_is_an_error() -> None:
    class Other(PerKey[Manager]):
        def peek(self, *args: Any, **kwargs: Any) -> Manager | None:
            return None

    container = containers.DynamicContainer()
    container.manager = Other(Fresh(Manager), key=by_user)
    assert failures_of(container) == [
        "manager ← Other: a class of provider that the proof does not know; use those of the library",
    ]


def test_what_only_shared_objects_use_is_not_judged() -> None:
    container = container_of(Shared(Box, providers.Singleton(Box), reason="test"))
    assert failures_of(container) == []


def test_a_function_that_fails_makes_the_proof_fail_without_its_message() -> None:
    def fail() -> Box:
        raise ValueError("secret")

    (failure,) = failures_of(container_of(providers.Callable(fail)))
    assert "raised builtins.ValueError in " in failure
    assert "secret" not in failure


def test_a_shared_object_that_cannot_be_built_makes_the_proof_fail() -> None:
    def fail() -> Box:
        raise ValueError("secret")

    failures = failures_of(container_of(Shared(fail, reason="test")))
    assert any("Shared: raised builtins.ValueError" in failure for failure in failures)


async def test_asynchronous_factories_are_proved_by_prove_async() -> None:
    async def make(user: str, part: Box) -> Manager:
        return Manager(user, part)

    container = containers.DynamicContainer()
    container.box = providers.Coroutine(make_box_later)
    container.log = Shared(make_box_later, reason="test")
    container.manager = PerKey(Fresh(make, part=container.box), key=by_user)
    assert (await prove_async(container, PROBES)).ok
    container.manager.add_kwargs(part=container.log)
    assert (await prove_async(container, PROBES)).ok


async def test_prove_says_to_await_what_is_asynchronous() -> None:
    (failure,) = failures_of(container_of(providers.Coroutine(make_box_later)))
    assert failure.endswith("← Container: made asynchronously; await prove_async(...) instead of prove(...)")


async def test_a_failure_of_an_awaited_object_is_reported() -> None:
    async def fail() -> Box:
        raise ValueError("secret")

    container = container_of(providers.Coroutine(fail))
    with pytest.raises(Exception, match=r"raised builtins\.ValueError"):
        await prove_async(container, PROBES)


def test_the_proof_holds_in_whatever_thread_it_is_made() -> None:
    container = container_of(Fresh(Box))
    proofs: list[bool] = []
    thread = threading.Thread(target=lambda: proofs.append(prove(container, PROBES).ok))
    thread.start()
    thread.join()
    assert proofs == [True]
