"""The transitions of modes, as docs/modes.md shows them and test_transitions.py tries them, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Event(Enum):
    """What happens, in the words of the page. "The user" is alice; there is bob as well."""

    ALL_UNIFIED = "operator: `unified` for all"
    ALL_ISOLATED = "operator: `isolated` for all"
    ALL_DEGRADED = "operator: `degraded` for all"
    ALL_EMERGENCY = "operator: `emergency` for all"
    ALL_NONE = "operator: `null` for all"
    USER_UNIFIED = "operator: `unified` for the user"
    USER_ISOLATED = "operator: `isolated` for the user"
    USER_DEGRADED = "operator: `degraded` for the user"
    USER_EMERGENCY = "operator: `emergency` for the user"
    USER_NONE = "operator: `null` for the user"
    LOST = "broker lost"
    BACK = "broker back"
    RULE = "rule: over its limit"
    WELL = "rule: well below again"


class State(Enum):
    """Where a user is: mode, whether there is a broker, and what publishers and commands of clients are answered."""

    UNIFIED = ("unified", True, "200, in the stream", "200, in the stream", "answered")
    ISOLATED = ("isolated", True, "200, in the stream", "200, in the stream", "answered")
    DEGRADED = ("degraded", True, "200, `queued`", "200, `queued`", "answered; a publish waits")
    DEGRADED_LOST = ("degraded", False, "200, `queued`", "200, `queued`", "answered; a publish waits")
    EMERGENCY = ("emergency", True, "503", "200, in the stream", "error 1503")
    EMERGENCY_LOST = ("emergency", False, "503", "200, `queued`", "error 1503")

    def __init__(self, mode: str, broker: bool, ordinary: str, critical: str, commands: str) -> None:
        """Name the parts."""
        self.mode = mode
        self.broker = broker
        self.ordinary = ordinary
        self.critical = critical
        self.commands = commands

    @property
    def publishers(self) -> str:
        """What publishers are answered, in short."""
        return self.ordinary if self.ordinary == self.critical else f"{self.ordinary}; critical: {self.critical}"

    @property
    def waits(self) -> bool:
        """Whether what was accepted may wait for the broker."""
        return "queued" in self.critical

    @property
    def label(self) -> str:
        """How the page calls it."""
        return f"`{self.mode}`" if self.broker else f"`{self.mode}`, no broker"


@dataclass(frozen=True)
class Start:
    """Where a row begins.

    Attributes:
        text: how the page calls it.
        state: the user's.
        default: mode by configuration.
        events: what happened before, in this order.
    """

    text: str
    state: State
    default: str = "unified"
    events: tuple[Event, ...] = ()


class Told(Enum):
    """What connected clients are told, in the words of the page."""

    MODE = "message with mode and reason"
    NOTHING = "nothing"
    RECONNECT = "closed with 3011; the new connection has the mode"


@dataclass(frozen=True)
class Row:
    """A transition.

    Attributes:
        start: from where.
        event: what happens.
        state: the user's after it.
        reason: who or what decided.
        told: what connected clients of the user see of it.
    """

    start: Start
    event: Event
    state: State
    reason: str
    told: Told = Told.MODE

    @property
    def waited(self) -> str:
        """What becomes of publishes that wait, in the words of the page."""
        if not self.start.state.waits:
            return ""
        return "waits on" if self.state.waits else "goes out"


OPERATOR, LOST, RULE, DEFAULT = "operator", "broker lost", "rule: queue_bytes", "default"

UNIFIED = Start("`unified`", State.UNIFIED)
ISOLATED = Start("`isolated`", State.ISOLATED, "isolated")
EXEMPT = Start("`unified`, set for the user", State.UNIFIED, events=(Event.USER_UNIFIED,))
DEGRADED = Start("`degraded`, set for all", State.DEGRADED, events=(Event.ALL_DEGRADED,))
USER_DEGRADED = Start("`degraded`, set for the user", State.DEGRADED, events=(Event.USER_DEGRADED,))
EMERGENCY = Start("`emergency`, set for all", State.EMERGENCY, events=(Event.ALL_EMERGENCY,))
USER_EMERGENCY = Start("`emergency`, set for the user", State.EMERGENCY, events=(Event.USER_EMERGENCY,))

BROKER_LOST = Start("broker lost", State.DEGRADED_LOST, events=(Event.LOST,))
BROKER_LOST_ISOLATED = Start("broker lost (`isolated`)", State.DEGRADED_LOST, "isolated", (Event.LOST,))
BROKER_LOST_EXEMPT = Start(
    "broker lost, `unified` set for the user", State.DEGRADED_LOST, events=(Event.LOST, Event.USER_UNIFIED)
)
DEGRADED_LOST = Start(
    "`degraded` set for all, then broker lost", State.DEGRADED_LOST, "unified", (*DEGRADED.events, Event.LOST)
)
LOST_DEGRADED = Start(
    "broker lost, then `degraded` set for all", State.DEGRADED_LOST, "unified", (Event.LOST, *DEGRADED.events)
)
EMERGENCY_LOST = Start(
    "`emergency` set for all, then broker lost", State.EMERGENCY_LOST, "unified", (*EMERGENCY.events, Event.LOST)
)
LOST_EMERGENCY = Start(
    "broker lost, then `emergency` set for all", State.EMERGENCY_LOST, "unified", (Event.LOST, *EMERGENCY.events)
)

BY_RULE = Start("by rule", State.EMERGENCY, events=(Event.RULE,))
BY_RULE_ISOLATED = Start("by rule (`isolated`)", State.EMERGENCY, "isolated", (Event.RULE,))
DEGRADED_RULE = Start("`degraded` set for all, then by rule", State.EMERGENCY, events=(*DEGRADED.events, Event.RULE))
EMERGENCY_RULE = Start("`emergency` set for all, then by rule", State.EMERGENCY, events=(*EMERGENCY.events, Event.RULE))
RULE_EMERGENCY = Start("by rule, then `emergency` set for all", State.EMERGENCY, events=(Event.RULE, *EMERGENCY.events))
RULE_LOST = Start("by rule, then broker lost", State.EMERGENCY_LOST, events=(Event.RULE, Event.LOST))
LOST_RULE = Start("broker lost, then by rule", State.EMERGENCY_LOST, events=(Event.LOST, Event.RULE))
RULE_LOST_ISOLATED = Start("by rule, then broker lost (`isolated`)", State.EMERGENCY_LOST, "isolated", RULE_LOST.events)
RULE_LOST_BACK = Start("by rule, broker lost, broker back", State.EMERGENCY, events=(*RULE_LOST.events, Event.BACK))
LOST_RULE_WELL = Start("broker lost, by rule, rule over", State.DEGRADED_LOST, events=(*LOST_RULE.events, Event.WELL))

TABLES: dict[str, tuple[Row, ...]] = {
    "operator": (
        Row(UNIFIED, Event.ALL_ISOLATED, State.ISOLATED, OPERATOR, Told.RECONNECT),
        Row(UNIFIED, Event.USER_ISOLATED, State.ISOLATED, OPERATOR, Told.RECONNECT),
        Row(UNIFIED, Event.ALL_DEGRADED, State.DEGRADED, OPERATOR),
        Row(UNIFIED, Event.USER_DEGRADED, State.DEGRADED, OPERATOR),
        Row(UNIFIED, Event.ALL_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(UNIFIED, Event.USER_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(UNIFIED, Event.ALL_UNIFIED, State.UNIFIED, OPERATOR, Told.NOTHING),
        Row(ISOLATED, Event.ALL_UNIFIED, State.UNIFIED, OPERATOR, Told.RECONNECT),
        Row(ISOLATED, Event.USER_UNIFIED, State.UNIFIED, OPERATOR, Told.RECONNECT),
        Row(ISOLATED, Event.ALL_DEGRADED, State.DEGRADED, OPERATOR),
        Row(ISOLATED, Event.USER_DEGRADED, State.DEGRADED, OPERATOR),
        Row(ISOLATED, Event.ALL_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(ISOLATED, Event.USER_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(DEGRADED, Event.ALL_NONE, State.UNIFIED, DEFAULT),
        Row(DEGRADED, Event.ALL_UNIFIED, State.UNIFIED, OPERATOR),
        Row(DEGRADED, Event.ALL_ISOLATED, State.ISOLATED, OPERATOR, Told.RECONNECT),
        Row(DEGRADED, Event.ALL_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(DEGRADED, Event.USER_UNIFIED, State.UNIFIED, OPERATOR),
        Row(DEGRADED, Event.USER_EMERGENCY, State.EMERGENCY, OPERATOR),
        Row(DEGRADED, Event.USER_NONE, State.DEGRADED, OPERATOR, Told.NOTHING),
        Row(USER_DEGRADED, Event.USER_NONE, State.UNIFIED, DEFAULT),
        Row(USER_DEGRADED, Event.ALL_EMERGENCY, State.DEGRADED, OPERATOR, Told.NOTHING),
        Row(EMERGENCY, Event.ALL_NONE, State.UNIFIED, DEFAULT),
        Row(EMERGENCY, Event.ALL_UNIFIED, State.UNIFIED, OPERATOR),
        Row(EMERGENCY, Event.ALL_ISOLATED, State.ISOLATED, OPERATOR, Told.RECONNECT),
        Row(EMERGENCY, Event.ALL_DEGRADED, State.DEGRADED, OPERATOR),
        Row(EMERGENCY, Event.USER_UNIFIED, State.UNIFIED, OPERATOR),
        Row(EMERGENCY, Event.USER_DEGRADED, State.DEGRADED, OPERATOR),
        Row(USER_EMERGENCY, Event.USER_NONE, State.UNIFIED, DEFAULT),
        Row(USER_EMERGENCY, Event.ALL_UNIFIED, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(EXEMPT, Event.ALL_EMERGENCY, State.UNIFIED, OPERATOR, Told.NOTHING),
    ),
    "broker": (
        Row(UNIFIED, Event.LOST, State.DEGRADED_LOST, LOST),
        Row(ISOLATED, Event.LOST, State.DEGRADED_LOST, LOST),
        Row(EXEMPT, Event.LOST, State.DEGRADED_LOST, LOST),
        Row(DEGRADED, Event.LOST, State.DEGRADED_LOST, OPERATOR, Told.NOTHING),
        Row(EMERGENCY, Event.LOST, State.EMERGENCY_LOST, OPERATOR, Told.NOTHING),
        Row(BROKER_LOST, Event.BACK, State.UNIFIED, DEFAULT),
        Row(BROKER_LOST_ISOLATED, Event.BACK, State.ISOLATED, DEFAULT),
        Row(BROKER_LOST_EXEMPT, Event.BACK, State.UNIFIED, OPERATOR),
        Row(DEGRADED_LOST, Event.BACK, State.DEGRADED, OPERATOR, Told.NOTHING),
        Row(LOST_DEGRADED, Event.BACK, State.DEGRADED, OPERATOR, Told.NOTHING),
        Row(EMERGENCY_LOST, Event.BACK, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(LOST_EMERGENCY, Event.BACK, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(BROKER_LOST, Event.ALL_UNIFIED, State.DEGRADED_LOST, LOST, Told.NOTHING),
        Row(BROKER_LOST, Event.USER_UNIFIED, State.DEGRADED_LOST, LOST, Told.NOTHING),
        Row(BROKER_LOST, Event.ALL_DEGRADED, State.DEGRADED_LOST, OPERATOR, Told.NOTHING),
        Row(BROKER_LOST, Event.ALL_EMERGENCY, State.EMERGENCY_LOST, OPERATOR),
        Row(BROKER_LOST, Event.USER_EMERGENCY, State.EMERGENCY_LOST, OPERATOR),
        Row(BROKER_LOST, Event.USER_ISOLATED, State.DEGRADED_LOST, LOST, Told.RECONNECT),
        Row(DEGRADED_LOST, Event.ALL_NONE, State.DEGRADED_LOST, LOST, Told.NOTHING),
        Row(LOST_DEGRADED, Event.ALL_NONE, State.DEGRADED_LOST, LOST, Told.NOTHING),
        Row(EMERGENCY_LOST, Event.ALL_NONE, State.DEGRADED_LOST, LOST),
        Row(LOST_EMERGENCY, Event.ALL_NONE, State.DEGRADED_LOST, LOST),
    ),
    "rule": (
        Row(UNIFIED, Event.RULE, State.EMERGENCY, RULE),
        Row(ISOLATED, Event.RULE, State.EMERGENCY, RULE),
        Row(EXEMPT, Event.RULE, State.EMERGENCY, RULE),
        Row(DEGRADED, Event.RULE, State.EMERGENCY, RULE),
        Row(EMERGENCY, Event.RULE, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(BY_RULE, Event.WELL, State.UNIFIED, DEFAULT),
        Row(BY_RULE_ISOLATED, Event.WELL, State.ISOLATED, DEFAULT),
        Row(DEGRADED_RULE, Event.WELL, State.DEGRADED, OPERATOR),
        Row(EMERGENCY_RULE, Event.WELL, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(RULE_EMERGENCY, Event.WELL, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(BY_RULE, Event.ALL_UNIFIED, State.EMERGENCY, RULE, Told.NOTHING),
        Row(BY_RULE, Event.USER_UNIFIED, State.EMERGENCY, RULE, Told.NOTHING),
        Row(BY_RULE, Event.USER_ISOLATED, State.EMERGENCY, RULE, Told.RECONNECT),
        Row(BY_RULE, Event.ALL_DEGRADED, State.EMERGENCY, RULE, Told.NOTHING),
        Row(BY_RULE, Event.ALL_EMERGENCY, State.EMERGENCY, OPERATOR, Told.NOTHING),
        Row(EMERGENCY_RULE, Event.ALL_NONE, State.EMERGENCY, RULE, Told.NOTHING),
        Row(RULE_EMERGENCY, Event.ALL_NONE, State.EMERGENCY, RULE, Told.NOTHING),
    ),
    "both": (
        Row(BY_RULE, Event.LOST, State.EMERGENCY_LOST, RULE, Told.NOTHING),
        Row(BROKER_LOST, Event.RULE, State.EMERGENCY_LOST, RULE),
        Row(RULE_LOST, Event.BACK, State.EMERGENCY, RULE, Told.NOTHING),
        Row(LOST_RULE, Event.BACK, State.EMERGENCY, RULE, Told.NOTHING),
        Row(RULE_LOST, Event.WELL, State.DEGRADED_LOST, LOST),
        Row(LOST_RULE, Event.WELL, State.DEGRADED_LOST, LOST),
        Row(RULE_LOST_ISOLATED, Event.WELL, State.DEGRADED_LOST, LOST),
        Row(RULE_LOST_ISOLATED, Event.BACK, State.EMERGENCY, RULE, Told.NOTHING),
        Row(RULE_LOST_BACK, Event.WELL, State.UNIFIED, DEFAULT),
        Row(LOST_RULE_WELL, Event.BACK, State.UNIFIED, DEFAULT),
        Row(RULE_LOST, Event.ALL_EMERGENCY, State.EMERGENCY_LOST, OPERATOR, Told.NOTHING),
        Row(LOST_RULE, Event.ALL_UNIFIED, State.EMERGENCY_LOST, RULE, Told.NOTHING),
    ),
}

ROWS = tuple(row for rows in TABLES.values() for row in rows)
