"""Row: a regular expression extracts the user id from `str(context)`: names took over managers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.realtime.identity import IdentityError, UserContext
from containers import GatewayContainer


def test_the_display_name_user_id_bob_takes_no_manager_of_bob(container: GatewayContainer) -> None:
    bob = container.manager(UserContext(user_id="bob"))
    for name in ("user_id: bob", "user_id='bob'", "user_id=bob", "bob'", "UserContext(user_id='bob')"):
        assert container.manager(UserContext(user_id=name)) is not bob
        assert container.manager(UserContext(user_id="mallory", claims={"name": name})) is not bob
        assert container.manager(UserContext(session_id=name)) is not bob


def test_alice_smith_and_alice_jones_are_two_users(container: GatewayContainer) -> None:
    smith, jones = (container.manager(UserContext(user_id=name)) for name in ("alice smith", "alice jones"))
    assert smith is not jones
    assert (smith.key, jones.key) == ("user:alice%20smith", "user:alice%20jones")


@dataclass
class Wrapper:
    """What applications wrap a user in."""

    user: UserContext
    locale: str = "en"


def test_two_dataclass_wrappers_are_refused_and_what_they_wrap_is_two_users(container: GatewayContainer) -> None:
    wrappers = [Wrapper(UserContext(user_id=name)) for name in ("alice", "bob")]
    for wrapper in wrappers:
        with pytest.raises(IdentityError, match="must be a string, got Wrapper"):
            UserContext(user_id=wrapper)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            container.manager(wrapper)
    assert container.manager.count() == 0
    alice, bob = (container.manager(wrapper.user) for wrapper in wrappers)
    assert alice is not bob
