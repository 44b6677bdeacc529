"""3. Connections: what one costs while nothing happens on it, and to make."""

from __future__ import annotations

from functools import partial

from benchmarks.client import Crowd
from benchmarks.run import Run
from benchmarks.server import running
from benchmarks.table import Row, at_most, ratio

CONNECTIONS, REPETITIONS = 5000, 3
WARM = 100


async def connections(run: Run) -> list[Row]:
    """A new server process each time: memory that was once used is seldom given back."""
    subjects = ("gateway", "tutorial")
    measures = {name: partial(_connect, run, name) for name in subjects}
    measured = await run.interleaved_async(REPETITIONS, measures)
    count = run.amount(CONNECTIONS)
    memory = {name: [kilobytes for kilobytes, _ in measured[name]] for name in subjects}
    rates = {name: [rate for _, rate in measured[name]] for name in subjects}
    of = {"gateway": "Bulkhead", "tutorial": "tutorial"}
    met = at_most("the tutorial", 1.2, ratio(memory["gateway"], memory["tutorial"]))
    return [
        Row(f"memory of an idle connection at {count:,}, KiB", of["gateway"], memory["gateway"], met),
        Row(f"memory of an idle connection at {count:,}, KiB", of["tutorial"], memory["tutorial"]),
        Row("connections made, with their token checked, 1/s", of["gateway"], rates["gateway"]),
        Row("connections made, without a token, 1/s", of["tutorial"], rates["tutorial"]),
    ]


async def _connect(run: Run, subject: str) -> tuple[float, float]:
    """KiB of memory for a connection, and connections a second."""
    count = run.amount(CONNECTIONS)
    async with running(subject, run.cores) as server:
        crowd = Crowd(server)
        await crowd.connect(range(count, count + WARM))
        before = (await server.ask("memory"))["bytes"]
        seconds = await crowd.connect(range(count))
        after = (await server.ask("memory"))["bytes"]
        crowd.leave()
    return (after - before) / count / 1024, count / seconds
