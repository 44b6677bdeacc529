"""What is known of objects for as long as they live."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import ref


class Reference(ref[Any]):
    """A weak reference that knows the id of its object when that is gone, and what the object is noted for."""

    __slots__ = ("id", "key")
    id: int
    key: Hashable


class Living:
    """Notes of objects, each gone with its object. Objects are held weakly, and told apart by identity.

    Every operation takes constant time and is one atomic step on a dictionary, so threads need no lock.
    """

    __slots__ = ("_forget", "_references")

    def __init__(self) -> None:
        references: dict[int, Reference] = {}

        def forget(reference: Reference) -> None:
            # Callbacks run before the memory of the object is released, hence before its id can be another object's.
            references.pop(reference.id, None)

        self._references = references
        self._forget = forget

    def note(self, value: object, key: Hashable = None) -> Reference | None:
        """Note an object, unless there is a note of it.

        :return: the note that there was, which stays, or None.
        :raises TypeError: the object has no weak references.
        """
        reference = Reference(value, self._forget)
        reference.id = number = id(value)
        reference.key = key
        # One atomic step: of two threads that have one object, the second finds the note of the first.
        noted = self._references.setdefault(number, reference)
        return None if noted is reference else noted

    def drop(self, value: object) -> None:
        """Take back a note."""
        self._references.pop(id(value), None)
