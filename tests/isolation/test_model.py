"""Whatever users, operators and failures do at once: no socket gets what is another's, and nothing is lost unsaid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.realtime.broker import History, Position
from app.realtime.manager import ForeignPublication
from app.realtime.pushes import subscribe_push
from tests.engine.fixtures import Engines
from tests.isolation.actions import Action, an_action
from tests.isolation.model import CHECKED_AFTER, STEP, World, world
from tests.isolation.truth import TTL

USERS, DEVICES = 3, 2


@st.composite
def actions(draw: st.DrawFn) -> Action:
    """Something that happens."""
    return an_action(lambda choices: draw(st.sampled_from(choices)), USERS, DEVICES)


class GatewayMachine(RuleBasedStateMachine):
    """Rules take turns on one gateway and its event loop; what is in one rule happens at once."""

    engine = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        # No rule lets the engine be lost, so on a slow machine it must not look as if it were.
        made = world(USERS, DEVICES, self.engine, timeout=10)
        self.world: World = self.runner.run(self.stack.enter_async_context(made))
        self.run(self.world.together([Action("connect", place) for place in self.world.devices]))

    def run(self, happening: Coroutine[Any, Any, None]) -> None:
        self.runner.run(happening)

    def teardown(self) -> None:
        self.run(self.world.everybody())
        self.nothing_was_promised_that_is_not_so()
        assert all(device.canaries > 0 for device in self.world.devices.values())
        self.run(self.stack.aclose())
        self.runner.close()

    @rule(happening=st.lists(actions(), min_size=2, max_size=12))
    def together(self, happening: list[Action]) -> None:
        self.run(self.world.together(happening))

    @rule(seconds=st.sampled_from((STEP, CHECKED_AFTER, TTL + STEP)))
    def wait(self, seconds: float) -> None:
        self.run(self.world.wait(seconds))

    @invariant()
    def nothing_was_promised_that_is_not_so(self) -> None:
        assert not self.world.violations, "\n".join(self.world.violations)


def try_all(machine: type[GatewayMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,  # the soak looks elsewhere every time
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(300)  # a failure takes a while to become a short one
def test_no_socket_gets_what_is_anothers_and_nothing_is_lost_unsaid() -> None:
    try_all(GatewayMachine, 25)


@pytest.mark.timeout(300)
def test_so_it_is_when_streams_are_in_an_engine(engines: Engines) -> None:
    class OnEngine(GatewayMachine):
        engine = engines.stand_alone().url

    try_all(OnEngine, 6)


async def publish_what_is_anothers(made: World) -> None:
    ann, ben = (made.devices[user, 0, 0].user for user in (0, 1))
    await made.container.publisher().publish_to_user(ben, "leak", {"n": 1000, "of": ann})


async def deliver_under_another_key(made: World) -> None:
    broker, (ann, ben) = made.broker.broker, (made.devices[user, 0, 0] for user in (0, 1))
    (manager,) = made.container.publisher().connected(ben.user)
    await broker.subscribe(ann.key, manager)
    with pytest.raises(ForeignPublication):
        await made.emit(0, 0, None)
    broker.unsubscribe(ann.key, manager)


async def lose_a_publication(made: World) -> None:
    made.broker.lose = 1
    await made.emit(0, 0, None)
    made.ledger.stream(made.devices[0, 0, 0].key, made.devices[0, 0, 0].personal).lost = False


async def publish_twice(made: World) -> None:
    for _ in range(2):
        await made.container.publisher().publish_to_user(made.devices[0, 0, 0].user, "event", {"n": 1000})


async def come_back_to(made: World, tampered: Callable[[History], History]) -> None:
    """A device that was away while something came recovers from a history that somebody tampered with."""
    await made.devices[0, 0, 0].drop()
    await made.publish(0, 0, None, 4, 0)
    broker = made.broker.broker
    read = broker.history

    async def history(key: str, channel: str, *, since: Position | None = None, **options: Any) -> History:
        found = await read(key, channel, since=since, **options)
        return tampered(found) if since is not None else found

    broker.history = history  # type: ignore[method-assign]
    await made.connect(0, 0, 0)


async def recover_out_of_order(made: World) -> None:
    def tampered(found: History) -> History:
        first, second, third, fourth = found.publications
        return History(found.position, (first, third, second, fourth))

    await come_back_to(made, tampered)


async def recover_without_the_last(made: World) -> None:
    await come_back_to(
        made,
        lambda found: History(Position(found.position.offset - 1, found.position.epoch), found.publications[:-1]),
    )


async def recover_nothing_for_no_reason(made: World) -> None:
    await come_back_to(made, lambda found: History(found.position, ()))


async def move_past_what_never_came(made: World) -> None:
    made.broker.lose = 1
    await made.emit(0, 0, None)
    device = made.devices[0, 0, 0]
    stream = made.ledger.stream(device.key, device.personal)
    (manager,) = made.container.publisher().connected(device.user)
    for session in manager.connections:
        session.tell(subscribe_push(device.personal, stream.epoch, stream.top))


async def start_anew_without_a_word(made: World) -> None:
    await made.publish(0, 0, None, 3, 0)
    await made.broker.restart()
    await made.publish(0, 0, None, 1, 0)
    for stream in made.ledger.streams.values():
        stream.lost = False


@pytest.mark.parametrize(
    ("defect", "found"),
    [
        (publish_what_is_anothers, "got what is"),
        (deliver_under_another_key, "the gateway counts 1 violations"),
        (lose_a_publication, "lacks"),
        (publish_twice, "was published twice"),
        (recover_out_of_order, "came twice, or late"),
        (recover_without_the_last, "lacks"),
        (recover_nothing_for_no_reason, "not recovered, although all of it is there"),
        (move_past_what_never_came, "never came"),
        (start_anew_without_a_word, "was not told that"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_gateway_with_a_defect_would_be_found_out(
    defect: Callable[[World], Coroutine[Any, Any, None]], found: str
) -> None:
    async with world(2, 1) as made:
        await made.together([Action("connect", place) for place in made.devices])
        await made.publish(0, 0, None, 1, 0)
        await made.look()
        assert made.violations == []
        await defect(made)
        await made.look()
        assert any(found in violation for violation in made.violations), made.violations
