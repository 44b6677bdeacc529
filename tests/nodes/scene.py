"""Two nodes on one server, one of them by a line that can be disturbed; and a third one in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.server import StandAlone
from tests.line import Line, line_to
from tests.nodes.faults import Fault, of_broker, of_line, of_node
from tests.nodes.node import LocalNode, Node, ProcessNode
from tests.nodes.world import World, world


@dataclass(frozen=True)
class Scene:
    """What is there, and what may go wrong."""

    world: World
    line: Line
    a: LocalNode
    b: LocalNode
    faults: dict[str, Fault]

    async def suffer(self, name: str, seconds: float) -> None:
        """Let one thing go wrong for some seconds, with time before and after."""
        fault = self.faults[name]
        await asyncio.sleep(0.2)
        await fault.strike()
        await asyncio.sleep(seconds)
        await fault.heal()
        await asyncio.sleep(0.2)


@asynccontextmanager
async def scene(server: StandAlone, folder: Path | None = None, **options: Any) -> AsyncIterator[Scene]:
    """Node A, by a line, and node B; everybody is connected and publishes.

    Args:
        folder: with one, there is a node C, which is a process.
        options: of `world`.
    """
    async with line_to(server.port) as line:
        a, b = LocalNode("A", f"redis://127.0.0.1:{line.port}"), LocalNode("B", server.url)
        faults = of_broker(server) | of_line("A", line) | of_node(b)
        nodes: list[Node] = [a, b]
        if folder is not None:
            c = ProcessNode("C", server.url, folder)
            nodes.append(c)
            faults |= of_node(c)
        async with world(nodes, **options) as made:
            yield Scene(made, line, a, b, faults)
