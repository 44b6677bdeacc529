"""What is known of instances that are let go."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any
from weakref import ref

from providers.reach import Reached


class Memory:
    """Instances and the objects they reach that can change, remembered to be found again should they outlive their end.

    Ids of objects that are gone are soon those of others. So objects are held weakly, and those that cannot be are
    held: usually nothing of it keeps an instance. Where it does, or where a doubt is left, a ``thorough`` memory holds
    nothing that could, and searches all objects there are, which takes a hundred times as long.
    """

    def __init__(self, instances: Iterable[Any], reached: Iterable[Reached], *, thorough: bool) -> None:
        self._instances = [ref(instance) for instance in instances]
        self._references: list[ref[Any]] = []
        self._held: list[Any] = []
        self._types: dict[int, type] = {}
        for one in reached:
            if not one.mutable:
                continue
            try:
                self._references.append(ref(one.object))
            except TypeError:
                # What the garbage collector does not track holds numbers and strings alone, hence no instance.
                if thorough and gc.is_tracked(one.object):
                    self._types[id(one.object)] = type(one.object)
                else:
                    self._held.append(one.object)

    def living(self) -> list[int]:
        """Give the numbers of the instances that did not go when they were let go."""
        if any(instance() is not None for instance in self._instances):
            gc.collect()  # an instance in a circle goes only then
        return [number for number, instance in enumerate(self._instances) if instance() is not None]

    def survivors(self) -> list[Any]:
        """Give what is still there of all that was remembered. While the list is held, ids stay what they are."""
        kept = [one for reference in self._references if (one := reference()) is not None]
        if self._types:
            kept += [one for one in gc.get_objects() if self._types.get(id(one)) is type(one)]
        return kept + self._held
