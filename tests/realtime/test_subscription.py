"""A subscription passes each publication on once, in order, from a position on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.realtime.broker import History, Position, Publication
from app.realtime.protocol import Frame, SubscribeRequest, frame
from app.realtime.pushes import client_info, publication_text
from app.realtime.recovery import recovered, subscribe_result
from app.realtime.subscription import Subscription
from tests.clock import ManualClock

EPOCH = "e"


class Outlet:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.pushed: list[str] = []
        self.lost = 0

    def push(self, frame: Frame) -> None:
        """See `app.realtime.subscription.Outlet`."""
        self.pushed.append(frame.text)

    def lost_position(self, subscription: Subscription) -> None:
        """See `app.realtime.subscription.Outlet`."""
        self.lost += 1
        subscription.end()

    def moved(self, subscription: Subscription) -> None:
        """See `app.realtime.subscription.Outlet`."""


def subscription(*, join_leave: bool = False, hold_limit: int = 1000) -> tuple[Subscription, Outlet]:
    outlet = Outlet()
    made = Subscription(outlet, "user:alice", "news", server_side=False, join_leave=join_leave, hold_limit=hold_limit)
    return made, outlet


def deliver(to: Subscription, *offsets: int, text: str | None = None, epoch: str = EPOCH) -> None:
    for offset in offsets:
        one = text or str(offset)
        to.deliver(Publication("user:alice", "news", offset, epoch if offset else "", one, len(one)), frame(one))


def test_what_comes_before_the_position_is_known_is_held_and_merged() -> None:
    one, outlet = subscription()
    deliver(one, 3, 4, 5, 6)
    assert outlet.pushed == []
    one.go_live(Position(4, EPOCH))
    deliver(one, 7)
    assert (outlet.pushed, one.offset, one.epoch) == (["5", "6", "7"], 7, EPOCH)


def test_what_was_seen_is_not_passed_on_again() -> None:
    one, outlet = subscription()
    one.go_live(Position(0, EPOCH))
    deliver(one, 1, 2, 2, 1, 3)
    assert outlet.pushed == ["1", "2", "3"]


def test_a_gap_is_a_lost_position_and_nothing_is_passed_on_behind_it() -> None:
    one, outlet = subscription()
    one.go_live(Position(0, EPOCH))
    deliver(one, 1, 3, 4)
    assert (outlet.pushed, outlet.lost) == (["1"], 1)


def test_a_gap_among_what_was_held_is_a_lost_position() -> None:
    one, outlet = subscription()
    deliver(one, 2, 4, 5)
    one.go_live(Position(1, EPOCH))
    assert (outlet.pushed, outlet.lost) == (["2"], 1)


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_another_epoch_is_a_lost_position_whatever_the_offset(offset: int) -> None:
    one, outlet = subscription()
    one.go_live(Position(2, EPOCH))
    deliver(one, offset, epoch="other")
    deliver(one, 3)
    assert (outlet.pushed, outlet.lost, one.offset) == ([], 1, 2)


def test_an_epoch_counts_by_its_letters() -> None:
    one, outlet = subscription()
    one.go_live(Position(0, EPOCH * 2))
    deliver(one, 1, epoch=f"{EPOCH}{EPOCH}")
    assert (outlet.pushed, outlet.lost) == (["1"], 0)


@pytest.mark.parametrize("skipped", [False, True])
def test_another_epoch_among_what_was_held_is_a_lost_position(skipped: bool) -> None:
    one, outlet = subscription()
    one.go_live(Position(0, EPOCH))
    one.hold()
    deliver(one, 1)
    deliver(one, 2, epoch="other")
    if skipped:
        one.skip(2)
    one.release()
    assert (outlet.pushed, outlet.lost, one.offset) == (["1"], 1, 1)


def test_a_publication_without_an_offset_passes_and_moves_nothing() -> None:
    one, outlet = subscription()
    deliver(one, 0, text="held")
    one.go_live(Position(4, EPOCH))
    deliver(one, 0, text="live")
    deliver(one, 5)
    assert (outlet.pushed, one.offset) == (["held", "live", "5"], 5)


def test_holding_too_much_is_a_lost_position() -> None:
    one, outlet = subscription(hold_limit=5)
    for number in range(1, 6):
        deliver(one, number)
    assert outlet.lost == 0
    deliver(one, 6, 7)
    assert (outlet.lost, outlet.pushed) == (1, [])
    one.go_live(Position(0, EPOCH))
    assert outlet.pushed == []


def test_a_hold_may_be_repeated_and_ends_with_the_last_release() -> None:
    one, outlet = subscription(hold_limit=5)
    one.go_live(Position(0, EPOCH))
    one.hold()
    one.hold()
    deliver(one, 1, 2)
    one.release()
    assert outlet.pushed == []
    one.skip(1)
    one.release()
    deliver(one, 3)
    assert (outlet.pushed, one.offset) == (["2", "3"], 3)
    one.hold()
    deliver(one, 4, 5, 6, 7, 8)
    one.release()
    assert (outlet.pushed[-1], outlet.lost) == ("8", 0)


def test_a_position_that_comes_while_held_for_another_reason_waits_for_the_release() -> None:
    one, outlet = subscription()
    one.hold()
    deliver(one, 1, 2, 3)
    one.go_live(Position(1, EPOCH))
    assert outlet.pushed == []
    one.skip(2)
    one.release()
    assert (outlet.pushed, one.offset) == (["3"], 3)


def test_a_skipped_offset_that_lies_behind_moves_nothing_back() -> None:
    one, outlet = subscription()
    one.hold()
    deliver(one, 1, 2)
    one.skip(1)
    one.go_live(Position(2, EPOCH))
    one.release()
    assert (outlet.pushed, one.offset) == ([], 2)


def test_a_skipped_offset_behind_a_gap_does_not_hide_the_gap() -> None:
    one, outlet = subscription()
    one.go_live(Position(2, EPOCH))
    one.hold()  # publication 3 was lost on its way; 4 was seen when it had no offset yet
    deliver(one, 4, 5)
    one.skip(4)
    one.release()
    assert (outlet.pushed, outlet.lost) == ([], 1)


def test_an_ended_subscription_passes_nothing_on_and_its_timer_is_gone() -> None:
    one, outlet = subscription(join_leave=True)
    clock = ManualClock()
    one.expiry = clock.call_later(10, lambda: None)
    deliver(one, 1)
    one.end()
    one.go_live(Position(0, EPOCH))
    one.hold()
    one.release()
    deliver(one, 2)
    one.notify(frame("join"))
    one.end()
    assert outlet.pushed == []
    assert clock.pending == 0


def test_joins_go_to_live_subscriptions_that_asked() -> None:
    for asked in (False, True):
        one, outlet = subscription(join_leave=asked)
        one.notify(frame("early"))
        one.go_live(Position(0, EPOCH))
        one.notify(frame("join"))
        assert outlet.pushed == (["join"] if asked else [])


@pytest.mark.parametrize(
    ("top", "before", "behind"),
    [
        (Position(5, EPOCH), 5, False),
        (Position(6, EPOCH), 5, True),
        (Position(5, "other"), 5, True),
        (Position(0, "other"), 5, True),
        (Position(4, EPOCH), 5, False),
        (Position(7, EPOCH), 4, False),
    ],
)
def test_who_is_behind_the_top_has_missed_something(top: Position, before: int, behind: bool) -> None:
    one, _ = subscription()
    assert not one.is_behind(top, 0)
    one.go_live(Position(5, EPOCH))
    assert one.is_behind(top, before) is behind
    one.end()
    assert not one.is_behind(top, before)


@pytest.mark.parametrize(
    ("top", "behind"), [(Position(1, EPOCH), False), (Position(2, EPOCH), True), (Position(0, "other"), True)]
)
def test_who_has_seen_what_has_not_come_yet_is_behind_all_else(top: Position, behind: bool) -> None:
    one, outlet = subscription()
    one.go_live(Position(0, EPOCH))
    one.hold()
    one.skip(1)
    one.release()
    assert one.is_behind(top, 0) is behind
    deliver(one, 1, 2)
    assert (outlet.pushed, one.is_behind(top, 1)) == (["2"], False)


def history(top: int, *offsets: int) -> History:
    return History(Position(top, EPOCH), tuple(Publication("k", "news", offset, EPOCH, "{}", 2) for offset in offsets))


@pytest.mark.parametrize(
    ("epoch", "offset", "found", "expected"),
    [
        ("", 0, history(0), True),
        (EPOCH, 5, history(5), True),
        ("", 5, history(5), True),
        ("old", 5, history(5), False),
        (EPOCH, 4, history(5), False),
        (EPOCH, 6, history(5), False),
        (EPOCH, 3, history(5, 4, 5), True),
        (EPOCH, 2, history(5, 4, 5), False),
        (EPOCH, 3, history(6, 4, 5), False),
        (EPOCH, 3, history(6, 4, 6), False),
        ("old", 3, history(5, 4, 5), False),
    ],
)
def test_recovered_means_nothing_is_missing(epoch: str, offset: int, found: History, expected: bool) -> None:
    assert recovered(SubscribeRequest(recover=True, epoch=epoch, offset=offset), found) is expected


@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from(("deliver", "hold", "release", "live")), st.integers(0, 3)), max_size=30),
)
def test_whatever_happens_each_is_passed_on_once_and_in_order_or_the_position_is_lost(
    position: int, held: int, steps: list[tuple[str, int]]
) -> None:
    one, outlet = subscription(hold_limit=10_000)
    sent, holds = 0, 0
    start: int | None = None
    for _ in range(held):
        sent += 1
        deliver(one, sent)
    for step, number in steps:
        if step == "deliver":
            for _ in range(number):
                sent += 1
                deliver(one, sent)
        elif step == "hold":
            one.hold()
            holds += 1
        elif step == "release" and holds:
            one.release()
            holds -= 1
        elif step == "live" and start is None:
            start = min(position, sent)
            one.go_live(Position(start, EPOCH))
    if start is None:
        start = min(position, sent)
        one.go_live(Position(start, EPOCH))
    for _ in range(holds):
        one.release()
    assert outlet.lost == 0
    assert outlet.pushed == [str(number) for number in range(start + 1, sent + 1)]


def test_texts_leave_zero_values_out() -> None:
    assert publication_text("1", "", 0) == '{"data":1}'
    assert publication_text("1", '{"user":"a"}', 7) == '{"data":1,"info":{"user":"a"},"offset":7}'
    assert client_info('a"', "c", "") == '{"user":"a\\"","client":"c"}'
    assert client_info("a", "c", "[1]") == '{"user":"a","client":"c","conn_info":[1]}'
    request = SubscribeRequest(recover=True, offset=3)
    missed = subscribe_result(request, history(5, 4, 5), Position(5, EPOCH), 9)
    assert (missed.offset, missed.recovered, missed.expires, len(missed.publications)) == (3, True, True, 2)
    lost = subscribe_result(request, None, Position(5, EPOCH), 0)
    assert (lost.offset, lost.recovered, lost.was_recovering, lost.expires) == (5, False, True, False)


def test_what_comes_while_what_was_missed_is_being_read_is_not_missed() -> None:
    one, outlet = subscription()
    one.go_live(Position(1, EPOCH))
    one.interrupt()
    deliver(one, 2)  # the broker is back, and nobody has asked yet what there is
    one.hold()
    deliver(one, 4, 5)  # of these, only the first one was there when the stream was read
    one.catch_up(
        Position(4, EPOCH),
        [(Publication("user:alice", "news", at, EPOCH, str(at), 1), frame(str(at))) for at in (2, 3, 4)],
    )
    one.release()
    assert (outlet.pushed, outlet.lost, one.offset) == (["2", "3", "4", "5"], 0, 5)


def test_what_is_held_when_the_broker_is_lost_again_is_left_for_the_next_time() -> None:
    one, outlet = subscription()
    one.go_live(Position(1, EPOCH))
    one.interrupt()
    one.hold()
    deliver(one, 3, 0)
    one.interrupt()
    one.release()
    assert (outlet.pushed, outlet.lost, one.offset, one.interrupted) == (["0"], 0, 1, True)


def test_who_waits_to_be_caught_up_gets_nothing_that_has_a_place_behind_what_it_missed() -> None:
    one, outlet = subscription()
    one.go_live(Position(1, EPOCH))
    one.interrupt()
    one.hold()
    deliver(one, 3, 0)
    one.release()
    assert (outlet.pushed, outlet.lost, one.offset, one.interrupted) == (["0"], 0, 1, True)


def ahead(to: Subscription, *offsets: int, epoch: str = EPOCH) -> None:
    for offset in offsets:
        text = f"{offset} live"
        to.deliver_ahead(Publication("user:alice", "news", 0, "", text, 6), frame(text), Position(offset, epoch))


def test_what_is_known_to_be_in_the_stream_goes_out_live_when_the_broker_is_lost_and_not_again_after() -> None:
    one, outlet = subscription()
    one.go_live(Position(1, EPOCH))
    one.interrupt()
    ahead(one, 1, 3, 3)  # the first one has come before
    one.hold()
    one.catch_up(
        Position(4, EPOCH),
        [(Publication("user:alice", "news", at, EPOCH, str(at), 1), frame(str(at))) for at in (2, 3, 4)],
    )
    one.release()
    assert (outlet.pushed, outlet.lost, one.offset) == (["3 live", "2", "4"], 0, 4)


def test_nothing_goes_out_ahead_of_a_position_that_is_of_another_epoch_or_not_known_or_not_interrupted() -> None:
    other, live, new = subscription(), subscription(), subscription()
    for one, _ in (other, live):
        one.go_live(Position(1, EPOCH))
    for one, _ in (other, new):
        one.interrupt()
    ahead(other[0], 2, epoch="another")
    ahead(live[0], 2)
    ahead(new[0], 2)
    new[0].go_live(None)
    assert [outlet.pushed for _, outlet in (other, live, new)] == [[], [], []]


@pytest.mark.parametrize(("position", "pushed"), [(Position(1, EPOCH), ["2 live", "3"]), (None, ["3"])])
def test_what_goes_out_ahead_waits_for_a_position_that_is_being_read(
    position: Position | None, pushed: list[str]
) -> None:
    one, outlet = subscription()
    deliver(one, 2)
    one.interrupt()
    ahead(one, 1, 2)
    deliver(one, 0, text="3")
    one.go_live(position)
    assert outlet.pushed == pushed
