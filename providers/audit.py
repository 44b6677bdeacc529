"""An audit of living objects: what one owner can reach that is another's, too.

Owners are the instances that must share nothing, such as those of a :class:`~providers.PerKey`. See
:mod:`providers.reach` for what is walked and where a walk ends.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

from . import readers
from .errors import describe
from .kinds import Kind
from .reach import Reader, walk
from .report import Finding, Place, Report

# Objects that are read, and referents that are looked at, before the clock is asked again.
OBJECTS = 64
REFERENTS = 512
# Parts of what is known about objects, by the MiB of memory in which they lie.
PARTS = 256
REGION = 20


def audit(
    *owners: object,
    shared: Iterable[object] = (),
    stop: tuple[type, ...] = (),
    name: Callable[[Any], str] | None = None,
    limit: int = 100,
) -> Report:
    """Walk what the owners reach, at once, and report each mutable object that two of them reach.

    The time is linear in the number of objects. It blocks; see :class:`Audit` for one that does not. Call it in the
    thread that uses the objects.

    :param owners: instances that must share nothing.
    :param shared: objects that all may reach, such as :func:`~providers.sharing.shared_objects` of their container.
    :param stop: classes of a framework whose objects all may reach.
    :param name: gives the name of an owner for the report; default: its class and number.
    :param limit: findings of each sort that are listed at most.

    >>> from providers.audit import audit
    >>> class Manager:
    ...     def __init__(self, events: list[str]) -> None:
    ...         self.events = events
    >>> events: list[str] = []
    >>> print(audit(Manager(events), Manager(events)).shared[0])
    Manager #1: Manager.events and Manager #2: Manager.events are one builtins.list
    >>> audit(Manager([]), Manager([])).isolated
    True
    """
    running = Audit(owners, shared=shared, stop=stop, name=name, limit=limit)
    running.step(float("inf"))
    return running.report()


class Audit:
    """An audit in steps, for an event loop that has other things to do between them.

    It holds the owners weakly, and between two owners nothing else of them: an owner that goes in the meantime is gone.
    What looks shared is walked again before it is reported, so that objects which were moved, or whose memory was used
    again, raise no alarm. Parameters are those of :func:`audit`.

    >>> from providers.audit import Audit
    >>> owners = [set(), set()]
    >>> running = Audit(owners)
    >>> while not running.step(0.002):
    ...     pass  # wait here, for the share of time that others are to have
    >>> running.report().owners
    2
    """

    def __init__(
        self,
        owners: Iterable[object],
        *,
        shared: Iterable[object] = (),
        stop: tuple[type, ...] = (),
        name: Callable[[Any], str] | None = None,
        limit: int = 100,
    ) -> None:
        distinct = {id(owner): owner for owner in owners}
        self._roots = [_hold(owner) for owner in distinct.values()]
        self._owners = Owners()
        for number, key in enumerate(distinct):
            self._owners.of(key)[key] = number
        self._reader = Reader(shared, stop)
        self._name = name
        self._limit = limit
        self._leads_to: dict[int, tuple[object, list[object]]] = {}
        self._references: list[tuple[Any, int]] = []
        self._leaks: dict[int, _Leak] = {}
        self._weak_leaks: dict[int, _Leak] = {}
        self._walked = 0
        self._truncated = False
        self._steps = self._run()

    def step(self, seconds: float) -> bool:
        """Go on for a number of seconds; whether the audit is over.

        It stops after some dozen objects more, which takes a fraction of a millisecond.
        """
        end = time.perf_counter() + seconds
        return all(time.perf_counter() < end for _ in self._steps)

    def close(self) -> None:
        """Go no further, and let go of the owner whose turn it was. Harmless after the end, and when repeated."""
        self._steps.close()

    def report(self) -> Report:
        """What was found so far."""
        return Report(
            owners=self._walked,
            objects=len(self._owners),
            shared=tuple(leak.finding() for leak in self._leaks.values()),
            weak=tuple(leak.finding() for leak in self._weak_leaks.values()),
            unread=tuple(sorted(self._reader.kinds.unread)),
            truncated=self._truncated,
        )

    def _run(self) -> Generator[None, None, None]:
        for number, hold in enumerate(self._roots):
            if (root := hold()) is not None:
                yield from self._walk(number, root)
                self._walked += 1
                del root
        yield from self._compare_references()

    def _walk(self, number: int, root: object) -> Iterator[None]:
        found = [root]
        seen = {id(root): root}  # alive until the walk ends, so that no id among them means two objects
        position = 0
        while position < len(found):
            batch = found[position : position + OBJECTS]
            position += len(batch)
            referents = self._reader.read(batch)
            for start in range(0, len(referents), REFERENTS):
                for suspect in self._visit(referents[start : start + REFERENTS], number, found, seen):
                    if not (yield from self._confirm(suspect, number)):
                        self._owners.of(id(suspect))[id(suspect)] = number
                        found.append(suspect)
                yield

    def _visit(self, values: list[object], number: int, found: list[object], seen: dict[int, object]) -> list[object]:
        """Note what the owner reaches first, and give what another one has reached before it."""
        reader, owners = self._reader, self._owners.parts
        atoms, plain, skipped = reader.kinds.atoms, reader.kinds.plain, reader.skipped
        suspects: list[object] = []
        for value in values:  # some hundred times for each connection, so there are few calls in it
            if (type_ := type(value)) in atoms:
                continue
            key = id(value)
            if key in seen or key in skipped:
                continue
            seen[key] = value
            owner_of = owners[(key >> REGION) % PARTS]
            if key in owner_of:
                suspects += self._suspects(value, number, found, seen)
            elif type_ in plain:
                owner_of[key] = number
                found.append(value)
            elif (kind := reader.kinds[type_]) is not None:
                owner_of[key] = number
                if kind.weak:
                    self._references.append((value, number))
                # Read at once, or each coroutine that awaits another one would be a turn of its own.
                if len(values) < REFERENTS and len(more := kind.read(value)) < REFERENTS:
                    values += more
                else:
                    found.append(value)
        return suspects

    def _suspects(self, value: object, number: int, found: list[object], seen: dict[int, object]) -> list[object]:
        """What can change of a value that another owner has reached before: itself, or what is behind it."""
        kind = self._reader.kind(value)
        if kind is None:  # it lies where something else was
            return []
        if kind.weak:
            self._references.append((value, number))
        return [value] if kind.mutable else self._visit([*self._behind(value, kind)], number, found, seen)

    def _behind(self, value: object, kind: Kind) -> list[object]:
        """The mutable objects and the weak references to which one leads that cannot change itself.

        Remembered, as all owners have their classes and functions in common; but nothing is kept alive that can change,
        unless a class does so anyway.
        """
        if (remembered := self._leads_to.get(id(value))) is not None:
            return remembered[1]
        seen: dict[int, object] = {id(value): value}
        waiting, ends = [value], list[object]()
        while waiting:
            for referent in self._reader.read((waiting.pop(),)):
                part = self._reader.kind(referent)
                if part is not None and id(referent) not in seen:
                    seen[id(referent)] = referent
                    (ends if part.mutable or part.weak else waiting).append(referent)
        if not ends and not kind.weak:
            self._reader.skip(value)
        elif isinstance(value, type):
            self._leads_to[id(value)] = value, ends
        return ends

    def _confirm(self, suspect: object, number: int) -> Generator[None, None, bool]:
        """Whether the owner and the first one to reach the object both reach it now."""
        return self._compare(self._leaks, suspect, self._owners.of(id(suspect))[id(suspect)], number, weak=False)

    def _compare_references(self) -> Iterator[None]:
        """Find the objects that one owner reaches weakly and another one in any way."""
        first_weak: dict[int, int] = {}
        for reference, number in self._references:
            yield
            target = readers.target(reference)
            kind = self._reader.kind(target)
            if kind is None or not kind.mutable or id(target) in self._leaks:
                continue
            first = self._owners.of(id(target)).get(id(target))
            if first is None:
                first = first_weak.setdefault(id(target), number)
            if first != number:
                yield from self._compare(self._weak_leaks, target, first, number, weak=True)

    def _compare(
        self, leaks: dict[int, _Leak], value: object, first: int, second: int, *, weak: bool
    ) -> Generator[None, None, bool]:
        if (leak := leaks.get(id(value))) is not None:
            leak.owners.add(second)
            return True
        if len(leaks) >= self._limit:
            self._truncated = True
            return True
        places: list[Place] = []
        for number in sorted((first, second)):
            path = yield from self._path(number, value, weak=weak)
            if path is None:
                return False
            places.append(Place(self._owner_name(number), path))
        leaks[id(value)] = _Leak(value, places[0], places[1], {first, second}, weak)
        return True

    def _path(self, number: int, value: object, *, weak: bool) -> Generator[None, None, str | None]:
        root = self._roots[number]()
        for count, reached in enumerate(() if root is None else walk(root, self._reader)):
            if reached.object is value and (weak or not reached.weak):
                return reached.path
            if count % OBJECTS == 0:
                yield
        return None

    def _owner_name(self, number: int) -> str:
        owner = self._roots[number]()
        return self._name(owner) if self._name is not None else f"{type(owner).__name__} #{number + 1}"


class Owners:
    """Which owner reached an object first, by id.

    In parts, as a dictionary of a million entries takes long to grow; and what an owner reaches lies together.
    """

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: tuple[dict[int, int], ...] = tuple({} for _ in range(PARTS))

    def of(self, key: int) -> dict[int, int]:
        """The part in which an id is."""
        return self.parts[(key >> REGION) % PARTS]

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class _Leak(NamedTuple):
    value: object  # kept, so that its id stays its own
    first: Place
    second: Place
    owners: set[int]
    weak: bool

    def finding(self) -> Finding:
        return Finding(describe(type(self.value)), self.first, self.second, len(self.owners), self.weak)


def _hold(owner: object) -> Callable[[], object | None]:
    try:
        return weakref.ref(owner)
    except TypeError:  # no weak references to it: it is kept
        return lambda: owner
