"""What the providers of a container use: the graph that the proof walks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from dependency_injector import providers
from dependency_injector.containers import Container
from dependency_injector.providers import Provider, is_provider

from providers.fresh import Fresh
from providers.per_key import PerKey
from providers.shared import Shared

from .names import describe_value, key_name, provider_name, provides_name, reason


class Role(Enum):
    """What becomes of that to which a link leads."""

    MAKES = "makes"
    """It is called to make the object, with the arguments of the call."""
    RECEIVES = "receives"
    """The object, or what the provider gives when it is called without arguments, goes into what is made."""
    HANDS_ON = "hands on"
    """The provider itself is given, to be called later."""
    GIVES = "gives"
    """What it gives is given."""
    ASKS = "asks"
    """It is asked, and its answer is not given."""
    OVERRIDES = "overrides"
    """It takes the provider's place."""


@dataclass(frozen=True, slots=True)
class Link:
    """One use of a provider or of a plain value.

    :ivar label: name of the argument, the branch or the attribute; empty when nothing has to be told apart.
    """

    label: str
    target: Any
    role: Role


def injections(provider: Any) -> Iterator[Link]:
    for index, target in enumerate(provider.args):
        yield injected(f"[{index}]", target)
    for name, target in provider.kwargs.items():
        yield injected(str(name), target)


def injected(label: str, target: Any) -> Link:
    if known(target) in DELEGATES and not target.overridden:
        return Link(label, target.provides, Role.HANDS_ON)
    return Link(label, target, Role.HANDS_ON if providers.is_delegated(target) else Role.RECEIVES)


def made(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.MAKES)
    yield from injections(provider)


def made_with_attributes(provider: Any) -> Iterator[Link]:
    yield from made(provider)
    yield from (injected(f".{name}", target) for name, target in provider.attributes.items())


def converted(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.MAKES)
    yield from (Link("", target, Role.ASKS) for target in provider.args)


def keyed(provider: Any) -> Iterator[Link]:
    yield Link("key", provider.key, Role.RECEIVES)
    yield from made_with_attributes(provider)


def held(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.HANDS_ON if is_provider(provider.provides) else Role.RECEIVES)


def handed_on(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.HANDS_ON)


def collected(provider: Any) -> Iterator[Link]:
    yield from (Link(f"[{key_name(name)}]", target, Role.HANDS_ON) for name, target in provider.providers.items())


def selected(provider: Any) -> Iterator[Link]:
    yield Link("selector", provider.selector, Role.ASKS)
    yield from (Link(f"[{name}]", target, Role.GIVES) for name, target in provider.providers.items())


def got(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.ASKS)


def called(provider: Any) -> Iterator[Link]:
    yield Link("", provider.provides, Role.ASKS)
    yield from injections(provider)


def listed(provider: Any) -> Iterator[Link]:
    yield from (injected(f"[{index}]", target) for index, target in enumerate(provider.args))


def mapped(provider: Any) -> Iterator[Link]:
    for name, target in provider.kwargs.items():
        yield injected(f"[{key_name(name)}]", target)
        if not isinstance(name, str):
            yield Link("[key]", name, Role.HANDS_ON)


def dependent(provider: Any) -> Iterator[Link]:
    if provider.default is not None:
        yield Link("", provider.default, Role.GIVES)


def nothing(_: Any) -> Iterator[Link]:
    yield from ()


DELEGATES = frozenset(
    {providers.Delegate, providers.CallableDelegate, providers.CoroutineDelegate}
    | {providers.FactoryDelegate, providers.SingletonDelegate}
)

LINKS: Mapping[type, Callable[[Any], Iterator[Link]]] = MappingProxyType(
    {
        PerKey: keyed,
        providers.Object: held,
        providers.Self: nothing,
        providers.Container: nothing,
        providers.DependenciesContainer: nothing,
        providers.Configuration: nothing,
        providers.ConfigurationOption: nothing,
        providers.TypedConfigurationOption: converted,
        providers.Selector: selected,
        providers.Aggregate: collected,
        providers.FactoryAggregate: collected,
        providers.Dependency: dependent,
        providers.ExternalDependency: dependent,
        providers.List: listed,
        providers.Dict: mapped,
        providers.ProvidedInstance: got,
        providers.AttributeGetter: got,
        providers.ItemGetter: got,
        providers.MethodCaller: called,
    }
    | dict.fromkeys(DELEGATES, handed_on)
    | dict.fromkeys((Fresh, providers.Factory, providers.DelegatedFactory), made_with_attributes)
    | dict.fromkeys((Shared, providers.Singleton, providers.DelegatedSingleton), made_with_attributes)
    | dict.fromkeys((providers.ThreadSafeSingleton, providers.DelegatedThreadSafeSingleton), made_with_attributes)
    | dict.fromkeys((providers.ThreadLocalSingleton, providers.DelegatedThreadLocalSingleton), made_with_attributes)
    | dict.fromkeys((providers.ContextLocalSingleton,), made_with_attributes)
    | dict.fromkeys((providers.AbstractFactory, providers.AbstractSingleton), nothing)
    | dict.fromkeys((providers.AbstractCallable, providers.AbstractCoroutine), nothing)
    | dict.fromkeys((providers.Callable, providers.DelegatedCallable), made)
    | dict.fromkeys((providers.Coroutine, providers.DelegatedCoroutine), made)
    | dict.fromkeys((providers.Resource, providers.ContextLocalResource), made)
)

# What a subclass may say without being another kind of provider: `provided_type` is the library's way to restrict one.
NAMES_WITHOUT_EFFECT = frozenset(
    {"provided_type", "__module__", "__doc__", "__dict__", "__weakref__", "__annotations__"}
    | {"__orig_bases__", "__parameters__", "__firstlineno__", "__static_attributes__", "__slots__"}
)


def known(provider: object) -> type | None:
    """Give the class of a provider whose behaviour the proof knows, or None."""
    kind = type(provider)
    while kind not in LINKS:
        if len(kind.__bases__) != 1 or not vars(kind).keys() <= NAMES_WITHOUT_EFFECT:
            return None
        kind = kind.__base__ or object
    return kind


def effective(provider: Provider[Any]) -> Provider[Any]:
    """Follow overrides to the provider that is called. The values of a configuration are no overrides."""
    while provider.last_overriding is not None and known(provider) is not providers.Configuration:
        provider = provider.last_overriding
    return provider


class Wiring:
    """The providers of a container and what each of them uses.

    :param container: the container; its sub-containers belong to it.
    :ivar names: of providers in the container, by their ids.
    :ivar nodes: all providers, by their ids.
    :ivar titles: names, and for a provider without one that of who uses it and the argument, such as ``manager.mode``.
    """

    def __init__(self, container: Container) -> None:
        self.names = MappingProxyType({id(provider): name for name, provider in named(container, "", set())})
        self.nodes: dict[int, Provider[Any]] = {}
        self.links: dict[int, tuple[Link, ...]] = {}
        self.titles: dict[int, str] = {}
        pending = [(provider, name) for name, provider in named(container, "", set())][::-1]
        while pending:
            provider, title = pending.pop()
            if id(provider) not in self.nodes:
                self.nodes[id(provider)] = provider
                self.titles[id(provider)] = title = self.names.get(id(provider), title)
                self.links[id(provider)] = links(provider)
                for link in reversed(self.of(provider)):
                    if is_provider(link.target):
                        pending.append((link.target, f"{title}.{link.label}" if link.label else title))

    def behind(self, roots: Iterable[Provider[Any]]) -> dict[int, Provider[Any]]:
        """Give everything that some providers use, directly and indirectly."""
        found: dict[int, Provider[Any]] = {}
        pending = list(roots)
        while pending:
            for link in self.of(pending.pop()):
                if is_provider(link.target) and id(link.target) not in found:
                    found[id(link.target)] = link.target
                    pending.append(link.target)
        return found

    def of(self, provider: Provider[Any]) -> tuple[Link, ...]:
        """Give what a provider uses."""
        return self.links[id(provider)]

    def step(self, path: tuple[str, ...], link: Link) -> tuple[str, ...]:
        """Extend a path by a link: the name of the provider in the container, or else that of the argument."""
        label = self.names.get(id(link.target), link.label)
        if label == "" or path[-1:] == (label,):
            return path
        return (*path, label)

    def digest(self) -> str:
        """Hash the graph with SHA-256: names, kinds of providers, what they make and use, reasons; never a value.

        Two processes that build the same container get the same hash.
        """
        numbers = {key: number for number, key in enumerate(self.nodes)}
        text = [
            [self.titles[key], provider_name(provider), provides_name(provider), reason(provider)]
            + [[one.label, one.role.value, numbers.get(id(one.target), describe_value(one.target))] for one in links]
            for (key, provider), links in zip(self.nodes.items(), self.links.values(), strict=True)
        ]
        return hashlib.sha256(json.dumps(text).encode()).hexdigest()


def links(provider: Provider[Any]) -> tuple[Link, ...]:
    """Give what a provider uses itself; of an overridden one, what overrides it."""
    over = effective(provider)
    if over is not provider:
        return (Link("", over, Role.OVERRIDES),)
    kind = known(provider)
    return () if kind is None else tuple(LINKS[kind](provider))


def named(container: Any, prefix: str, seen: set[int]) -> Iterable[tuple[str, Provider[Any]]]:
    """Give the providers of a container and its sub-containers, each with its name, such as ``storage.session``."""
    for name, provider in container.providers.items():
        if id(provider) in seen:
            continue
        seen.add(id(provider))
        yield f"{prefix}{name}", provider
        if isinstance(provider, (providers.Container, providers.DependenciesContainer)):
            yield from named(provider, f"{prefix}{name}.", seen)
