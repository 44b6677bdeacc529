"""What of a value or a function in the wiring can change, so that not all users may reach it."""

from __future__ import annotations

import dis
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from providers.errors import describe
from providers.kinds import STOP_WIRING, classify, is_frozen
from providers.reach import Reached, reachable

# Classes of libraries that hold tables of their own. What users' classes add to them is read.
CLASSES_OF_PYDANTIC = (
    ("pydantic.main", "BaseModel"),
    ("pydantic.root_model", "RootModel"),
    ("pydantic_settings.main", "BaseSettings"),
)
CONTAINERS = frozenset(
    {list, dict, set, bytearray, deque, defaultdict, OrderedDict, Counter}
    | {WeakKeyDictionary, WeakValueDictionary, WeakSet}
)
GLOBAL_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})


def mutable_part(value: object, shared: Sequence[object] = ()) -> str | None:
    """Say what in a value can change, such as ``list at tuple[1]``, or None if nothing can.

    A provider or a container in a value counts, because it is handed on where nobody looks. Private attributes of a
    frozen pydantic model do not, if they hold what cannot change: as in a frozen dataclass, only code that knows
    better sets them.

    :param shared: objects that all users may reach, whatever they are.
    """
    if any(value is one for one in shared):
        return None
    if isinstance(value, STOP_WIRING):
        return describe(type(value))
    for reached in reachable(value, shared=(*shared, *loaded(CLASSES_OF_PYDANTIC))):
        if (reached.mutable and not is_private_part(reached)) or reached.weak:
            return place(reached.object, reached.path)
        kind = classify(type(reached.object))
        for held in kind.read(reached.object) if kind is not None else ():
            if isinstance(held, STOP_WIRING):
                return place(held, reached.path)
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


def loaded(names: Iterable[tuple[str, str]]) -> tuple[type, ...]:
    """Give classes by module and name, those of modules that are loaded."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(kind for kind in found if isinstance(kind, type))


def module_state(function: FunctionType, shared: Sequence[object] = ()) -> str | None:
    """Name a list, dict or set of its module that a function uses, or a global that it assigns; None if there is none.

    Only what the function itself names: what the functions do that it calls is for the probe to see.
    """
    for code in nested(function.__code__):
        for name in sorted(function.__globals__.keys() & set(code.co_names)):
            held = function.__globals__[name]
            if type(held) in CONTAINERS and not any(held is one for one in shared):
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
