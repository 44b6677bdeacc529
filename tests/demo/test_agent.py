"""What the agent does with a message."""

from __future__ import annotations

import json

import pytest

from app.demo.agent import choose, respond

Event = tuple[str, dict[str, object], str | None]


class Recorder:
    """Keeps what is emitted."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def emit(self, type: str, data: object, thread_id: str | None = None) -> None:
        # By way of JSON, as on the wire.
        self.events.append((type, json.loads(json.dumps(data)), thread_id))

    def data(self, type: str) -> dict[str, object]:
        return next(data for name, data, _ in self.events if name == type)


async def answer(text: str) -> Recorder:
    recorder = Recorder()
    await respond(recorder.emit, text, "t1", pace=0)
    return recorder


async def test_the_five_events_come_in_order_with_the_tokens_before_the_last() -> None:
    recorder = await answer("What is 12 * (3 + 4)?")
    types = [name for name, _, _ in recorder.events]
    tokens = types.count("token")
    assert tokens > 5
    assert types == [
        *("agent_started", "agent_thinking", "tool_executing", "tool_completed"),
        *("token",) * tokens,
        "agent_completed",
    ]
    assert {thread for _, _, thread in recorder.events} == {"t1"}


async def test_the_tokens_joined_are_the_answer() -> None:
    recorder = await answer("What is 12 * (3 + 4)?")
    tokens = "".join(str(data["text"]) for name, data, _ in recorder.events if name == "token")
    assert recorder.data("agent_completed") == {"text": tokens}
    assert tokens == "12 * (3 + 4) = 84. I did it in 2 steps: 3 + 4 = 7; 12 × 7 = 84."


async def test_arithmetic_goes_to_the_calculator_which_shows_its_steps() -> None:
    recorder = await answer("What is 12 * (3 + 4)?")
    assert recorder.data("tool_executing") == {"tool": "calculator", "input": "12 * (3 + 4)"}
    assert recorder.data("tool_completed") == {
        "tool": "calculator",
        "output": "84",
        "steps": ["3 + 4 = 7", "12 × 7 = 84"],
    }


async def test_a_refused_calculation_is_explained() -> None:
    recorder = await answer("what about 1 / 0 then")
    assert recorder.data("tool_completed") == {"tool": "calculator", "error": "division by zero has no result"}
    assert recorder.data("agent_completed") == {"text": "I could not work out 1 / 0: division by zero has no result."}


async def test_a_text_without_arithmetic_has_its_words_counted() -> None:
    recorder = await answer("Hello, who are you?")
    assert recorder.data("tool_completed") == {"tool": "counter", "output": {"words": 4, "characters": 19}}
    assert "4 words and 19 characters" in str(recorder.data("agent_completed")["text"])


async def test_a_long_calculation_makes_small_events() -> None:
    recorder = await answer("2**900" + "+1" * 97)
    assert recorder.data("tool_completed")["steps"] != []
    assert str(recorder.data("agent_completed")["text"]).endswith("; and 92 more.")
    assert all(len(json.dumps(data)) < 8000 for _, data, _ in recorder.events)


@pytest.mark.parametrize(
    ("text", "tool", "argument"),
    [
        ("2+2", "calculator", "2+2"),
        ("Well... 2 + 2...", "calculator", "2 + 2"),
        ("Call 555-1234, or 3 × 4 × 5 × 6", "calculator", "3 × 4 × 5 × 6"),
        ("2 * -3", "calculator", "2 * -3"),
        ("-(4) ** 2!", "calculator", "-(4) ** 2"),
        ("I have 2 dogs", "counter", "I have 2 dogs"),
        ("rm -rf / --no-preserve-root", "counter", "rm -rf / --no-preserve-root"),
        ("__import__('os')", "counter", "__import__('os')"),
        ("(((", "counter", "((("),
    ],
)
def test_the_longest_arithmetic_in_the_text_decides(text: str, tool: str, argument: str) -> None:
    chosen, given = choose(text)
    assert (chosen.name, given) == (tool, argument)


async def test_an_event_that_cannot_be_published_ends_the_answer() -> None:
    seen: list[str] = []

    async def emit(type: str, data: object, thread_id: str | None = None) -> None:
        seen.append(type)
        if type == "tool_executing":
            raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        await respond(emit, "1 + 1", "t1", pace=0)
    assert seen == ["agent_started", "agent_thinking", "tool_executing"]
