"""What the proof found, and the proof itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from providers.errors import ProviderError

from . import render


class Verdict(Enum):
    """What the proof says of one thing that an instance can receive."""

    PER_KEY = "per key"
    """The instance itself: one for each key, as long as somebody holds it; or who can ask for it."""
    FRESH = "fresh"
    """Proved by the wiring: every call makes a new object."""
    CHECKED = "fresh, checked"
    """Every call is checked: ``Fresh`` refuses an object that it has given before."""
    PROBED = "fresh, probed"
    """Code makes it, which nothing can be proved of; what it gave to two keys had nothing in common that can change."""
    NOT_CALLED = "not called"
    """Code makes it, whenever somebody calls the provider that was handed on. The proof did not call it."""
    IMMUTABLE = "immutable"
    """Nobody can change it."""
    SHARED = "shared"
    """All users reach it, for the reason that the container gives."""
    WIRING = "wiring"
    """It only leads to other providers, which have verdicts of their own."""
    BEHIND_SHARED = "behind shared"
    """Only something ``Shared`` uses it. Not judged."""
    OUTSIDE = "outside"
    """Nothing that is asked for users receives it. Not judged."""
    LEAK = "leak"
    """Two users can reach one object that can change."""
    UNKNOWN = "unknown"
    """The proof cannot tell, which is as bad as a leak."""


FAILURES = frozenset({Verdict.LEAK, Verdict.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an instance can receive, and what the proof says of it.

    :ivar path: from the ``PerKey``, or what else is asked for users, to the thing: names of providers or, where there
        is none, of arguments.
    :ivar provider: class of the provider; ``value`` for a plain value, ``instance`` for what the probe found.
    :ivar provides: what the provider calls, or the class of the value. Never the value itself.
    :ivar reason: why, and for a failure the remedy.
    """

    path: tuple[str, ...]
    provider: str
    provides: str
    verdict: Verdict
    reason: str

    @property
    def failed(self) -> bool:
        """Whether it makes the proof fail."""
        return self.verdict in FAILURES

    def __str__(self) -> str:
        """Such as ``manager → mode ← Singleton: one object for all keys; use Fresh, or Shared if it is safe``."""
        return f"{' → '.join(self.path)} ← {self.provider}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Part:
    """A provider in the picture of the wiring.

    :ivar name: its name in the container, or that of the argument it is.
    """

    name: str
    provider: str
    provides: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Use:
    """A line in the picture: the part with one index uses that with another.

    :ivar how: ``makes``, ``receives``, ``hands on``, ``gives``, ``asks`` or ``overrides``.
    """

    user: int
    used: int
    label: str
    how: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What :func:`providers.prove` established of a container: plain data, which holds nothing of the container.

    :ivar container: class of the container.
    :ivar findings: everything an instance can receive, in the order of the wiring.
    :ivar digest: SHA-256 of the graph; the same for the same wiring in any process.
    :ivar version: version of the distribution that made the proof.
    :ivar time: when it was made, in UTC.
    :ivar parts: the providers of the picture.
    :ivar uses: the lines of the picture.
    """

    container: str
    findings: tuple[Finding, ...]
    digest: str
    version: str
    time: datetime
    parts: tuple[Part, ...]
    uses: tuple[Use, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not any(finding.failed for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that make the proof fail."""
        return tuple(finding for finding in self.findings if finding.failed)

    def as_table(self) -> str:
        """Give the findings as a table of text, failures first."""
        return render.table(self)

    def as_json(self) -> str:
        """Give the proof as JSON, for an auditor's file."""
        return render.json_text(self)

    def as_dot(self) -> str:
        """Give the wiring as a graph in the language of Graphviz; ``dot -Tsvg`` draws it."""
        return render.dot(self)

    def as_mermaid(self) -> str:
        """Give the wiring as a Mermaid flowchart."""
        return render.mermaid(self)


class ProofError(ProviderError):
    """The isolation of a container is not proved.

    :ivar proof: the proof that failed; ``proof.failures`` are the findings to mend.
    """

    def __init__(self, proof: Proof) -> None:
        self.proof = proof
        super().__init__(f"{proof.container} is not proved to keep its users apart:\n{lines(proof.failures)}")


def lines(findings: Iterable[Finding]) -> str:
    """Give findings one a line."""
    return "\n".join(f"  {finding}" for finding in findings)
