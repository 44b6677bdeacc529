"""Row: no bypass: the constructor worked without a token, and the token was never checked.

What else fits and what does not: tests/containers/test_auth_token.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from app.realtime.auth_token import AuthToken, InvalidAuthToken, TokenIssuer
from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from containers import GatewayContainer
from tests.gateway import build_container

ALICE = UserContext(user_id="alice")


def parts(container: GatewayContainer) -> dict[str, Any]:
    """All that the constructor takes but the token."""
    return {
        "key": ALICE.key,
        "context": ALICE,
        "mode": container.mode(ALICE),
        "make_mode": container.mode,
        "token_issuer": container.token_issuer(),
        "connections": container.connections(),
        "record": container.lifecycle_record(),
        "publisher": container.publisher(),
        "metrics": container.metrics(),
    }


def test_the_constructor_works_with_the_containers_token_alone(container: GatewayContainer) -> None:
    assert UserManager(**parts(container), auth_token=container.auth_token(ALICE.key)).key == ALICE.key
    with pytest.raises(TypeError, match="auth_token"):
        UserManager(**parts(container))


@pytest.mark.parametrize(
    "token", [None, "", "secret", b"secret", object(), True], ids=lambda token: type(token).__name__
)
def test_what_is_no_token_builds_no_manager(token: Any, container: GatewayContainer) -> None:
    with pytest.raises(InvalidAuthToken, match=r"it needs an AuthToken, got .*get managers from container\.manager"):
        UserManager(**parts(container), auth_token=token)


def test_the_token_is_checked_and_not_just_asked_for(container: GatewayContainer) -> None:
    bobs = container.manager(UserContext(user_id="bob")).auth_token
    elsewhere = build_container().auth_token(ALICE.key)
    forged = AuthToken(ALICE.key, b"0" * 16, b"0" * 32)
    for token, why in ((bobs, "another user key"), (elsewhere, "not issued by this"), (forged, "not issued by this")):
        with pytest.raises(InvalidAuthToken, match=why) as refused:
            UserManager(**parts(container), auth_token=token)
        assert refused.value.key == ALICE.key


def test_an_issuer_of_ones_own_is_no_way_round_the_container(container: GatewayContainer) -> None:
    # Whoever brings both lock and key gets an object, and it is nobody's manager: no publish and no user finds it.
    issuer = TokenIssuer()
    made = UserManager(**{**parts(container), "token_issuer": issuer}, auth_token=issuer.issue(ALICE.key))
    assert container.manager(ALICE) is not made
    assert made not in container.lifecycle().living()
    assert container.publisher().connected("alice") == []


def test_a_manager_that_was_refused_leaves_nothing(container: GatewayContainer) -> None:
    with pytest.raises(InvalidAuthToken):
        UserManager(**parts(container), auth_token=AuthToken(ALICE.key, b"", b""))
    assert container.manager.count() == len(container.lifecycle()) == 0
