"""A small container around what is to be proved: a manager per user that receives one part."""

from __future__ import annotations

from typing import Any

from dependency_injector.containers import DynamicContainer
from dependency_injector.providers import Provider

from providers import Fresh, PerKey, Proof, ProofError, prove

PROBES = {"manager": (("probe-a",), ("probe-b",))}


class Manager:
    def __init__(self, user: str, part: Any = None) -> None:
        self.user = user
        self.part = part


class Box:
    """What can change."""

    def __init__(self, content: Any = None) -> None:
        self.content = content


def by_user(user: str) -> str:
    return user


def container_of(part: Any = None, **others: Provider[Any]) -> Any:
    """A container with the provider `manager`, whose instances receive `part`, and with others by name."""
    container = DynamicContainer()
    container.set_providers(**others, manager=PerKey(Fresh(Manager, part=part), key=by_user))
    return container


def proof_of(container: DynamicContainer) -> Proof:
    """The proof, whether or not it holds."""
    try:
        return prove(container, PROBES)
    except ProofError as error:
        return error.proof


def failures_of(container: DynamicContainer) -> list[str]:
    """What fails, as people read it."""
    return [str(finding) for finding in proof_of(container).failures]


def verdicts_of(container: DynamicContainer) -> dict[str, str]:
    """The verdicts on the parts of the manager, by path, the innermost one of each path."""
    return {" → ".join(finding.path): finding.verdict.value for finding in proof_of(container).findings}
