"""Pings under a clock that is moved by hand."""

from __future__ import annotations

from tests.clock import ManualClock
from tests.gateway import Client


async def pinged(client: Client) -> int:
    """How many pings have come; they are taken away. The reply to a command comes behind them."""
    await client.send('{"id":1000,"no_such_method":{}}')
    count = 0
    while not await client.message(lambda message: not message or message.get("id") == 1000):
        count += 1
    return count


async def first_ping(clock: ManualClock, client: Client, within: int = 25) -> int:
    """Let time pass until the first ping, which comes at random; seconds passed. The pong is left to the test."""
    for second in range(1, within + 1):
        clock.advance(1)
        if await pinged(client):
            return second
    raise AssertionError(f"no ping within {within} seconds")
