"""`python -m benchmarks`: the comparisons, one after the other, in one table."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import uvloop

from benchmarks import machine
from benchmarks.connections import connections
from benchmarks.delivery import delivery
from benchmarks.engine import engine
from benchmarks.http import http
from benchmarks.isolation import isolation
from benchmarks.registry import registry
from benchmarks.rolling import rolling
from benchmarks.run import Run
from benchmarks.servers import servers
from benchmarks.table import Row, markdown, plain

COMPARISONS = {
    each.__name__: each for each in (registry, delivery, connections, http, servers, isolation, engine, rolling)
}
BEGIN, END = "<!-- {}: written by python -m benchmarks --write -->\n", "<!-- end of {} -->\n"


def main() -> int:
    """Run what is asked for; 1 with `--strict` when a goal is missed."""
    asked = _arguments()
    chosen = machine.cores()
    described = machine.description(chosen)
    print(f"{described}\n", flush=True)
    machine.raise_file_limit()
    machine.pin(chosen.client)
    run = Run(chosen, asked.quick, asked.users)
    measured: dict[str, list[Row]] = {}
    start = time.perf_counter()
    for name in asked.comparisons or COMPARISONS:
        print(f"{name} ...", end=" ", flush=True)
        began = time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measured[name] = runner.run(COMPARISONS[name](run))
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
    rows = list(chain.from_iterable(measured.values()))
    goals = [row.goal for row in rows if row.goal is not None]
    missed = sum(not goal.met for goal in goals)
    print(
        f"\n{plain(rows)}\n\n{len(goals) - missed} of {len(goals)} goals met, in {time.perf_counter() - start:.0f} s."
    )
    if asked.write:
        described = f"{datetime.now(UTC):%Y-%m-%d}. {described}"
        _write(asked.write, {name: f"{described}\n\n{markdown(rows)}" for name, rows in measured.items()})
    return 1 if missed and asked.strict else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "comparisons", nargs="*", metavar="COMPARISON", help=f"of {', '.join(COMPARISONS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    parser.add_argument(
        "--users", type=int, default=0, metavar="N", help="users of the rolling restart; default: 10,000"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put each table into this page, between its marks")
    asked = parser.parse_args()
    if unknown := set(asked.comparisons) - COMPARISONS.keys():
        parser.error(f"no comparison {', '.join(sorted(unknown))}; there are {', '.join(COMPARISONS)}")
    return asked


def _write(page: Path, tables: dict[str, str]) -> None:
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        before, begun, rest = text.partition(BEGIN.format(name))
        _, ended, after = rest.partition(END.format(name))
        if not begun or not ended:
            raise SystemExit(f"{page} has no marks for the table of {name}")
        text = f"{before}{begun}\n{table}\n\n{ended}{after}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
