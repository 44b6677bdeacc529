"""What the wiring does not prove, shown: instances of two keys are built and everything they reach is compared."""

from __future__ import annotations

import gc
from collections import ChainMap
from collections.abc import Awaitable, Generator, Iterable, Sequence, Set
from functools import partial
from traceback import walk_tb
from typing import Any
from weakref import ref

from dependency_injector.providers import Provider

from providers.errors import ProviderError, describe
from providers.library import is_pending
from providers.per_key import PerKey
from providers.reach import Reached, Reader, walk

from .finding import Finding, Verdict
from .judge import REMEDY, Opinion
from .memory import Memory
from .values import is_private_part, mutable_part, place

Arguments = tuple[tuple[Any, ...], tuple[Any, ...]]
"""Positional arguments of the calls for two synthetic keys."""

Pending = Awaitable[Any]
"""What a proof may have to wait for. Its steps are generators that yield such and are sent the results."""

Reach = dict[int, Reached]

PROBED = partial(Opinion, Verdict.PROBED)
STAYS = "the instance stays when its last holder lets go; find who keeps it, and hold it weakly"
SYNTHETIC = "give probe arguments of two users that do not exist"


def reach(roots: Iterable[object], reader: Reader) -> Reach:
    """Give what objects reach and nobody has marked as shared, by id."""
    return {id(one.object): one for root in roots for one in walk(root, reader) if not one.weak}


def nearest(found: Reach, ids: Set[int]) -> list[Reached]:
    """Give those of some reached objects that are not reached through another of them."""
    return [found[one] for one in found if one in ids and not is_within(found[one], ids)]


def is_within(reached: Reached, ids: Set[int]) -> bool:
    """Tell whether an object is reached through another of some."""
    parent = reached.parent
    while parent is not None and id(parent.object) not in ids:
        parent = parent.parent
    return parent is not None


def mutable(found: Reach) -> set[int]:
    """Give the ids of the objects that can change."""
    return {key for key, one in found.items() if one.mutable and not is_private_part(one)}


def asked(
    provider: Provider[Any], reader: Reader, probing: Reader, *, gives_one: bool
) -> Generator[Pending, Any, Opinion]:
    """Judge a provider by two calls of it, which tell for all only where the provider always gives what it gave once.

    :param reader: reads one object that both calls gave; skips the objects that ``Shared`` providers give.
    :param gives_one: the wiring says that the provider gives one object.
    :param probing: reads two objects; skips the providers that are judged as well, as both may hold the same.
    """
    results: list[Any] = []
    try:
        for _ in range(2):
            result = provider()
            results.append((yield result) if is_pending(result) else result)
    except Exception as error:  # noqa: BLE001 - whatever users' code raises
        return Opinion(Verdict.UNKNOWN, failure(error))
    first, second = results
    if first is second:
        if id(first) in reader.skipped:
            what = "the object of a Shared"
            return Opinion(Verdict.SHARED, f"gives {what}") if gives_one else PROBED(f"two calls gave {what}")
        if mutable_part(first, reader) is None:
            what = "nobody can change it"
            return Opinion(Verdict.IMMUTABLE, what) if gives_one else PROBED(f"two calls gave the same, and {what}")
        return Opinion(Verdict.LEAK, f"one object for all keys; {REMEDY}")
    found, other = reach([first], probing), reach([second], probing)
    both = nearest(found, mutable(found) & other.keys())
    if both:
        return Opinion(Verdict.LEAK, f"one object for all keys ({place(both[0].object, both[0].path)}); {REMEDY}")
    return PROBED("two calls gave nothing in common that can change")


def failure(error: BaseException) -> str:
    """Say what a call raised and where; its message only if it is one of ours, as others may show secrets."""
    for one in (error, error.__context__):  # an application may raise an error of its own for ours
        if isinstance(one, ProviderError):
            return str(one)
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    line = "" if not frames else f" in {frames[-1].f_code.co_qualname}, line {frames[-1].f_lineno}"
    return f"raised {describe(type(error))}{line}"


class Subject:
    """A ``PerKey``, or what else is asked for users, that is probed.

    :ivar name: its name in the container.
    """

    def __init__(self, name: str, provider: Provider[Any], arguments: Arguments) -> None:
        self.name = name
        self.provider = provider
        self.arguments = arguments

    def expect_no_instance(self) -> None:
        """Refuse the keys of users that exist.

        :raises KeyInUse: there is an instance of one of the keys.
        """
        provider = self.provider
        if isinstance(provider, PerKey) and any(provider.peek(*arguments) is not None for arguments in self.arguments):
            raise KeyInUse

    def refuse_one(self) -> Finding:
        """Report that both users got the same object."""
        reason = f"the key function gives one key to both users; mend it, or {SYNTHETIC}"
        if not isinstance(self.provider, PerKey):
            reason = f"one object for all keys; {REMEDY}"
        return self.refuse(Verdict.LEAK, reason)

    def find(self, found: Reach, ids: Set[int], reason: str) -> list[Finding]:
        """Report those of some objects that an instance reaches, the nearest ones."""
        text = f"{reason}; {REMEDY}"
        return [
            Finding((self.name, one.path), "instance", describe(type(one.object)), Verdict.LEAK, text)
            for one in nearest(found, ids)
        ]

    def refuse(self, verdict: Verdict, reason: str) -> Finding:
        """Report the provider itself."""
        return Finding((self.name,), type(self.provider).__name__, "", verdict, reason)


class KeyInUse(ProviderError):
    """There is an instance already."""

    def __init__(self) -> None:
        super().__init__(f"an instance of the key lives already; {SYNTHETIC}")


class Probe:
    """Builds instances of synthetic keys and compares what they reach.

    Nothing is kept of it: no instance, and nothing that only instances held.

    :param reader: skips the objects that ``Shared`` providers give, and the providers that are judged.
    """

    def __init__(self, subjects: Sequence[Subject], reader: Reader) -> None:
        self._subjects = subjects
        self._reader = reader
        self._given = tuple(self._reach(one for it in subjects for one in it.arguments[side]) for side in (0, 1))

    def run(self) -> Generator[Pending, Any, list[Finding]]:
        """Build the instances of two keys, compare them, let them go, and build those of the first key again."""
        memory, findings = yield from self._compare_keys()
        if findings:
            return findings
        findings = yield from self._compare_lives(memory)
        if not findings:
            return []
        del memory
        gc.collect()
        try:
            memory = yield from self._remember()
        except Exception as error:  # noqa: BLE001 - whatever users' code raises
            return [self._subjects[0].refuse(Verdict.UNKNOWN, failure(error))]
        return (yield from self._compare_lives(memory))

    def _compare_keys(self) -> Generator[Pending, Any, tuple[Memory, list[Finding]]]:
        nothing = Memory([], [], thorough=False)
        instances: tuple[list[Any], list[Any]] = ([], [])
        for subject in self._subjects:
            try:
                subject.expect_no_instance()
                for side in (0, 1):
                    instances[side].append((yield from built(subject, side)))
                    ref(instances[side][-1])  # or else nobody can tell when it is gone
            except Exception as error:  # noqa: BLE001 - whatever users' code raises
                return nothing, [subject.refuse(Verdict.UNKNOWN, failure(error))]
            if instances[0][-1] is instances[1][-1]:
                return nothing, [subject.refuse_one()]
        found = [[self._reach([instance]) for instance in side] for side in instances]
        first, second = (dict(ChainMap(*side)) for side in found)
        given = self._given
        both = (mutable(first) & second.keys()) - (given[0].keys() & given[1].keys())
        findings = []
        for subject, *sides in zip(self._subjects, *found, strict=True):
            findings += subject.find(sides[0], both, "the same object for another key")
            for side in (0, 1):
                foreign = given[1 - side].keys() - given[side].keys() - both
                findings += subject.find(sides[side], foreign, "an argument of another key's call")
        return Memory(instances[0], first.values(), thorough=False), findings

    def _compare_lives(self, memory: Memory) -> Generator[Pending, Any, list[Finding]]:
        living = [self._subjects[number].refuse(Verdict.LEAK, STAYS) for number in memory.living()]
        if living:
            return living
        survivors = memory.survivors()
        old = {id(one) for one in survivors} - self._given[0].keys()
        findings, instances = [], []
        for subject in self._subjects:
            try:
                instances.append((yield from built(subject, 0)))
            except Exception as error:  # noqa: BLE001 - whatever users' code raises
                return [subject.refuse(Verdict.UNKNOWN, failure(error))]
            found = self._reach([instances[-1]])
            findings += subject.find(found, mutable(found) & old, "left by an instance of the key that is gone")
        return findings

    def _remember(self) -> Generator[Pending, Any, Memory]:
        instances = []
        for subject in self._subjects:
            instances.append((yield from built(subject, 0)))  # noqa: PERF401 - no `yield from` in a comprehension
        return Memory(instances, self._reach(instances).values(), thorough=True)

    def _reach(self, roots: Iterable[object]) -> Reach:
        return reach(roots, self._reader)


def built(subject: Subject, side: int) -> Generator[Pending, Any, Any]:
    """Build the instance of a synthetic key."""
    result = subject.provider(*subject.arguments[side])
    return (yield result) if is_pending(result) else result
