"""Holds what devices saw against what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.nodes.device import Came, Device, Gap, Place, Seen
from tests.nodes.ledger import Event, Ledger, Outcome, Stream


@dataclass
class Verdict:
    """What was found.

    Attributes:
        violations: what was promised and is not so.
        counts: events by outcome; and of devices, how often one was `seen`; `missed`, of which the device was told;
            published `before` the device first came; missed as the node `died` that let it wait. How often one came
            `again`, after it had come live on a connection that broke; `repeated`, as its publisher asked another node,
            which could not know of the first time without the server; `late`, as it waited when the device came.
    """

    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Everything, for who has to find out."""
        return "\n".join([str(dict(self.counts)), *self.violations[:20]])


def judge(ledger: Ledger, devices: Sequence[Device], life_of: Callable[[str], int]) -> Verdict:
    """See that nobody got what they should not, and that what did not come was told.

    Args:
        devices: that stayed to the end.
        life_of: how often a node has been started.
    """
    verdict = Verdict()
    for event in ledger:
        verdict.counts[event.outcome.name.lower()] += 1
        verdict.counts["acknowledged"] += event.acknowledged
    verdict.violations += _disagreements(ledger, devices)
    for device in devices:
        verdict.violations += device.violations
        for code, count in device.ends.items():
            verdict.counts[f"ended with {code}"] += count
        for channel, place in device.places.items():
            stream = Stream(device.owner, channel)
            events = ledger.events.get(stream, {})
            verdict.counts["seen"] += len(place.names)
            verdict.counts["again"] += len(place.again)
            verdict.violations += [f"{device!r} {channel}: {text}" for text in _order(place, events, verdict.counts)]
            for name in place.twice:
                if (event := events[name]).attempts > 1 and event.held_by[0]:
                    verdict.counts["repeated"] += 1
                else:
                    verdict.violations.append(f"{device!r} {channel}: {name} came twice")
            for event in events.values():
                if event.acknowledged and event.name not in place.names:
                    kind = _missed(event, place, life_of)
                    verdict.counts[kind] += 1
                    if kind == "lost":
                        verdict.violations.append(f"{device!r} was never told that it missed {event}")
    return verdict


def _order(place: Place, events: dict[str, Event], counts: Counter[str]) -> Iterator[str]:
    # A publisher that goes to another node is ahead of what still waits on the one before.
    last: dict[tuple[str, str], int] = {}
    known: set[str] = set()
    came = 0.0
    for seen in place.log:
        if isinstance(seen, Came):
            came = seen.at
        if not isinstance(seen, Seen) or seen.name in known:
            continue
        known.add(seen.name)
        event = events.get(seen.name)
        if event is None:
            yield f"{seen} was never published"
            continue
        if event.outcome is Outcome.REFUSED:
            yield f"{seen} came, and its publisher was refused"
        publisher = event.publisher, event.by
        if event.number < last.get(publisher, 0):
            if event.held_by[0] and event.started < came:
                counts["late"] += 1
                continue
            yield f"{seen} came behind number {last[publisher]}"
        last[publisher] = event.number


def _disagreements(ledger: Ledger, devices: Sequence[Device]) -> Iterator[str]:
    """One position, one event, whoever was told of it by whatever node."""
    named: dict[tuple[Stream, str, int], str] = {}
    told = [(event.stream, event.epoch, event.offset, event.name) for event in ledger if event.outcome is Outcome.KEPT]
    for device in devices:
        for channel, place in device.places.items():
            stream = Stream(device.owner, channel)
            seen = [each for each in place.log if isinstance(each, Seen) and each.offset]
            told += [(stream, each.epoch, each.offset, each.name) for each in seen]
    for stream, epoch, offset, name in told:
        if (before := named.setdefault((stream, epoch, offset), name)) != name:
            yield f"{stream}: {before} and {name} are both at {epoch}/{offset}"
        if (event := ledger.events[stream].get(name)) is not None and not event.offset:
            event.epoch, event.offset = epoch, offset  # it waited, and has its place now


def _missed(event: Event, place: Place, life_of: Callable[[str], int]) -> str:
    """How an event was missed; `lost`: nobody told the device."""
    node, life = event.held_by
    if node and life_of(node) != life and not event.offset:
        return "died"
    gaps = [gap for gap in place.log if isinstance(gap, Gap)]
    if any(_covers(gap, event) for gap in gaps[:1]):
        return "before"
    return "missed" if any(_covers(gap, event) for gap in gaps[1:]) else "lost"


def _covers(gap: Gap, event: Event) -> bool:
    if event.started > gap.told:
        return False
    if not event.offset:
        return True
    for position, beyond in ((gap.behind, True), (gap.until, False)):
        if position is not None and position[0] == event.epoch and (event.offset > position[1]) is not beyond:
            return False
    return True
