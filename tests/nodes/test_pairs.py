"""Every two things that go wrong, one into the other.

Each run tries some pairs, and each time others; `make soak-nodes` goes on for as long as one likes. What fails prints
its seed, with which `SEED=...` repeats it.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.engine.fixtures import Engines
from tests.nodes.interleaving import mishap, pairs
from tests.nodes.scene import scene

pytestmark = pytest.mark.nodes

SECONDS = 8


@pytest.mark.slow
async def test_whatever_two_things_go_wrong_at_once_nobody_is_left_in_the_dark(
    engines: Engines, tmp_path: Path
) -> None:
    seed, begin = int(os.environ.get("SEED", random.randrange(10**6))), time.monotonic()
    while time.monotonic() - begin < SECONDS:
        chance = random.Random(seed)
        async with scene(engines.stand_alone(lasting=True)) as made:
            what = await mishap(made, chance, chance.choice(pairs(made.faults)))
            found = await made.world.verdict()
        assert not found.violations, f"seed {seed}: {what}\n{found}"
        seed += 1
