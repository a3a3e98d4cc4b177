"""The requests in flight, the smoothed round-trip time, and the number accepted in the last second.

Discovery waits for responses before it sends more requests. A response that never comes would stop it until
the request times out: minutes for a create. So all responses are *overdue* once four round-trip times passed
since the last request was sent, and discovery no longer waits for them.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ("InFlight",)

#: Responses are overdue after four smoothed round-trip times, but not before 2 s.
_OVERDUE_RTTS, _LEAST_OVERDUE = 4.0, 2.0
#: Seconds after which a response is overdue while no round-trip time is known.
_FIRST_OVERDUE = 10.0
#: Weight of a new round-trip time in the moving average (EWMA). TCP uses 1/8 (RFC 6298).
_SMOOTHING = 0.2
#: A round-trip time counts as twice the average at most: a blocked event loop notices responses late.
_LARGEST_INCREASE = 2.0
#: Requests whose pace is kept at most: those without a response would fill the memory.
_REMEMBERED = 2048


class InFlight:
    """The requests in flight of one limit. Times are in seconds, a *pace* is in requests a second."""

    def __init__(self) -> None:
        self.count: int = 0
        #: The smoothed round-trip time, None before the first response.
        self.rtt: float | None = None
        self._overdue, self._overdue_sent_at = 0, -math.inf
        self._last_sent_at = math.inf
        self._paces: dict[float, float] = {}
        self._accepted: deque[float] = deque()  # when requests were accepted, in the last second

    @property
    def awaited(self) -> int:
        """The number of requests in flight whose responses are not overdue."""
        return self.count - self._overdue

    @property
    def overdue_at(self) -> float:
        """When all responses in flight are overdue, unless another request is sent."""
        patience = _FIRST_OVERDUE if self.rtt is None else max(_LEAST_OVERDUE, _OVERDUE_RTTS * self.rtt)
        return self._last_sent_at + patience

    def accepted_lately(self, now: float) -> int:
        """Return how many requests were accepted in the last second."""
        while self._accepted and self._accepted[0] <= now - 1:
            self._accepted.popleft()
        return len(self._accepted)

    def ready_at(self, ready: float, most: int) -> float:
        """Return *ready*; if *most* responses are awaited already, not before they are overdue."""
        return ready if self.awaited < most else max(ready, self.overdue_at)

    def take_over(self, more: int) -> None:
        """Count *more* requests that were sent before, or fewer if it is negative."""
        self.count += more
        self._overdue = max(0, min(self._overdue, self.count))

    def on_send(self, now: float, pace: float) -> None:
        """Record that a request is sent, and keep the *pace* at which requests are sent now."""
        if self.count and now >= self.overdue_at:
            self._overdue, self._overdue_sent_at = self.count, self._last_sent_at
        self.count += 1
        self._last_sent_at = now
        if len(self._paces) >= _REMEMBERED:
            self._paces.clear()
        self._paces[now] = pace

    def on_accept(self, now: float, sent_at: float) -> None:
        self._accepted.append(now)
        self.accepted_lately(now)  # drops older ones
        self.on_response(now, sent_at)

    def on_response(self, now: float, sent_at: float) -> float | None:
        """Note the response to the request sent at *sent_at*; return its pace, None if unknown."""
        self.count -= 1
        if self._overdue and sent_at <= self._overdue_sent_at:
            self._overdue -= 1
        else:
            rtt, average = now - sent_at, self.rtt
            if average is None:
                self.rtt = rtt
            else:
                self.rtt = average + _SMOOTHING * (min(rtt, _LARGEST_INCREASE * average) - average)
        return self._paces.pop(sent_at, None)

    def on_no_response(self) -> None:
        """Record that a request was sent and no response will come; it is an overdue one if there is any."""
        self.count -= 1
        self._overdue = max(0, self._overdue - 1)

    def on_not_sent(self) -> None:
        self.count -= 1
        self._overdue = min(self._overdue, self.count)
