"""Requests in flight, the smoothed round-trip time, and how many requests were accepted lately.

Discovery waits for responses before it sends more. A response that never comes must not hold back all
others until its request is given up, which for a create takes minutes.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ("InFlight",)

#: Stop waiting for a response after this many round-trip times, and after this many seconds at least.
_OVERDUE_RTTS, _LEAST_OVERDUE = 4.0, 2.0
#: Seconds; stop waiting for the first response after this time.
_FIRST_OVERDUE = 10.0
#: Weight of a new round trip in the smoothed one: 1/5, between the 1/8 of TCP (RFC 6298) and the last one
#: alone.
_SMOOTHING = 0.2
#: Requests whose pace is remembered; more than that were lost without a word.
_REMEMBERED = 2048


class InFlight:
    """The requests of one limit that are in flight. Times are in seconds."""

    def __init__(self) -> None:
        self.count = 0
        #: The smoothed round-trip time, None before the first response.
        self.rtt: float | None = None
        self._overdue, self._overdue_sent_at = 0, -math.inf
        self._last_sent_at = math.inf
        self._paces: dict[float, float] = {}
        self._accepted: deque[float] = deque()  # responses of the last second

    @property
    def awaited(self) -> int:
        """How many responses are worth waiting for."""
        return self.count - self._overdue

    @property
    def overdue_at(self) -> float:
        """When no response is waited for any more, unless another request leaves."""
        patience = _FIRST_OVERDUE if self.rtt is None else max(_LEAST_OVERDUE, _OVERDUE_RTTS * self.rtt)
        return self._last_sent_at + patience

    def accepted_lately(self, now: float) -> int:
        """Return how many responses of the last second accepted a request."""
        while self._accepted and self._accepted[0] <= now - 1:
            self._accepted.popleft()
        return len(self._accepted)

    def ready_at(self, ready: float, most: int) -> float:
        """Return *ready*, or when the oldest response is waited for no more while *most* are awaited."""
        return ready if self.awaited < most else max(ready, self.overdue_at)

    def take_over(self, more: int) -> None:
        """Count *more* that left before, or fewer if it is negative."""
        self.count += more
        self._overdue = max(0, min(self._overdue, self.count))

    def on_send(self, now: float, pace: float) -> None:
        """Note that a request leaves, *pace* requests a second being sent."""
        if self.count and now >= self.overdue_at:
            self._overdue, self._overdue_sent_at = self.count, self._last_sent_at
        self.count += 1
        self._last_sent_at = now
        if len(self._paces) >= _REMEMBERED:
            self._paces.clear()
        self._paces[now] = pace

    def on_accept(self, now: float, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was accepted."""
        self._accepted.append(now)
        self.accepted_lately(now)  # forgets older ones: not every phase asks
        self.on_response(now, sent_at)

    def on_response(self, now: float, sent_at: float) -> float | None:
        """Note the response to a request that left at *sent_at*; return the pace then, None if unknown."""
        self.count -= 1
        if self._overdue and sent_at <= self._overdue_sent_at:
            self._overdue -= 1
        else:
            rtt = now - sent_at
            self.rtt = rtt if self.rtt is None else self.rtt + _SMOOTHING * (rtt - self.rtt)
        return self._paces.pop(sent_at, None)

    def on_no_response(self) -> None:
        """Note that no response will come: an overdue one, if there is one."""
        self.count -= 1
        self._overdue = max(0, self._overdue - 1)

    def on_not_sent(self) -> None:
        """Note that a request did not leave after all."""
        self.count -= 1
        self._overdue = min(self._overdue, self.count)
