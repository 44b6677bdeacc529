"""Ids by their rules, keys that are injective, contexts that cannot change."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from unicodedata import category
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.identity import (
    MAX_ID_BYTES,
    IdentityError,
    UserContext,
    check_id,
    encode_key,
    freeze,
    user_of,
)
from tests.realtime.identities import contexts, ids, same_user

NAMES = ("user_id", "session_id", "thread_id", "request_id")


@given(contexts(), contexts())
def test_keys_are_equal_exactly_when_the_users_are(a: UserContext, b: UserContext) -> None:
    assert (a.key == b.key) is same_user(a, b)


@given(contexts(), contexts())
def test_session_keys_are_equal_exactly_when_user_and_session_are(a: UserContext, b: UserContext) -> None:
    both = a.user_id is not None and b.user_id is not None
    same = same_user(a, b) and (not both or a.session_id == b.session_id)
    assert (a.session_key == b.session_key) is same


@given(contexts(), contexts())
def test_no_session_key_is_the_key_of_somebody_else(a: UserContext, b: UserContext) -> None:
    if a.session_key == b.key:
        assert same_user(a, b)
        assert a.session_key == a.key


@given(st.lists(ids(), max_size=3), st.lists(ids(), max_size=3))
def test_parts_of_a_key_never_run_into_each_other(a: list[str], b: list[str]) -> None:
    assert (encode_key("kind", *a) == encode_key("kind", *b)) is (a == b)


@given(contexts())
def test_a_key_is_the_same_each_time_and_plain_text(context: UserContext) -> None:
    again = UserContext(
        user_id=context.user_id,
        session_id=context.session_id,
        thread_id=context.thread_id,
        request_id=context.request_id,
        claims={"anything": 1},
    )
    assert (again.key, again.session_key) == (context.key, context.session_key)
    assert again == context
    assert hash(again) == hash(context)
    assert context.key.isascii()
    assert context.key.isprintable()


@given(ids(), st.none() | ids())
def test_the_user_can_be_read_from_a_key(user: str, session: str | None) -> None:
    context = UserContext(user_id=user, session_id=session)
    assert user_of(context.key) == user_of(context.session_key) == user
    assert user_of(UserContext(session_id=user).key) is None
    assert user_of(UserContext(thread_id=user, request_id=user).key) is None
    assert unquote(context.key.removeprefix("user:")) == user


@given(st.text(max_size=300))
def test_an_id_is_accepted_unchanged_or_refused_by_a_rule(text: str) -> None:
    acceptable = 0 < len(text.encode()) <= MAX_ID_BYTES and not any(category(one) == "Cc" for one in text)
    if acceptable:
        assert check_id("user_id", text) is text
    else:
        with pytest.raises(IdentityError, match=r"^user_id ."):
            check_id("user_id", text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "is empty"),
        ("s3cr3t\n", "control characters"),
        ("s3cr3t\x00", "control characters"),
        ("s3cr3t\x7f", "control characters"),
        ("s3cr3t\x85", "control characters"),
        ("\ud800s3cr3t", "lone surrogates"),
        ("s3cr3t" * 43, "has 258 bytes of UTF-8; at most 255"),
        ("\u00e9" * 128, "has 256 bytes of UTF-8; at most 255"),
        (7, "must be a string, got int"),
        (b"s3cr3t", "must be a string, got bytes"),
        (True, "must be a string, got bool"),
        (["s3cr3t"], "must be a string, got list"),
    ],
    ids=repr,
)
def test_an_id_that_breaks_a_rule_is_refused_with_the_rule_and_never_the_id(name: str, value: Any, rule: str) -> None:
    identity: dict[str, Any] = {"user_id": "alice", name: value}
    with pytest.raises(IdentityError, match=rule) as refused:
        UserContext(**identity)
    assert refused.value.name == name
    assert str(refused.value) == f"{name} {refused.value.rule}"
    for text in (str(refused.value), repr(refused.value), repr(refused.value.args), repr(vars(refused.value))):
        assert "s3cr3t" not in text
        assert "\u00e9" not in text


@pytest.mark.parametrize("value", ["a" * 255, "\u00e9" * 127, "\U0001f512" * 63, " ", "\u2028", "a\u200bb"])
def test_the_longest_and_the_strangest_ids_are_accepted_as_they_are(value: str) -> None:
    assert UserContext(user_id=value).user_id == value


def test_no_id_is_no_identity() -> None:
    incomplete: tuple[dict[str, Any], ...] = ({}, {"thread_id": "t"}, {"request_id": "r"})
    for ids_given in incomplete:
        with pytest.raises(IdentityError, match="no identity: give user_id") as refused:
            UserContext(**ids_given)
        assert refused.value.name == ""


def test_a_member_of_a_text_enum_is_the_user_it_says() -> None:
    class Name(StrEnum):
        ALICE = "alice"

    assert UserContext(user_id=Name.ALICE).key == "user:alice"


@pytest.mark.parametrize("name", [field.name for field in fields(UserContext)])
def test_no_field_of_a_context_can_be_set_or_deleted(name: str) -> None:
    context = UserContext(user_id="alice")
    with pytest.raises(FrozenInstanceError):
        setattr(context, name, "bob")
    with pytest.raises(FrozenInstanceError):
        delattr(context, name)
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        context.other = "bob"  # type: ignore[attr-defined]
    assert context.key == "user:alice"


def test_claims_are_a_copy_frozen_all_the_way_down() -> None:
    inner = {"roles": ["reader", {"of": ["x"]}], "set": {1, 2}, "pair": (["a"],), "none": None}
    claims = {"org": inner}
    context = UserContext(user_id="alice", claims=claims)
    inner["roles"].append("admin")  # type: ignore[union-attr]
    claims["extra"] = {}
    frozen = context.claims["org"]
    assert frozen == {"roles": ("reader", {"of": ("x",)}), "set": frozenset({1, 2}), "pair": (("a",),), "none": None}
    assert "extra" not in context.claims
    mappings: list[Any] = [context.claims, frozen, frozen["roles"][1]]
    for mapping in mappings:
        with pytest.raises(TypeError):
            mapping["a"] = 1
    assert isinstance(frozen["roles"], tuple)
    assert isinstance(frozen["set"], frozenset)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_whatever_claims_hold_comes_out_frozen(value: Any) -> None:
    def is_frozen(one: Any) -> bool:
        match one:
            case MappingProxyType():
                return all(map(is_frozen, one.values()))
            case tuple():
                return all(map(is_frozen, one))
            case _:
                return isinstance(one, (str, int, bool, type(None)))

    assert is_frozen(freeze(value))


def test_claims_decide_nothing_about_who_it_is_and_are_not_shown() -> None:
    one, two = UserContext(user_id="alice", claims={"a": "s3cr3t"}), UserContext(user_id="alice")
    assert one == two
    assert "s3cr3t" not in repr(one)


@pytest.mark.parametrize(
    ("context", "subject"),
    [
        (UserContext(user_id="u", session_id="s", request_id="r"), "u"),
        (UserContext(session_id="s", request_id="r"), "s"),
        (UserContext(thread_id="t", request_id="r"), "r"),
    ],
    ids=str,
)
def test_the_wire_calls_a_user_by_the_best_id_there_is(context: UserContext, subject: str) -> None:
    assert context.subject == subject
