"""A back end that publishes over one node, as fast as it is answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import httpx

from tests.nodes.ledger import Event, Ledger, Outcome, Stream
from tests.nodes.node import Node

PACE = 0.04
"""Seconds between an answer and the next event, on average."""


class Publisher:
    """Publishes to every stream, to each in order and one event at a time.

    Args:
        ledger: where it writes down what it does.
        nodes: the first one is its own; an event with an idempotency key goes to the others if that one ends.
        client: sends requests.
    """

    def __init__(self, ledger: Ledger, nodes: Sequence[Node], client: httpx.AsyncClient) -> None:
        """Nothing is published yet."""
        self.name = nodes[0].name
        self._ledger = ledger
        self._nodes = nodes
        self._client = client
        self._chance = random.Random(self.name)

    async def run(self, streams: Sequence[Stream], going: Callable[[], bool]) -> None:
        """Publish until told to stop."""
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(self._run(stream, going))

    async def _run(self, stream: Stream, going: Callable[[], bool]) -> None:
        while going():
            if self._nodes[0].url:
                await self.publish(stream)
            await asyncio.sleep(self._chance.uniform(0, 2 * PACE))

    async def publish(self, stream: Stream) -> Event:
        """Publish one event, and say what became of it."""
        event = self._ledger.next(self.name, stream)
        for node in self._nodes if event.has_key else self._nodes[:1]:
            if not node.url:
                continue
            try:
                await self._post(node, event)
            except httpx.TransportError:
                event.outcome = Outcome.UNKNOWN
            else:
                break
        if event.outcome is Outcome.UNDERWAY:
            event.outcome = Outcome.UNKNOWN
        return event

    async def _post(self, node: Node, event: Event) -> None:
        life = node.life
        event.attempts += 1
        path = f"{node.url}/v1/users/{event.stream.owner.user}/events"
        answer = await self._client.post(path, json=event.body())
        event.by = node.name
        if answer.status_code == 200:
            receipt = answer.json()
            event.outcome = Outcome.QUEUED if receipt.get("queued") else Outcome.KEPT
            event.epoch, event.offset = receipt["epoch"], receipt["offset"]
            if receipt.get("queued"):
                event.held_by = node.name, life
        elif answer.status_code == 503:
            # Draining says so before it takes anything, and so does a full buffer.
            event.outcome = Outcome.REFUSED if event.outcome is Outcome.UNDERWAY else Outcome.UNKNOWN
        else:
            raise AssertionError(f"publishing was answered with {answer.status_code}: {answer.text}")
