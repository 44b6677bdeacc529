"""The clock of the tests: the one that applications use for theirs."""

from app.testing import ManualClock, ManualTimer

__all__ = ("ManualClock", "ManualTimer")
