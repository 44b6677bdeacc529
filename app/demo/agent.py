"""A small agent: it picks a tool for what was written, runs it, and says what it did, token by token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from app.demo.calculator import CalculationError, calculate

MAX_STEPS_TOLD: Final = 6  # keeps an event small, whatever was typed

# A run of what arithmetic is written with, and in it an operator between two operands.
_ARITHMETIC: Final = re.compile(r"[-+*/%^×·÷−().\d ]+")
_OPERATION: Final = re.compile(r"[\d.)] *[-+*/%^×·÷−]+ *[-+−(.\d]")


class Emit(Protocol):
    """Publishes one event to the user; `UserManager.emit` is one."""

    def __call__(self, type: str, data: object, thread_id: str | None = None) -> Awaitable[object]:
        """Publish `data`, which must be JSON-able, as an event of this type."""


@dataclass(frozen=True)
class Outcome:
    """What a tool found: `data` for `tool_completed`, and the `answer` for the person."""

    data: dict[str, object]
    answer: str


@dataclass(frozen=True)
class Tool:
    """Something the agent can do. `run` is quick: it runs in the event loop."""

    name: str
    reason: str
    run: Callable[[str], Outcome]


def choose(text: str) -> tuple[Tool, str]:
    """The tool for `text`, and its input: the longest arithmetic in the text, or else the whole text."""
    candidates = (run.strip(" .") for run in _ARITHMETIC.findall(text))
    expression = max((run for run in candidates if _OPERATION.search(run)), key=len, default="")
    return (_CALCULATOR, expression) if expression else (_COUNTER, text)


async def respond(emit: Emit, text: str, thread_id: str, *, pace: float = 0.03) -> None:
    """Answer `text` with events of the thread: `agent_started`, `agent_thinking`, `tool_executing`, `tool_completed`,
    one `token` for each word of the answer, `agent_completed`.

    Args:
        emit: publishes an event to the user; what it raises ends the answer.
        pace: seconds between two tokens.
    """
    tool, argument = choose(text)
    await emit("agent_started", {"agent": "bulkhead-demo"}, thread_id)
    await emit("agent_thinking", {"text": tool.reason}, thread_id)
    await emit("tool_executing", {"tool": tool.name, "input": argument}, thread_id)
    outcome = tool.run(argument)
    await emit("tool_completed", {"tool": tool.name, **outcome.data}, thread_id)
    for token in re.findall(r"\S+\s*", outcome.answer):
        await asyncio.sleep(pace)
        await emit("token", {"text": token}, thread_id)
    await emit("agent_completed", {"text": outcome.answer}, thread_id)


def _calculate(expression: str) -> Outcome:
    try:
        calculation = calculate(expression)
    except CalculationError as error:
        return Outcome({"error": str(error)}, f"I could not work out {expression}: {error}.")
    told = calculation.steps[:MAX_STEPS_TOLD]
    more = len(calculation.steps) - len(told)
    sign = "=" if calculation.exact else "≈"
    answer = f"{calculation.expression} {sign} {calculation.result}"
    if len(calculation.steps) > 1:
        answer += f". I did it in {len(calculation.steps)} steps: {'; '.join(told)}"
        answer += f"; and {more} more" if more else ""
    return Outcome({"output": calculation.result, "steps": told}, f"{answer}.")


def _count(text: str) -> Outcome:
    words, characters = len(text.split()), len(text)
    counted = f"{words} {'word' if words == 1 else 'words'} and {characters} characters"
    answer = f"I found no arithmetic, so I counted: {counted}. Ask me to work something out, such as 12 * (3 + 4)."
    return Outcome({"output": {"words": words, "characters": characters}}, answer)


_CALCULATOR: Final = Tool("calculator", "There is arithmetic in this: I will work it out.", _calculate)
_COUNTER: Final = Tool("counter", "There is no arithmetic in this: I will count its words.", _count)
