"""Two things that go wrong, one into the other, at moments that a seed chooses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import combinations

from tests.nodes.faults import Fault, Step
from tests.nodes.options import TIMEOUT
from tests.nodes.scene import Scene

Schedule = Sequence[tuple[float, str, Step]]


def pairs(faults: dict[str, Fault]) -> list[tuple[str, str]]:
    """Every two of them."""
    return list(combinations(faults, 2))


def schedule(chance: random.Random, faults: Sequence[Fault]) -> Schedule:
    """When each begins and ends: they overlap, or follow each other within a moment."""
    steps: list[tuple[float, str, Step]] = []
    for fault in faults:
        begin = chance.uniform(0, 1.5 * TIMEOUT)
        # Mostly about as long as it takes to notice, and about as long as it takes to come back.
        end = begin + chance.choice((0.05, TIMEOUT / 2, TIMEOUT, 2 * TIMEOUT)) * chance.uniform(0.8, 1.6)
        steps += [(begin, f"{fault.name}", fault.strike), (end, f"{fault.name}: healed", fault.heal)]
    return sorted(steps, key=lambda step: step[0])


async def carry_out(scheduled: Schedule) -> None:
    """Let it happen. Steps that take their time do not hold up others."""
    async with asyncio.TaskGroup() as group:
        for at, _, step in scheduled:
            group.create_task(_later(at, step))


async def _later(at: float, step: Step) -> None:
    await asyncio.sleep(at)
    await step()


async def mishap(scene: Scene, chance: random.Random, names: Sequence[str]) -> str:
    """Carry out a schedule of some of the scene's faults; heal them all; what happened, for who has to repeat it."""
    faults = [scene.faults[name] for name in names]
    scheduled = schedule(chance, faults)
    await carry_out(scheduled)
    for fault in faults:
        await fault.heal()
    return ", ".join(f"{at:.2f} s {what}" for at, what, _ in scheduled)
