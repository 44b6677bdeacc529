"""The broker in memory against a model of plain lists, over any sequence of calls and pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.realtime.broker import Position, UnrecoverablePosition
from app.realtime.stream import KEEPING_OVERHEAD, PUBLICATION_OVERHEAD, STREAM_OVERHEAD
from tests.broker.engines import Bounds, Inbox, memory_broker
from tests.clock import ManualClock

BOUNDS = Bounds(history_size=3, history_ttl=10)
T = TypeVar("T")
keys = st.sampled_from(("user:a", "user:b"))
channels = st.sampled_from(("news", "further"))


@dataclass
class ModelStream:
    """A stream as the documentation describes it: `texts` from offset 1 on, the first `dropped` of them not kept."""

    epoch: str
    touched: float
    texts: list[str] = field(default_factory=list)
    dropped: int = 0

    def kept(self) -> list[tuple[int, str]]:
        return list(enumerate(self.texts, start=1))[self.dropped :]


class BrokerMachine(RuleBasedStateMachine):
    """Every rule does the same to both and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.broker = memory_broker(self.clock, BOUNDS)
        self.model: dict[tuple[str, str], ModelStream] = {}
        self.epochs: set[str] = set()
        self.inboxes: dict[str, Inbox] = {}
        self.expected: dict[str, list[tuple[str, int]]] = {}
        self.left: dict[str, float] = {}

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.run(self.broker.close())
        assert self.clock.pending == 0
        self.runner.close()

    def stream(self, key: str, channel: str, position: Position) -> ModelStream:
        """The model's stream; one that starts now takes the broker's epoch, which no stream had before."""
        stream = self.model.get((key, channel))
        if stream is None:
            assert position.epoch not in self.epochs
            self.epochs.add(position.epoch)
            stream = self.model[key, channel] = ModelStream(position.epoch, self.clock.monotonic())
        return stream

    @rule(key=keys, channel=channels, data=st.sampled_from(("1", '"text"', '{"a":[]}')))
    def publish(self, key: str, channel: str, data: str) -> None:
        result = self.run(self.broker.publish(key, channel, data))
        stream = self.stream(key, channel, result.position)
        stream.texts.append(f'{{"data":{data},"offset":{len(stream.texts) + 1}}}')
        stream.dropped = max(stream.dropped, len(stream.texts) - BOUNDS.history_size)
        stream.touched = self.clock.monotonic()
        assert result.position == Position(len(stream.texts), stream.epoch)
        assert result.connections == (key in self.inboxes)
        if key in self.inboxes:
            self.expected[key].append((channel, len(stream.texts)))

    @rule(key=keys, channel=channels, behind=st.integers(0, 6), limit=st.integers(-1, 4), reverse=st.booleans())
    def read(self, key: str, channel: str, behind: int, limit: int, reverse: bool) -> None:
        everything = self.run(self.broker.history(key, channel))
        stream = self.stream(key, channel, everything.position)
        top = Position(len(stream.texts), stream.epoch)
        assert everything.position == top
        assert [(got.offset, got.text) for got in everything.publications] == stream.kept()
        since = Position(max(0, top.offset + 1 - behind), stream.epoch)
        part = self.run(self.broker.history(key, channel, since=since, limit=limit, reverse=reverse))
        expected = [item for item in stream.kept() if (item[0] < since.offset if reverse else item[0] > since.offset)]
        if reverse:
            expected.reverse()
        assert part.position == top
        assert [(got.offset, got.text) for got in part.publications] == expected[: limit if limit >= 0 else None]

    @rule(key=keys, channel=channels, pick=st.randoms(use_true_random=False))
    def recover_from_another_epoch(self, key: str, channel: str, pick: Any) -> None:
        if not self.epochs:
            return
        epoch = pick.choice(sorted(self.epochs))
        known = self.model.get((key, channel))
        if known is not None and known.epoch == epoch:
            assert self.run(self.broker.history(key, channel, since=Position(0, epoch))).position.epoch == epoch
        else:
            with pytest.raises(UnrecoverablePosition):
                self.run(self.broker.history(key, channel, since=Position(0, epoch)))
            self.stream(key, channel, self.run(self.broker.history(key, channel, limit=0)).position)

    @rule(key=keys)
    def subscribe(self, key: str) -> None:
        self.inboxes[key] = Inbox()
        self.expected[key] = []
        self.left.pop(key, None)
        self.run(self.broker.subscribe(key, self.inboxes[key]))

    @rule(key=keys)
    def unsubscribe(self, key: str) -> None:
        inbox = self.inboxes.pop(key, None)
        if inbox is not None:
            self.broker.unsubscribe(key, inbox)
            self.left[key] = self.clock.monotonic()

    @rule(seconds=st.integers(1, 12))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        horizon = self.clock.monotonic() - BOUNDS.history_ttl
        for (key, channel), stream in tuple(self.model.items()):
            if stream.touched <= horizon:
                stream.dropped = len(stream.texts)
                if key not in self.inboxes and self.left.get(key, horizon) <= horizon:
                    del self.model[key, channel]

    @invariant()
    def each_subscriber_got_all_in_order(self) -> None:
        for key, inbox in self.inboxes.items():
            assert [(got.channel, got.offset) for got in inbox.publications] == self.expected[key]
            assert {got.key for got in inbox.publications} <= {key}

    @invariant()
    def nothing_else_is_held(self) -> None:
        stats = self.broker.stats()
        assert stats.streams == len(self.model)
        assert stats.users == len({key for key, _ in self.model})
        assert stats.subscribers == len(self.inboxes)
        kept = [text for stream in self.model.values() for _, text in stream.kept()]
        horizon = self.clock.monotonic() - BOUNDS.history_ttl
        living = sum(stream.touched > horizon for stream in self.model.values())
        keeping = sum(bool(stream.kept()) for stream in self.model.values())
        of_streams = living * STREAM_OVERHEAD + keeping * KEEPING_OVERHEAD
        assert stats.bytes == of_streams + sum(PUBLICATION_OVERHEAD + len(text) for text in kept)


def test_the_broker_does_what_plain_lists_would() -> None:
    run_state_machine_as_test(BrokerMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
