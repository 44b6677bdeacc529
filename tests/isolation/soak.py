"""`make soak-isolation`: the model for as long as one likes, with more users, and what it came to.

Exit status 1 if anything that was promised was not so.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.engine.programs import VALKEY, valkey_server
from tests.engine.server import StandAlone
from tests.isolation.actions import KINDS, OF_ANYBODY, OF_DEVICE, Action, an_action
from tests.isolation.model import CHECKED_AFTER, STEP, World, world
from tests.isolation.truth import TTL

ORDINARY = (*OF_DEVICE, *OF_ANYBODY)
CRASHES = 0.02
"""How often the engine ends and starts anew while things happen."""
WARM_UP = 0.3
"""Share of the time after which memory is first read: until then caches and histories fill."""


class Memory:
    """Memory of the process and how many objects it has, as time goes on."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.read: list[tuple[float, int, int]] = []

    def look(self, at: float) -> None:
        """Read it; `at` is a share of the whole time."""
        gc.collect()
        self.read.append((at, psutil.Process().memory_info().rss, len(gc.get_objects())))

    def lines(self) -> Iterator[str]:
        """The first reading after the warm-up, and the last."""
        (_, before, objects), *_ = [one for one in self.read if one[0] >= WARM_UP] or self.read
        _, after, left = self.read[-1]
        mib = 2**20
        yield f"memory, MiB: {before / mib:.1f} after the warm-up, {after / mib:.1f} in the end"
        yield f"objects: {objects:,} after the warm-up, {left:,} in the end"


async def soak(
    made: World, seconds: float, chance: random.Random, users: int, devices: int, engine: StandAlone | None = None
) -> Memory:
    """Let things happen until the time is over or something is wrong; what the engine loses with its end included."""
    memory, start, looked = Memory(), time.monotonic(), 0.0
    await made.together([Action("connect", place) for place in made.devices])
    while (at := (time.monotonic() - start) / seconds) < 1 and not made.violations:
        if chance.random() < 0.1:
            await made.wait(chance.choice((STEP, CHECKED_AFTER, TTL + STEP)))
        else:
            kinds = KINDS if chance.random() < 0.2 else ORDINARY
            count = chance.randrange(1, users * devices)
            happening = [an_action(chance.choice, users, devices, kinds) for _ in range(count)]
            if engine is not None and chance.random() < CRASHES:
                happening.append(Action("crash_engine", (engine,)))
            await made.together(happening)
        if chance.random() < 0.3:
            await made.retire(chance.randrange(users))
            made.tally["users who left for good"] += 1
        made.tally["looks at everybody"] += 1
        if at - looked > 0.05:
            looked = at
            await look_alike(made)
            memory.look(at)
    await look_alike(made)
    memory.look(1)
    return memory


async def look_alike(made: World) -> None:
    """Have everybody connected, and what was of users who left expired, so that readings of memory can be compared."""
    await made.everybody()
    for _ in range(2):
        await made.wait(TTL + STEP)


async def main(arguments: argparse.Namespace) -> int:
    """Soak, and print what it came to."""
    users, devices = arguments.users, arguments.devices
    chance = random.Random(arguments.seed)
    start = time.monotonic()
    with ExitStack() as stack:
        engine = None
        if arguments.engine != "memory":
            program = valkey_server()
            if program is None:
                sys.exit(VALKEY)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "engine"
            engine = stack.enter_context(StandAlone(program, folder))
        async with world(users, devices, engine.url if engine else "") as made:
            memory = await soak(made, arguments.seconds, chance, users, devices, engine)
    tally = made.tally
    print(f"{time.monotonic() - start:.0f} s, seed {arguments.seed}, streams in {arguments.engine}")
    print(f"users at once: {users}, with {len(made.devices)} devices in {2 * users} sessions")
    for name, count in sorted(tally.items()):
        print(f"{name}: {count:,}")
    print(*memory.lines(), sep="\n")
    print(f"violations: {len(made.violations)}")
    for violation in made.violations[:20]:
        print(f"  {violation}")
    return 1 if made.violations else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--users", type=int, default=40)
    parser.add_argument("--devices", type=int, default=2, help="of each of a user's two sessions")
    parser.add_argument("--engine", choices=("memory", "valkey"), default="memory", help="where streams are")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    logging.disable(logging.ERROR)  # failures that the soak makes itself
    sys.exit(asyncio.run(main(parser.parse_args())))
