"""Each row of the table of modes, over real sockets: what clients, publishers and operators see."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.http.modes import publish
from tests.modes.scene import CRITICAL, SESSION, Scene, connect, staged, told
from tests.modes.table import ROWS, TABLES, Event, Row, State, Told


def name(row: Row) -> str:
    return f"{row.start.text} - {row.event.value}".replace("`", "")


async def see_what_publishers_see(scene: Scene, state: State) -> None:
    """Publish in every way there is."""
    before = await scene.refused()
    assert [await scene.publish(), await scene.publish_in_batch()] == [state.ordinary] * 2
    assert [await scene.publish(CRITICAL), await scene.publish_in_batch(CRITICAL)] == [state.critical] * 2
    refused = 0
    if state.commands == "error 1503":
        for method, request in (("publish", {"channel": "news", "data": 1}), ("history", {"channel": "#alice"})):
            error = await scene.alice.error(method, request)
            assert (error["code"], error["temporary"]) == (1503, True)
        refused = 3
    else:
        await scene.alice.result("publish", {"channel": "news", "data": 1})
        await scene.alice.result("history", {"channel": "#alice"})
    assert await scene.refused() - before == refused
    assert scene.waits() == state.waits


async def begin(scene: Scene, row: Row) -> None:
    """Bring the users to where the row begins, with something that waits if it can."""
    for event in row.start.events:
        await scene.happen(event)
    assert (await scene.mode())[0] == row.start.state.mode
    await scene.publish(CRITICAL)
    assert scene.waits() == row.start.state.waits
    for client in (scene.alice, scene.bob):
        await client.arrived()


@pytest.mark.parametrize("row", ROWS, ids=name)
async def test_a_transition_is_as_the_table_says(row: Row) -> None:
    async with AsyncExitStack() as stack, staged(stack, row.start.default) as scene:
        await begin(scene, row)
        before = scene.managers()
        await scene.happen(row.event)
        if row.told is Told.RECONNECT:
            assert (await scene.alice.closed())[0] == 3011
            scene.alice, mode = await connect(stack, scene.gateway, "alice")
            assert mode == row.state.mode
            apart = row.start.default != "isolated"
            assert (f"user-session:alice:{SESSION}" if apart else "user:alice") in scene.managers()
        else:
            expected = [(row.state.mode, row.reason)] if row.told is Told.MODE else []
            assert await told(scene.alice) == expected
            assert scene.managers() == before, "keys and managers stay what they are"
        assert await scene.mode() == (row.state.mode, row.reason)
        assert scene.waits() == (row.waited == "waits on")
        _, mode = await connect(stack, scene.gateway, "alice")
        assert mode == row.state.mode
        await see_what_publishers_see(scene, row.state)
        assert scene.touched == 0, "a lost broker is left alone"


OF_ALICE = [row for row in TABLES["operator"] if row.event.name.startswith("USER")]


@pytest.mark.parametrize("row", OF_ALICE, ids=name)
async def test_a_mode_set_for_one_user_is_nothing_to_another(row: Row) -> None:
    async with AsyncExitStack() as stack, staged(stack, row.start.default) as scene:
        await begin(scene, row)
        before = await scene.publish(user="bob")
        await scene.bob.arrived()
        await scene.happen(row.event)
        assert await scene.bob.arrived() == []
        assert await scene.publish(user="bob") == before


def test_every_state_is_left_and_reached_and_every_event_happens() -> None:
    assert {row.start.state for row in ROWS} == {row.state for row in ROWS} == set(State)
    assert {row.event for row in ROWS} == set(Event)
    assert len({(row.start.text, row.event) for row in ROWS}) == len(ROWS)


async def test_what_was_published_through_every_mode_is_there_after_all_in_order() -> None:
    events = (Event.ALL_DEGRADED, Event.LOST, Event.RULE, Event.ALL_EMERGENCY, Event.ALL_NONE, Event.BACK, Event.WELL)
    async with AsyncExitStack() as stack, staged(stack, "unified") as scene:
        numbers = range(len(events))
        for number, event in zip(numbers, events, strict=True):
            await scene.happen(event)
            assert (await publish(scene.api, type=CRITICAL, data=number)).status_code == 200
        seen = [push["pub"]["data"]["data"] for push in await scene.alice.arrived() if "pub" in push]
        assert seen == list(numbers), "each once, live"
        history = await scene.alice.result("history", {"channel": "#alice", "limit": -1})
        assert [publication["data"]["data"] for publication in history["publications"]] == list(numbers)
