"""How to read what an object refers to.

The garbage collector knows it for nearly every object, and better than any walk over attributes: slots, C fields,
frames of suspended coroutines, and without running a line of the object's code. The readers here are for what it does
not tell, and for what must be left out.
"""

from __future__ import annotations

import dis
import gc
import inspect
import logging
import sys
import types
import weakref
from collections.abc import Collection, Mapping
from contextvars import Context
from typing import Any

HAS_REFERENTS = 1 << 14  # Py_TPFLAGS_HAVE_GC: the type tells the garbage collector what its objects refer to

CLASS_METADATA = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__annotations__", "__slots__", "__abstractmethods__", "__parameters__"}
    | {"__orig_bases__", "__type_params__", "__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl"}
    | {"__conditional_annotations__", "__dataclass_fields__", "__dataclass_params__", "__struct_config__"}
    | {"__protocol_attrs__", "__non_callable_proto_members__", "_member_names_", "_member_map_", "_value2member_map_"}
    | {"_field_defaults", "_hashable_values_", "_unhashable_values_", "_unhashable_values_map_"}
    | {"model_config", "__class_vars__", "__private_attributes__", "__signature__"}
)
"""Stop: attributes in which the interpreter, the standard library and Pydantic describe a class. (Pydantic's others
begin with ``__pydantic_``.)"""

LIBRARIES = sys.stdlib_module_names | {"pydantic", "pydantic_core", "pydantic_settings"}
"""Stop: packages whose classes are not read. What they hold describes classes and is written by nobody at run time."""

LOGGER_ATTRIBUTES = frozenset(
    ("name", "level", "parent", "propagate", "handlers", "disabled", "filters", "manager", "_cache")
)
"""Stop: how a logger is configured, its handlers among it, which is one for the process. Filters are read, and what
anybody else attached."""


MADE_BY_LIBRARY = frozenset(
    {("dataclasses", "repr_running"), ("reprlib", "repr_running")}
    | {("functools", name) for name in ("registry", "dispatch_cache", "cache_token", "_clear_cache")}
)
"""Stop: variables and attributes, by module and name, in which functions that the standard library makes keep what is
of a process: guards against recursion, and what ``functools.singledispatch`` has registered."""

EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
STORE_ATTR = dis.opmap["STORE_ATTR"]
STORE_DEREF = dis.opmap["STORE_DEREF"]


def nothing(_: object) -> Collection[object]:
    """Read nothing: the object is behind a stop."""
    return ()


def timezone(value: Any) -> Collection[object]:
    """The time zone of a date or time, which may be an object of any class."""
    return (value.tzinfo,)


def func(value: Any) -> Collection[object]:
    """The function that a descriptor wraps, without the caches and locks around it."""
    return (value.func,)


def wrapped(method: Any) -> Collection[object]:
    """The function of a static or class method."""
    return (method.__func__,)


def viewed(view: memoryview) -> Collection[object]:
    """The buffer behind a view, unless it was released."""
    try:
        return (view.obj,)
    except ValueError:
        return ()


def partial(value: Any) -> Collection[object]:
    """Function and arguments of a partial, and the attributes it was given."""
    return (value.func, *value.args, *value.keywords.values(), *getattr(value, "__dict__", {}).values())


def function(function: types.FunctionType) -> Collection[object]:
    """Defaults, closure and attributes of a function; not its globals, which are its module's.

    A variable of a closure that the function assigns (``nonlocal``) is state, so its cell is given; of others only what
    they hold, as every wrapped function has such.
    """
    found: list[object] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    module = function.__globals__.get("__name__")
    found += (value for name, value in tuple(vars(function).items()) if (module, name) not in MADE_BY_LIBRARY)
    if function.__closure__:
        assigned = assigned_free_variables(function.__code__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
            if (module, name) not in MADE_BY_LIBRARY:
                found += (cell,) if name in assigned else gc.get_referents(cell)
    return found


def suspended(value: Any) -> Collection[object]:
    """Locals of a coroutine or generator, and what it awaits. One that runs is the reader's own caller: nothing.

    The frame is not asked for them: before Python 3.13 that would keep them alive in the frame.
    """
    prefix = next(name for name in ("cr", "gi", "ag") if hasattr(value, f"{name}_code"))
    # An asynchronous generator says that it runs while it waits, too.
    if getattr(value, f"{prefix}_running") and getattr(value, "ag_await", None) is None:
        return ()
    assigned = assigned_free_variables(getattr(value, f"{prefix}_code"))
    found: list[object] = []
    for referent in gc.get_referents(value):
        type_ = type(referent)
        if type_ is types.CellType and not assigned:
            found += gc.get_referents(referent)
        elif type_ is types.FrameType or (type_ is dict and not referent):
            frame = getattr(value, f"{prefix}_frame")
            if referent is not frame and referent is not Snapshot(frame, value).kept:
                found.append(referent)
        else:
            found.append(referent)
    return found


def frame(frame: types.FrameType) -> Collection[object]:
    """Locals of a function's frame; not its callers, which are whoever happened to run it."""
    return tuple(Snapshot(frame, frame).found.values())


class Snapshot:
    """Locals of a function's frame by name, and nothing of them left behind in the frame.

    :ivar found: name and value of each local; none for a module or a class, whose locals are its namespace.
    :ivar kept: the dictionary that the frame keeps for itself before Python 3.13, now as it was; else None.
    """

    __slots__ = ("found", "kept")

    def __init__(self, frame: types.FrameType, holder: object) -> None:
        """The holder is the coroutine or generator of the frame, or the frame itself."""
        self.found: dict[str, object] = {}
        self.kept: object = None
        if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return
        before = [(referent, referent.copy()) for referent in gc.get_referents(holder) if type(referent) is dict]
        snapshot = frame.f_locals
        self.found.update(snapshot)
        if type(snapshot) is dict:
            # One that was there before becomes what it was, and a new one is emptied. Of a frame that is running, or
            # reached without its generator, it is not told which: then there are more references than those of the
            # frame, of this variable and of the argument of getrefcount, if anybody has it.
            content = next((content for known, content in before if known is snapshot), None)
            if content is not None or sys.getrefcount(snapshot) <= 3:
                snapshot.clear()
                snapshot.update(content or {})
            self.kept = snapshot


def context(context: Context) -> Collection[object]:
    """Variables and values of a context."""
    return [part for item in context.items() for part in item]


def finalizer(finalizer: weakref.finalize[Any, Any]) -> Collection[object]:
    """Function and arguments of a finalizer, which keeps them elsewhere."""
    alive = finalizer.peek()
    return () if alive is None else (alive[1], *alive[2], *(alive[3] or {}).values())


def proxied(proxy: types.MappingProxyType[Any, Any]) -> Collection[object]:
    """The mapping behind a read-only proxy; keys and values alone if nobody but the proxy can reach that mapping."""
    if is_sealed(proxy):
        return [part for item in proxy.items() for part in item]
    return gc.get_referents(proxy)


def is_sealed(proxy: types.MappingProxyType[Any, Any]) -> bool:
    """Tell whether a proxy is the only one that refers to its mapping, so that nobody can change that."""
    return _references(proxy) <= _references(types.MappingProxyType({}))


def _references(proxy: types.MappingProxyType[Any, Any]) -> int:
    (mapping,) = gc.get_referents(proxy)
    return sys.getrefcount(mapping) if type(mapping) is dict else sys.maxsize


def logger(logger: logging.Logger) -> Collection[object]:
    """Filters of a logger and attributes that no logger has."""
    return (
        *logger.filters,
        *(value for name, value in tuple(vars(logger).items()) if name not in LOGGER_ATTRIBUTES),
    )


def fields(value: object) -> Collection[object]:
    """Attributes and items of an object that cannot change: its namespace is no object of its own."""
    namespace = namespace_of(value)
    own: list[object] = [namespace]
    if hasattr(type(value), "__pydantic_fields_set__"):
        own.append(getattr(value, "__pydantic_fields_set__", None))  # names, which no user wrote
    referents = gc.get_referents(value) if type(value).__flags__ & HAS_REFERENTS else members(value)
    return [*namespace.values(), *(referent for referent in referents if not any(referent is one for one in own))]


def namespace_of(value: object) -> Mapping[str, Any]:
    """The ``__dict__`` of an object, without asking its code; empty if there is none."""
    for class_ in type(value).__mro__:
        descriptor = vars(class_).get("__dict__")
        if isinstance(descriptor, types.GetSetDescriptorType):
            namespace: dict[str, Any] = descriptor.__get__(value)
            return namespace
    return types.MappingProxyType({})


def members(value: object) -> Collection[object]:
    """Slots of an object whose type hides them from the garbage collector."""
    found: list[object] = []
    for descriptor in slots(type(value)):
        try:
            found.append(descriptor.__get__(value))
        except AttributeError:  # an empty slot
            continue
    return found


def slots(type_: type) -> list[types.MemberDescriptorType]:
    """Descriptors of all slots of a type, inherited ones and those with mangled names included."""
    classes = (vars(class_).values() for class_ in type_.__mro__)
    return [value for values in classes for value in values if isinstance(value, types.MemberDescriptorType)]


def class_attributes(class_: type) -> Collection[object]:
    """Attributes, bases and metaclass of a class, unless it is one of `LIBRARIES`."""
    if class_.__module__.partition(".")[0] in LIBRARIES:
        return ()
    attributes = [
        value
        for name, value in tuple(vars(class_).items())  # at once: other threads may set some
        if name not in CLASS_METADATA and not name.startswith("__pydantic_")
    ]
    return [*attributes, *class_.__bases__, type(class_)]


def target(reference: Any) -> object | None:
    """What a weak reference or proxy refers to; None when it is gone."""
    if issubclass(type(reference), weakref.ref):  # isinstance would ask the object behind a proxy
        return weakref.ref.__call__(reference)
    try:
        owner: object = reference.__dir__.__self__  # a proxy passes everything on: the method is its referent's
    except ReferenceError:
        return None
    return owner


def assigned_free_variables(code: types.CodeType) -> frozenset[str]:
    """Variables of enclosing functions that a function, or one within it, assigns."""
    if not code.co_freevars:
        return frozenset()
    # Scanned and not disassembled, which takes a hundred times as long: this is asked for every frame and closure.
    # The argument counts the local variables first, then those that inner functions use, then the free ones.
    names = (*code.co_varnames, *(name for name in code.co_cellvars if name not in code.co_varnames), *code.co_freevars)
    operations, arguments = code.co_code[::2], code.co_code[1::2]
    assigned: set[str] = set()
    place = operations.find(STORE_DEREF)
    while place >= 0:
        extended = operations[place - 1] == EXTENDED_ARG  # one of more than 256: then rather all than the wrong one
        assigned.update(code.co_freevars if extended else (names[arguments[place]],))
        place = operations.find(STORE_DEREF, place + 1)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            assigned |= assigned_free_variables(constant)
    return frozenset(assigned.intersection(code.co_freevars))


def stores_on_first_argument(code: types.CodeType) -> bool:
    """Tell whether a method assigns an attribute of its ``self``."""
    if STORE_ATTR not in code.co_code[::2]:
        return False
    self = code.co_varnames[:1]
    before: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_ATTR" and (before[-1:] if isinstance(before, tuple) else (before,)) == self:
            return True
        before = instruction.argval
    return False
