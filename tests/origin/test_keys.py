"""Row: keys are collision-free. Each of the collisions that were found."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.identity import IdentityError, UserContext
from containers import GatewayContainer
from tests.gateway import build_container
from tests.realtime.identities import contexts, same_user


def assert_apart(container: GatewayContainer, *identities: UserContext) -> None:
    """Each of these has a manager of its own, whoever came first."""
    for order in (identities, identities[::-1]):
        managers = [container.manager(context) for context in order]
        assert len({id(manager) for manager in managers}) == len(identities)
        assert len({manager.key for manager in managers}) == len(identities)


def nobody() -> UserContext | None:
    try:
        return UserContext()
    except IdentityError:
        return None


def test_user_id_no_user_context_takes_over_nobody(container: GatewayContainer) -> None:
    # What the original called everybody without a context has no manager here that a user could be named after.
    assert nobody() is None
    named = container.manager(UserContext(user_id="no_user_context"))
    assert named.key == "user:no_user_context"
    assert_apart(container, UserContext(user_id="no_user_context"), UserContext(session_id="no_user_context"))


def test_user_id_context_a_b_is_not_thread_a_with_request_b(container: GatewayContainer) -> None:
    assert_apart(
        container,
        UserContext(user_id="context_a_b"),
        UserContext(thread_id="a", request_id="b"),
        UserContext(session_id="context_a_b"),
    )


def test_user_id_extracted_alice_is_not_alice(container: GatewayContainer) -> None:
    assert_apart(container, UserContext(user_id="extracted_alice"), UserContext(user_id="alice"))


@pytest.mark.parametrize(
    "context",
    [
        UserContext(user_id="alice"),
        UserContext(user_id="alice", session_id="phone"),
        UserContext(session_id="alice"),
        UserContext(thread_id="t", request_id="r"),
    ],
    ids=lambda context: context.session_key,
)
def test_a_derived_key_as_an_id_takes_over_nobody(context: UserContext, container: GatewayContainer) -> None:
    for key in (context.key, context.session_key):
        assert_apart(
            container,
            context,
            UserContext(user_id=key),
            UserContext(session_id=key),
            UserContext(thread_id=key, request_id=key),
        )


def test_thread_a_b_with_request_c_is_not_thread_a_with_request_b_c(container: GatewayContainer) -> None:
    for separator in ("_", ":", "|", "%", "/", "-", "%3A", "\u00b7"):
        assert_apart(
            container,
            UserContext(thread_id=f"a{separator}b", request_id="c"),
            UserContext(thread_id="a", request_id=f"b{separator}c"),
        )


def test_the_number_1_is_refused_and_the_text_1_is_a_user(container: GatewayContainer) -> None:
    with pytest.raises(IdentityError, match="user_id must be a string, got int"):
        UserContext(user_id=1)  # type: ignore[arg-type]
    assert container.manager(UserContext(user_id="1")).key == "user:1"


def test_a_bar_in_an_id_joins_no_two_contexts(container: GatewayContainer) -> None:
    container = build_container(mode="isolated")
    assert_apart(
        container,
        UserContext(user_id="alice|phone", session_id="x"),
        UserContext(user_id="alice", session_id="phone|x"),
        UserContext(user_id="alice", session_id="phone"),
    )


def test_ids_that_differ_by_what_is_often_folded_are_different_users(container: GatewayContainer) -> None:
    names = ("alice", "Alice", " alice", "alice ", "al\u00ecce", "ali\u0300ce", "\u0430lice", "alice\u200b", "alice%20")
    assert_apart(container, *(UserContext(user_id=name) for name in names))


@given(st.lists(contexts(), min_size=2, max_size=6))
def test_no_key_is_cut_short_or_hashed_so_no_two_users_ever_meet(given_contexts: list[UserContext]) -> None:
    for a, b in combinations(given_contexts, 2):
        assert (a.key == b.key) is same_user(a, b)


def test_a_hundred_thousand_users_have_a_hundred_thousand_keys() -> None:
    # hash() % 1_000_000 first collided at about 1,300.
    assert len({UserContext(user_id=f"user-{number}").key for number in range(100_000)}) == 100_000


def test_the_longest_ids_that_differ_in_their_last_character_are_two_users(container: GatewayContainer) -> None:
    assert_apart(container, UserContext(user_id="a" * 254 + "b"), UserContext(user_id="a" * 254 + "c"))


def test_what_derives_keys_knows_no_hash_and_no_object_identity() -> None:
    source = (Path(__file__).parents[2] / "app" / "realtime" / "identity.py").read_text()
    for word in ("hash(", "hashlib", "md5", " id(", "repr("):
        assert word not in source
