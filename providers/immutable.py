"""What cannot change, all the way down."""

from __future__ import annotations

from .reach import reachable


def is_immutable(value: object) -> bool:
    """Tell whether an object and everything it reaches cannot change, so that any number of users may have it.

    Atoms, and values that cannot change themselves and hold only such: tuples, frozen sets, enum members, frozen
    dataclasses, structs and models, read-only proxies of a mapping that nothing else refers to, functions, classes. A
    weak reference is not: what it refers to comes and goes. See :func:`providers.kinds.is_frozen`.

    >>> from types import MappingProxyType
    >>> from providers.immutable import is_immutable
    >>> is_immutable(("a", frozenset({1}), MappingProxyType({"b": (2,)})))
    True
    >>> is_immutable(("a", []))
    False
    """
    return not any(reached.mutable or reached.weak for reached in reachable(value))
