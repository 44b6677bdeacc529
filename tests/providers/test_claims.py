"""Claims: an object is one key's from its creation on, and an error for every other key."""

from __future__ import annotations

import gc
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import AlreadyClaimedError, Claims, NotWeakReferenceableError, ProviderError

from .conftest import Together


class Basket:
    def __init__(self) -> None:
        self.itself: Any = None


@dataclass(slots=True)
class Slotted:
    owner: str = ""


class Mode(Enum):
    UNIFIED = "unified"


class Secret:
    """A key that must not be printed."""

    def __repr__(self) -> str:
        raise AssertionError("somebody renders a key")


def test_an_object_is_the_key_s_that_claims_it_first() -> None:
    claims, basket = Claims(), Basket()
    claims.claim("alice", basket)
    for _ in range(2):
        with pytest.raises(AlreadyClaimedError):
            claims.claim("bob", basket)
    claims.claim("alice", basket)


def test_the_refusal_has_the_type_and_both_keys_and_says_only_the_type_and_the_remedy() -> None:
    claims, basket, alice, bob = Claims(), Basket(), Secret(), Secret()
    claims.claim(alice, basket)
    with pytest.raises(AlreadyClaimedError, match=r"test_claims\.Basket is another key's.*anew.*Shared\(") as refusal:
        claims.claim(bob, basket)
    assert isinstance(refusal.value, ProviderError)
    assert refusal.value.claimed_type is Basket
    assert (refusal.value.key, refusal.value.owner) == (bob, alice)


def test_an_enum_member_cannot_be_claimed_for_two() -> None:
    claims = Claims()
    claims.claim("alice", Mode("unified"))
    with pytest.raises(AlreadyClaimedError):
        claims.claim("bob", Mode("unified"))


def test_objects_are_told_apart_by_identity_and_keys_by_equality() -> None:
    claims = Claims()
    claims.claim(("user", 1), one := {1}, other := {1})
    with pytest.raises(AlreadyClaimedError):
        claims.claim(("user", 2), other)
    claims.claim(("user", 1.0), one)


def test_a_claim_that_is_refused_claims_nothing() -> None:
    claims, mine, yours, taken = Claims(), Basket(), Basket(), Basket()
    claims.claim("alice", taken, mine)
    with pytest.raises(AlreadyClaimedError):
        claims.claim("bob", yours, taken)
    claims.claim("carol", yours)
    for basket in (taken, mine):
        with pytest.raises(AlreadyClaimedError):
            claims.claim("carol", basket)


def test_what_a_key_had_before_a_claim_of_it_was_refused_stays_its_own() -> None:
    claims, mine, taken = Claims(), Basket(), Basket()
    claims.claim("alice", taken)
    claims.claim("bob", mine)
    with pytest.raises(AlreadyClaimedError):
        claims.claim("bob", mine, taken)
    with pytest.raises(AlreadyClaimedError):
        claims.claim("carol", mine)


@pytest.mark.parametrize("value", [[], {}, 1, "text", None, Slotted()])
def test_what_has_no_weak_references_cannot_be_claimed_and_nothing_with_it(value: object) -> None:
    claims, basket = Claims(), Basket()
    with pytest.raises(NotWeakReferenceableError, match=r"Claims got a .*no weak references.*__weakref__") as refusal:
        claims.claim("alice", basket, value)
    assert refusal.value.provided_type is type(value)
    claims.claim("bob", basket)


def test_claims_do_not_know_each_other() -> None:
    basket = Basket()
    Claims().claim("alice", basket)
    Claims().claim("bob", basket)


def test_a_claim_ends_with_its_object_and_keeps_it_not_alive() -> None:
    claims, basket = Claims(), Basket()
    claims.claim("alice", basket)
    reference = weakref.ref(basket)
    del basket
    assert reference() is None


def test_an_id_that_is_used_again_is_no_ones() -> None:
    claims = Claims()
    ids = set()
    for number in range(1_000):
        basket = Basket()
        claims.claim(number, basket)
        ids.add(id(basket))
        del basket
    assert len(ids) < 1_000, "no id was used again, so this test shows nothing"


def test_objects_in_a_cycle_are_forgotten_with_the_cycle() -> None:
    claims = Claims()
    # Every second object stays, so that the allocator keeps the places between them for objects of this size, and
    # some of those that are built next get them: whether an id is used again is then no matter of luck.
    neighbours: list[Basket] = []

    def claim() -> set[int]:
        baskets = []
        for _ in range(1_000):
            neighbours.append(Basket())
            baskets.append(Basket())
            baskets[-1].itself = baskets[-1]
        claims.claim("alice", *baskets)
        return {id(basket) for basket in baskets}

    before = claim()
    gc.collect()
    baskets = [Basket() for _ in range(50_000)]
    assert before & {id(basket) for basket in baskets}, "no id was used again, so this test shows nothing"
    claims.claim("bob", *baskets)


def test_memory_is_bounded_by_the_living_objects() -> None:
    claims = Claims()
    claims.claim("alice", Basket())
    gc.collect()
    before = len(gc.get_objects())
    for number in range(10_000):
        claims.claim(f"user-{number}", Basket())
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_a_claim_takes_as_long_among_a_hundred_thousand_as_among_none() -> None:
    def seconds(claims: Claims) -> float:
        baskets = [Basket() for _ in range(2_000)]
        began = time.perf_counter()
        for basket in baskets:
            claims.claim("bob", basket)
        return time.perf_counter() - began

    full, empty = Claims(), Claims()
    held = [Basket() for _ in range(100_000)]
    full.claim("alice", *held)
    assert min(seconds(full) for _ in range(7)) < 10 * min(seconds(empty) for _ in range(7))


def test_of_all_threads_that_claim_one_object_no_two_have_it(together: Together) -> None:
    claims = Claims()
    baskets = [Basket() for _ in range(5_000)]

    def claim(thread: int) -> int:
        claimed = 0
        for basket in baskets:
            with suppress(AlreadyClaimedError):
                claims.claim(thread, basket)
                claimed += 1
        return claimed

    assert sum(together(4, claim)) == len(baskets)


def test_threads_that_claim_overlapping_objects_get_all_of_a_claim_or_nothing(together: Together) -> None:
    claims = Claims()
    pairs = [(Basket(), Basket()) for _ in range(2_000)]

    def claim(thread: int) -> set[int]:
        got = set()
        for number, pair in enumerate(pairs):
            with suppress(AlreadyClaimedError):
                claims.claim(thread, *(pair if thread % 2 else reversed(pair)))
                got.add(number)
        return got

    got = together(4, claim)
    assert sum(map(len, got)) == len(set().union(*got)), "two have one pair"
    for number, pair in enumerate(pairs):
        owner = next((thread for thread in range(4) if number in got[thread]), "nobody")
        for basket in pair:
            claims.claim(owner, basket)


def test_objects_come_and_go_in_many_threads(together: Together) -> None:
    claims = Claims()

    def claim(thread: int) -> None:
        for _ in range(2_000):
            claims.claim(thread, Basket(), Basket())

    together(8, claim)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 7), max_size=4))))
def test_claims_go_as_a_dictionary_of_owners_says(steps: list[tuple[int, list[int]]]) -> None:
    claims, baskets = Claims(), [Basket() for _ in range(8)]
    owners: dict[int, int] = {}
    for key, numbers in steps:
        foreign = {owners.get(number, key) for number in numbers} - {key}
        if foreign:
            with pytest.raises(AlreadyClaimedError) as refusal:
                claims.claim(key, *(baskets[number] for number in numbers))
            assert refusal.value.owner in foreign
        else:
            claims.claim(key, *(baskets[number] for number in numbers))
            owners.update(dict.fromkeys(numbers, key))
