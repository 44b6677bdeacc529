"""What an object reaches: everything that code could get at, given the object alone.

Attributes, slots, containers, closures, bound methods, default arguments, class attributes, partials, frames of
suspended coroutines, tasks, contexts, tracebacks: whatever the garbage collector knows an object to refer to, and what
it does not know besides. No code of the objects runs, and they are left as they were.

A walk ends at atoms (``kinds.ATOMS``) and at the stops (``kinds.STOP_...``, ``readers.CLASS_METADATA``,
``readers.METADATA_OF``, ``readers.LIBRARIES``, ``readers.LOGGER_ATTRIBUTES``, ``frames.MADE_BY_LIBRARY``; globals of
functions and callers of frames, see :mod:`providers.frames`). It does not pass through weak references; what they refer
to is counted apart.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from dependency_injector.providers import Provider

from . import labels, readers
from .errors import describe
from .kinds import EMPTY, Kind, assigns_attributes, classify


class Reached:
    """An object that was reached, and the way to it.

    :ivar object: the object.
    :ivar parent: what refers to it; None for the root.
    :ivar mutable: it can change, so that to share it is to share what is written to it.
    :ivar weak: it was reached by a weak reference alone, and the walk did not go on behind it.
    """

    __slots__ = ("mutable", "object", "parent", "weak")

    def __init__(self, object: Any, parent: Reached | None, mutable: bool, weak: bool = False) -> None:
        self.object = object
        self.parent = parent
        self.mutable = mutable
        self.weak = weak

    @property
    def path(self) -> str:
        """The way from the root, such as ``Manager.record.events[0]``.

        Names of attributes, variables and types are shown; keys and other contents never are. ``.?`` is a step that has
        no name. Read it before the objects change.
        """
        way: list[object] = []
        step: Reached | None = self
        while step is not None:
            way.append(step.object)
            step = step.parent
        return labels.path(way[::-1])


class Kinds(dict[type, Kind | None]):
    """Kinds by type, each classified when it is first asked for.

    :param stop: classes whose objects are skipped.
    :ivar atoms: known types whose objects are skipped.
    :ivar plain: known types of whose objects the garbage collector tells everything.
    :ivar unread: names of types whose objects may refer to others in a way that cannot be read.
    """

    def __init__(self, stop: tuple[type, ...]) -> None:
        self._stop = stop
        self.atoms: set[type] = set()
        self.plain: set[type] = set()
        self.unread: set[str] = set()
        self._of_empty: dict[type, Kind] = {}

    def __missing__(self, type_: type) -> Kind | None:
        kind = self[type_] = classify(type_, self._stop)
        if kind is None:
            self.atoms.add(type_)
        elif kind.read is gc.get_referents and not kind.weak:
            self.plain.add(type_)
        if kind is not None and not kind.known:
            self.unread.add(describe(type_))
        return kind

    def of(self, value: object) -> Kind | None:
        """The kind of an object, which may be another one while it has no attributes."""
        type_ = type(value)
        kind = self[type_]
        if kind is None or not kind.empty or any(part is not type_ for part in gc.get_referents(value)):
            return kind
        if type_ not in self._of_empty:
            self._of_empty[type_] = kind if assigns_attributes(type_) else EMPTY
        return self._of_empty[type_]


class Reader:
    """Reads objects, and remembers for its own lifetime what kind their types are.

    :param shared: objects that are nobody's own: skipped, as is what they refer to. One that cannot change itself (a
        tuple, a bound method) stands for what it holds; a class or a provider does not.
    :param stop: classes whose objects are skipped in the same way.
    :ivar kinds: kinds of types; of a single object see :meth:`kind`.
    :ivar skipped: by id, objects that are shared, or that lead to nothing that could be; kept alive, so that their ids
        stay their own.
    """

    __slots__ = ("kinds", "skipped")

    def __init__(self, shared: Iterable[object] = (), stop: tuple[type, ...] = ()) -> None:
        self.kinds = Kinds(stop)
        self.skipped: dict[int, object] = {}
        waiting = list(shared)
        while waiting:
            value = waiting.pop()
            kind = self.kind(value)
            if kind is not None:
                self.skip(value)
                if not kind.mutable and not issubclass(type(value), (type, Provider)):
                    # Its class is everybody's who has such an object, and what that keeps is not shared by this.
                    waiting += [part for part in kind.read(value) if not issubclass(type(part), type)]

    def skip(self, value: object) -> None:
        """Skip an object from now on."""
        self.skipped[id(value)] = value

    def kind(self, value: object) -> Kind | None:
        """The kind of an object; None for one that is skipped: an atom, behind a stop, or shared."""
        return None if id(value) in self.skipped else self.kinds.of(value)

    def read(self, values: Iterable[object]) -> list[object]:
        """Everything that some objects refer to, in no order; those of one kind are read at once."""
        kinds, plain = self.kinds, self.kinds.plain
        simple: list[object] = []
        found: list[object] = []
        for value in values:
            if type(value) in plain:
                simple.append(value)
            elif (kind := kinds[type(value)]) is not None:
                found += kind.read(value)
        found += gc.get_referents(*simple)
        return found


def reachable(root: object, *, shared: Collection[object] = (), stop: tuple[type, ...] = ()) -> Iterator[Reached]:
    """Give the object and everything that it reaches, each once, by one of the shortest ways; weakly reached ones last.

    :param root: where to begin; it is walked even if it is one of `shared`.
    :param shared: objects to skip with all that only they refer to, such as :func:`providers.audit.shared_objects`.
    :param stop: classes whose objects to skip likewise.

    Atoms (numbers, strings, None and their like) are not given. Objects are compared by identity: two roots share what
    is reached from both, is mutable and is not weak. The walk keeps everything alive that it has reached; drop what it
    gave. Let it run where the objects are not being changed, which is the thread of their event loop.

    >>> from providers.reach import reachable
    >>> class Basket:
    ...     def __init__(self) -> None:
    ...         self.lines = [{}, ("bread", 2)]
    >>> [(reached.path, reached.mutable) for reached in reachable(Basket()) if reached.mutable]
    [('Basket', True), ('Basket.lines', True), ('Basket.lines[0]', True)]
    """
    yield from walk(root, Reader(shared, stop))


def walk(root: object, reader: Reader) -> Iterator[Reached]:
    """:func:`reachable`, with a reader that has been used before."""
    kind = reader.kind(root) or reader.kinds[type(root)]  # the second for one that is shared
    if kind is None:
        return
    first = Reached(root, None, kind.mutable)
    nodes, weak = {id(root): first}, list[tuple[Reached, object]]()
    waiting = deque([(first, kind)])
    yield first
    while waiting:
        parent, kind = waiting.popleft()
        if kind.weak and (target := readers.target(parent.object)) is not None:
            weak.append((parent, target))
        for child in kind.read(parent.object):
            if (found := reader.kind(child)) is not None and id(child) not in nodes:
                nodes[id(child)] = reached = Reached(child, parent, found.mutable)
                waiting.append((reached, found))
                yield reached
    for parent, target in weak:
        if (found := reader.kind(target)) is not None and id(target) not in nodes:
            nodes[id(target)] = reached = Reached(target, parent, found.mutable, weak=True)
            yield reached
