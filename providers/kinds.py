"""What an object of a type is to a walk: skipped, walked and changeable, or walked and unchangeable.

The rules about types are here and nowhere else. A rule that keeps a walk out of something is a *stop*; there are five,
each a constant with the reason, and the walk reads whatever no rule knows.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import gc
import inspect
import ipaddress
import logging
import operator
import pathlib
import re
import struct
import sys
import types
import typing
import uuid
import weakref
import zoneinfo
from asyncio import AbstractEventLoop, BaseProtocol, BaseTransport
from collections import namedtuple
from collections.abc import Callable, Collection, Iterator
from contextvars import Context, ContextVar
from typing import Any, NamedTuple

from dependency_injector.containers import DeclarativeContainer
from dependency_injector.providers import Injection, Provider

from . import bytecode, frames, readers

ATOMS = frozenset(
    {type(None), type(...), type(NotImplemented), bool, int, float, complex, str, bytes, range, object}
    | {datetime.date, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo, decimal.Decimal, fractions.Fraction}
    | {uuid.UUID, uuid.SafeUUID, re.Pattern, struct.Struct, types.CodeType}
    | {pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath}
    | {ipaddress.IPv4Address, ipaddress.IPv4Interface, ipaddress.IPv4Network}
    | {ipaddress.IPv6Address, ipaddress.IPv6Interface, ipaddress.IPv6Network}
    | {types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType}
    | {types.GetSetDescriptorType, types.MemberDescriptorType, type(vars(namedtuple("One", "field"))["field"])}
)
"""Types whose objects cannot change and refer to nothing that can."""

PYDANTIC_VALUES = frozenset({"pydantic.types", "pydantic.networks", "pydantic_core._pydantic_core"})
"""Modules of values (secrets, URLs) that offer no way to change them. By name: this package does not need Pydantic."""

CONSTRUCTORS = frozenset(
    {"__new__", "__init__", "__post_init__", "__init_subclass__", "__set_name__", "_missing_"}
    | {"__setattr__", "__delattr__", "__setstate__"}
)
"""Methods that make an object or a class, or that stand for the assignment itself."""

DESCRIPTORS = (property, types.MemberDescriptorType, types.GetSetDescriptorType)
"""Types of descriptors of which it is known where they store."""

WIRING: tuple[type, ...] = (Provider, Injection)
"""Providers and what they are made of."""

STOP_WIRING = (type(DeclarativeContainer),)
"""Stop: classes of containers. A container has providers of its own. These are read, and so is what they hold, but for
those that a proof has judged (see `sharing.shared_objects`)."""

STOP_INTERPRETER = (types.ModuleType, decimal.Context, types.GenericAlias, types.UnionType)
"""Stop: modules and what is of a process by the language. Code of all users runs in them; see also `frames`, where
the globals of a function and the callers of a frame are left out."""

STOP_LOOP = (AbstractEventLoop,)
"""Stop: the event loop, which holds every task there is."""

STOP_TRANSPORT = (BaseTransport, BaseProtocol)
"""Stop, but no excuse: transports of the event loop and protocols of the server (`SERVER`) lead into it, to all
connections. One that two owners reach is still reported, and other protocols are walked."""

SERVER = frozenset({"asyncio", "uvloop", "uvicorn", "websockets"})
"""Packages of the event loop and the server."""

INTERFACES = frozenset({"asyncio.transports", "asyncio.protocols"})
"""Modules of theirs with nothing but what others fill in."""


class Kind(NamedTuple):
    """What is to be known about the objects of a type.

    Attributes:
        mutable: an object can change, so two owners must not share it. What is not mutable is still walked.
        read: gives what an object refers to.
        weak: an object refers weakly to what `readers.target` gives.
        known: False for a foreign type that hides what its objects refer to.
        empty: an object without attributes is not mutable, unless its class `assigns_attributes`.
    """

    mutable: bool
    read: Callable[[Any], Collection[object]] = gc.get_referents
    weak: bool = False
    known: bool = True
    empty: bool = False


EMPTY = Kind(False)
"""The kind of an object without attributes, such as a sentinel or a clock, whose class has `Kind.empty`."""

EXACT: types.MappingProxyType[type, Kind] = types.MappingProxyType(
    {
        tuple: Kind(False),
        frozenset: Kind(False),
        slice: Kind(False),
        datetime.datetime: Kind(False, readers.timezone),
        datetime.time: Kind(False, readers.timezone),
        types.FunctionType: Kind(False, frames.function),
        types.BuiltinFunctionType: Kind(False),
        types.MethodType: Kind(False),
        types.MethodWrapperType: Kind(False),
        types.MappingProxyType: Kind(False, readers.proxied),
        types.CoroutineType: Kind(True, frames.coroutine),
        types.GeneratorType: Kind(True, frames.generator),
        types.AsyncGeneratorType: Kind(True, frames.async_generator),
        types.FrameType: Kind(True, frames.frame),
        functools.partial: Kind(False, readers.partial),
        functools.partialmethod: Kind(False, readers.partial),
        functools.cached_property: Kind(False, readers.func),
        functools.singledispatchmethod: Kind(False, readers.func),
        operator.itemgetter: Kind(False),
        operator.attrgetter: Kind(False),
        operator.methodcaller: Kind(False),
        property: Kind(False),
        classmethod: Kind(False, readers.wrapped),
        staticmethod: Kind(False, readers.wrapped),
        memoryview: Kind(False, readers.viewed),
        re.Match: Kind(False),
        inspect.Signature: Kind(False, readers.signature),
        inspect.Parameter: Kind(False),
        Context: Kind(True, readers.context),
        ContextVar: Kind(False),
        weakref.finalize: Kind(True, readers.finalizer),
        weakref.ProxyType: Kind(False, weak=True),
        weakref.CallableProxyType: Kind(False, weak=True),
    }
)


def classify(type_: type, stop: tuple[type, ...] = ()) -> Kind | None:
    """Tell the kind of a type; None for one whose objects are skipped: atoms and what is behind a stop.

    Args:
        type_: exact type of the objects.
        stop: further classes of which no object is walked or mutable.
    """
    if type_ in ATOMS or issubclass(type_, (*STOP_INTERPRETER, *STOP_LOOP, *stop)):
        return None
    if (kind := EXACT.get(type_)) is not None:
        return kind
    if issubclass(type_, STOP_WIRING):
        return Kind(False, readers.nothing)
    if issubclass(type_, type):
        return Kind(False, readers.class_attributes)
    if issubclass(type_, WIRING):  # wired when a program starts; what one keeps is another matter
        return Kind(False, readers.fields_of(type_))
    if type_.__module__ == typing.__name__:  # type variables and aliases
        return None
    if issubclass(type_, weakref.ref):
        return Kind(False, weak=True)
    if is_of_server(type_):
        return Kind(True, readers.nothing)
    if issubclass(type_, logging.Logger):
        return Kind(False, readers.logger)
    if is_frozen(type_) or is_stateless_descriptor(type_):
        return Kind(False, readers.fields_of(type_))
    if type_.__flags__ & readers.HAS_REFERENTS:
        return Kind(True, empty=_is_bare(type_))
    of_msgspec = readers.attribute(type_, "__struct_fields__") is not None
    known = of_msgspec or type_.__module__.partition(".")[0] in sys.stdlib_module_names
    return Kind(True, readers.members_of(type_), known=known)


def is_of_server(type_: type) -> bool:
    """Tell whether objects of a type are transports of the event loop or protocols of the server."""
    for class_ in type_.__mro__:
        if class_.__module__.partition(".")[0] in SERVER and class_.__module__ not in INTERFACES:
            names = ("get_extra_info", "get_protocol")  # of transports that are made in C
            if issubclass(class_, STOP_TRANSPORT) or all(hasattr(class_, name) for name in names):
                return True
    return False


def is_frozen(type_: type) -> bool:
    """Tell whether objects of a type cannot be changed by assignment; what they refer to may still be mutable.

    So are tuples and other builtin values of classes without attributes, frozen dataclasses, frozen models of Pydantic,
    frozen structs of msgspec, objects without any state, and enum members and filters of loggers whose methods assign
    no attributes once they are made.
    """
    if issubclass(type_, (enum.Enum, logging.Filter)):
        return not any(map(bytecode.changes_itself, _functions(type_, but=CONSTRUCTORS)))
    if (parameters := type_.__dict__.get("__dataclass_params__")) is not None:  # a plain subclass is not frozen
        return bool(parameters.frozen)
    if (struct_config := readers.attribute(type_, "__struct_config__")) is not None:
        return bool(struct_config.frozen)
    if readers.attribute(type_, "__pydantic_fields__") is not None:
        return bool(readers.attribute(type_, "model_config", {}).get("frozen"))
    if type_.__module__ in PYDANTIC_VALUES:
        return True
    builtin = (tuple, frozenset, str, bytes, int, float, complex, datetime.date, datetime.time, datetime.timedelta)
    return not _has_attributes(type_) and (
        issubclass(type_, (*builtin, datetime.tzinfo, pathlib.PurePath))
        or (type_.__basicsize__ == object.__basicsize__ and not type_.__itemsize__)
    )


def _has_attributes(type_: type) -> bool:
    if type_.__dictoffset__:
        return True
    classes = (class_ for class_ in type_.__mro__ if class_.__module__.partition(".")[0] not in sys.stdlib_module_names)
    return any(isinstance(value, types.MemberDescriptorType) for class_ in classes for value in vars(class_).values())


def _is_bare(type_: type) -> bool:
    """Tell whether objects of a type have nothing but a namespace and weak references."""
    room = object.__basicsize__ + 2 * struct.calcsize("P")
    return type_.__basicsize__ <= room and not type_.__itemsize__ and not readers.slots(type_)


def assigns_attributes(type_: type) -> bool:
    """Tell whether code of a type may give its objects attributes. It reads bytecode: ask for few types.

    So may a method, property or decorated function that assigns an attribute of anything but its other arguments, or
    that names what does so (`setattr`, `__dict__`), a cached property, and a descriptor that has a `__set__`.
    """
    return any(map(_stores_for_its_owner, _values(type_))) or any(map(bytecode.changes_itself, _functions(type_)))


def _values(type_: type) -> Iterator[object]:
    """Attributes of a type and its bases, but for what libraries are made of."""
    for class_ in type_.__mro__:
        if not is_of_library(class_.__module__):
            yield from tuple(vars(class_).values())


def _functions(type_: type, but: Collection[str] = ()) -> Iterator[types.FunctionType]:
    for value in _values(type_):
        for function in bytecode.functions(value):
            if function.__name__ not in but and not is_of_library(function.__globals__.get("__name__")):
                yield function


def _stores_for_its_owner(value: object) -> bool:
    type_ = type(value)
    if issubclass(type_, functools.cached_property):
        return True
    return (
        readers.attribute(type_, "__set__") is not None
        and type_ not in DESCRIPTORS
        and not is_of_library(type_.__module__)
    )


def is_of_library(module: object) -> bool:
    """Tell whether a module is one of `readers.LIBRARIES`."""
    return isinstance(module, str) and module.partition(".")[0] in readers.LIBRARIES


def is_stateless_descriptor(type_: type) -> bool:
    """Tell whether objects of a type are descriptors that, as their code reads, store on nothing but their instance."""
    accessors = [readers.attribute(type_, name) for name in ("__get__", "__set__", "__delete__")]
    functions = [accessor for accessor in accessors if isinstance(accessor, types.FunctionType)]
    return bool(functions) and not any(
        bytecode.changes_other_than(function, function.__code__.co_varnames[1:2]) for function in functions
    )
