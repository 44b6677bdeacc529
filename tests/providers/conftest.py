"""Threads that start at the same moment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

Together = Callable[[int, Callable[[int], Any]], list[Any]]


@pytest.fixture
def together() -> Iterator[Together]:
    """Call a function in so many threads at once, switching as often as can be; give the results in order."""

    def run(threads: int, function: Callable[[int], Any]) -> list[Any]:
        barrier = Barrier(threads, timeout=10)

        def start(number: int) -> Any:
            barrier.wait()
            return function(number)

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(start, number) for number in range(threads)]
            return [future.result(timeout=10) for future in futures]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield run
    finally:
        sys.setswitchinterval(interval)
