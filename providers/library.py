"""What dependency-injector does inside, for providers that are written in Python."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Coroutine
from importlib.util import resolve_name
from types import FrameType
from typing import TypeVar

P = TypeVar("P")


def absolute(provides: P | str, caller: FrameType) -> P | str:
    """Make an import path absolute that is meant relative to the module of the caller.

    The library takes ``"Class"`` and ``".module.Class"`` from the module of the nearest Python frame, which would be
    the provider's own and not the user's.
    """
    if not isinstance(provides, str):
        return provides
    if provides.startswith("."):
        return resolve_name(provides, caller.f_globals["__package__"])
    if "." in provides or hasattr(builtins, provides):
        return provides
    return f"{caller.f_globals['__name__']}.{provides}"


def is_pending(result: object) -> bool:
    """Tell whether the library takes a result for one that is still to come: a coroutine or a future."""
    # Looked at first because it is four times as fast, and most results are neither.
    return hasattr(result, "__await__") and (isinstance(result, Coroutine) or asyncio.isfuture(result))
