"""How to read what an object refers to.

The garbage collector knows it for nearly every object, and better than any walk over attributes: slots, C fields,
frames of suspended coroutines, and without running a line of the object's code. The readers here are for what it does
not tell, and for what must be left out.
"""

from __future__ import annotations

import abc
import enum
import gc
import inspect
import logging
import sys
import types
import typing
import weakref
from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from typing import Any

HAS_REFERENTS = 1 << 14  # Py_TPFLAGS_HAVE_GC: the type tells the garbage collector what its objects refer to

MADE_AT_RUN_TIME = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class statement or a call of `type` made the type

INLINE_NAMESPACE = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: attributes are kept in the object until its namespace is asked for

CLASS_METADATA = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__annotations__", "__slots__", "__abstractmethods__"}
    | {"__orig_bases__", "__type_params__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
    | {"__conditional_annotations__", "__dataclass_fields__", "__dataclass_params__", "__struct_config__"}
    | {"__protocol_attrs__", "__non_callable_proto_members__"}
)
"""Stop: attributes in which the interpreter and the standard library describe a class."""

METADATA_OF: tuple[tuple[Callable[[type], bool], frozenset[str]], ...] = (
    (
        lambda class_: isinstance(class_, enum.EnumType),
        frozenset({"_member_names_", "_member_map_", "_value2member_map_"})
        | {"_hashable_values_", "_unhashable_values_", "_unhashable_values_map_"},
    ),
    (lambda class_: isinstance(class_, abc.ABCMeta), frozenset({"_abc_impl"})),
    (lambda class_: issubclass(class_, typing.Generic), frozenset({"__parameters__"})),
    (
        lambda class_: issubclass(class_, tuple) and attribute(class_, "_fields") is not None,
        frozenset({"_field_defaults"}),
    ),
    (
        lambda class_: attribute(class_, "__pydantic_fields__") is not None,
        frozenset({"model_config", "__class_vars__", "__private_attributes__", "__signature__"}),
    ),
)
"""Stop: the same for classes of one sort alone, as the names are such as anybody might give. (Pydantic's others begin
with ``__pydantic_``; msgspec keeps an object of its own on any class, as ``__msgspec_cache__``.)"""

LIBRARIES = sys.stdlib_module_names | {"pydantic", "pydantic_core", "pydantic_settings", "dependency_injector"}
"""Stop: packages whose classes are not read. What they hold describes classes and is written by nobody at run time."""

LOGGER_ATTRIBUTES = frozenset(
    ("name", "level", "parent", "propagate", "handlers", "disabled", "filters", "manager", "_cache")
)
"""Stop: how a logger is configured, its handlers among it, which is one for the process. Filters are read, and what
anybody else attached."""


def attribute(class_: type, name: str, default: Any = None) -> Any:
    """An attribute of a class that has it by itself, its bases or its metaclass: a metaclass that makes some up is not
    asked."""
    metaclass: type = type(class_)
    if any(name in vars(each) for each in (*class_.__mro__, *metaclass.__mro__)):
        return getattr(class_, name, default)
    return default


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


def signature(signature: inspect.Signature) -> Collection[object]:
    """Parameters of a signature, whose defaults may be of any class, and what it returns."""
    return (*signature.parameters.values(), signature.return_annotation)


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


def fields_of(type_: type) -> Callable[[object], Collection[object]]:
    """What reads objects that cannot change: attributes and items; their namespace is no object of its own."""
    read = gc.get_referents if type_.__flags__ & HAS_REFERENTS else members_of(type_)
    namespace = _namespace(type_)
    if namespace is None:
        return read
    described = attribute(type_, "__pydantic_fields_set__") is not None
    inline = type_.__flags__ & INLINE_NAMESPACE and not described

    def fields(value: object) -> Collection[object]:
        referents = read(value)
        if inline and dict not in map(type, referents):  # there is no namespace yet; asking for it would make one
            return referents
        attributes: dict[str, object] = namespace.__get__(value)
        own: list[object] = [attributes]
        if described:
            own.append(getattr(value, "__pydantic_fields_set__", None))  # names, which no user wrote
        return [*attributes.values(), *(referent for referent in referents if not any(referent is one for one in own))]

    return fields


def namespace_of(value: object) -> Mapping[str, Any]:
    """The ``__dict__`` of an object, without asking its code; empty if there is none."""
    descriptor = _namespace(type(value))
    return types.MappingProxyType({}) if descriptor is None else descriptor.__get__(value)


def _namespace(type_: type) -> types.GetSetDescriptorType | types.MemberDescriptorType | None:
    found = (vars(class_).get("__dict__") for class_ in type_.__mro__)
    sorts = (types.GetSetDescriptorType, types.MemberDescriptorType)
    return next((descriptor for descriptor in found if isinstance(descriptor, sorts)), None)


def members_of(type_: type) -> Callable[[object], Collection[object]]:
    """What reads the class and the slots of objects whose type hides them from the garbage collector."""
    descriptors = slots(type_)

    def members(value: object) -> Collection[object]:
        found: list[object] = [type_]
        for descriptor in descriptors:
            try:
                found.append(descriptor.__get__(value))
            except AttributeError:  # an empty slot
                continue
        return found

    return members


def slots(type_: type) -> list[types.MemberDescriptorType]:
    """Descriptors of all slots of a type, inherited ones and those with mangled names included."""
    classes = (vars(class_).values() for class_ in type_.__mro__)
    return [value for values in classes for value in values if isinstance(value, types.MemberDescriptorType)]


def is_of_library(class_: type) -> bool:
    """Tell whether a class is one of `LIBRARIES`, and not one that a function of theirs made and called its own."""
    module = vars(class_).get("__module__")
    if not isinstance(module, str) or module.partition(".")[0] not in LIBRARIES:
        return False
    if not class_.__flags__ & MADE_AT_RUN_TIME:
        return True
    found: Any = sys.modules.get(module)
    for name in class_.__qualname__.split("."):
        if name == "<locals>":
            return True  # nobody finds it by a name, and it is a library's own
        found = getattr(found, name, None)
    return found is class_


def class_attributes(class_: type) -> Collection[object]:
    """Attributes, bases and metaclass of a class, unless it is one of `LIBRARIES`."""
    if is_of_library(class_):
        return ()
    metadata = CLASS_METADATA.union(*(names for is_sort, names in METADATA_OF if is_sort(class_)))
    described = attribute(class_, "__pydantic_fields__") is not None
    attributes = [
        value
        for name, value in tuple(vars(class_).items())  # at once: other threads may set some
        if name not in metadata
        and not (described and name.startswith("__pydantic_"))
        and not (name == "__msgspec_cache__" and type(value).__module__.startswith("msgspec."))
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
