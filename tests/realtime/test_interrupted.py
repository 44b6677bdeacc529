"""A subscription whose broker is lost and comes back, however often and whatever comes meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.broker import Position, Publication
from app.realtime.protocol import Frame, frame
from app.realtime.subscription import Subscription

EPOCH = "e"


class Outlet:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.pushed: list[str] = []
        self.lost = 0
        self.moved_to: list[int] = []

    def push(self, frame: Frame) -> None:
        """See `app.realtime.subscription.Outlet`."""
        self.pushed.append(frame.text)

    def lost_position(self, subscription: Subscription) -> None:
        """See `app.realtime.subscription.Outlet`."""
        self.lost += 1
        subscription.end()

    def moved(self, subscription: Subscription) -> None:
        """See `app.realtime.subscription.Outlet`."""
        self.moved_to.append(subscription.offset)


def made(position: int | None = None, *, hold_limit: int = 100_000) -> tuple[Subscription, Outlet]:
    outlet = Outlet()
    one = Subscription(outlet, "user:alice", "news", server_side=False, join_leave=True, hold_limit=hold_limit)
    if position is not None:
        one.go_live(Position(position, EPOCH))
    return one, outlet


def publication(offset: int, text: str, epoch: str = EPOCH) -> tuple[Publication, Frame]:
    return Publication("user:alice", "news", offset, epoch if offset else "", text, len(text)), frame(text)


class Way:
    """A stream, what waits for it, and the subscription at the end."""

    def __init__(self, one: Subscription) -> None:
        """Up, and empty."""
        self.one = one
        self.up = True
        self.stream: list[str] = []
        self.waiting: list[str] = []
        self.numbers = 0

    def publish(self) -> None:
        """From this node, which lets it wait and delivers it live while the broker is lost."""
        self.numbers += 1
        if self.up:
            self.append(f"{self.numbers}")
        else:
            self.waiting.append(f"{self.numbers}")
            self.one.deliver(*publication(0, self.waiting[-1]))

    def publish_elsewhere(self) -> None:
        """From another node."""
        self.numbers += 1
        self.append(f"{self.numbers} from elsewhere")

    def append(self, text: str) -> None:
        """Into the stream, and here if it can."""
        self.stream.append(text)
        if self.up:
            self.one.deliver(*publication(len(self.stream), text))

    def lose(self) -> None:
        """The broker is lost."""
        self.one.interrupt()
        self.up = False

    def restore(self, lost_at: int = -1) -> None:
        """It is back, and perhaps lost again after so many steps; as `Flusher.catch_up` does it."""
        self.up = True
        self.one.hold()
        while self.waiting and lost_at:
            lost_at -= 1
            self.append(self.waiting.pop(0))
            self.one.skip(len(self.stream))
        if lost_at:
            self.publish_elsewhere()
            missed = [publication(at, text) for at, text in enumerate(self.stream, 1) if at > self.one.offset]
            self.publish_elsewhere()  # it comes live, and what was read does not know of it
            self.one.catch_up(Position(len(self.stream) - 1, EPOCH), missed)
        else:
            self.lose()
        self.one.release()


@given(
    st.lists(
        st.one_of(st.sampled_from(("publish", "publish_elsewhere", "lose")), st.integers(-1, 3)),
        max_size=40,
    )
)
def test_whatever_is_lost_each_is_passed_on_once_and_what_was_not_live_in_order(steps: list[str | int]) -> None:
    one, outlet = made(0)
    way = Way(one)
    for step in (*steps, -1):
        if isinstance(step, int):
            if not way.up:
                way.restore(step)
        else:
            getattr(way, step)()
    if not way.up:
        way.restore()
    assert outlet.lost == 0
    assert sorted(outlet.pushed) == sorted(way.stream)
    assert one.offset == len(way.stream)
    places = [way.stream.index(text) for text in outlet.pushed if "elsewhere" in text]
    assert places == sorted(places)
    own = [int(text) for text in outlet.pushed if "elsewhere" not in text]
    assert own == sorted(own)


def test_a_client_that_saw_the_last_live_is_told_where_it_is() -> None:
    one, outlet = made(1)
    one.interrupt()
    one.deliver(*publication(0, "two"))
    one.hold()
    one.deliver(*publication(2, "two"))
    one.skip(2)
    one.catch_up(Position(2, EPOCH), [publication(2, "two")])
    one.release()
    assert (outlet.pushed, outlet.moved_to) == (["two"], [2])
    one.deliver(*publication(3, "three"))
    assert outlet.moved_to == [2]


def test_a_client_that_gets_something_behind_what_it_saw_live_knows_where_it_is() -> None:
    one, outlet = made(1)
    one.hold()
    one.skip(2)
    one.deliver(*publication(2, "two"))
    one.deliver(*publication(3, "three"))
    one.release()
    assert (outlet.pushed, outlet.moved_to, one.offset) == (["three"], [], 3)


def test_what_was_seen_live_and_comes_late_is_waited_for_and_passed_over() -> None:
    one, outlet = made(1)
    one.hold()
    one.skip(2)
    one.skip(3)
    one.release()
    one.notify(frame("join"))
    assert not one.is_behind(Position(3, EPOCH), 1)
    one.deliver(*publication(0, "live"))
    one.deliver(*publication(2, "two"))
    assert outlet.moved_to == []
    one.deliver(*publication(3, "three"))
    assert (outlet.pushed, outlet.moved_to, one.offset) == (["join", "live"], [3], 3)
    assert one.is_behind(Position(4, EPOCH), 3)


def test_a_loss_while_something_seen_live_is_still_to_come_does_not_repeat_it() -> None:
    one, outlet = made(1)
    one.hold()
    one.skip(2)
    one.release()
    one.interrupt()
    one.deliver(*publication(2, "two"))
    one.hold()
    one.catch_up(Position(3, EPOCH), [publication(2, "two"), publication(3, "three")])
    one.release()
    assert (outlet.pushed, one.offset) == (["three"], 3)


@pytest.mark.parametrize(
    ("top", "kept"),
    [
        (Position(3, "other"), [2, 3]),
        (Position(0, "other"), []),
        (Position(3, EPOCH), [3]),
        (Position(3, EPOCH), []),
        (Position(0, EPOCH), []),
    ],
)
def test_a_gap_that_cannot_be_closed_is_a_lost_position(top: Position, kept: list[int]) -> None:
    one, outlet = made(1)
    one.interrupt()
    one.hold()
    one.deliver(*publication(4, "four"))
    one.catch_up(top, [publication(at, str(at)) for at in kept])
    one.release()
    assert (outlet.pushed, outlet.lost) == ([], 1)


def test_more_than_may_be_held_is_a_lost_position() -> None:
    one, outlet = made(0, hold_limit=10)
    one.interrupt()
    one.hold()
    one.catch_up(Position(2, EPOCH), [publication(1, "x" * 6), publication(2, "x" * 6)])
    one.release()
    assert (outlet.pushed, outlet.lost) == ([], 1)


def test_who_subscribed_while_the_broker_was_lost_starts_anew_when_it_is_back() -> None:
    one, outlet = made()
    one.interrupt()
    one.deliver(*publication(0, "held"))
    one.go_live(None)
    one.deliver(*publication(0, "live"))
    assert (outlet.pushed, outlet.lost, one.interrupted) == (["held", "live"], 0, True)
    one.hold()
    one.catch_up(Position(0, EPOCH), [])
    one.release()
    assert outlet.lost == 1


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("position", [None, Position(0, EPOCH)])
def test_who_was_subscribing_when_the_broker_came_back_is_sent_away_once(held: bool, position: Position | None) -> None:
    one, outlet = made()
    one.interrupt()
    one.hold()
    one.catch_up(Position(1, EPOCH), [publication(1, "one")])
    one.release()
    if held:
        one.deliver(*publication(2, "two"))
    one.go_live(position)
    assert (outlet.pushed, outlet.lost) == ([], 1)


@pytest.mark.parametrize("top", [Position(1, EPOCH), Position(5, "other")])
@pytest.mark.parametrize("begun", [False, True])
def test_an_ended_subscription_is_not_brought_up_to_date_or_sent_away(begun: bool, top: Position) -> None:
    one, outlet = made(0 if begun else None)
    one.interrupt()
    one.hold()
    one.end()
    one.deliver(*publication(0, "live"))
    one.catch_up(top, [publication(1, "one")])
    one.release()
    one.go_live(None)
    assert (outlet.pushed, outlet.lost, outlet.moved_to) == ([], 0, [])
