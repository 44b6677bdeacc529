"""For tests: that a container keeps its users apart. Nothing here needs pytest."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from dependency_injector.containers import Container, DynamicContainer
from fastapi import FastAPI

from app.isolation import STOP, Auditor
from providers import PerKey, Proof, ProofError, prove
from providers.audit import audit
from providers.sharing import shared_objects

Probes = Mapping[str, Any]
T = TypeVar("T")


class AssertIsolated(Protocol):
    """The type of `assert_isolated`."""

    def __call__(self, container: Container, probes: Probes | None = None) -> Proof:
        """See `assert_isolated`."""


def assert_isolated(container: Container, probes: Probes | None = None) -> Proof:
    """Prove the wiring of a container, and audit its instances that live now.

    Call it where the container is used, in the thread of its event loop. Asynchronous factories: use
    `providers.prove_async`.

    Args:
        container: an instance of a container, of any class.
        probes: see `providers.prove`; default: what its provider `probes` gives, if it has one.

    Returns:
        The proof.

    Raises:
        AssertionError: it is not proved, or two users share an object; it names both ways to it.
    """
    __tracebackhide__ = True
    if probes is None:
        probes = container.probes() if "probes" in container.providers else {}
    try:
        proof = prove(container, probes)
    except ProofError as error:
        raise AssertionError(str(error)) from None
    if leaks := list(find_leaks(container)):
        raise AssertionError("\n".join(leaks))
    return proof


def find_leaks(container: Container) -> Iterator[str]:
    """What instances of a `PerKey` share that live now, a line for each object, each with both ways to it."""
    # What all connections run through, as it was before users came.
    parts = (part for auditor in _auditors(container) for part in auditor.parts)
    shared = [*shared_objects(container), *parts]
    for provider in container.traverse([PerKey]):
        owners = provider.instances()
        report = audit(*owners, shared=shared, stop=STOP, name=_key_of if all(map(_has_key, owners)) else None)
        yield from map(str, report.shared)


def living_containers() -> list[Container]:
    """The containers of this process."""
    return _living(DynamicContainer)


def _auditors(container: Container) -> list[Auditor]:
    """Those of the applications that serve the container."""
    apps = [app for app in _living(FastAPI) if getattr(app.state, "container", None) is container]
    return [app.state.auditor for app in apps if hasattr(app.state, "auditor")]


def _living(kind: type[T]) -> list[T]:
    gc.unfreeze()  # what was there when a server started would not be seen
    return [found for found in gc.get_objects() if issubclass(type(found), kind)]


def _has_key(owner: object) -> bool:
    return isinstance(getattr(owner, "key", None), str)


def _key_of(owner: Any) -> str:
    key: str = owner.key
    return key
