"""Proof that the instances of a ``PerKey`` share nothing: from the wiring, and by a probe where code decides."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dependency_injector.containers import Container

from .finding import Finding, Part, Proof, ProofError, Use, Verdict
from .probe import Arguments
from .proving import Asynchronous, Proving

__all__ = ("Finding", "Part", "Proof", "ProofError", "Use", "Verdict", "prove", "prove_async")

NO_PROBES: Mapping[str, Arguments] = MappingProxyType({})


def prove(container: Container, probes: Mapping[str, Arguments] = NO_PROBES) -> Proof:
    """Prove that no two users of a container reach one object that can change, unless it is ``Shared``.

    The graph of providers behind every :class:`~providers.PerKey` is walked. Each object that an instance can receive
    must be fresh for its key, or immutable, or ``Shared``; what cannot be classified is a failure. So must the objects
    of every other provider that is asked for users: of each that ``probes`` names, and of each that is handed a
    ``PerKey`` and is not ``Shared`` itself. Then the instances of two synthetic keys are built, and those of the first
    key once more after they were let go: nothing that can change may be reached from two of them.

    :param container: an instance of a container.
    :param probes: for each ``PerKey``, and for what else is asked for users, by its name in the container (``sub.name``
        for a sub-container), the positional arguments of the calls for two users that do not exist:
        ``{"manager": ((alice,), (bob,)), "connection": ((), ())}``.
    :raises ProofError: when something is not proved; it holds the proof with all findings.

    **Effects.** The ``Shared`` objects behind each ``PerKey`` are built, as their first use would. Singletons and
    resources that an instance can receive and functions that are injected are called. The instances of the probe are
    gone when this returns; events that they cause (a log, a metric) are not taken back. Call it in the thread of the
    event loop at start, before users come. For asynchronous factories use :func:`prove_async`.

    >>> from dependency_injector import containers, providers
    >>> from providers import Fresh, PerKey, prove
    >>> class Manager:
    ...     def __init__(self, user: str, mode: object) -> None:
    ...         self.mode = mode
    >>> class App(containers.DeclarativeContainer):
    ...     mode = providers.Singleton(dict)
    ...     manager = PerKey(Fresh(Manager, mode=mode), key=lambda user: user)
    >>> prove(App(), probes={"manager": (("alice",), ("bob",))})
    Traceback (most recent call last):
    providers.proof.finding.ProofError: providers.proof.App is not proved to keep its users apart:
      manager → mode ← Singleton: one object for all keys; use Fresh, or Shared if it is safe
    >>> app = App()
    >>> overriding = app.mode.override(Fresh(dict))
    >>> prove(app, probes={"manager": (("alice",), ("bob",))}).ok
    True
    """
    steps = Proving(container, probes).steps(may_wait=False)
    step = next(steps)
    while not isinstance(step, Proof):
        discard(step)
        step = steps.throw(Asynchronous())
    return passed(step)


async def prove_async(container: Container, probes: Mapping[str, Arguments] = NO_PROBES) -> Proof:
    """Do as :func:`prove` does, for containers in which objects are made asynchronously."""
    steps = Proving(container, probes).steps(may_wait=True)
    step = next(steps)
    while not isinstance(step, Proof):
        try:
            result = await step
        except Exception as error:  # noqa: BLE001 - whatever users' code raises: it goes to the step that called it
            step = steps.throw(error)
        else:
            step = steps.send(result)
    return passed(step)


def passed(proof: Proof) -> Proof:
    """Give the proof if nothing failed.

    :raises ProofError: something failed.
    """
    if not proof.ok:
        raise ProofError(proof)
    return proof


def discard(awaitable: Any) -> None:
    """Give up what is not awaited, so that Python does not warn of it."""
    if hasattr(awaitable, "close"):
        awaitable.close()
    else:
        awaitable.cancel()
