"""What of a value or a function in the wiring can change, so that not all users may reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from functools import cached_property

from dependency_injector.providers import Provider

from providers.errors import describe
from providers.kinds import ATOMS, STOP_WIRING, is_frozen
from providers.reach import Reached, Reader, walk
from providers.readers import LIBRARIES, namespace_of

from .state import kept_by

# Annotations as they are, and as they are written.
GIVES_ATOM = ATOMS | {"None"} | {describe(kind).removeprefix("builtins.") for kind in ATOMS}


def mutable_part(value: object, reader: Reader) -> str | None:
    """Say what in a value can change, such as ``list at tuple[1]``, or None if nothing can.

    A provider or a container in a value counts, because it is handed on where nobody looks. Private attributes of a
    frozen pydantic model do not, if they hold what cannot change: as in a frozen dataclass, only code that knows
    better sets them. What the functions and classes in it keep elsewhere counts as well.

    :param reader: skips the objects that all users may reach, whatever they are.
    """
    if id(value) in reader.skipped:
        return None
    for reached in everything(value, reader):
        wiring = issubclass(type(reached.object), (Provider, *STOP_WIRING))
        if wiring or (reached.mutable and not is_private_part(reached)) or reached.weak:
            return place(reached.object, reached.path)
        if (name := computed_later(reached.object)) is not None:
            return f"what {reached.path}.{name} will be"
        if (name := kept_by(reached, reader)) is not None:
            return name
    return None


def everything(value: object, reader: Reader) -> Iterator[Reached]:
    """Give what a value reaches, and what the context variables in it hold now."""
    waiting, seen = [value], set[int]()
    while waiting:
        for reached in walk(waiting.pop(), reader):
            yield reached
            variable = reached.object
            if type(variable) is ContextVar and id(variable) not in seen:
                seen.add(id(variable))
                waiting.append(variable.get(None))


def computed_later(value: object) -> str | None:
    """Name a cached property that an object has still to compute, and that may be what can change; None for none.

    One that was computed is an attribute like others. Of one that was not only the annotation tells what it will be.
    """
    type_ = type(value)
    if type_.__module__.partition(".")[0] in LIBRARIES:
        return None
    for class_ in type_.__mro__:
        for name, attribute in tuple(vars(class_).items()):
            if issubclass(type(attribute), cached_property) and name not in namespace_of(value):
                gives = attribute.func.__annotations__.get("return")
                if type(gives) not in (type, str) or gives not in GIVES_ATOM:
                    return name
    return None


def is_private_part(reached: Reached) -> bool:
    """Tell whether an object is the dictionary of the private attributes of a frozen pydantic model."""
    owner = None if reached.parent is None else reached.parent.object
    return (
        owner is not None and getattr(owner, "__pydantic_private__", None) is reached.object and is_frozen(type(owner))
    )


def place(value: object, path: str) -> str:
    """Name an object by its class and its place."""
    name = type(value).__name__
    return name if name == path else f"{name} at {path}"
