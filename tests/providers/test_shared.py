"""Shared: one object for a container, with the reason."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dependency_injector import containers, providers

from providers import MissingArgumentError, Shared

from .conftest import Together


class Clock:
    def __init__(self, start: float = 0.0) -> None:
        self.start = start


class Container(containers.DeclarativeContainer):
    clock = Shared(Clock, 7.0, reason="keeps no state of a user")


def test_all_calls_give_one_object() -> None:
    clock = Shared(Clock, start=5.0, reason="keeps no state of a user")
    assert clock() is clock()
    assert clock().start == 5.0


def test_each_container_has_its_own_object() -> None:
    one, other = Container(), Container()
    assert one.clock() is one.clock()
    assert one.clock() is not other.clock()


def test_a_copy_keeps_the_reason_and_the_injections() -> None:
    container = Container()
    assert container.clock.reason == "keeps no state of a user"
    assert container.clock().start == 7.0
    copied = providers.deepcopy(container.clock)
    assert isinstance(copied, Shared)
    assert copied.reason == "keeps no state of a user"
    assert copied() is not container.clock()


@pytest.mark.parametrize("reason", [{}, {"reason": ""}, {"reason": "  "}, {"reason": None}, {"reason": 1}])
def test_no_reason_is_an_error_that_says_so(reason: dict[str, Any]) -> None:
    with pytest.raises(MissingArgumentError, match="Shared requires the keyword argument 'reason'") as refusal:
        Shared(Clock, **reason)
    assert refusal.value.provider is Shared
    assert refusal.value.argument == "reason"
    assert isinstance(refusal.value, TypeError)


def test_a_provider_that_was_made_empty_has_no_reason() -> None:
    empty: Shared[Clock] = Shared()
    empty.set_provides(Clock)
    with pytest.raises(MissingArgumentError):
        _ = empty.reason


def test_the_error_names_the_subclass() -> None:
    class Global(Shared[Any]):
        pass

    with pytest.raises(MissingArgumentError, match="Global requires"):
        Global(Clock, reason="")


def test_threads_at_once_get_one_object(together: Together) -> None:
    def slow() -> Clock:
        time.sleep(0.02)
        return Clock()

    clock = Shared(slow, reason="keeps no state of a user")
    assert len(set(together(16, lambda _: clock()))) == 1


def test_it_is_reset_and_overridden_like_a_singleton() -> None:
    container = Container()
    before = container.clock()
    container.reset_singletons()
    assert container.clock() is not before
    fake = Clock()
    with container.clock.override(fake):
        assert container.clock() is fake
    assert container.clock() is not fake
    assert list(container.traverse(types=[providers.BaseSingleton])) == [container.clock]


def test_an_import_path_is_found_from_the_users_module() -> None:
    clock: Shared[Clock] = Shared("Clock", reason="keeps no state of a user")
    assert type(clock()) is Clock
