"""What the providers refuse, each error with its data and the remedy.

Every error is a :class:`dependency_injector.errors.Error`, so code that catches the library's errors catches these too.
No message contains a provided object, an argument or a key: they may be secret, and error messages end in logs.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from dependency_injector.errors import Error
from dependency_injector.providers import Provider, is_provider


def describe(provider: object) -> str:
    """Name a provider by its class and what it provides, such as ``PerKey(Fresh(app.Manager))``."""
    if is_provider(provider):
        provides = getattr(provider, "provides", None)
        return f"{type(provider).__name__}({'' if provides is None else describe(provides)})"
    name = getattr(provider, "__qualname__", None)
    if name is None:  # a partial, a callable object: its repr may show arguments
        return describe(type(provider))
    return f"{getattr(provider, '__module__', None) or 'builtins'}.{name}"


class ProviderError(Error):
    """Base of the errors of this package."""


class MissingArgumentError(ProviderError, TypeError):
    """A provider was made without an argument that it requires.

    :ivar provider: the class of the provider.
    :ivar argument: the name of the keyword argument.
    """

    def __init__(self, provider: type[Provider[Any]], argument: str, remedy: str) -> None:
        self.provider = provider
        self.argument = argument
        super().__init__(f"{provider.__name__} requires the keyword argument {argument!r}: {remedy}")


class NotFreshError(ProviderError):
    """A :class:`~providers.Fresh` was given an object that it had provided before.

    :ivar provider: the provider that promised a new object.
    :ivar provided_type: the type of the object.
    """

    def __init__(self, provider: Provider[Any], provided_type: type) -> None:
        self.provider = provider
        self.provided_type = provided_type
        super().__init__(
            f"{describe(provider)} was to provide a new object but got the same {describe(provided_type)} again: "
            f"let it call what creates an object each time (not an enum, a cached function or a singleton), "
            f"or say that the object is shared with Shared(..., reason=...)"
        )


class NotWeakReferenceableError(ProviderError):
    """An object cannot be watched, because its type has no weak references.

    :ivar provider: the provider of the object, or the :class:`~providers.Claims` that were to watch it.
    :ivar provided_type: the type of the object.
    """

    def __init__(self, provider: object, provided_type: type) -> None:
        self.provider = provider
        self.provided_type = provided_type
        super().__init__(
            f"{describe(provider)} got a {describe(provided_type)}, which has no weak references: "
            f"add '__weakref__' to its __slots__ (weakref_slot=True for a dataclass), or provide a subclass of it"
        )


class AlreadyClaimedError(ProviderError):
    """An object was to be claimed for a key, and is another key's.

    :ivar claimed_type: the type of the object.
    :ivar key: the key that was refused. Not in the message.
    :ivar owner: the key that has the object. Not in the message, and nothing to tell who asked.
    """

    def __init__(self, claimed_type: type, key: Hashable, owner: Hashable) -> None:
        self.claimed_type = claimed_type
        self.key = key
        self.owner = owner
        super().__init__(
            f"this {describe(claimed_type)} is another key's: let it be made anew for each key, "
            f"or say that all may reach it with Shared(..., reason=...) and do not claim it"
        )


class InvalidKeyError(ProviderError, TypeError):
    """The key function of a :class:`~providers.PerKey` gave what cannot be a key.

    :ivar provider: the provider.
    :ivar key_type: the type of what was given as key.
    """

    def __init__(self, provider: Provider[Any], key_type: type) -> None:
        self.provider = provider
        self.key_type = key_type
        super().__init__(
            f"{describe(provider)} got a {describe(key_type)} as key: "
            f"the key function must be a plain function that returns a hashable value"
        )


class RecursiveBuildError(ProviderError):
    """The build of an instance needs that same instance, so that it could never end.

    Raised instead of a deadlock: in one thread or task, and among threads and tasks that build several keys and wait
    for one another.

    :ivar provider: the provider that was asked.
    """

    def __init__(self, provider: Provider[Any]) -> None:
        self.provider = provider
        super().__init__(
            f"{describe(provider)} was asked for an instance that cannot be finished before this call returns: "
            f"let the factory, the finalizer or the callback that asks for it ask after the build"
        )
