"""The one table that every comparison adds its rows to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

HEADINGS = ("Measured", "Of", "Median", "Lowest – highest", "Goal", "")


@dataclass(frozen=True)
class Goal:
    """A goal, what came out, and whether that is met.

    Attributes:
        text: the goal and the outcome, such as `at least 1.00 × tutorial: 1.31 ×`.
        met: whether it is met.
    """

    text: str
    met: bool


@dataclass(frozen=True)
class Row:
    """One line: what was measured of whom.

    Attributes:
        measured: what, with its unit.
        of: the subject.
        values: one for each repetition; none: it could not be measured, and `note` says why.
        goal: the goal that this value has to meet.
        note: in place of values.
    """

    measured: str
    of: str
    values: Sequence[float] = ()
    goal: Goal | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        goal, verdict = ("", "") if self.goal is None else (self.goal.text, "met" if self.goal.met else "MISSED")
        if not self.values:
            return (self.measured, self.of, self.note, "", goal, verdict)
        spread = f"{number(min(self.values))} – {number(max(self.values))}" if len(self.values) > 1 else ""
        return (self.measured, self.of, number(statistics.median(self.values)), spread, goal, verdict)


def number(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of each repetition: the two were measured one after the other, so a machine that is busy
    for a while slows both."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def at_least(text: str, least: float, value: float) -> Goal:
    """The goal that a ratio is not below some number."""
    return Goal(f"≥ {least:.2f} × {text}: {value:.2f} ×", value >= least)


def at_most(text: str, most: float, value: float) -> Goal:
    """The goal that a ratio is not above some number."""
    return Goal(f"≤ {most:.2f} × {text}: {value:.2f} ×", value <= most)


def plain(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    numeric = (2, 3)

    def cell(text: str, column: int) -> str:
        return text.rjust(widths[column]) if column in numeric else text.ljust(widths[column])

    return "\n".join("  ".join(cell(text, column) for column, text in enumerate(line)).rstrip() for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """The table for the documentation."""
    lines = [HEADINGS, ("---", "---", "---:", "---:", "---", "---"), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
