"""Who decides a user's mode, and what that means for the key of their manager."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.identity import IdentityError, UserContext
from app.realtime.modes import ADDRESSES, ManagerMode, ModeKind, ModeLimitExceeded, ModePolicy, SessionRequired
from config.sections import ModeRule
from tests.clock import ManualClock

ALICE = UserContext(user_id="alice", session_id="phone", claims={"tier": "hipaa", "groups": ["a", "b"], "number": 1})
BOB = UserContext(user_id="bob", session_id="phone")

HIPAA = ModeRule(claim="tier", equals="hipaa", mode="isolated")


def policy(default: str = "unified", *rules: ModeRule, limit: int = 10) -> ModePolicy:
    return ModePolicy(default=default, rules=rules, clock=ManualClock(), max_user_modes=limit)


def test_the_operator_for_the_user_beats_the_operator_for_all_beats_rules_beat_the_default() -> None:
    modes = policy("degraded", HIPAA)
    assert modes.mode(BOB) == (ModeKind.DEGRADED, ManualClock().time(), "default")
    assert modes.mode(ALICE)[::2] == (ModeKind.ISOLATED, "rule on claim 'tier'")
    modes.set_for_all(ModeKind.EMERGENCY)
    assert modes.mode(ALICE)[::2] == modes.mode(BOB)[::2] == (ModeKind.EMERGENCY, "operator")
    modes.set_for_user("alice", ModeKind.UNIFIED, "a drill")
    assert modes.mode(ALICE)[::2] == (ModeKind.UNIFIED, "a drill")
    assert modes.mode(BOB)[0] is ModeKind.EMERGENCY
    modes.set_for_all(None)
    assert modes.mode(BOB)[0] is ModeKind.DEGRADED
    modes.set_for_user("alice", None)
    modes.set_for_user("alice", None)
    assert modes.mode(ALICE)[0] is ModeKind.ISOLATED
    assert modes.for_all.kind is ModeKind.DEGRADED


@pytest.mark.parametrize(
    ("claim", "equals", "matches"),
    [
        ("tier", "hipaa", True),
        ("tier", "HIPAA", False),
        ("tier", "hip", False),
        ("groups", "b", True),
        ("groups", "c", False),
        ("number", 1, True),
        ("number", "1", False),
        ("number", True, False),
        ("missing", "hipaa", False),
    ],
)
def test_a_rule_matches_the_value_or_a_list_that_contains_it(claim: str, equals: str | int, matches: bool) -> None:
    modes = policy("unified", ModeRule(claim=claim, equals=equals, mode="isolated"))
    assert (modes.mode(ALICE)[0] is ModeKind.ISOLATED) is matches


def test_the_first_rule_that_matches_decides() -> None:
    emergency = ModeRule(claim="number", equals=1, mode="emergency")
    assert policy("unified", HIPAA, emergency).mode(ALICE)[0] is ModeKind.ISOLATED
    assert policy("unified", emergency, HIPAA).mode(ALICE)[0] is ModeKind.EMERGENCY


def test_unified_is_keyed_by_the_user_and_isolated_by_the_session() -> None:
    assert policy("unified").key(ALICE) == "user:alice"
    assert policy("isolated").key(ALICE) == "user-session:alice:phone"
    modes = policy("unified", HIPAA)
    assert (modes.key(ALICE), modes.key(BOB)) == ("user-session:alice:phone", "user:bob")
    modes.set_for_user("bob", ModeKind.ISOLATED)
    assert modes.key(BOB) == "user-session:bob:phone"


def test_an_isolated_user_without_a_session_has_no_key() -> None:
    modes = policy("isolated")
    with pytest.raises(SessionRequired, match="put one into the token's session claim, or name session_id"):
        modes.key(UserContext(user_id="alice"))
    assert modes.key(UserContext(session_id="browser")) == "session:browser"
    assert modes.key(UserContext(thread_id="t", request_id="r")) == "request:t:r"


@pytest.mark.parametrize("incident", [ModeKind.DEGRADED, ModeKind.EMERGENCY])
@pytest.mark.parametrize("default", ["unified", "isolated"])
def test_an_incident_keeps_the_key_of_before(incident: ModeKind, default: str) -> None:
    modes = policy(default, HIPAA)
    before = modes.key(ALICE), modes.key(BOB)
    modes.set_for_all(incident)
    assert (modes.key(ALICE), modes.key(BOB)) == before
    modes.set_for_user("bob", incident)
    assert (modes.key(ALICE), modes.key(BOB)) == before
    assert modes.keyed_by("bob") is ModeKind(default)


@pytest.mark.parametrize("incident", [ModeKind.DEGRADED, ModeKind.EMERGENCY])
def test_an_incident_keeps_the_key_that_an_operator_had_set(incident: ModeKind) -> None:
    modes = policy("unified")
    modes.set_for_user("alice", ModeKind.ISOLATED)
    modes.set_for_user("alice", incident)
    assert modes.key(ALICE) == "user-session:alice:phone"
    modes.set_for_all(ModeKind.ISOLATED)
    modes.set_for_all(incident)
    assert modes.key(BOB) == "user-session:bob:phone"


def test_an_incident_by_configuration_is_keyed_by_the_user() -> None:
    assert policy("degraded").key(ALICE) == "user:alice"
    assert policy("emergency").key(ALICE) == "user:alice"


def test_an_address_is_the_users_or_in_isolated_mode_the_sessions() -> None:
    modes = policy("unified")
    assert modes.address("alice") == modes.address("alice", "phone") == "user:alice"
    modes.set_for_user("alice", ModeKind.ISOLATED)
    assert modes.address("alice", "phone") == "user-session:alice:phone"
    with pytest.raises(SessionRequired):
        modes.address("alice")
    assert modes.address("bob") == "user:bob"


def test_where_a_rule_may_isolate_a_named_session_counts() -> None:
    modes = policy("unified", HIPAA)
    assert modes.address("alice", "phone") == "user-session:alice:phone"
    assert modes.address("alice") == "user:alice"
    modes.set_for_all(ModeKind.UNIFIED)
    assert modes.address("alice", "phone") == "user:alice"
    modes.set_for_all(ModeKind.DEGRADED)
    modes.set_for_user("alice", ModeKind.UNIFIED)
    assert modes.address("alice", "phone") == "user:alice"


@pytest.mark.parametrize(("user", "session"), [("", None), ("a\n", None), ("alice", ""), ("alice", "x" * 256)])
def test_an_address_of_ids_that_break_a_rule_is_refused(user: str, session: str | None) -> None:
    with pytest.raises(IdentityError):
        policy().address(user, session)


def test_modes_are_set_for_so_many_users_and_no_more() -> None:
    modes = policy(limit=2)
    for user in ("a", "b"):
        modes.set_for_user(user, ModeKind.DEGRADED)
    with pytest.raises(ModeLimitExceeded, match=r"2 users already; clear some, or raise modes\.max_user_modes") as full:
        modes.set_for_user("c", ModeKind.DEGRADED)
    assert full.value.limit == 2
    modes.set_for_user("a", ModeKind.EMERGENCY)
    modes.set_for_user("b", None)
    modes.set_for_user("c", ModeKind.DEGRADED)
    assert modes.decide("c").kind is ModeKind.DEGRADED


def test_a_mode_object_cannot_change_and_equals_itself_alone() -> None:
    mode, other = (ManagerMode(ModeKind.UNIFIED, 1.0, "default") for _ in range(2))
    assert mode == mode
    assert mode != other
    assert len({mode, other}) == 2
    change: dict[str, Any] = {"kind": ModeKind.ISOLATED, "since": 2.0, "reason": "x"}
    for name, value in change.items():
        with pytest.raises(AttributeError):
            setattr(mode, name, value)


def test_there_are_four_modes_with_distinct_values() -> None:
    assert {kind.value for kind in ModeKind} == {"unified", "isolated", "degraded", "emergency"}


def test_addresses_that_are_remembered_stay_bounded_and_right() -> None:
    modes = policy("unified")
    for number in range(ADDRESSES + 1):
        assert modes.address(f"user-{number}") == f"user:user-{number}"
    assert modes.address("user-0") == "user:user-0"
    modes.set_for_all(ModeKind.ISOLATED)
    with pytest.raises(SessionRequired):
        modes.address("user-0")


INCIDENTS = (ModeKind.DEGRADED, ModeKind.EMERGENCY)
STRICTNESS = {ModeKind.UNIFIED: 0, ModeKind.ISOLATED: 0, ModeKind.DEGRADED: 1, ModeKind.EMERGENCY: 2}


def test_an_incident_overrides_the_configuration_and_the_operator_until_it_is_over() -> None:
    modes = policy("unified", HIPAA)
    modes.set_for_user("bob", ModeKind.UNIFIED, "a drill")
    modes.set_incident(ModeKind.DEGRADED, "broker lost")
    for user, claims in (("alice", ALICE.claims), ("bob", {}), (None, {})):
        decided = modes.decide(user, claims)
        assert (decided.kind, decided.reason) == (ModeKind.DEGRADED, "broker lost")
    assert modes.mode(ALICE)[::2] == (modes.for_all.kind, modes.for_all.reason) == (ModeKind.DEGRADED, "broker lost")
    modes.clear_incident(ModeKind.DEGRADED)
    modes.clear_incident(ModeKind.DEGRADED)
    assert modes.mode(ALICE)[0] is ModeKind.ISOLATED
    assert modes.mode(BOB)[::2] == (ModeKind.UNIFIED, "a drill")
    assert modes.for_all.kind is ModeKind.UNIFIED


@pytest.mark.parametrize("order", [INCIDENTS, INCIDENTS[::-1]])
def test_of_two_incidents_the_emergency_decides_and_each_ends_for_itself(order: tuple[ModeKind, ...]) -> None:
    modes = policy()
    for kind in order:
        modes.set_incident(kind, f"found {kind.value}")
    assert modes.mode(BOB)[::2] == (ModeKind.EMERGENCY, "found emergency")
    assert modes.incidents == {kind: f"found {kind.value}" for kind in INCIDENTS}
    modes.clear_incident(order[0])
    assert modes.mode(BOB)[::2] == (order[1], f"found {order[1].value}")
    modes.clear_incident(order[1])
    assert modes.mode(BOB)[0] is ModeKind.UNIFIED
    assert not modes.incidents


def test_an_incident_never_weakens_what_somebody_decided() -> None:
    modes = policy("unified", ModeRule(claim="tier", equals="hipaa", mode="emergency"))
    modes.set_incident(ModeKind.DEGRADED, "broker lost")
    assert modes.mode(ALICE)[::2] == (ModeKind.EMERGENCY, "rule on claim 'tier'")
    modes.set_for_user("bob", ModeKind.EMERGENCY)
    assert modes.mode(BOB)[::2] == (ModeKind.EMERGENCY, "operator")
    modes.set_for_all(ModeKind.EMERGENCY, "everybody")
    assert modes.decide("carol").reason == modes.for_all.reason == "everybody"
    modes.set_for_user("bob", ModeKind.DEGRADED)
    assert modes.mode(BOB)[::2] == (ModeKind.DEGRADED, "operator")


def test_who_set_the_mode_that_an_incident_asks_for_stays_the_reason() -> None:
    modes = policy()
    for kind in INCIDENTS:
        modes.set_for_all(kind, "a drill")
        modes.set_incident(kind, "found")
        assert modes.mode(BOB)[::2] == (kind, "a drill")
        modes.set_for_all(None)
        assert modes.mode(BOB)[::2] == (kind, "found")


@pytest.mark.parametrize("kind", [ModeKind.UNIFIED, ModeKind.ISOLATED])
def test_what_keeps_everything_working_is_no_incident(kind: ModeKind) -> None:
    with pytest.raises(ValueError, match=f"{kind.value} is no incident"):
        policy().set_incident(kind, "a slip")


KINDS = st.sampled_from(ModeKind)
NAMES = st.sampled_from([kind.value for kind in ModeKind])
RULES = st.lists(st.builds(ModeRule, claim=st.just("tier"), equals=st.sampled_from(["hipaa", "free"]), mode=NAMES))
SETS = st.lists(st.tuples(st.sampled_from([None, "alice", "bob"]), st.none() | KINDS))
FOUND = st.lists(st.tuples(st.sampled_from(INCIDENTS), st.booleans()))


def configured(default: str, rules: list[ModeRule], operator: list[tuple[str | None, ModeKind | None]]) -> ModePolicy:
    modes = policy(default, *rules)
    for user, kind in operator:
        if user is None:
            modes.set_for_all(kind)
        else:
            modes.set_for_user(user, kind)
    return modes


def key_or_none(ask: Any, *arguments: Any) -> str | None:
    try:
        key: str = ask(*arguments)
    except SessionRequired:
        return None
    return key


@given(NAMES, RULES, SETS, FOUND, SETS)
def test_keys_are_the_same_with_and_without_any_incident(
    default: str,
    rules: list[ModeRule],
    before: list[tuple[str | None, ModeKind | None]],
    found: list[tuple[ModeKind, bool]],
    after: list[tuple[str | None, ModeKind | None]],
) -> None:
    calm, shaken = configured(default, rules, before), configured(default, rules, before)
    for kind, begins in found:
        if begins:
            shaken.set_incident(kind, "found")
        else:
            shaken.clear_incident(kind)
    for user, kind_set in after:  # an operator goes on, whatever the system found meanwhile
        for modes in (calm, shaken):
            if user is None:
                modes.set_for_all(kind_set)
            else:
                modes.set_for_user(user, kind_set)
    for user, session, tier in product(("alice", "bob"), ("phone", None), ("hipaa", "none")):
        context = UserContext(user_id=user, session_id=session, claims={"tier": tier})
        assert key_or_none(calm.key, context) == key_or_none(shaken.key, context)
        assert calm.keyed_by(user, context.claims) is shaken.keyed_by(user, context.claims)
        assert key_or_none(calm.address, user, session) == key_or_none(shaken.address, user, session)
        without, decided = calm.decide(user, context.claims), shaken.decide(user, context.claims)
        strictest = max((without.kind, *shaken.incidents), key=lambda kind: STRICTNESS[kind])
        assert STRICTNESS[decided.kind] == STRICTNESS[strictest]
        assert (decided.kind, decided.reason) in ((without.kind, without.reason), (decided.kind, "found"))
        if not shaken.incidents:
            assert decided.kind is without.kind
