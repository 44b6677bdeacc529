"""What goes wrong, and how it is put right. Each can be repeated, and overlap with any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.engine.server import StandAlone
from tests.line import Line
from tests.nodes.node import Node, ProcessNode

SUBSCRIBER, COMMANDS = b"ssubscribe", b"SCRIPT"
"""What is sent first over the connection for pub/sub, and over the one for commands."""

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Fault:
    """Something goes wrong with `strike`, and is well again after `heal`."""

    name: str
    strike: Step
    heal: Step


def of_broker(server: StandAlone) -> dict[str, Fault]:
    """One server ends or stands still."""

    def blocking(call: Callable[[], object]) -> Step:
        return lambda: asyncio.to_thread(call)

    def again() -> None:
        if server.process.poll() is not None:
            server.start()

    return _named(
        Fault("broker killed", blocking(server.kill), blocking(again)),
        Fault("broker stopped", blocking(lambda: _end(server)), blocking(again)),
        Fault(
            "broker paused",
            blocking(lambda: _if_runs(server, server.pause)),
            blocking(lambda: _if_runs(server, server.resume)),
        ),
    )


def of_line(node: str, line: Line) -> dict[str, Fault]:
    """The way from one node to the server."""

    def doing(call: Callable[[], None]) -> Step:
        async def step() -> None:
            call()

        return step

    return _named(
        Fault(f"{node} cut off", doing(line.cut), line.heal),
        Fault(f"{node} hears silence", doing(line.hang), line.heal),
        Fault(f"{node}'s subscriber is silent", doing(lambda: line.hang(SUBSCRIBER)), line.heal),
        Fault(f"{node}'s commands are not answered", doing(lambda: line.hang(COMMANDS)), line.heal),
    )


def of_node(node: Node) -> dict[str, Fault]:
    """A node ends, and another one comes in its place."""

    async def again() -> None:
        if not node.url:
            await node.start()

    faults = [Fault(f"{node.name} stopped", node.stop, again)]
    if isinstance(node, ProcessNode):
        faults.append(Fault(f"{node.name} killed", node.kill, again))
    return _named(*faults)


def _named(*faults: Fault) -> dict[str, Fault]:
    return {fault.name: fault for fault in faults}


def _if_runs(server: StandAlone, call: Callable[[], None]) -> None:
    if server.process.poll() is None:
        call()


def _end(server: StandAlone) -> None:
    _if_runs(server, server.resume)
    server.stop()
