"""No manager outside the container: its constructor wants the token that the container issued for its user key."""

from __future__ import annotations

import copy
import logging
import pickle
import secrets
from typing import Any

import pytest

from app.realtime import UserContext
from app.realtime.auth_token import AuthToken, InvalidAuthToken, TokenIssuer
from app.realtime.manager import UserManager
from app.testing import gateway_container
from containers import GatewayContainer

ALICE = UserContext(user_id="alice")


def build(container: GatewayContainer, token: Any, *, issuer: TokenIssuer | None = None) -> UserManager:
    """A manager of alice as somebody would build it who does not ask the container for one."""
    return UserManager(
        key=ALICE.key,
        context=ALICE,
        mode=container.mode(ALICE),
        make_mode=container.mode,
        auth_token=token,
        token_issuer=issuer or container.token_issuer(),
        connections=container.connections(),
        record=container.lifecycle_record(),
        publisher=container.publisher(),
        metrics=container.metrics(),
    )


def test_the_containers_token_for_this_user_key_builds_a_manager() -> None:
    container = gateway_container()
    assert build(container, container.auth_token(ALICE.key)).key == "user:alice"


@pytest.mark.parametrize("token", [None, "", "user:alice", b"\0" * 32, object(), AuthToken])
def test_what_is_no_token_builds_no_manager(token: Any) -> None:
    with pytest.raises(
        InvalidAuthToken, match=r"no manager for 'user:alice': it needs an AuthToken, got .*container\.m"
    ):
        build(gateway_container(), token)


def test_a_token_for_another_user_builds_no_manager() -> None:
    container = gateway_container()
    with pytest.raises(InvalidAuthToken, match="issued for another user key") as caught:
        build(container, container.auth_token("user:bob"))
    assert caught.value.key == "user:alice"


def test_a_token_of_another_container_builds_no_manager() -> None:
    with pytest.raises(InvalidAuthToken, match="not issued by this container"):
        build(gateway_container(), gateway_container().auth_token(ALICE.key))


def test_the_token_of_another_users_manager_builds_no_manager() -> None:
    container = gateway_container()
    bob = container.manager(UserContext(user_id="bob"))
    with pytest.raises(InvalidAuthToken, match="issued for another user key"):
        build(container, bob.auth_token)


def test_a_forged_token_builds_no_manager() -> None:
    with pytest.raises(InvalidAuthToken, match="not issued by this container"):
        build(gateway_container(), AuthToken(ALICE.key, secrets.token_bytes(16), secrets.token_bytes(32)))


def test_a_token_relabelled_for_another_user_builds_no_manager() -> None:
    container = gateway_container()
    token = container.auth_token("user:bob")
    token.key = ALICE.key
    with pytest.raises(InvalidAuthToken, match="not issued by this container"):
        build(container, token)


def test_tokens_for_one_user_are_never_equal() -> None:
    container = gateway_container()
    first, second = container.auth_token(ALICE.key), container.auth_token(ALICE.key)
    assert first != second
    assert len({first, second, container.manager(ALICE).auth_token}) == 3


def test_a_token_shows_the_user_key_alone() -> None:
    container = gateway_container()
    token = container.auth_token(ALICE.key)
    for text in (repr(token), str(token), f"{token}"):
        assert text == "<AuthToken for 'user:alice'>"
    assert not hasattr(token, "__dict__")
    assert "AuthToken" not in repr(container.manager(ALICE))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_token_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="belongs to one manager and cannot be copied"):
        pickle.dumps(gateway_container().auth_token(ALICE.key), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_token_cannot_be_copied(duplicate: Any) -> None:
    with pytest.raises(TypeError, match="belongs to one manager and cannot be copied"):
        duplicate(gateway_container().auth_token(ALICE.key))


async def test_no_log_speaks_of_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    container = gateway_container()
    await container.manager(ALICE).emit("hello", 1)
    with pytest.raises(InvalidAuthToken):
        build(container, container.auth_token("user:bob"))
    assert [record for record in caplog.records if record.name.startswith(("app", "containers", "providers"))] == []
