"""What everybody may reach, named as such."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from dependency_injector.providers import Provider, ThreadSafeSingleton

from .errors import MissingArgumentError
from .library import absolute

T = TypeVar("T")


class Shared(ThreadSafeSingleton[T]):
    """Provide one object for the whole container, and say why it may be shared.

    It is a :class:`dependency_injector.providers.ThreadSafeSingleton` in every respect. The mark is for readers and for
    tools that check a container: what is reached from two users is fresh, immutable, or ``Shared``.

    :param provides: class, function or provider that creates the object, or the import path of one.
    :param args: positional injections.
    :param reason: why all users may reach the object; not empty. (An injection of the same name: ``add_kwargs``.)
    :param kwargs: keyword injections.
    :raises MissingArgumentError: when there is no reason.

    >>> import time
    >>> from providers import Shared
    >>> class Clock:
    ...     def now(self) -> float:
    ...         return time.time()
    >>> clock = Shared(Clock, reason="keeps no state")
    >>> clock() is clock()
    True
    >>> clock.reason
    'keeps no state'
    >>> Shared(Clock)
    Traceback (most recent call last):
    providers.errors.MissingArgumentError: Shared requires the keyword argument 'reason': say why all users may reach it
    """

    @overload
    def __init__(self) -> None: ...
    @overload
    def __init__(
        self, provides: Callable[..., T] | Provider[T] | str | None = None, *args: Any, reason: str, **kwargs: Any
    ) -> None: ...
    def __init__(
        self,
        provides: Callable[..., T] | Provider[T] | str | None = None,
        *args: Any,
        reason: Any = "",
        **kwargs: Any,
    ) -> None:
        self._reason: str = reason if isinstance(reason, str) else ""
        if provides is not None:  # copies begin as an empty provider
            self._require_reason()
        super().__init__(absolute(provides, sys._getframe(1)), *args, **kwargs)

    def __deepcopy__(self, memo: dict[Any, Any] | None) -> Shared[T]:
        copied = cast("Shared[T]", super().__deepcopy__(memo))
        copied._reason = self._reason
        return copied

    @property
    def reason(self) -> str:
        """Why all users may reach the object.

        :raises MissingArgumentError: when the provider was made empty (``Shared()``) and never got a reason.
        """
        return self._require_reason()

    def _require_reason(self) -> str:
        if not self._reason.strip():
            raise MissingArgumentError(type(self), "reason", "say why all users may reach it")
        return self._reason
