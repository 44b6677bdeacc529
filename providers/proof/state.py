"""What code keeps elsewhere than in the objects it is given: in variables of its module, on classes, on functions."""

from __future__ import annotations

import dis
import os
import sysconfig
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from providers.bytecode import changes_globals, nested, outer_changes
from providers.kinds import is_of_library
from providers.reach import Reached, Reader

CONTAINERS = frozenset(
    {list, dict, set, bytearray, deque, defaultdict, OrderedDict, Counter}
    | {WeakKeyDictionary, WeakValueDictionary, WeakSet}
)
INSTALLED = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Where installed code is. Of a library only what is called to make an object is read, not each of its methods."""


def kept_by(reached: Reached, reader: Reader) -> str | None:
    """Name what a function that a walk has reached keeps elsewhere, such as ``CACHE in Basket.add``, or None."""
    function: Any = reached.object
    if type(function) is not FunctionType or function.__code__.co_filename.startswith(INSTALLED):
        return None
    name = module_state(function, reader, of_class=is_of_class(reached))
    return None if name is None else f"{name} in {function.__qualname__}"


def is_of_class(reached: Reached) -> bool:
    """Tell whether the first argument of a function is a class: of a class method, ``__new__``, that of a metaclass."""
    owner = None if reached.parent is None else reached.parent.object
    name: str = reached.object.__name__
    if isinstance(owner, classmethod):
        return name != "__init_subclass__"
    return name == "__new__" or (isinstance(owner, type) and issubclass(owner, type))


def named_state(called: Any, reader: Reader) -> str | None:
    """Name what the code of a factory uses of its module and can change, or None."""
    candidates = [called.__func__ if isinstance(called, MethodType) else called]
    if isinstance(called, type):
        candidates = [getattr(called, name, None) for name in ("__new__", "__init__", "__post_init__")]
    functions = (function for function in candidates if isinstance(function, FunctionType))
    return next((name for function in functions if (name := module_state(function, reader)) is not None), None)


def module_state(function: FunctionType, reader: Reader, *, of_class: bool = False) -> str | None:
    """Name what a function uses or assigns that is there for all its calls; None if there is nothing.

    That is a list, dict or set of its module, and a global variable or an attribute of a class, of a function or of
    what a variable of its module holds, if it assigns it. Only what the function itself names: what the functions do
    that it calls is for the probe to see.

    :param reader: skips the objects that all users may reach.
    :param of_class: its first argument is a class.
    """
    if is_of_library(function.__globals__.get("__name__")):
        return None
    classes = function.__code__.co_varnames[:1] if of_class else ()
    names = (name for code in nested(function.__code__) for name in kept(code, function, reader, classes))
    return next(names, None)


def kept(code: CodeType, function: FunctionType, reader: Reader, classes: tuple[str, ...]) -> Iterator[str]:
    """Name what the code of a function, or of one within it, keeps elsewhere."""
    for name in sorted(function.__globals__.keys() & set(code.co_names)):
        held = function.__globals__[name]
        if type(held) in CONTAINERS and id(held) not in reader.skipped and loads(code, name):
            yield name
    yield from changes_globals(code)
    for change in outer_changes(code, classes):
        own = change.scope == "free" and change.variable not in function.__code__.co_freevars
        held = function.__globals__.get(change.variable) if change.scope == "global" else None
        if not own and id(held) not in reader.skipped:
            yield f"{change.variable or 'its class'}.{change.name}"


def loads(code: CodeType, name: str) -> bool:
    """Tell whether a name is that of a variable, and not of an attribute alone."""
    return any(
        instruction.argval == name and instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        for instruction in dis.get_instructions(code)
    )
