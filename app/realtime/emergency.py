"""Emergency by rule: entered when the process is about to be overwhelmed, left when it has been well for a while."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from app.realtime.backlog import Backlog
from app.realtime.clock import Clock
from app.realtime.control import BATCH, Control
from app.realtime.lifecycle import LifecycleLog
from app.realtime.manager import UserManager
from app.realtime.metrics import Metrics
from app.realtime.modes import ModeKind, ModePolicy

logger = logging.getLogger(__name__)

MEBIBYTE = 1024 * 1024


class EmergencyOptions(msgspec.Struct, frozen=True):
    """The rules; see `config.sections` for each."""

    memory_bytes: int
    queue_bytes: int
    error_share: float
    error_seconds: float
    error_samples: int
    leave_share: float
    leave_seconds: float
    check_interval: float

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are on, by name of the rule."""
        rules = {
            "memory_bytes": self.memory_bytes,
            "queue_bytes": self.queue_bytes,
            "error_share": self.error_share,
        }
        return {name: limit for name, limit in rules.items() if limit}


class Reading(msgspec.Struct, frozen=True):
    """What the rules are about, at one moment.

    Attributes:
        memory_bytes: resident memory of the process.
        queue_bytes: what waits for clients and for the broker.
        attempts, failures: publishes and commands since the start, and how many of them went wrong.
    """

    memory_bytes: int = 0
    queue_bytes: int = 0
    attempts: int = 0
    failures: int = 0


class Alarm:
    """Says from readings, one after the other, whether there is an emergency.

    Any value over its limit begins it. It ends when all have been below `leave_share` of their limits in every reading
    of the last `leave_seconds`.

    Args:
        options: the rules.
    """

    def __init__(self, options: EmergencyOptions) -> None:
        """All is well."""
        self._options = options
        self._limits = options.limits
        self._counts: deque[tuple[float, int, int]] = deque()
        self._calm_since: float | None = None
        self._rule: str | None = None

    @property
    def rule(self) -> str | None:
        """The rule that declared the emergency; None: there is none."""
        return self._rule

    def values(self, reading: Reading, now: float) -> dict[str, float]:
        """What each rule that is on sees."""
        share = self._error_share(reading, now)
        seen = {"memory_bytes": reading.memory_bytes, "queue_bytes": reading.queue_bytes, "error_share": share}
        return {name: seen[name] for name in self._limits}

    def judge(self, values: dict[str, float], now: float) -> bool:
        """Take the values of a reading; whether an emergency began or ended with it.

        Args:
            now: steady seconds.
        """
        shares = {name: value / self._limits[name] for name, value in values.items()}
        worst = max(shares, key=lambda name: shares[name], default=None)
        if worst is None:
            return False
        if self._rule is None:
            if shares[worst] <= 1:
                return False
            self._rule, self._calm_since = worst, None
            return True
        if shares[worst] >= self._options.leave_share:
            self._calm_since = None
            return False
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since < self._options.leave_seconds:
            return False
        self._rule = None
        return True

    def _error_share(self, reading: Reading, now: float) -> float:
        """Of what was tried since the reading that is just older than the window, or the oldest there is."""
        counts = self._counts
        counts.append((now, reading.attempts, reading.failures))
        while len(counts) > 1 and counts[1][0] <= now - self._options.error_seconds:
            counts.popleft()
        _, attempts, failures = counts[0]
        attempts, failures = reading.attempts - attempts, reading.failures - failures
        return failures / attempts if attempts >= self._options.error_samples else 0.0


class EmergencyWatch:
    """Looks at the process from time to time and sets, or ends, an emergency for all.

    Used in the event loop of the gateway alone.

    Args:
        options: the rules.
        clock: paces it.
        policy: where the emergency is set.
        control: gives managers their new mode.
        lifecycle: knows the managers, whose connections have queues.
        backlog: what waits for the broker.
        metrics: what went well and what did not.
        memory: resident memory of the process, in bytes.
    """

    def __init__(
        self,
        *,
        options: EmergencyOptions,
        clock: Clock,
        policy: ModePolicy,
        control: Control,
        lifecycle: LifecycleLog[UserManager],
        backlog: Backlog,
        metrics: Metrics,
        memory: Callable[[], int],
    ) -> None:
        """All is well."""
        self._options = options
        self._alarm = Alarm(options)
        self._clock = clock
        self._policy = policy
        self._control = control
        self._lifecycle = lifecycle
        self._backlog = backlog
        self._metrics = metrics
        self._memory = memory

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to stop: looks in the background, if any rule is on."""
        watcher = asyncio.create_task(self._watch()) if self._options.limits else None
        try:
            yield
        finally:
            if watcher is not None:
                watcher.cancel()
                await asyncio.wait((watcher,))

    async def check(self) -> None:
        """Look once, and do what follows.

        Raises:
            BrokerError: the mode changed, and what waited could not be published; it waits on.
            IsolationViolation: see `Control.set_mode`.
        """
        reading = await self._read()
        now = self._clock.monotonic()
        values = self._alarm.values(reading, now)
        if not self._alarm.judge(values, now):
            return
        rule = self._alarm.rule
        if rule is None:
            logger.warning("emergency over: %s", self._described(values))
            self._policy.clear_incident(ModeKind.EMERGENCY)
        else:
            logger.error("emergency by rule %s: %s", rule, self._described(values))
            # Clients are told which rule, and no figures: those are the operators' business.
            self._policy.set_incident(ModeKind.EMERGENCY, f"rule: {rule}")
            self._metrics.emergencies.labels(rule).inc()
        self._metrics.emergency.set(rule is not None)
        await self._control.refresh_modes()

    async def _watch(self) -> None:
        while True:
            due = asyncio.Event()
            timer = self._clock.call_later(self._options.check_interval, due.set)
            try:
                await due.wait()
            finally:
                timer.cancel()
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - the next look may fare better
                logger.error("a look for emergencies failed: %s", type(error).__name__)

    async def _read(self) -> Reading:
        limits = self._options.limits
        return Reading(
            memory_bytes=self._memory() if "memory_bytes" in limits else 0,
            queue_bytes=await self._queued() if "queue_bytes" in limits else 0,
            attempts=self._metrics.attempts() if "error_share" in limits else 0,
            failures=self._metrics.failures() if "error_share" in limits else 0,
        )

    async def _queued(self) -> int:
        # Counting along would cost every event; this costs every look, in slices.
        queued = self._backlog.size
        for number, manager in enumerate(self._lifecycle.each(), 1):
            queued += manager.connections.queued_bytes
            if number % BATCH == 0:
                await asyncio.sleep(0)
        return queued

    def _described(self, values: dict[str, float]) -> str:
        limits = self._options.limits
        shown = (f"{name} {_amount(name, value)} of {_amount(name, limits[name])}" for name, value in values.items())
        return ", ".join(shown)


def _amount(rule: str, value: float) -> str:
    return f"{value:.1%}" if rule == "error_share" else f"{value / MEBIBYTE:.1f} MiB"
