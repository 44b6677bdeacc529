"""Pings of the client protocol: who does not answer is gone."""

from __future__ import annotations

import random
from collections.abc import Callable

from app.realtime.clock import Clock, Timer
from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.outbound import OutboundQueue
from app.realtime.protocol import PING


class Heartbeat:
    """Sends a ping every interval and waits for its pong.

    Args:
        clock: its timers.
        interval: seconds from a pong to the next ping.
        timeout: seconds to answer.
        outbound: where pings go.
        disconnect: ends the connection.
    """

    __slots__ = ("_awaits_pong", "_clock", "_disconnect", "_interval", "_outbound", "_timeout", "_timer")

    def __init__(
        self,
        clock: Clock,
        *,
        interval: float,
        timeout: float,
        outbound: OutboundQueue,
        disconnect: Callable[[Disconnect], None],
    ) -> None:
        """Begin; the first ping comes at random within an interval, so that clients that came together spread out."""
        self._clock = clock
        self._interval = interval
        self._timeout = timeout
        self._outbound = outbound
        self._disconnect = disconnect
        self._awaits_pong = False
        self._timer: Timer = clock.call_later(random.uniform(0, interval), self._beat)  # noqa: S311 - spread, no secret

    def pong(self) -> None:
        """The client answered.

        Raises:
            Disconnect: 3501, it was not asked.
        """
        if not self._awaits_pong:
            raise Disconnect(DisconnectCode.BAD_REQUEST, "bad request: a pong without a ping")
        self._awaits_pong = False
        self._timer.cancel()
        self._timer = self._clock.call_later(self._interval, self._beat)

    def stop(self) -> None:
        """Send no more pings."""
        self._timer.cancel()

    def _beat(self) -> None:
        self._awaits_pong = True
        if self._outbound.put(PING):
            self._timer = self._clock.call_later(self._timeout, self._no_pong)
        else:
            self._disconnect(Disconnect(DisconnectCode.SLOW))

    def _no_pong(self) -> None:
        self._disconnect(Disconnect(DisconnectCode.NO_PONG))
