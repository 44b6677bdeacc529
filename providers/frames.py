"""How to read what code holds: functions and their closures, coroutines, generators and frames."""

from __future__ import annotations

import gc
import inspect
import sys
import types
from collections.abc import Collection
from typing import Any

from .bytecode import assigned_free_variables

MADE_BY_LIBRARY = frozenset(
    {("dataclasses", "repr_running"), ("reprlib", "repr_running")}
    | {("functools", name) for name in ("registry", "dispatch_cache", "cache_token", "_clear_cache")}
)
"""Stop: variables and attributes, by module and name, in which functions that the standard library makes keep what is
of a process: guards against recursion, and what ``functools.singledispatch`` has registered."""


def function(function: types.FunctionType) -> Collection[object]:
    """Defaults, closure and attributes of a function; not its globals, which are its module's.

    A variable of a closure that the function assigns (``nonlocal``) is state, so its cell is given; of others only what
    they hold, as every wrapped function has such.
    """
    found: list[object] = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    module = function.__globals__.get("__name__")
    if attributes := vars(function):
        found += (value for name, value in tuple(attributes.items()) if (module, name) not in MADE_BY_LIBRARY)
    if function.__closure__:
        code = function.__code__
        assigned = assigned_free_variables(code)
        for name, cell in zip(code.co_freevars, function.__closure__, strict=True):
            if (module, name) not in MADE_BY_LIBRARY:
                found += (cell,) if name in assigned else gc.get_referents(cell)
    return found


def coroutine(value: Any) -> Collection[object]:
    """Locals of a coroutine, and what it awaits. One that runs is the reader's own caller: nothing."""
    return () if value.cr_running else _suspended(value, value.cr_code, "cr_frame")


def generator(value: Any) -> Collection[object]:
    """Locals of a generator, unless it runs."""
    return () if value.gi_running else _suspended(value, value.gi_code, "gi_frame")


def async_generator(value: Any) -> Collection[object]:
    """Locals of an asynchronous generator, and what it awaits. It says that it runs while it waits, too."""
    return () if value.ag_running and value.ag_await is None else _suspended(value, value.ag_code, "ag_frame")


def _suspended(value: Any, code: types.CodeType, frame_name: str) -> Collection[object]:
    # The frame is not asked for the locals: before Python 3.13 that would keep them alive in the frame.
    referents = gc.get_referents(value)
    known = [*map(type, referents)]
    if types.FrameType in known:  # somebody has asked for it
        frame = getattr(value, frame_name)
        kept = Snapshot(frame, value).kept
        own = (frame,) if kept else (frame, kept)  # one that is not empty was made for somebody else, who may have it
        referents = [referent for referent in referents if not any(referent is one for one in own)]
    if types.CellType in known and not (code.co_freevars and assigned_free_variables(code)):
        found: list[object] = []
        for referent in referents:
            found += gc.get_referents(referent) if type(referent) is types.CellType else (referent,)
        return found
    return referents


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
