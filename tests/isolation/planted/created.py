"""Leaks that begin with the second of two users: they have a shop in common, which the proof's own users have not.

What keeps objects for a shop is behind a helper, so the wiring does not show it either. Others come when the gateway
runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from dependency_injector import providers

from app.realtime.auth_token import AuthToken, TokenIssuer
from app.realtime.identity import UserContext
from app.realtime.lifecycle import LifecycleRecord
from app.realtime.manager import UserManager
from app.realtime.modes import ManagerMode
from containers import GatewayContainer, factories
from providers import Fresh

from .kinds import Created, a_mode, given, shop_of
from .parts import Table
from .wired import EnumMode, singleton_token

KEPT: dict[str, Any] = {}


def kept(name: str, make: Callable[[], Any]) -> Any:
    """One object for a shop; those who have no shop get one of their own."""
    shop = shop_of(name)
    return KEPT.setdefault(shop, make()) if shop else make()


@lru_cache
def cached_mode(shop: str) -> ManagerMode:
    return a_mode(shop)


class ModeOfAShop:
    """A class of which there is one object for each shop."""

    def __new__(cls, context: UserContext) -> Any:
        return kept(context.key, a_mode)


def mode_of_a_shop(context: UserContext) -> ManagerMode:
    made: ManagerMode = kept(context.key, a_mode)
    return made


def cached_mode_of_a_shop(context: UserContext) -> ManagerMode:
    shop = shop_of(context.key)
    return cached_mode(shop) if shop else a_mode()


def member_for_a_shop(context: UserContext) -> ManagerMode | EnumMode:
    return EnumMode.UNIFIED if shop_of(context.key) else a_mode()


def mode_of_a_colleague(context: UserContext, living: Callable[[], list[UserManager]]) -> ManagerMode:
    shop = shop_of(context.key)
    return next((one.mode for one in living() if shop and shop_of(one.key) == shop), None) or a_mode()


def token_of_a_shop(key: str, issuer: TokenIssuer) -> AuthToken:
    made: AuthToken = kept(key, lambda: issuer.issue(key))
    return made


def token_for_a_shop(key: str, issuer: TokenIssuer) -> AuthToken:
    return issuer.issue(kept(key, lambda: key))


def manager_of_a_shop(context: UserContext, make: Callable[[UserContext], UserManager]) -> UserManager:
    made: UserManager = kept(context.key, lambda: make(context))
    return made


def parts_of_a_colleague(context: UserContext, lifecycle: Any, record: LifecycleRecord, **parts: Any) -> UserManager:
    """A manager that goes on in the record of a colleague."""
    shop = shop_of(context.key)
    found = next((one.record for one in lifecycle.living() if shop and shop_of(one.key) == shop), record)
    return factories.new_manager(context, lifecycle=lifecycle, record=found, **parts)


def notes_of_a_shop(context: UserContext, connections: Any, **parts: Any) -> UserManager:
    """A manager whose table is its own, and what is in the table is a shop's."""
    connections.more = kept(context.key, list)
    return factories.new_manager(context, connections=connections, **parts)


def colleagues(container: GatewayContainer) -> None:
    living = container.lifecycle.provided.living
    container.mode.override(providers.Factory(mode_of_a_colleague, living=living))


def tokens(make: Callable[..., AuthToken]) -> Callable[[GatewayContainer], object]:
    return lambda container: container.auth_token.override(providers.Factory(make, issuer=container.token_issuer))


def colleagues_record(container: GatewayContainer) -> None:
    container.new_manager.set_provides(parts_of_a_colleague)


def shop_notes(container: GatewayContainer) -> None:
    container.connections.override(Fresh(Table))
    container.new_manager.set_provides(notes_of_a_shop)


def shop_managers(container: GatewayContainer) -> None:
    made = Fresh(container.new_manager.provides, **container.new_manager.kwargs)
    container.new_manager.override(Fresh(manager_of_a_shop, make=made.provider))


def exhausted_pool(container: GatewayContainer) -> None:
    """A pool of one, which has nothing else to give while that is in use."""
    pool = [Table()]
    container.connections.override(providers.Callable(lambda: pool[0]))


CREATED = MappingProxyType(
    {
        "a mode kept for all users of a shop": Created("claim", given("mode", providers.Factory(mode_of_a_shop))),
        "a mode kept for all users of a shop, in `Fresh`": Created("fresh", given("mode", Fresh(mode_of_a_shop))),
        "`functools.lru_cache` below the factory of modes": Created(
            "claim", given("mode", providers.Callable(cached_mode_of_a_shop))
        ),
        "a class with one instance for each shop": Created("claim", given("mode", providers.Factory(ModeOfAShop))),
        "an enum member as the mode of some": Created("claim", given("mode", providers.Factory(member_for_a_shop))),
        "the mode of another user's manager": Created("claim", colleagues),
        "a token kept for all users of a shop": Created("claim", tokens(token_of_a_shop)),
        "a token issued for another key": Created("token", tokens(token_for_a_shop)),
        "the record of another user's manager": Created("claim", colleagues_record),
        "a manager kept for all users of a shop": Created("fresh", shop_managers),
        "a list of a shop in a part that is new": Created("audit", shop_notes),
        "an override while the gateway runs": Created("claim", given("mode", providers.Object(a_mode())), late=True),
        "a `Singleton` for the token, while it runs": Created("claim", singleton_token, late=True),
        "an enum member as the mode, while it runs": Created(
            "claim", given("mode", providers.Object(EnumMode.UNIFIED)), late=True
        ),
        "a pool that is exhausted": Created("claim", exhausted_pool, late=True),
        "a `Singleton` in a `Fresh`, while it runs": Created(
            "fresh", given("connections", Fresh(providers.Singleton(Table))), late=True
        ),
    }
)
"""By kind."""
