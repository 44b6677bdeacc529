"""Row: `copy.deepcopy(mode)`, `Mode(mode.value)` and a custom `__new__` give each manager its own mode: enum members
are singletons. Row: users are served after validation: the second user in the same mode was refused.
"""

from __future__ import annotations

from copy import copy, deepcopy

import pytest
from dependency_injector import providers

from app.realtime.identity import UserContext
from app.realtime.modes import ManagerMode, ModeKind
from app.realtime.violation import IsolationViolation
from config import ModeName
from containers import GatewayContainer
from providers.errors import NotFreshError
from tests.gateway import build_container

MODES: tuple[ModeName, ...] = ("unified", "isolated", "degraded", "emergency")


def users(number: int) -> list[UserContext]:
    return [UserContext(user_id=f"demo-user-{one}", session_id="phone") for one in range(number)]


@pytest.mark.parametrize("mode", MODES)
def test_a_thousand_managers_in_one_mode_have_a_thousand_mode_objects(mode: ModeName) -> None:
    container = build_container(mode=mode)
    managers = [container.manager(user) for user in users(1000)]
    assert len({id(manager.mode) for manager in managers}) == 1000
    assert {manager.mode.kind for manager in managers} == {ModeKind(mode)}
    first = managers[0]
    assert all(manager.mode is not first.mode and manager.mode != first.mode for manager in managers[1:])


def test_the_demo_users_of_the_incident_share_no_mode_object(container: GatewayContainer) -> None:
    names = ("demo-user-001", "demo-user-002", "production-user-001")
    one, two, three = (container.manager(UserContext(user_id=name)) for name in names)
    assert one.mode is not two.mode
    assert two.mode is not three.mode
    assert three.mode is not one.mode


def test_the_original_ways_to_copy_an_enum_member_share_it_and_a_mode_object_does_not() -> None:
    kind = ModeKind.UNIFIED
    assert deepcopy(kind) is copy(kind) is ModeKind(kind.value) is kind
    mode = ManagerMode(kind, 0.0, "default")
    assert deepcopy(mode) is not mode
    assert ManagerMode(kind, 0.0, "default") is not mode


def test_an_enum_as_the_provider_of_modes_is_refused_for_the_second_user(container: GatewayContainer) -> None:
    container.mode.set_provides(ModeKind)  # type: ignore[arg-type]  # as the original plan did it
    container.mode.set_args(ModeKind.UNIFIED)

    with pytest.raises(NotFreshError):
        [container.mode() for _ in range(2)]


def test_a_mode_that_changes_is_a_new_object_for_each_manager(container: GatewayContainer) -> None:
    managers = [container.manager(user) for user in users(100)]
    before = [manager.mode for manager in managers]
    container.policy().set_for_all(ModeKind.EMERGENCY)
    assert all(manager.refresh_mode() for manager in managers)
    after = [manager.mode for manager in managers]
    assert len({id(mode) for mode in before + after}) == 200


def test_a_mode_object_that_two_managers_were_given_is_noticed(container: GatewayContainer) -> None:
    mode = ManagerMode(ModeKind.UNIFIED, 0.0, "default")
    container.mode.set_provides(providers.Callable(lambda *_: mode))
    held = container.manager(UserContext(user_id="alice"))
    with pytest.raises(IsolationViolation):
        container.manager(UserContext(user_id="bob"))
    assert held.mode is mode


@pytest.mark.parametrize("mode", MODES)
async def test_a_thousand_users_in_one_mode_are_all_served(mode: ModeName) -> None:
    container = build_container(mode=mode)
    managers = [container.manager(user) for user in users(1000)]
    assert container.manager.count() == len({id(manager) for manager in managers}) == 1000
    for manager in managers:
        await manager.emit("emergency", "served")
    backlog, key = container.backlog(), "user-session:demo-user-7:phone" if mode == "isolated" else "user:demo-user-7"
    streams = await container.broker().streams(key)
    assert len(backlog.keys()) == (1000 if mode == "degraded" else 0)
    assert [stream.publications for stream in streams] == ([] if mode == "degraded" else [1])
