"""The steps of a proof."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from inspect import iscoroutinefunction
from typing import Any

from dependency_injector.containers import Container
from dependency_injector.providers import Provider

from providers.errors import ProviderError, describe
from providers.library import is_pending
from providers.per_key import PerKey
from providers.reach import Reader
from providers.shared import Shared

from .finding import Finding, Part, Proof, Use, Verdict
from .graph import Role, Wiring, effective, known
from .judge import Judge, Opinion, gives_one
from .names import provider_name, provides_name, reason
from .probe import SYNTHETIC, Arguments, Pending, Probe, Subject, asked, failure

DISTRIBUTION = "bulkhead-gateway"


class Asynchronous(ProviderError):
    """What has to be awaited came where nobody waits."""

    def __init__(self) -> None:
        super().__init__("made asynchronously; await prove_async(...) instead of prove(...)")


class Proving:
    """One proof that is being made."""

    def __init__(self, container: Container, probes: Mapping[str, Arguments]) -> None:
        self._name = container_name(container)
        self._probes = probes
        self._wiring = Wiring(container)
        instances = [provider for provider in self._wiring.nodes.values() if isinstance(provider, PerKey)]
        overriding = [over for provider in instances if (over := effective(provider)) is not provider]
        self._instances = [one for one in instances if not any(one is over for over in overriding)]
        self._probed = [*self._instances, *self._named()]
        self._roots = [*self._probed, *self._handed()]
        self._behind = self._wiring.behind(self._roots)
        self._findings: list[Finding] = []
        self._opinions: Mapping[int, Opinion] = {}

    def _named(self) -> list[Provider[Any]]:
        """Give what has probe arguments and is no ``PerKey``."""
        named = {self._wiring.names.get(key) for key in map(id, self._instances)}
        return [
            self._wiring.nodes[key] for key, name in self._wiring.names.items() if name in self._probes.keys() - named
        ]

    def _handed(self) -> list[Provider[Any]]:
        """Give what else is handed a ``PerKey``, so that it can ask for users, unless it is ``Shared``."""
        known = [*self._probed, *(one for one in self._wiring.nodes.values() if isinstance(one, Shared))]
        settled = self._wiring.behind(known).keys() | set(map(id, known))
        return [
            provider
            for key, provider in self._wiring.nodes.items()
            if key not in settled and any(isinstance(link.target, PerKey) for link in self._wiring.of(provider))
        ]

    def steps(self, *, may_wait: bool) -> Generator[Pending | Proof, Any, None]:
        """Make the proof: yields what is to be awaited, and is sent the results; at last yields the proof."""
        if not may_wait and any(map(self._is_asynchronous, (*self._roots, *self._behind.values()))):
            self._findings.append(Finding((self._name,), "Container", "", Verdict.UNKNOWN, str(Asynchronous())))
        else:
            yield from self._judge()
        yield self._proof()

    def _judge(self) -> Generator[Pending, Any, None]:
        """Judge the wiring, ask where it does not tell, and probe where nothing has failed."""
        shared = yield from self._shared()
        reader, probing = Reader(shared), Reader((*shared, *self._wiring.nodes.values()))
        probing.kinds = reader.kinds
        judge = Judge(self._wiring, reader)
        for root in self._roots:
            judge.judge(root, self._wiring.titles[id(root)])
        for provider in judge.questions:
            answer = yield from asked(provider, reader, probing, gives_one=gives_one(provider))
            judge.answer(provider, answer)
        before, self._findings = self._findings, []
        subjects = self._subjects()
        if not any(finding.failed for finding in (*before, *judge.findings, *self._findings)):
            self._findings += yield from Probe(subjects, probing).run()
            if not self._findings:
                for subject in subjects:
                    judge.confirm(subject.provider)
        self._findings = [*before, *judge.findings, *self._findings]
        self._opinions = judge.opinions

    def _is_asynchronous(self, provider: Provider[Any]) -> bool:
        """Tell whether a provider is known to give what has to be awaited, before it is called in vain."""
        makes = (link.target for link in self._wiring.of(provider) if link.role is Role.MAKES)
        return provider.is_async_mode_enabled() or any(map(iscoroutinefunction, makes))

    def _shared(self) -> Generator[Pending, Any, tuple[Any, ...]]:
        """Give the objects that all users may reach."""
        found = []
        for key, provider in self._behind.items():
            if isinstance(effective(provider), Shared):
                try:
                    result = provider()
                    found.append((yield result) if is_pending(result) else result)
                except Exception as error:  # noqa: BLE001 - whatever users' code raises
                    path = (self._wiring.titles[key],)
                    name = provides_name(effective(provider))
                    self._findings.append(Finding(path, "Shared", name, Verdict.UNKNOWN, failure(error)))
        return tuple(found)

    def _subjects(self) -> list[Subject]:
        """Give what is to be probed, and note for which ``PerKey`` the arguments are missing."""
        names = {self._wiring.titles[id(root)]: root for root in self._probed}
        instances = [self._wiring.titles[id(root)] for root in self._instances]
        for name in sorted(self._probes.keys() - names.keys()):
            self._unprobed(name, f"probe arguments for no provider; there is {', '.join(instances) or 'none'}")
        for name in sorted(set(instances) - self._probes.keys()):
            self._unprobed(name, f"no probe arguments; {SYNTHETIC}: probes={{{name!r}: ((...,), (...,))}}")
        return [Subject(name, root, self._probes[name]) for name, root in names.items() if name in self._probes]

    def _unprobed(self, name: str, reason: str) -> None:
        self._findings.append(Finding((name,), "PerKey", "", Verdict.UNKNOWN, reason))

    def _proof(self) -> Proof:
        indexes = {key: index for index, key in enumerate(self._wiring.nodes)}
        return Proof(
            container=self._name,
            findings=tuple(self._findings),
            digest=self._wiring.digest(),
            version=distribution_version(),
            time=datetime.now(UTC),
            parts=tuple(map(self._part, self._wiring.nodes)),
            uses=tuple(
                Use(indexes[key], indexes[id(link.target)], link.label, link.role.value)
                for key, links in self._wiring.links.items()
                for link in links
                if id(link.target) in indexes
            ),
        )

    def _part(self, key: int) -> Part:
        provider = self._wiring.nodes[key]
        opinion = self._opinions.get(key)
        if opinion is None:
            opinion = BEHIND_SHARED if key in self._behind else OUTSIDE
            if known(provider) is Shared:
                opinion = Opinion(Verdict.SHARED, reason(provider))
        return Part(self._wiring.titles[key], provider_name(provider), provides_name(provider), *opinion[:2])


BEHIND_SHARED = Opinion(Verdict.BEHIND_SHARED, "used by what is Shared")
OUTSIDE = Opinion(Verdict.OUTSIDE, "received by no instance")


def container_name(container: Any) -> str:
    """Give the class of a container, such as ``containers.gateway.GatewayContainer``."""
    declared = getattr(container, "declarative_parent", None)
    return describe(declared or (container if isinstance(container, type) else type(container)))


def distribution_version() -> str:
    """Give the version of the installed distribution; empty where it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""
