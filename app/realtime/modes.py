"""Modes: how a manager treats its user's events, and who decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from app.realtime.clock import Clock
from app.realtime.identity import UserContext, check_id, encode_key


class ModeKind(Enum):
    """The four modes. Shared by nature, as every enum: what a manager holds is a `ManagerMode` of its own."""

    UNIFIED = "unified"
    ISOLATED = "isolated"
    DEGRADED = "degraded"
    EMERGENCY = "emergency"


# Names are found several times as fast as members of an enum class, and these are looked for with every event.
DEGRADED, EMERGENCY = ModeKind.DEGRADED, ModeKind.EMERGENCY


# A mode that answers to an incident keeps the key a manager had before, so it says nothing about keys.
INCIDENT_MODES = frozenset({ModeKind.DEGRADED, ModeKind.EMERGENCY})


class ManagerMode(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """The mode of one manager: an object of its own for each, replaced and never changed.

    Attributes:
        kind: which mode.
        since: seconds since the epoch at which it began.
        reason: who or what decided: `default`, `rule on claim 'tier'`, `operator`.
    """

    kind: ModeKind
    since: float
    reason: str


class Rule(Protocol):
    """A rule on claims; `config.sections.ModeRule` is one."""

    @property
    def claim(self) -> str:
        """Name of the claim."""

    @property
    def equals(self) -> str | int | bool:
        """Value it must have, or contain if it is a list."""

    @property
    def mode(self) -> str:
        """Name of the mode."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A kind of mode and the reason for it.

    Attributes:
        kind: which mode.
        reason: who or what decided.
        keys: ISOLATED if managers are one for each session, UNIFIED if one for the user; None: this does not say.
    """

    kind: ModeKind
    reason: str
    keys: ModeKind | None


def decision(kind: ModeKind, reason: str, before: Decision | None = None) -> Decision:
    """A decision that, for an incident, keeps the keys of what the same one decided before."""
    if kind not in INCIDENT_MODES:
        return Decision(kind, reason, kind)
    return Decision(kind, reason, None if before is None else before.keys)


ADDRESSES = 10_000


class ModeLimitExceeded(Exception):
    """An operator set a mode for more users than are remembered."""

    def __init__(self, limit: int) -> None:
        """Keep the limit."""
        super().__init__(f"modes are set for {limit} users already; clear some, or raise modes.max_user_modes")
        self.limit = limit


class ModePolicy:
    """Decides the mode of every user: operator for the user, operator for all, rules on claims, default; in this order.

    An incident that the system found decides instead wherever it is stricter: emergency before degraded before the
    rest. It never weakens what somebody decided, and it never changes a key.

    What an operator sets is kept here and not in a manager, because it must outlive the manager. Calls come from any
    thread: each reads or replaces one immutable value.

    Args:
        default: the mode for whom nothing else decides.
        rules: rules on verified claims, first match wins.
        clock: for `ManagerMode.since`.
        max_user_modes: users an operator may set a mode for.
    """

    def __init__(self, *, default: str, rules: Sequence[Rule], clock: Clock, max_user_modes: int) -> None:
        """Take the configuration."""
        self._default = decision(ModeKind(default), "default")
        self._rules = tuple((rule, decision(ModeKind(rule.mode), f"rule on claim {rule.claim!r}")) for rule in rules)
        self._clock = clock
        self._max_user_modes = max_user_modes
        self._for_all: Decision | None = None
        self._for_user: dict[str, Decision] = {}
        self._incidents: dict[ModeKind, Decision] = {}
        self._addresses: dict[str, str] = {}

    @property
    def for_all(self) -> Decision:
        """What holds for a user of whom nothing is known."""
        return self._stricter(self._for_all or self._default)

    @property
    def incidents(self) -> Mapping[ModeKind, str]:
        """The incidents that hold, and the reason of each."""
        return {kind: decided.reason for kind, decided in tuple(self._incidents.items())}

    def set_incident(self, kind: ModeKind, reason: str) -> None:
        """The system found an incident. One of each kind may hold at a time; again for the same kind: another reason.

        Args:
            kind: DEGRADED or EMERGENCY.
            reason: what users may know of it, such as `broker lost`: clients are told.
        """
        if kind not in INCIDENT_MODES:
            raise ValueError(f"{kind.value} is no incident")
        self._incidents[kind] = Decision(kind, reason, None)

    def clear_incident(self, kind: ModeKind) -> None:
        """The incident is over, if there was one."""
        self._incidents.pop(kind, None)

    def set_for_all(self, kind: ModeKind | None, reason: str = "operator") -> None:
        """Set every user's mode; None gives the decision back to the configuration."""
        self._for_all = None if kind is None else decision(kind, reason, self._for_all)
        self._addresses = {}

    def set_for_user(self, user_id: str, kind: ModeKind | None, reason: str = "operator") -> None:
        """Set one user's mode; None gives the decision back.

        Raises:
            ModeLimitExceeded: modes of too many users are set.
        """
        if kind is None:
            self._for_user.pop(user_id, None)
        elif user_id not in self._for_user and len(self._for_user) >= self._max_user_modes:
            raise ModeLimitExceeded(self._max_user_modes)
        else:
            self._for_user[user_id] = decision(kind, reason, self._for_user.get(user_id))
        self._addresses = {}

    @property
    def operators(self) -> Mapping[str | None, Decision]:
        """What operators set, by user; None: for all."""
        found: dict[str | None, Decision] = {}
        found.update(self._for_user)
        if self._for_all is not None:
            found[None] = self._for_all
        return found

    def restore(self, user_id: str | None, decided: Decision | None) -> None:
        """Take over what an operator set elsewhere; None: it was given back. The limit was kept there."""
        if user_id is None:
            self._for_all = decided
        elif decided is None:
            self._for_user.pop(user_id, None)
        else:
            self._for_user[user_id] = decided
        self._addresses = {}

    def decide(self, user_id: str | None, claims: Mapping[str, Any] = MappingProxyType({})) -> Decision:
        """The mode of a user, and why."""
        if user_id is not None and (set_for_user := self._for_user.get(user_id)) is not None:
            decided = set_for_user
        else:
            decided = self._for_all or self._configured(claims)
        return self._stricter(decided) if self._incidents else decided

    def mode(self, context: UserContext) -> tuple[ModeKind, float, str]:
        """What a new `ManagerMode` is made of: kind, since, reason."""
        decided = self.decide(context.user_id, context.claims)
        return decided.kind, self._clock.time(), decided.reason

    def key(self, context: UserContext) -> str:
        """The key of the manager of this context: the user's, or in isolated mode the session's.

        An incident mode keeps the key of before, what an operator set included: `degraded` must not tear a user out of
        their streams.

        Raises:
            SessionRequired: the user is isolated and the context names no session.
        """
        if not (self._rules or self._for_user or self._for_all):
            keys = self._default.keys  # the common case, on the path of every request
        else:
            keys = self.keyed_by(context.user_id, context.claims)
        if keys is not ModeKind.ISOLATED:
            return context.key
        if context.user_id is not None and context.session_id is None:
            raise SessionRequired
        return context.session_key

    def keyed_by(self, user_id: str | None, claims: Mapping[str, Any] = MappingProxyType({})) -> ModeKind:
        """ISOLATED when the user's managers are one for each session, else UNIFIED."""
        if not (self._rules or self._for_user or self._for_all):
            return self._default.keys or ModeKind.UNIFIED  # the common case, on the path of every event
        keys = self._operator_keys(user_id) or self._configured(claims).keys or self._default.keys
        return keys or ModeKind.UNIFIED

    def address(self, user_id: str, session_id: str | None = None) -> str:
        """The user key that a back end means, which knows ids but no claims.

        The session counts where sessions are apart: for an isolated user, and, as soon as a rule on claims may isolate
        users, wherever one is named.

        Raises:
            SessionRequired: the user is isolated and no session is named.
            IdentityError: an id breaks a rule.
        """
        # Taken first: what is found out under a policy that changes meanwhile is written where nobody looks any more.
        addresses = self._addresses
        if session_id is None and (known := addresses.get(user_id)) is not None:
            return known
        check_id("user_id", user_id)
        isolated = self.keyed_by(user_id) is ModeKind.ISOLATED
        if session_id is None:
            if isolated:
                raise SessionRequired
            # A back end publishes to the same users again and again.
            if len(addresses) >= ADDRESSES:
                addresses.clear()
            return addresses.setdefault(user_id, encode_key("user", user_id))
        check_id("session_id", session_id)
        if isolated or self._may_be_isolated(user_id):
            return encode_key("user-session", user_id, session_id)
        return encode_key("user", user_id)

    def _stricter(self, decided: Decision) -> Decision:
        incidents = self._incidents
        if decided.kind is ModeKind.EMERGENCY:
            return decided
        if (emergency := incidents.get(ModeKind.EMERGENCY)) is not None:
            return emergency
        if decided.kind is ModeKind.DEGRADED:
            return decided
        return incidents.get(ModeKind.DEGRADED, decided)

    def _may_be_isolated(self, user_id: str) -> bool:
        by_rule = any(decided.kind is ModeKind.ISOLATED for _, decided in self._rules)
        return by_rule and self._operator_keys(user_id) is None

    def _operator_keys(self, user_id: str | None) -> ModeKind | None:
        for decided in (self._for_user.get(user_id or ""), self._for_all):
            if decided is not None and decided.keys is not None:
                return decided.keys
        return None

    def _configured(self, claims: Mapping[str, Any]) -> Decision:
        for rule, decided in self._rules:
            value = claims.get(rule.claim)
            if any(_same(item, rule.equals) for item in (value if isinstance(value, tuple) else (value,))):
                return decided
        return self._default


def _same(value: object, wanted: str | int | bool) -> bool:
    # In JSON `true` and `1` are two values; for Python they are equal.
    return type(value) is type(wanted) and value == wanted


class SessionRequired(Exception):
    """An isolated user without a session: there is no key to tell their sessions apart."""

    def __init__(self) -> None:
        """Say the remedy."""
        super().__init__("isolated mode needs a session: put one into the token's session claim, or name session_id")
