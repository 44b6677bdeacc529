"""One run: how much of it, on which cores, and in which order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.machine import Cores

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What every comparison is told.

    Attributes:
        cores: where the server and the client run.
        quick: little of everything, to see that it works; the numbers mean less.
        users: of comparisons that let it be chosen; 0: as many as they choose.
    """

    cores: Cores
    quick: bool
    users: int = 0

    def interleaved(self, times: int, measures: Mapping[K, Callable[[], float]]) -> dict[K, list[float]]:
        """Values of each measure, taken in turns (A B A B ...), so that a busy machine is busy for all of them."""
        values: dict[K, list[float]] = {name: [] for name in measures}
        for _ in range(self.times(times)):
            for name, measure in measures.items():
                values[name].append(measure())
        return values

    async def interleaved_async(self, times: int, measures: Mapping[K, Callable[[], Awaitable[T]]]) -> dict[K, list[T]]:
        """The same for what has to be awaited."""
        values: dict[K, list[T]] = {name: [] for name in measures}
        for _ in range(self.times(times)):
            for name, measure in measures.items():
                values[name].append(await measure())
        return values

    def times(self, full: int) -> int:
        """How many repetitions: all, or few in a quick run."""
        return min(2, full) if self.quick else full

    def seconds(self, full: float) -> float:
        """How long: all of it, or a tenth in a quick run."""
        return full / 10 if self.quick else full

    def amount(self, full: int) -> int:
        """How many events, users or requests: all, or a tenth in a quick run; a multiple of 100."""
        return max(100, full // 10 // 100 * 100) if self.quick else full
