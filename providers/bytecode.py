"""What a function does to variables and attributes, as its bytecode says. Nothing of it runs."""

from __future__ import annotations

import dis
import types
from typing import Any

EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
STORE_ATTR = dis.opmap["STORE_ATTR"]
STORE_DEREF = dis.opmap["STORE_DEREF"]


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
