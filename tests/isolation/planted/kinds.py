"""What a plant is, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dependency_injector import providers

from app.realtime.identity import UserContext
from app.realtime.manager import UserManager
from app.realtime.modes import ManagerMode, ModeKind
from containers import GatewayContainer
from tests.gateway import RunningGateway

ALICE, BOB = "alice@shop", "bob@shop"
"""Two users with something in common, as the two that the proof makes up have not."""


def user(name: str) -> UserContext:
    """The identity of a user."""
    return UserContext(user_id=name)


def shop_of(text: str) -> str:
    """What is behind the @ in a user id or a user key; empty if there is none."""
    return text.replace("%40", "@").partition("@")[2]


def a_mode(reason: str = "default", kind: ModeKind = ModeKind.UNIFIED) -> ManagerMode:
    """A mode object."""
    return ManagerMode(kind, 0.0, reason)


class Wired(NamedTuple):
    """A leak in the container: the gateway must not start.

    Attributes:
        nets: that see it, `proof` and what would see it if there were no proof.
        plant: puts it into a container.
    """

    nets: frozenset[str]
    plant: Callable[[GatewayContainer], object]


class Created(NamedTuple):
    """A leak that begins with the second of two users, in a gateway that runs.

    Attributes:
        net: that sees it.
        plant: puts it into the container.
        late: it comes when the gateway runs, and not before its start.
    """

    net: str
    plant: Callable[[GatewayContainer], object]
    late: bool = False


class Grown(NamedTuple):
    """A leak among two users who are connected and had their own of everything.

    Attributes:
        nets: that see it.
        plant: puts it into their managers.
    """

    nets: frozenset[str]
    plant: Callable[[Living], object]


class Living(NamedTuple):
    """Two connected users."""

    gateway: RunningGateway
    alice: UserManager
    bob: UserManager

    @property
    def sessions(self) -> tuple[Any, Any]:
        """A connection of each, as its manager sees it."""
        return next(iter(self.alice.connections)), next(iter(self.bob.connections))

    def give(self, first: Any, second: Any) -> None:
        """Store something with each of them."""
        self.alice.record.events.append(first)
        self.bob.record.events.append(second)


def given(part: str, provider: providers.Provider[Any]) -> Callable[[GatewayContainer], object]:
    """A plant: a provider in the place of a part."""
    return lambda container: container.providers[part].override(provider)
