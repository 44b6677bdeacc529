"""What `bulkhead check` finds out: whether a gateway can be built, and whether its wiring keeps users apart."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from dependency_injector import providers

from app.realtime.identity import UserContext
from config import ConfigurationError, Problem, Settings, find_problems, load_settings
from containers import GatewayContainer
from providers import Proof, Shared, prove_async

MakeContainer = Callable[[], GatewayContainer]
"""A class of containers, or a function that gives one."""


def find_container(name: str | None) -> MakeContainer:
    """Import what makes the containers, from the working directory too.

    Args:
        name: such as `shop.containers:ShopContainer`, a class or a function without arguments; None: the gateway's own.

    Raises:
        ConfigurationError: there is no such thing.
    """
    if name is None:
        return GatewayContainer
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise _unfit(name, "is not of the form package.module:Container")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # code of users may raise whatever it likes
        raise _unfit(name, f"cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise _unfit(name, "is neither a class of containers nor a function that gives one")
    return partial(_make, name, found)


def _make(name: str, make: Callable[[], object]) -> GatewayContainer:
    try:
        made = make()
    except Exception as error:  # as above
        raise _unfit(name, f"gives no container: {type(error).__name__}: {error}") from error
    declared = getattr(made, "declarative_parent", None)
    if not (isinstance(declared, type) and issubclass(declared, GatewayContainer)):
        raise _unfit(name, f"gives a {type(made).__name__}, which is no GatewayContainer")
    return made  # type: ignore[return-value]  # an instance of a container is a DynamicContainer at run time


def _unfit(name: str, message: str) -> ConfigurationError:
    remedy = "Name a subclass of containers.GatewayContainer, with its module: shop.containers:ShopContainer."
    return ConfigurationError([Problem("--container", f"{name} {message}", remedy=remedy)])


def build_container(settings: Settings, make: MakeContainer = GatewayContainer) -> GatewayContainer:
    """Give a container of its own with these settings."""
    container = make()
    container.settings.override(providers.Object(settings))
    return container


def checked_settings(arguments: Sequence[str], make: MakeContainer) -> Settings:
    """Load the settings and make sure that a gateway can be built of them.

    Raises:
        ConfigurationError: it cannot; with all that is wrong.
    """
    settings = load_settings(arguments)
    if problems := find_problems(settings) or find_container_problems(settings, make):
        raise ConfigurationError(problems)
    return settings


def find_container_problems(settings: Settings, make: MakeContainer) -> tuple[Problem, ...]:
    """Build a container, everything shared in it and a manager, and give what failed; an empty tuple if nothing did.

    Parts that fail for the same reason, because one is made of the other, are told once.
    """
    container = build_container(settings, make)
    parts: dict[str, Callable[[], object]] = {
        name: provider for name, provider in container.providers.items() if isinstance(provider, Shared)
    }
    parts["manager"] = partial(container.manager, UserContext(user_id="check", session_id="check"))
    failed: dict[str, str] = {}
    for name, build in parts.items():
        try:
            build()
        except Exception as error:  # noqa: BLE001 - whatever a provider raises is a problem to tell
            failed.setdefault(f"{type(error).__name__}: {error}", name)
    kind = getattr(container, "declarative_parent", GatewayContainer).__name__
    return tuple(Problem(f"{kind}.{name}", reason) for reason, name in failed.items())


def prove_wiring(settings: Settings, make: MakeContainer) -> Proof:
    """Prove that a container keeps its users apart, by one that is built for this and dropped.

    Raises:
        providers.ProofError: it does not, or cannot be shown to.
    """
    container = build_container(settings, make)
    return asyncio.run(prove_async(container, container.probes()))
