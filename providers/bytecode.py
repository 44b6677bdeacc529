"""What a function does to variables and attributes, as its bytecode says. Nothing of it runs."""

from __future__ import annotations

import dis
import functools
import gc
import types
from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from typing import Any, NamedTuple

EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
LOAD_FAST = dis.opmap["LOAD_FAST"]
STORE_DEREF = dis.opmap["STORE_DEREF"]
CHANGES_GLOBAL = frozenset({dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]})
CHANGES_ATTRIBUTE = frozenset({dis.opmap["STORE_ATTR"], dis.opmap["DELETE_ATTR"]})
SETTERS = frozenset({"setattr", "delattr", "vars", "__dict__", "__setattr__", "__delattr__"})
"""Names by which code gets at attributes in other ways."""

CLASS_OF = frozenset({"type", "__class__"})
"""Names by which code gets at the class of an object."""

CACHED = type(functools.cache(print))
WRAPPERS = (functools.cached_property, functools.partialmethod, functools.singledispatchmethod, functools.partial)


def assigned_free_variables(code: types.CodeType) -> set[str]:
    """Variables of enclosing functions that a function, or one within it, assigns."""
    if not code.co_freevars:
        return set()
    # Scanned and not disassembled, which takes a hundred times as long: this is asked for every closure.
    assigned = _stored(code) if STORE_DEREF in code.co_code else set()
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            assigned |= assigned_free_variables(constant)
    return assigned.intersection(code.co_freevars)


def _stored(code: types.CodeType) -> set[str]:
    # The argument counts the local variables first, then those that inner functions use, then the free ones.
    names = (*code.co_varnames, *(name for name in code.co_cellvars if name not in code.co_varnames), *code.co_freevars)
    operations, arguments = code.co_code[::2], code.co_code[1::2]
    stored: set[str] = set()
    place = operations.find(STORE_DEREF)
    while place >= 0:
        extended = operations[place - 1] == EXTENDED_ARG  # one of more than 256: then rather all than the wrong one
        stored.update(code.co_freevars if extended else (names[arguments[place]],))
        place = operations.find(STORE_DEREF, place + 1)
    return stored


def nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those inside it."""
    yield code
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from nested(constant)


def functions(value: Any) -> Iterator[types.FunctionType]:
    """The functions that an attribute of a class is made of: a method, also behind decorators, those of a property."""
    waiting, seen = [value], set[int]()  # the values are held by what they are attributes of
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        type_ = type(value)
        if type_ is types.FunctionType:
            yield value
            waiting += (content for cell in value.__closure__ or () for content in gc.get_referents(cell))
        if issubclass(type_, property):
            waiting += (value.fget, value.fset, value.fdel)
        elif issubclass(type_, (classmethod, staticmethod)):
            waiting.append(value.__func__)
        elif issubclass(type_, WRAPPERS):
            waiting.append(value.func)
        elif type_ in (types.FunctionType, CACHED):
            waiting.append(value.__dict__.get("__wrapped__"))


def changes_itself(function: types.FunctionType) -> bool:
    """Tell whether a method, or a function within it, may give its object attributes.

    It may not if it assigns none but those of its other arguments, as a filter does that adds to a log record.
    """
    code = function.__code__
    return changes_other_than(function, code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])


def changes_other_than(function: types.FunctionType, variables: Collection[str]) -> bool:
    """Tell whether a function, or one within it, may assign attributes of anything but what some variables hold."""
    return any(_changes_other_than(code, variables) for code in nested(function.__code__))


def _changes_other_than(code: types.CodeType, variables: Collection[str]) -> bool:
    if not _changes(code) and SETTERS.isdisjoint(code.co_names):
        return False
    stored = {name for one in dis.get_instructions(code) if one.opname.startswith("STORE_") for name in _names(one)}
    held = set(variables) - stored
    return any(change.variable not in held for change in changes(code)) or _sets_other_than(code, held)


def _sets_other_than(code: types.CodeType, variables: Collection[str]) -> bool:
    """The same for `vars(a)`, `a.__dict__`, `setattr(a, ...)`, `object.__setattr__(a, ...)`."""
    loads = [("",), *(_names(one) for one in dis.get_instructions(code) if one.opname.startswith("LOAD_")), ("",)]
    return any(
        (before[-1] if names[0] == "__dict__" else after[0]) not in variables
        for before, names, after in zip(loads, loads[1:], loads[2:], strict=False)
        if names[0] in SETTERS
    )


def _names(instruction: dis.Instruction) -> tuple[Any, ...]:
    """What an instruction is about, or both that it is about: newer versions of Python join two in one."""
    if instruction.opname == "LOAD_CONST":
        return ("",)
    return instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)


def changes_globals(code: types.CodeType) -> Iterator[str]:
    """The global variables that a function itself assigns or deletes."""
    operations = code.co_code[::2]
    if any(operation in operations for operation in CHANGES_GLOBAL):
        for instruction in dis.get_instructions(code):
            if instruction.opcode in CHANGES_GLOBAL:
                yield str(instruction.argval)


class Change(NamedTuple):
    """An attribute that is assigned or deleted.

    Attributes:
        scope: what the owner of the attribute is found in: a variable that is `local`, `global` or `free` (an enclosing
            function's); `class` for the class of something; `other` for what else an expression may give.
        variable: name of the variable, if there is one.
        name: name of the attribute.
    """

    scope: str
    variable: str
    name: str


def changes(code: types.CodeType, classes: Iterable[str] = ()) -> Iterator[Change]:
    """The attributes that a function itself assigns or deletes.

    Args:
        classes: local variables that hold a class.
    """
    if not _changes(code):
        return
    known = set(classes)
    before: list[dis.Instruction] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith(("STORE_FAST", "STORE_DEREF")) and _origin(before, known)[0] == "class":
            known.add(_names(instruction)[0])
        if instruction.opcode in CHANGES_ATTRIBUTE:
            scope, variable = _origin(_target(before, instruction), known)
            if scope == "free" and variable in code.co_cellvars:  # its own, which functions inside it use as well
                scope = "local"
            yield Change(scope, variable, instruction.argval)
        before.append(instruction)


def outer_changes(code: types.CodeType, classes: Collection[str] = ()) -> Iterator[Change]:
    """Of these, those of objects that are there before the function is called: of classes, of what variables of others
    hold."""
    if _changes(code) and not (_changes_locals(code, classes) and CLASS_OF.isdisjoint(code.co_names)):
        yield from (change for change in changes(code, classes) if change.scope in ("class", "global", "free"))


def _changes(code: types.CodeType) -> bool:
    operations = code.co_code[::2]
    return any(operation in operations for operation in CHANGES_ATTRIBUTE)


def _changes_locals(code: types.CodeType, classes: Collection[str]) -> bool:
    """Tell whether all attributes that are assigned are clearly those of local variables. Scanned, as above."""
    operations, arguments = code.co_code[::2], code.co_code[1::2]
    return all(
        operations[place - 1] == LOAD_FAST
        and operations[place - 2] != EXTENDED_ARG
        and code.co_varnames[arguments[place - 1]] not in classes
        for place, operation in enumerate(operations)
        if operation in CHANGES_ATTRIBUTE
    )


def _target(before: list[dis.Instruction], change: dis.Instruction) -> list[dis.Instruction]:
    """Cut off what `a.b += 1` does between the load of `a` and the assignment."""
    if before[-1].opname == "SWAP":
        for index in range(len(before) - 1, 0, -1):
            read = before[index].opname == "LOAD_ATTR" and before[index].argval == change.argval
            if read and before[index - 1].opname == "COPY":
                return before[: index - 1]
    return before


def _origin(expression: list[dis.Instruction], classes: Collection[str]) -> tuple[str, str]:
    """Scope and variable of an expression that ends here, such as `a`, `a.b` or `type(a)`."""
    parts = list(takewhile(lambda one: one.opname == "LOAD_ATTR", reversed(expression)))
    if parts and parts[0].argval == "__class__":
        return "class", ""
    if len(parts) == len(expression):
        return "other", ""
    first = expression[-1 - len(parts)]
    name = _names(first)[-1]
    if first.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
        return "global", name
    if not parts and (name in classes or (name == "__class__" and first.opname == "LOAD_DEREF")):
        return "class", ""
    if first.opname == "LOAD_DEREF":
        return "free", name
    if "LOAD_FAST" in first.opname:
        return "local", name
    called = [one.argval for one in expression[-5:-1] if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    is_type = first.opname == "CALL" and first.arg == 1 and called[-1:] == ["type"] and not parts
    return "class" if is_type else "other", ""
