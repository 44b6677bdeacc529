"""One instance per key, alive as long as somebody holds it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Hashable, Iterator
from concurrent.futures import CancelledError, Future
from functools import partial, wraps
from typing import Any, TypeVar, cast, overload

from dependency_injector.providers import (
    BaseSingleton,
    Factory,
    Provider,
    SingletonResetContext,
    deepcopy,
    is_provider,
)

from .errors import InvalidKeyError, MissingArgumentError, NotWeakReferenceableError, RecursiveBuildError
from .flight import CURRENT, Build, Registry
from .library import absolute, is_pending

T = TypeVar("T")
Mutator = TypeVar("Mutator", bound=Callable[..., Any])


def _in_both(mutator: Mutator) -> Mutator:
    """Change the injections of the factory, too: the one inside ``BaseSingleton`` is not reachable from Python."""
    name = mutator.__name__

    @wraps(mutator)
    def mutate(self: PerKey[Any], *args: Any, **kwargs: Any) -> PerKey[Any]:
        getattr(self._factory, name)(*args, **kwargs)
        mutator(self, *args, **kwargs)
        return self

    return cast(Mutator, mutate)


KEY = "give a function of the call's arguments, or a provider of one"


def _no_key(*_: Any, **__: Any) -> Hashable:
    raise MissingArgumentError(PerKey, "key", KEY)


class PerKey(BaseSingleton[T]):
    """Provide one instance per key, for as long as somebody holds it.

    A call computes the key from its arguments. When there is an instance of that key, the call returns it; otherwise it
    builds one with the arguments of the call and the injections, as a ``Singleton`` does. Instances are held weakly:
    with the last reference to an instance its entry goes, and a key that nobody holds costs nothing.

    :param provides: class, function or provider that creates an instance, or the import path of one.
    :param args: positional injections.
    :param key: function that is called with the arguments of each call and returns the key, a hashable value; or a
        provider of such a function, which can have injections itself. (An injection of the same name: ``add_kwargs``.)
    :param kwargs: keyword injections.
    :raises MissingArgumentError: when there is no key function.
    :raises InvalidKeyError: at a call, when the key is not hashable or is awaitable.
    :raises NotWeakReferenceableError: at a call, when the instance's type has no weak references.
    :raises RecursiveBuildError: at a call, when the instance is needed to build itself.

    **Concurrency.** Any thread and any task may call at any time. There is never more than one instance of a key alive,
    and its factory runs once. A thread that asks while another builds the same key waits until the factory has
    returned. An error goes to the caller whose call built; those who waited then build themselves, each with its own
    arguments.

    **Asynchronous factories.** Each call returns a future, on the running loop, of the one build under way. Cancelling
    it cancels nothing but that future: a build once begun runs to its end, so a factory that may hang needs a time-out.
    A failure goes to all who wait for this build and is not kept.

    An instance that has something to close does it with :func:`weakref.finalize` rather than ``__del__``: while
    ``__del__`` runs, another thread can still find the instance.

    >>> from providers import Fresh, PerKey
    >>> class Manager:
    ...     def __init__(self, user: str) -> None:
    ...         self.user = user
    >>> manager = PerKey(Fresh(Manager), key=lambda user: user)
    >>> alice = manager("alice")
    >>> manager("alice") is alice
    True
    >>> manager("bob") is alice
    False
    >>> manager.peek("bob") is None  # nobody held it
    True
    >>> manager.count()
    1
    """

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(
        self,
        provides: Callable[..., T] | Provider[T] | str | None = None,
        *args: Any,
        key: Callable[..., Hashable] | Provider[Any],
        **kwargs: Any,
    ) -> None: ...
    def __init__(
        self,
        provides: Callable[..., T] | Provider[T] | str | None = None,
        *args: Any,
        key: Any = _no_key,
        **kwargs: Any,
    ) -> None:
        if not callable(key) or (provides is not None and key is _no_key):  # copies begin as an empty provider
            raise MissingArgumentError(type(self), "key", KEY)
        self._factory: Factory[T] = Factory()
        self._registry = Registry()
        self._set_key(key)
        super().__init__(absolute(provides, sys._getframe(1)), *args, **kwargs)

    def __deepcopy__(self, memo: dict[Any, Any] | None) -> PerKey[T]:
        copied = cast("PerKey[T]", super().__deepcopy__(memo))
        copied._set_key(deepcopy(self._key, memo) if self._key_is_provider else self._key)
        return copied

    def _set_key(self, key: Callable[..., Any]) -> None:
        self._key = key
        self._key_is_provider = is_provider(key)

    @property
    def key(self) -> Callable[..., Hashable] | Provider[Any]:
        """The key function, or the provider of it."""
        return self._key

    @property
    def related(self) -> Iterator[Provider[Any]]:
        """The providers that this one uses, that of the key function among them."""
        if self._key_is_provider:
            yield cast("Provider[Any]", self._key)
        yield from super().related

    add_args = _in_both(BaseSingleton.add_args)
    set_args = _in_both(BaseSingleton.set_args)
    clear_args = _in_both(BaseSingleton.clear_args)
    add_kwargs = _in_both(BaseSingleton.add_kwargs)
    set_kwargs = _in_both(BaseSingleton.set_kwargs)
    clear_kwargs = _in_both(BaseSingleton.clear_kwargs)
    add_attributes = _in_both(BaseSingleton.add_attributes)
    set_attributes = _in_both(BaseSingleton.set_attributes)
    clear_attributes = _in_both(BaseSingleton.clear_attributes)

    def set_provides(self, provides: Callable[..., T] | str | None) -> PerKey[T]:
        """Set what creates an instance; instances that live stay."""
        provides = absolute(provides, sys._getframe(1))
        super().set_provides(provides)
        self._factory.set_provides(provides)
        return self

    def reset(self) -> SingletonResetContext:
        """Forget all instances, builds under way included; the next call of each key builds a new one.

        Who holds an old instance keeps it, so that for a time two instances of a key may live.

        :return: a context manager that resets again at its end.
        """
        self._registry = Registry()
        return SingletonResetContext(self)

    def peek(self, *args: Any, **kwargs: Any) -> T | None:
        """Return the instance that a call with these arguments would return, or None if it would have to build one.

        An override counts: with another ``PerKey`` that one is asked, and with any other provider there is no instance.
        """
        overriding = self.last_overriding
        if overriding is not None:
            return overriding.peek(*args, **kwargs) if isinstance(overriding, PerKey) else None
        return self._find(args, kwargs)[1]

    def count(self) -> int:
        """Return how many instances of this provider live; those of overriding providers are theirs."""
        return len(self._registry.instances)

    def instances(self) -> list[T]:
        """Return the instances of this provider that live now, while the list is held; safe in any thread."""
        references = self._registry.instances.valuerefs()
        return [instance for reference in references if (instance := reference()) is not None]

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        key, instance = self._find(args, kwargs)
        return self._join(key, args, kwargs) if instance is None else instance

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hashable, T | None]:
        key = (self._key() if self._key_is_provider else self._key)(*args, **kwargs)
        try:
            return key, self._registry.instances.get(key)
        except TypeError as error:
            raise InvalidKeyError(self, type(key)) from error

    def _join(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Build the instance, or wait for the build that is under way."""
        if hasattr(key, "__await__"):  # a new object at each call, by which nothing would ever be found
            if asyncio.iscoroutine(key):
                key.close()  # or Python warns that nobody awaited it
            raise InvalidKeyError(self, type(key))
        registry = self._registry
        build = Build()
        outside = CURRENT.set(build)
        try:
            while (other := registry.building.setdefault(key, build)) is not build:
                if not build.can_wait_for(other):
                    raise RecursiveBuildError(self)
                build.pending = other.pending
                if build.pending is not None:
                    return asyncio.wrap_future(build.pending)
                if (instance := other.wait()) is not None:
                    return instance
            return self._build(registry, key, build, args, kwargs)
        finally:
            CURRENT.reset(outside)
            if build.pending is None:
                build.leave()
            else:
                build.pending.add_done_callback(build.leave)

    def _build(
        self, registry: Registry, key: Hashable, build: Build, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the factory, the key being claimed by this build."""
        instance = None
        try:
            # Again: the build before ours may have ended between our look and our claim.
            instance = registry.instances.get(key)
            if instance is None:
                # Not by a call: it would fix the factory's async mode after the first instance, as no singleton does.
                result = self._factory._provide(args, kwargs)  # type: ignore[attr-defined]  # not in the stubs
                if is_pending(result):
                    return self._await(registry, key, build, result)
                instance = self._keep(registry, key, result)
            return instance
        finally:
            if build.pending is None:
                del registry.building[key]
            build.returned(instance)

    def _await(self, registry: Registry, key: Hashable, build: Build, result: Awaitable[T]) -> asyncio.Future[T]:
        """Let the build go on in a task; its key stays claimed."""
        build.task = asyncio.ensure_future(result)
        # Thread-safe, and running from the start, so that no one who waits for it can cancel it.
        build.pending = Future()
        build.pending.set_running_or_notify_cancel()
        build.task.add_done_callback(partial(self._awaited, registry, key, build.pending))
        return asyncio.wrap_future(build.pending)

    def _awaited(self, registry: Registry, key: Hashable, pending: Future[T], task: asyncio.Future[T]) -> None:
        error = CancelledError() if task.cancelled() else task.exception()
        instance: Any = None
        if error is None:
            try:
                instance = self._keep(registry, key, task.result())
            except NotWeakReferenceableError as refusal:
                error = refusal
        del registry.building[key]
        if error is None:
            pending.set_result(instance)
        else:
            pending.set_exception(error)

    def _keep(self, registry: Registry, key: Hashable, instance: T) -> T:
        try:
            registry.instances[key] = instance
        except TypeError:
            raise NotWeakReferenceableError(self, type(instance)) from None
        return instance
