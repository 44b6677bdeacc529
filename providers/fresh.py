"""A factory whose promise of a new object is checked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from dependency_injector.providers import Factory, Provider

from .errors import NotFreshError, NotWeakReferenceableError
from .library import absolute, is_pending
from .living import Living

T = TypeVar("T")

# A call of one of these types gives a new object, by definition of the language; of these alone, because a subclass or
# a function may return what it likes. The other mutable builtin, set, has weak references.
ALWAYS_NEW = (dict, list, bytearray, object)


class Fresh(Factory[T]):
    """Provide a new object at every call, and check that it is new.

    It is a :class:`dependency_injector.providers.Factory` in every respect, and refuses an object that it has already
    provided and that is still alive. The check takes constant time, keeps no object alive, and is safe among threads.

    :param provides: class, function or provider that creates the object, or the import path of one.
    :param args: positional injections.
    :param kwargs: keyword injections.
    :raises NotFreshError: at a call, when the object is not new.
    :raises NotWeakReferenceableError: at a call, when the object's type has no weak references, so that nothing can be
        promised. ``Fresh(dict)``, ``list``, ``bytearray`` and ``object`` need none.

    A result that must be awaited is checked when it is there; the error is raised to whoever awaits it. (With
    ``disable_async_mode()`` a future is itself the object.) A provider that overrides this one is not checked: make it
    a ``Fresh``, too.

    >>> from enum import Enum
    >>> from providers import Fresh
    >>> class Basket:
    ...     pass
    >>> basket = Fresh(Basket)
    >>> basket() is basket()
    False
    >>> class Mode(Enum):
    ...     UNIFIED = "unified"
    >>> mode = Fresh(Mode, "unified")
    >>> mode()
    <Mode.UNIFIED: 'unified'>
    >>> mode()  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    providers.errors.NotFreshError: Fresh(app.Mode) was to provide a new object but got the same app.Mode again: ...
    """

    def __init__(self, provides: Callable[..., T] | Provider[T] | str | None = None, *args: Any, **kwargs: Any) -> None:
        self._note = Living().note
        super().__init__(absolute(provides, sys._getframe(1)), *args, **kwargs)

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Not super(): that lookup costs as much as the rest of the call.
        result = Factory._provide(self, args, kwargs)  # type: ignore[attr-defined]  # not in the stubs
        if not is_pending(result):
            return self._check(result)
        if not asyncio.isfuture(result):
            return self._check_awaited(result)
        if self.is_async_mode_disabled():
            return self._check(result)
        return asyncio.ensure_future(self._check_awaited(result), loop=result.get_loop())

    async def _check_awaited(self, result: Awaitable[T]) -> T:
        checked: T = self._check(await result)
        return checked

    def _check(self, result: Any) -> Any:
        try:
            noted = self._note(result)
        except TypeError:
            provides: object = self.provides
            if type(result) in ALWAYS_NEW and type(result) is provides:
                return result
            raise NotWeakReferenceableError(self, type(result)) from None
        if noted is not None:
            raise NotFreshError(self, type(result))
        return result
