"""The check of positions sends nobody away for what is still on its way."""

from __future__ import annotations

from itertools import pairwise

import pytest

from app.realtime.broker import Publication
from tests.clock import ManualClock
from tests.gateway import build_container, serving
from tests.wire.faulty import make_faulty
from tests.wire.pings import first_ping, pinged


async def test_positions_are_checked_with_the_first_pong_after_40_seconds() -> None:
    clock = ManualClock()
    container = build_container(clock=clock)
    faulty = make_faulty(container)
    checked: list[float] = []

    async def note() -> None:
        checked.append(clock.monotonic())

    async with serving(container) as gateway, gateway.connected("alice") as alice:
        faulty.before["history"] = note
        await first_ping(clock, alice)
        for _ in range(8):
            await alice.send({})
            await pinged(alice)
            clock.advance(25)
            await alice.ping()
    assert [after - before for before, after in pairwise(checked)] == [50] * (len(checked) - 1)
    assert len(checked) >= 3


@pytest.mark.parametrize("late", [False, True])
async def test_only_who_still_misses_something_at_a_second_look_is_sent_away(late: bool) -> None:
    clock = ManualClock()
    container = build_container(clock=clock, channels={"position_check": 0.5})
    faulty = make_faulty(container)
    async with serving(container) as gateway, gateway.connected("alice") as alice:
        (manager,) = container.publisher().connected("alice")
        faulty.lose = 1
        await container.publisher().publish_to_user("alice", "tick", 1)
        (missed,) = (await faulty.broker.history(manager.key, "#alice")).publications
        looks = 0

        async def arrive() -> None:
            nonlocal looks
            looks += 1
            if looks == 2 and late:
                assert isinstance(missed, Publication)
                manager.deliver(missed)

        faulty.after["history"] = arrive
        await first_ping(clock, alice)
        await alice.send({})  # positions are checked when it answers
        if late:
            assert (await alice.push())["pub"]["offset"] == 1
            await alice.nothing()
        else:
            assert await alice.closed() == (3010, "insufficient state")
        assert looks == 2
