"""What the wiring alone proves: one verdict for each thing that an instance can receive."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from functools import cache, partial
from types import BuiltinFunctionType, MappingProxyType
from typing import Any, NamedTuple

from dependency_injector import providers
from dependency_injector.containers import Container
from dependency_injector.providers import Provider, is_provider

from providers.errors import describe
from providers.fresh import Fresh
from providers.kinds import assigns_attributes, classify
from providers.per_key import PerKey
from providers.reach import Reader
from providers.shared import Shared

from .finding import Finding, Verdict
from .graph import DELEGATES, Role, Wiring, effective, known
from .names import describe_value, provider_name, provides_name, reason
from .state import named_state
from .values import mutable_part

Path = tuple[str, ...]

REMEDY = "use Fresh, or Shared if it is safe"
CACHED = type(cache(describe))

MAKERS = frozenset(
    {Fresh, providers.Factory, providers.DelegatedFactory, providers.Callable, providers.DelegatedCallable}
    | {providers.Coroutine, providers.DelegatedCoroutine, providers.TypedConfigurationOption}
)
GETTERS = frozenset(
    (providers.ProvidedInstance, providers.AttributeGetter, providers.ItemGetter, providers.MethodCaller)
)
ONE_OBJECT = frozenset(
    {providers.Singleton, providers.DelegatedSingleton, providers.ThreadSafeSingleton}
    | {providers.DelegatedThreadSafeSingleton, providers.Resource}
)
OPTIONS = frozenset((providers.Configuration, providers.ConfigurationOption))


class Opinion(NamedTuple):
    """A verdict and its reason.

    :ivar ask: whether two calls of the provider tell more.
    """

    verdict: Verdict
    reason: str
    ask: bool = False


UNKNOWN_CLASS = Opinion(Verdict.UNKNOWN, "a class of provider that the proof does not know; use those of the library")
MAKES_WIRING = Opinion(Verdict.UNKNOWN, "makes providers that nobody judges; inject those that are needed")
LOCAL = Opinion(Verdict.LEAK, f"one object for all keys of a thread or context; {REMEDY}")
ABSTRACT = Opinion(Verdict.UNKNOWN, "abstract, and nothing overrides it; override it")
NAMESPACE = Opinion(Verdict.LEAK, "leads to every provider of a container; inject the providers that are needed")
CODE = Opinion(Verdict.NOT_CALLED, "code makes it; not called by the proof", ask=True)
WIRING = Opinion(Verdict.WIRING, "gives what it leads to")
ASKS_FOR_ONE = Opinion(
    Verdict.PER_KEY, "gives the one instance of the key; for which key it is asked is up to the code"
)
LEADS_TO_ALL = Opinion(Verdict.LEAK, "leads to the instances of every key; let who calls it pass on the one instance")
OPINIONS = MappingProxyType(
    {
        providers.List: Opinion(Verdict.FRESH, "a new list at every call"),
        providers.Dict: Opinion(Verdict.FRESH, "a new dict at every call"),
        providers.Object: WIRING,
        providers.Selector: WIRING,
        providers.Aggregate: WIRING,
        providers.FactoryAggregate: WIRING,
        providers.Dependency: WIRING,
        providers.ExternalDependency: WIRING,
        providers.ThreadLocalSingleton: LOCAL,
        providers.DelegatedThreadLocalSingleton: LOCAL,
        providers.ContextLocalSingleton: LOCAL,
        providers.ContextLocalResource: LOCAL,
        providers.AbstractFactory: ABSTRACT,
        providers.AbstractCallable: ABSTRACT,
        providers.AbstractCoroutine: ABSTRACT,
        providers.AbstractSingleton: ABSTRACT,
        providers.Self: NAMESPACE,
        providers.Container: NAMESPACE,
        providers.DependenciesContainer: NAMESPACE,
    }
    | dict.fromkeys(DELEGATES, WIRING)
    | dict.fromkeys(
        GETTERS,
        Opinion(Verdict.NOT_CALLED, "code of the object decides what it gives; not called by the proof", ask=True),
    )
)
# Of these, what the provider uses goes into what an instance receives.
PASSES_ON = frozenset({Verdict.PER_KEY, Verdict.FRESH, Verdict.CHECKED, Verdict.NOT_CALLED, Verdict.WIRING})


class Judge:
    """Walks the wiring behind each ``PerKey``, and behind what else is asked for users.

    :param reader: skips the objects that ``Shared`` providers give.
    :ivar opinions: by the ids of providers.
    :ivar questions: providers of which two calls tell more than the wiring.
    """

    def __init__(self, wiring: Wiring, reader: Reader) -> None:
        self._wiring = wiring
        self._reader = reader
        self._questioned: set[int] = set()
        self.findings: list[Finding] = []
        self.questions: list[Provider[Any]] = []
        self.opinions: dict[int, Opinion] = {}
        self._indexes: dict[int, int] = {}
        self._per_key = LEADS_TO_ALL

    def judge(self, root: Provider[Any], name: str) -> None:
        """Judge what the instances of a ``PerKey``, or the objects of another provider, can receive.

        The latter come after all of the former: they may be handed a ``PerKey``, and the same in an instance is a leak.
        """
        if not isinstance(root, PerKey):
            self._per_key = ASKS_FOR_ONE
            self._provider(root, (name,), called=False)
            return
        over: Any = effective(root)
        opinion = Opinion(Verdict.PER_KEY, "one instance for each key, as long as somebody holds it")
        if known(over) is None:
            opinion = UNKNOWN_CLASS
        elif known(over) is not PerKey:
            opinion = Opinion(Verdict.LEAK, "there is not one instance for each key; undo the override")
        else:
            made = maker_opinion(over.provides, self._reader)
            opinion = made if made.verdict in (Verdict.LEAK, Verdict.UNKNOWN) else opinion
        self._note((name,), root, over, opinion)
        if opinion.verdict is Verdict.PER_KEY:
            self._follow(over, (name,), called=False)

    def answer(self, provider: Provider[Any], opinion: Opinion) -> None:
        """Take what two calls of a provider told in place of what the wiring told."""
        index = self._indexes[id(provider)]
        self.findings[index] = replace(self.findings[index], verdict=opinion.verdict, reason=opinion.reason)
        self.opinions[id(provider)] = self.opinions[id(effective(provider))] = opinion

    def confirm(self, provider: Provider[Any]) -> None:
        """Take that the probe has called a provider and found nothing."""
        if self.opinions[id(provider)].verdict is Verdict.NOT_CALLED:
            self.answer(provider, Opinion(Verdict.PROBED, "two calls gave nothing in common that can change"))

    def _follow(self, provider: Provider[Any], path: Path, *, called: bool) -> None:
        for link in self._wiring.of(provider):
            step = self._wiring.step(path, link)
            if link.role is Role.ASKS:
                continue
            if is_provider(link.target):
                # Whether it is called as is, without arguments of a call.
                as_is = link.role is Role.RECEIVES or (called and link.role in (Role.GIVES, Role.OVERRIDES))
                self._provider(link.target, step, called=as_is)
            elif link.role is not Role.MAKES:
                self._value(link.target, step)

    def _value(self, value: object, path: Path) -> None:
        part = mutable_part(value, self._reader)
        opinion = Opinion(Verdict.IMMUTABLE, "nobody can change it")
        if part is not None:
            opinion = Opinion(Verdict.LEAK, f"one object for all keys ({part} can change); {REMEDY}")
        self.findings.append(Finding(path, "value", describe_value(value), opinion.verdict, opinion.reason))

    def _provider(self, provider: Provider[Any], path: Path, *, called: bool) -> None:
        over = effective(provider)
        if isinstance(over, PerKey):
            opinion = self._per_key
            self.findings.append(
                Finding(path, provider_name(over), provides_name(over), opinion.verdict, opinion.reason)
            )
            return
        if id(provider) not in self.opinions:
            opinion = self._opinion(over)
            self._note(path, provider, over, opinion)
            if opinion.verdict in PASSES_ON:
                self._follow(over, path, called=called)
        opinion = self.opinions[id(provider)]
        if opinion.ask and id(provider) not in self._questioned and (called or opinion.verdict is Verdict.LEAK):
            self._questioned.add(id(provider))
            self.questions.append(provider)

    def _note(self, path: Path, provider: Provider[Any], over: Provider[Any], opinion: Opinion) -> None:
        name = provider_name(provider)
        if over is not provider:
            name = f"{provider_name(over)}, which overrides {name}"
        for part in (provider, over):
            self.opinions[id(part)] = opinion
            self._indexes[id(part)] = len(self.findings)
        self.findings.append(Finding(path, name, provides_name(over), opinion.verdict, opinion.reason))

    def _opinion(self, provider: Any) -> Opinion:
        kind = known(provider)
        if kind is None:
            return UNKNOWN_CLASS
        if kind is Shared:
            why = reason(provider)
            return Opinion(Verdict.SHARED, why) if why else Opinion(Verdict.UNKNOWN, "no reason why it may be shared")
        if kind in MAKERS:
            made = maker_opinion(provider.provides, self._reader)
            if kind is providers.TypedConfigurationOption and made.verdict is Verdict.FRESH:
                return CODE  # what it is made of is not judged
            checked = kind is Fresh and made.verdict in (Verdict.NOT_CALLED, Verdict.WIRING)
            return Opinion(Verdict.CHECKED, "Fresh refuses an object that it has given before") if checked else made
        if kind in ONE_OBJECT:
            return one_object_opinion(provider.provides)
        if kind in OPTIONS:
            return option_opinion(provider, self._reader)
        if kind in (providers.Dependency, providers.ExternalDependency) and provider.default is None:
            return Opinion(Verdict.UNKNOWN, "nothing provides this dependency; override it")
        return OPINIONS[kind]


def gives_one(provider: Provider[Any]) -> bool:
    """Tell whether a provider gives the same object at every call, as the wiring says."""
    over: Any = effective(provider)
    if known(over) is providers.ProvidedInstance:
        return is_provider(over.provides) and gives_one(over.provides)
    return known(over) is Shared or known(over) in ONE_OBJECT


def one_object_opinion(provides: object) -> Opinion:
    """Judge a provider that gives one object to all."""
    may_be_immutable = not isinstance(provides, type) or _may_be_immutable(provides)
    return Opinion(Verdict.LEAK, f"one object for all keys; {REMEDY}", ask=may_be_immutable)


def _may_be_immutable(type_: type) -> bool:
    kind = classify(type_)
    return kind is None or not kind.mutable or (kind.empty and not assigns_attributes(type_))


def option_opinion(provider: Provider[Any], reader: Reader) -> Opinion:
    """Judge a value of the configuration."""
    try:
        part = mutable_part(provider(), reader)
    except Exception as error:  # noqa: BLE001 - whatever users' code raises
        return Opinion(Verdict.UNKNOWN, f"cannot be read ({describe(type(error))}); configure it before the proof")
    if part is not None:
        return Opinion(
            Verdict.LEAK, f"one object for all keys ({part} can change); inject the options in it one by one"
        )
    return Opinion(Verdict.IMMUTABLE, "nobody can change it")


def maker_opinion(provides: object, reader: Reader) -> Opinion:
    """Judge what a provider calls at each call, another provider included."""
    return WIRING if is_provider(provides) else factory_opinion(provides, reader)


def factory_opinion(factory: Any, reader: Reader) -> Opinion:
    """Judge a class or function that is called for each key."""
    if factory is None:
        return Opinion(Verdict.UNKNOWN, "provides nothing; say what it provides")
    called = factory
    while isinstance(called, partial):
        called = called.func
    if isinstance(called, CACHED):
        return Opinion(Verdict.LEAK, f"a cached function gives one object to all keys; {REMEDY}")
    if isinstance(called, type) and issubclass(called, Enum):
        return Opinion(Verdict.LEAK, "an enum gives one member to all keys; provide an object that holds the member")
    if isinstance(called, type) and issubclass(called, (Container, Provider)):
        return MAKES_WIRING
    if isinstance(called, type) and classify(called) is None:
        return Opinion(Verdict.IMMUTABLE, "nobody can change it")
    part = mutable_part(factory, reader)
    if part is not None:
        return Opinion(
            Verdict.LEAK,
            f"holds one object for all keys ({part}); make it in the call, or inject it",
        )
    if (name := named_state(called, reader)) is not None:
        return Opinion(Verdict.LEAK, f"keeps {name} for all keys; make it in the call, or inject it")
    if constructs(called):
        return Opinion(Verdict.FRESH, "a new object at every call")
    return CODE


def constructs(called: object) -> bool:
    """Tell whether each call makes a new object: a class that leaves that to Python."""
    return (
        isinstance(called, type)
        and type(called).__call__ is type.__call__
        and isinstance(called.__new__, BuiltinFunctionType)
    )
