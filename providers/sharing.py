"""The objects that a container marks as shared, and the container itself."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

from dependency_injector.containers import Container
from dependency_injector.providers import Object, Provider, Singleton, ThreadSafeSingleton

from .shared import Shared


def shared_objects(container: Container) -> list[object]:
    """Give the objects that the :class:`~providers.Shared` providers of a container have built, and build none.

    Those of nested providers and containers are among them, and what overrides a ``Shared`` in its place: the object
    of an ``Object`` or of a singleton. So are the container and its providers: what they hand out is the matter of the
    proof of the wiring, and who looks at users must not find all users behind their ``PerKey``.

    :param container: an instance of a container.
    """
    built = [one for provider in container.traverse([Shared]) for one in _built(provider)]
    return [*built, container, *container.traverse()]


def _built(provider: Provider[Any]) -> Iterator[object]:
    for overriding in provider.overridden:
        yield from _built(overriding)
    if isinstance(provider, Object):
        yield provider.provides
    elif isinstance(provider, (Singleton, ThreadSafeSingleton)):
        # The library would build the object to show it. The garbage collector shows what is stored: it is the last of
        # what the provider refers to, but for the lock of those that have one.
        *_, before, last = gc.get_referents(provider)
        stored = before if isinstance(provider, ThreadSafeSingleton) else last
        if asyncio.isfuture(stored):
            stored = stored.result() if stored.done() and not stored.cancelled() and not stored.exception() else None
        if stored is not None:
            yield stored
