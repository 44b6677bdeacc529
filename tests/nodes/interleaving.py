"""Two things that go wrong, one into the other, at moments that a seed chooses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import combinations

from tests.nodes.faults import Fault
from tests.nodes.options import TIMEOUT
from tests.nodes.scene import Scene


def pairs(faults: dict[str, Fault]) -> list[tuple[str, str]]:
    """Every two of them."""
    return list(combinations(faults, 2))


def spans(chance: random.Random, faults: Sequence[Fault]) -> list[tuple[float, float, Fault]]:
    """When each begins and ends: they overlap, or follow each other within a moment."""
    found = []
    for fault in faults:
        begin = chance.uniform(0, 1.5 * TIMEOUT)
        # Mostly about as long as it takes to notice, and about as long as it takes to come back.
        end = begin + chance.choice((0.05, TIMEOUT / 2, TIMEOUT, 2 * TIMEOUT)) * chance.uniform(0.8, 1.6)
        found.append((begin, end, fault))
    return found


async def suffer(begin: float, end: float, fault: Fault) -> None:
    """Let one go wrong, and put it right again. What takes its time holds up no other."""
    start = asyncio.get_running_loop().time()
    await asyncio.sleep(begin)
    await fault.strike()
    await asyncio.sleep(start + end - asyncio.get_running_loop().time())
    await fault.heal()


async def mishap(scene: Scene, chance: random.Random, names: Sequence[str]) -> str:
    """Let some of the scene's faults happen, and heal them all; what happened, for who has to repeat it."""
    planned = spans(chance, [scene.faults[name] for name in names])
    async with asyncio.TaskGroup() as group:
        for span in planned:
            group.create_task(suffer(*span))
    for _, _, fault in planned:
        await fault.heal()
    return ", ".join(f"{fault.name} from {begin:.2f} to {end:.2f} s" for begin, end, fault in planned)
