"""What to call the step from an object to one that it refers to.

Looked up only for what is reported: a walk of thousands of objects needs no names. A step is written as the expression
that a reader of the code would write, or in angle brackets where the language has none. Names of attributes and
variables are shown; items and keys of containers never are, because they are data.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from itertools import chain, pairwise
from typing import Any

from . import frames, readers

UNKNOWN = ".?"
"""The step into an object that refers to the next one in a way that no rule here can read."""


def path(objects: Sequence[object]) -> str:
    """Write the way from the first of the objects to the last, such as ``Manager.record.events[0]``."""
    written = type(objects[0]).__name__
    namespace = False
    for parent, child in pairwise(objects):
        if namespace:
            written += _first(_named(parent, child))
            namespace = False
        elif issubclass(type(child), dict) and child is readers.namespace_of(parent):
            namespace = True
        else:
            written += label(parent, child)
    return written + (".__dict__" if namespace else "")


def label(parent: object, child: object) -> str:
    """Write the step from one object to another, such as ``.events``, ``[0]``, ``.<local task>`` or ``.?``."""
    try:
        return _first(chain.from_iterable(rule(parent, child) for rule in _rules(parent)))
    except Exception:  # noqa: BLE001 - an object that is made like nothing else: the finding counts, not its name
        return UNKNOWN


def _first(labels: Iterable[str]) -> str:
    return next(iter(labels), UNKNOWN)


def _rules(parent: object) -> Iterator[Callable[[Any, object], Iterator[str]]]:
    for types_, rule in RULES:
        if issubclass(type(parent), types_):
            yield rule
    yield _class
    yield _attribute


def _named(namespace: Any, child: object) -> Iterator[str]:
    return (f".{name}" for name, value in _items(namespace) if value is child)


def _items(mapping: Any) -> tuple[tuple[Any, Any], ...]:
    """The items of a mapping; those of a dict without a method of its class, which may be anybody's."""
    return tuple(dict.items(mapping) if issubclass(type(mapping), dict) else mapping.items())


def _sequence(parent: Any, child: object) -> Iterator[str]:
    builtin = next(each for each in SEQUENCES if issubclass(type(parent), each))
    fields = readers.attribute(type(parent), "_fields", ()) if builtin is tuple else ()
    for index, item in enumerate(tuple(builtin.__iter__(parent))):
        if item is child:
            yield f".{fields[index]}" if index < len(fields) else f"[{index}]"


def _set(_: object, __: object) -> Iterator[str]:
    yield "{*}"


def _mapping(parent: Mapping[Any, Any], child: object) -> Iterator[str]:
    items = _items(parent)
    yield from (f".values()[{index}]" for index, (_, value) in enumerate(items) if value is child)
    yield from (f".keys()[{index}]" for index, (key, _) in enumerate(items) if key is child)


def _proxy(parent: Any, child: object) -> Iterator[str]:
    (mapping,) = gc.get_referents(parent)
    if issubclass(type(mapping), dict):
        yield from _mapping(mapping, child)
    yield ".<mapping>"


def _weak(parent: object, child: object) -> Iterator[str]:
    if readers.target(parent) is child:
        yield "()"


def _function(parent: types.FunctionType, child: object) -> Iterator[str]:
    for name, cell in zip(parent.__code__.co_freevars, parent.__closure__ or (), strict=True):
        yield from _cell(name, cell, child)
    defaults = parent.__defaults__ or ()
    names = parent.__code__.co_varnames[: parent.__code__.co_argcount]
    pairs = chain(zip(reversed(names), reversed(defaults), strict=False), (parent.__kwdefaults__ or {}).items())
    yield from (f".<default of {name}>" for name, value in pairs if value is child)
    yield from _named(vars(parent), child)


def _cell(name: str, cell: types.CellType, child: object) -> Iterator[str]:
    if cell is child or any(content is child for content in gc.get_referents(cell)):
        yield f".<closure {name}>"


def _in_cell(_: object, __: object) -> Iterator[str]:
    yield ""


def _partial(parent: Any, child: object) -> Iterator[str]:
    if parent.func is child:
        yield ".func"
    yield from (f".args[{index}]" for index, item in enumerate(parent.args) if item is child)
    yield from (f".<argument {name}>" for name, item in parent.keywords.items() if item is child)


def _suspended(parent: Any, child: object) -> Iterator[str]:
    frame = next((found for name in ("cr", "gi", "ag") if (found := getattr(parent, f"{name}_frame", None))), None)
    if frame is not None:
        yield from _locals(frame, parent, child)
        if isinstance(child, types.FunctionType) and child.__code__ is frame.f_code:
            yield ".<function>"


def _frame(parent: types.FrameType, child: object) -> Iterator[str]:
    return _locals(parent, parent, child)


def _locals(frame: types.FrameType, holder: object, child: object) -> Iterator[str]:
    return (f".<local {name}>" for name, value in frames.Snapshot(frame, holder).found.items() if value is child)


def _future(parent: asyncio.Future[Any], child: object) -> Iterator[str]:
    if any(callback is child for callback, _ in getattr(parent, "_callbacks", None) or ()):
        yield ".<callback>"


def _context(parent: Context, child: object) -> Iterator[str]:
    yield from (f"[{variable.name}]" for variable, value in parent.items() if value is child or variable is child)


def _finalizer(parent: Any, child: object) -> Iterator[str]:
    alive = parent.peek()
    if alive is not None:
        yield ".func" if alive[1] is child else ".<argument>"


def _logger(parent: Any, child: object) -> Iterator[str]:
    yield from (f".filters[{index}]" for index, item in enumerate(parent.filters) if item is child)


def _class_member(parent: type, child: object) -> Iterator[str]:
    yield from (f".<base {base.__name__}>" for base in parent.__bases__ if base is child)
    yield from _named(vars(parent), child)


def _attribute(parent: object, child: object) -> Iterator[str]:
    """An attribute in the namespace, or one that C code or a slot keeps: their descriptors run no code of Python."""
    yield from _named(readers.namespace_of(parent), child)
    for class_ in type(parent).__mro__:
        for name, descriptor in tuple(vars(class_).items()):
            if inspect.isgetsetdescriptor(descriptor) or inspect.ismemberdescriptor(descriptor):
                try:
                    value = descriptor.__get__(parent)
                except Exception:  # noqa: BLE001, S112 - an empty slot, or whatever a C getter raises
                    continue
                if value is child:
                    yield f".{name}"


def _class(parent: object, child: object) -> Iterator[str]:
    if type(parent) is child:
        yield f".<class {type(parent).__name__}>"
    elif type(child) is Context:  # tasks and handles show theirs only in newer versions
        yield ".<context>"


SEQUENCES: tuple[type[Sequence[Any]], ...] = (list, tuple, deque)

RULES: tuple[tuple[Any, Callable[[Any, object], Iterator[str]]], ...] = (
    (SEQUENCES, _sequence),
    ((set, frozenset), _set),
    (dict, _mapping),
    (types.MappingProxyType, _proxy),
    (types.FunctionType, _function),
    (types.CellType, _in_cell),
    ((types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType), _suspended),
    (types.FrameType, _frame),
    (functools.partial, _partial),
    (asyncio.Future, _future),
    ((weakref.ref, weakref.ProxyType, weakref.CallableProxyType), _weak),
    (weakref.finalize, _finalizer),
    (logging.Logger, _logger),
    (Context, _context),
    (type, _class_member),
)
