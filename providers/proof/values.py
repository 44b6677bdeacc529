"""What of a value or a function in the wiring can change, so that not all users may reach it."""

from __future__ import annotations

import dis
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from functools import cached_property
from types import CodeType, FunctionType
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from providers.errors import describe
from providers.kinds import ATOMS, STOP_WIRING, classify, is_frozen
from providers.reach import Reached, Reader, walk
from providers.readers import LIBRARIES, namespace_of

CONTAINERS = frozenset(
    {list, dict, set, bytearray, deque, defaultdict, OrderedDict, Counter}
    | {WeakKeyDictionary, WeakValueDictionary, WeakSet}
)
# Annotations as they are, and as they are written.
GIVES_ATOM = ATOMS | {"None"} | {describe(kind).removeprefix("builtins.") for kind in ATOMS}
GLOBAL_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})


def mutable_part(value: object, reader: Reader) -> str | None:
    """Say what in a value can change, such as ``list at tuple[1]``, or None if nothing can.

    A provider or a container in a value counts, because it is handed on where nobody looks. Private attributes of a
    frozen pydantic model do not, if they hold what cannot change: as in a frozen dataclass, only code that knows
    better sets them.

    :param reader: skips the objects that all users may reach, whatever they are.
    """
    if id(value) in reader.skipped:
        return None
    if isinstance(value, STOP_WIRING):
        return describe(type(value))
    for reached in walk(value, reader):
        if (reached.mutable and not is_private_part(reached)) or reached.weak:
            return place(reached.object, reached.path)
        if (name := computed_later(reached.object)) is not None:
            return f"what {reached.path}.{name} will be"
        kind = classify(type(reached.object))
        for held in kind.read(reached.object) if kind is not None else ():
            if isinstance(held, STOP_WIRING):
                return place(held, reached.path)
    return None


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


def module_state(function: FunctionType, reader: Reader) -> str | None:
    """Name a list, dict or set of its module that a function uses, or a global that it assigns; None if there is none.

    Only what the function itself names: what the functions do that it calls is for the probe to see.
    """
    for code in nested(function.__code__):
        for name in sorted(function.__globals__.keys() & set(code.co_names)):
            held = function.__globals__[name]
            if type(held) in CONTAINERS and id(held) not in reader.skipped:
                return name
        for instruction in dis.get_instructions(code):
            if instruction.opname in GLOBAL_STORES:
                return str(instruction.argval)
    return None


def nested(code: CodeType) -> Iterator[CodeType]:
    """Give code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)
