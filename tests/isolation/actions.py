"""What may happen in a `World`, chosen by whoever has a choice: hypothesis, or a die."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from app.realtime.identity import UserContext
from app.realtime.modes import ModeKind

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]

SESSIONS = ("s1", "s2")
CHANNELS = ("news", "room")
OF_DEVICES = frozenset({"connect", "vanish", "drop", "subscribe", "unsubscribe", "ask", "send", "pause", "resume"})
# As often as they stand here.
OF_DEVICE = (
    *("connect", "connect", "connect", "subscribe", "subscribe", "send", "send", "ask", "drop"),
    *("unsubscribe", "vanish", "pause", "resume"),
)
OF_ANYBODY = ("publish", "publish", "publish", "emit", "emit", "post", "cancel", "publish_without_session")
OF_OPERATOR = ("set_mode", "set_mode", "set_mode", "send_away")
OF_BROKER = ("slow_broker", "slow_broker", "failing_broker", "losing_broker", "restart_broker")
KINDS = (*OF_DEVICE, *OF_DEVICE, *OF_ANYBODY, *OF_ANYBODY, *OF_OPERATOR, *OF_BROKER)


class Action(NamedTuple):
    """Something that happens: a method of `World`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()

    @property
    def lane(self) -> object:
        """What has the same lane happens in turn: a device does one thing after the other, and so does an operator."""
        if self.name in OF_DEVICES:
            return self.arguments[:3]
        return self.name if self.name == "set_mode" else id(self)


def an_action(choose: Choose, users: int, devices: int, kinds: Sequence[str] = KINDS) -> Action:
    """Something that happens to one of so many users, with so many devices in each session."""
    name, user, session = choose(kinds), choose(range(users)), choose(range(len(SESSIONS)))
    if name in OF_DEVICES:
        return Action(name, (user, session, choose(range(devices)), *_of_device(name, choose)))
    match name:
        case "publish":
            # Few small ones, as a rule; sometimes more than anybody has room for.
            count, size = choose(((1, 0), (3, 10), (8, 100), (60, 16_000)))
            return Action(name, (user, session, choose((None, *CHANNELS)), count, size))
        case "emit":
            return Action(name, (user, session, choose((None, *CHANNELS))))
        case "post":
            return Action(name, (user, session))
        case "cancel":
            return Action(name, (user, session, choose(range(4))))
        case "publish_without_session" | "send_away":
            return Action(name, (user,))
        case "set_mode":
            return Action(name, (choose((None, *ModeKind)), choose((user, user, None))))
        case "slow_broker":
            return Action(name, (choose(("publish", "history", "subscribe", "add_presence")), choose(range(1, 6))))
        case "failing_broker":
            return Action(name, (choose(("publish", "history", "subscribe", "add_presence")),))
        case _:
            return Action(name)


def _of_device(name: str, choose: Choose) -> tuple[Any, ...]:
    match name:
        case "vanish":
            return (choose(range(12)),)
        case "drop":
            return (choose((False, True)),)
        case "subscribe" | "unsubscribe" | "send":
            return (choose(CHANNELS),)
        case "ask":
            return choose(("history", "presence", "presence_stats")), choose((None, *CHANNELS))
        case _:
            return ()


class Modes:
    """What operators set, and what that means for keys, told in the fewest words: the default is unified."""

    def __init__(self) -> None:
        """Nothing is set."""
        self._set: dict[str | None, tuple[ModeKind, bool | None]] = {}

    def set(self, kind: ModeKind | None, user: str | None) -> None:
        """For one user, or for all; None takes it back. An incident leaves apart what was apart."""
        if kind is None:
            self._set.pop(user, None)
        elif kind in (ModeKind.UNIFIED, ModeKind.ISOLATED):
            self._set[user] = kind, kind is ModeKind.ISOLATED
        else:
            self._set[user] = kind, self._set.get(user, (kind, None))[1]

    def kind(self, user: str | None) -> ModeKind:
        """The mode of a user."""
        return (self._set.get(user) or self._set.get(None) or (ModeKind.UNIFIED, None))[0]

    def apart(self, user: str) -> bool:
        """Whether the user's sessions are apart."""
        said = (self._set[who][1] for who in (user, None) if who in self._set)
        return next((apart for apart in said if apart is not None), False)

    def key(self, user: str, session: str) -> str:
        """The user key of a session."""
        context = UserContext(user_id=user, session_id=session)
        return context.session_key if self.apart(user) else context.key
