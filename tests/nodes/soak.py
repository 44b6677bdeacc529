"""`make soak-nodes`: three nodes, one of them a process, and things that go wrong by two, for as long as one likes.

Exit status 1 if anything that was promised was not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import require
from tests.engine.programs import VALKEY, valkey_server
from tests.engine.server import StandAlone
from tests.nodes.interleaving import mishap, pairs
from tests.nodes.judge import Verdict
from tests.nodes.scene import Scene, scene

PAUSES = (1.0, 5.0, 20.0, 60.0)
"""Seconds for which the server stands still in a long run."""


async def one(seed: int, *, lasting: bool, long: bool) -> tuple[str, Verdict]:
    """What happened with a seed, and what was found."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        program = require(valkey_server(), VALKEY)
        with StandAlone(program, Path(folder) / "server", lasting=lasting) as server:
            async with scene(server, Path(folder)) as made:
                two = chance.choice(pairs(made.faults))
                what = await stand_still(made, chance) if long else ""
                what += await mishap(made, chance, two)
                try:
                    return what, await made.world.verdict()
                except AssertionError as error:
                    return what, Verdict([str(error)])


async def stand_still(made: Scene, chance: random.Random) -> str:
    """Let the server stand still for up to a minute."""
    seconds = chance.choice(PAUSES)
    await made.suffer("broker paused", seconds)
    return f"broker paused for {seconds:.0f} s, "


async def main(arguments: argparse.Namespace) -> int:
    """Soak, and print what it came to."""
    begin, seed, failed = time.monotonic(), arguments.seed, 0
    counts: Counter[str] = Counter()
    while time.monotonic() - begin < arguments.seconds:
        lasting = not arguments.volatile and seed % 4 != 0  # now and then nothing outlives the server
        what, found = await one(seed, lasting=lasting, long=arguments.long)
        counts += found.counts
        counts["runs"] += 1
        if found.violations:
            failed += 1
            print(f"seed {seed}: {what}\n{found}", flush=True)
        seed += 1
    print(f"{time.monotonic() - begin:.0f} s, seeds {arguments.seed} to {seed - 1}")
    for name, count in sorted(counts.items()):
        print(f"{name}: {count:,}")
    print(f"runs with violations: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.nodes.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of the first run")
    parser.add_argument("--volatile", action="store_true", help="nothing ever outlives the server")
    parser.add_argument("--long", action="store_true", help="the server stands still before, for up to a minute")
    logging.disable(logging.ERROR)  # what goes wrong is meant to
    sys.exit(asyncio.run(main(parser.parse_args())))
