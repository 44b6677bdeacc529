"""The probe: what it needs, what it leaves, and how it is told."""

from __future__ import annotations

import doctest
import gc
from typing import Any

import pytest
from dependency_injector import containers, providers

import providers.proof as proof_package
from providers import Fresh, PerKey, ProofError, ProviderError, Shared, prove, prove_async

from .wiring import PROBES, Box, Manager, by_user, container_of, failures_of


class Taking(Manager):
    """Takes what a shared box holds."""

    def __init__(self, user: str, part: Any = None) -> None:
        super().__init__(user, part.content)


def test_a_per_key_without_probe_arguments_is_an_error_that_says_what_to_give() -> None:
    with pytest.raises(ProofError) as caught:
        prove(container_of())
    (finding,) = caught.value.proof.failures
    assert str(finding) == (
        "manager ← PerKey: no probe arguments; give probe arguments of two users that do not exist: "
        "probes={'manager': ((...,), (...,))}"
    )


def test_probe_arguments_of_no_provider_are_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ProofError, match="mangaer ← PerKey: probe arguments for no provider; there is manager"):
        prove(container_of(), {**PROBES, "mangaer": PROBES["manager"]})
    with pytest.raises(ProofError, match="there is none"):
        prove(containers.DynamicContainer(), PROBES)


def test_a_container_without_a_per_key_has_nothing_to_prove() -> None:
    assert prove(containers.DynamicContainer()).findings == ()


def test_a_per_key_without_a_name_is_probed_by_the_name_of_its_place() -> None:
    container = containers.DynamicContainer()
    container.control = Shared(Box, PerKey(Fresh(Manager), key=by_user).provider, reason="test")
    with pytest.raises(ProofError, match=r"control\.\[0\] ← PerKey: no probe arguments"):
        prove(container)
    assert prove(container, {"control.[0]": PROBES["manager"]}).ok


def test_the_probe_leaves_no_instance_and_nothing_of_one() -> None:
    container = container_of(Fresh(Box))
    gc.collect()
    before = sum(isinstance(one, (Manager, Box)) for one in gc.get_objects())
    prove(container, PROBES)
    assert container.manager.count() == 0
    assert sum(isinstance(one, (Manager, Box)) for one in gc.get_objects()) == before


def test_a_probe_that_fails_leaves_no_instance_either() -> None:
    container = container_of(Shared(Box, Fresh(Box), reason="test"))
    container.manager.provides.set_provides(Taking)
    with pytest.raises(ProofError, match=r"Taking\.part ← instance"):
        prove(container, PROBES)
    gc.collect()
    assert container.manager.count() == 0


def test_an_instance_in_a_circle_is_let_go_all_the_same() -> None:
    class Circular(Manager):
        def __init__(self, user: str, part: Any = None) -> None:
            super().__init__(user, self)

    container = container_of()
    container.manager.provides.set_provides(Circular)
    assert failures_of(container) == []
    gc.collect()
    assert container.manager.count() == 0


def test_living_instances_are_neither_touched_nor_in_the_way() -> None:
    container = container_of(Fresh(Box))
    alice = container.manager("alice")
    assert prove(container, PROBES).ok
    assert container.manager("alice") is alice


def test_a_key_that_is_in_use_is_refused() -> None:
    container = container_of()
    living = container.manager("probe-b")
    assert failures_of(container) == [
        "manager ← PerKey: an instance of the key lives already; give probe arguments of two users that do not exist"
    ]
    assert living.user == "probe-b"


def test_one_key_for_two_users_is_refused() -> None:
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Manager), key=lambda user: "everybody")
    (failure,) = failures_of(container)
    assert "the key function gives one key to both users" in failure


def test_arguments_that_both_users_were_given_are_no_leak() -> None:
    session = Box()
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Manager), key=lambda user, part: user)
    assert prove(container, {"manager": (("a", session), ("b", session))}).ok


def test_arguments_that_can_change_are_no_leak_when_the_key_comes_again() -> None:
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Manager), key=lambda user, part: user)
    assert prove(container, {"manager": (("a", Box()), ("b", Box()))}).ok


def test_parts_of_a_shared_object_are_not_shared_by_its_reason() -> None:
    container = container_of(Shared(Box, Fresh(Box), reason="test"))
    container.manager.provides.set_provides(Taking)
    (failure,) = failures_of(container)
    assert failure.startswith("manager → Taking.part ← instance: the same object for another key")


def test_an_object_of_a_library_may_be_marked_as_shared_by_providing_it() -> None:
    registry: list[str] = []

    class Foreign(Manager):
        def __init__(self, user: str, part: Any = None, extra: Any = None) -> None:
            super().__init__(user)

    Foreign.registry = registry  # type: ignore[attr-defined]
    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(Foreign), key=by_user)
    assert "list at" in failures_of(container)[0]
    container.registry = Shared(lambda kind: kind.registry, Foreign, reason="names of formats; the library's own")
    container.manager.add_kwargs(part=container.registry)
    assert failures_of(container) == []
    container.manager.add_kwargs(extra=registry)
    assert failures_of(container) == []


class Failing(Manager):
    def __init__(self, user: str, part: Any = None) -> None:
        raise ValueError("secret")


def test_an_instance_that_cannot_be_built_is_an_error_that_says_where_and_shows_no_secret() -> None:
    container = container_of()
    container.manager.provides.set_provides(Failing)
    (failure,) = failures_of(container)
    assert failure.startswith("manager ← PerKey: raised builtins.ValueError in Failing.__init__, line ")
    assert "secret" not in failure


def test_an_instance_that_cannot_be_built_again_is_an_error() -> None:
    class Twice(Manager):
        def __init__(self, user: str, part: Any = None) -> None:
            super().__init__(user)
            part.content.pop()

    container = container_of(Shared(Box, providers.List(1, 2), reason="test"))
    container.manager.provides.set_provides(Twice)
    (failure,) = failures_of(container)
    assert failure.startswith("manager ← PerKey: raised builtins.IndexError in ")


def test_what_fresh_refuses_is_told_in_its_own_words() -> None:
    container = containers.DynamicContainer()
    keeper = Shared(Box, Fresh(Manager, "everybody"), reason="test")
    container.manager = PerKey(Fresh(lambda user, keeper: keeper.content, keeper=keeper), key=by_user)
    (failure,) = failures_of(container)
    assert "was to provide a new object but got the same tests.proof.wiring.Manager again" in failure


async def test_an_asynchronous_instance_that_fails_is_an_error() -> None:
    async def make(user: str) -> Manager:
        raise ValueError("secret")

    container = containers.DynamicContainer()
    container.manager = PerKey(Fresh(make), key=by_user)
    with pytest.raises(ProofError, match=r"manager ← PerKey: raised builtins\.ValueError"):
        await prove_async(container, PROBES)


async def test_a_factory_that_turns_out_to_be_asynchronous_is_an_error_in_prove() -> None:
    async def later() -> Box:
        return Box()

    def hidden() -> Any:
        return later()

    for part in (providers.Callable(hidden), Shared(hidden, reason="test")):
        (failure,) = failures_of(container_of(part))
        assert "made asynchronously; await prove_async(...) instead of prove(...)" in failure


def test_the_error_is_one_of_the_package_and_of_the_library_and_holds_the_findings() -> None:
    with pytest.raises(ProviderError) as caught:
        prove(container_of(providers.Singleton(Box)), PROBES)
    assert isinstance(caught.value, ProofError)
    assert not caught.value.proof.ok
    (finding,) = caught.value.proof.failures
    assert (finding.path, finding.provider, finding.provides) == (
        ("manager", "part"),
        "Singleton",
        "tests.proof.wiring.Box",
    )
    assert str(caught.value) == (
        "dependency_injector.containers.DynamicContainer is not proved to keep its users apart:\n"
        "  manager → part ← Singleton: one object for all keys; use Fresh, or Shared if it is safe"
    )


def test_the_example_of_prove_runs() -> None:
    results = doctest.testmod(proof_package, raise_on_error=False)
    assert results.attempted > 0
    assert results.failed == 0
