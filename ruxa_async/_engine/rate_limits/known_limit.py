"""Keep a rate limit that is configured, so that the service rejects nothing.

Two conditions hold for each request, as in GCRA with a sliding window beside it:

- A sliding window: at most ``count`` requests in any ``per`` seconds.
- A token bucket: at most ``burst`` requests at once, refilled at ``count / per`` a second.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque

from ruxa_async.settings import RateLimit

__all__ = ("KnownLimit",)

#: The jitter of round trips decays by this factor with each response that shows less.
_JITTER_DECAY = 0.995
#: Seconds; a longer delay than this is a stuck request, which says nothing about the jitter of others.
_LARGEST_JITTER = 10.0


class KnownLimit:
    """A `Limit` of ``count`` requests in any ``per`` seconds, at most ``burst`` of them at once.

    The service counts a request at some moment between its departure and its response. Without a configured
    burst, a place in the window is therefore taken from the departure until ``per`` seconds after the
    response. The service then never counts more than ``count`` in ``per``, at any latency, but latency costs
    throughput.

    With a configured burst the bucket is the limit. A place is free ``per`` seconds after the departure, so
    that latency costs no throughput.

    A 429 means that the service's bucket holds fewer tokens than ours, since requests that were sent evenly
    can arrive close together. Our bucket is emptied, and owes one token more as a reserve. A bucket of one
    token has no room for a reserve: there the next request waits until the last one has surely arrived: at
    its response less the shortest round trip, or before the response, after the largest recent jitter.
    Without a configured burst the bucket shrinks to the number of requests that were accepted since it was
    full.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._count = limit.count
        self._per = limit.per
        self._is_burst_configured = limit.burst is not None
        self._bucket = _Bucket(limit.burst or limit.count, limit.count / limit.per)
        self._free: deque[float] = deque()  # when the places of answered requests are free again, sorted
        self._in_flight = 0
        self._shortest_rtt = math.inf
        self._jitter = 0.0  # seconds beyond the shortest round trip, at most and recently
        self._last_sent_at = -math.inf
        self._last_arrived_at = -math.inf  # at the latest
        self._accepted = 0  # since the bucket was full
        self._rejected_at = -math.inf

    @property
    def rate(self) -> float:
        return self._count / self._per

    def take_over(self, in_flight: int) -> None:
        self._in_flight += in_flight

    def ready_at(self, now: float) -> float:
        free = self._free
        while free and free[0] <= now:
            free.popleft()
        excess = self._in_flight + len(free) - self._count
        if excess >= len(free):
            return math.inf
        ready = self._bucket.ready_at(now)
        if self._bucket.size == 1:
            ready = max(ready, self._last_arrived_at + self._per / self._count)
        return ready if excess < 0 else max(ready, free[excess])

    def is_used_up(self, now: float) -> bool:
        """Tell whether fewer than two requests may be sent at once, because others were sent recently."""
        return self._bucket.level(now) < min(2, self._bucket.size)

    def on_send(self, now: float) -> None:
        self._in_flight += 1
        self._last_sent_at, self._last_arrived_at = now, now + self._jitter
        if self._bucket.take(now):
            self._accepted = 0

    def on_accept(self, now: float, *, sent_at: float) -> None:
        self._accepted += 1
        self._measure_rtt(now, sent_at)
        self._occupy_place(sent_at if self._is_burst_configured else now)

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:  # noqa: ARG002
        self._in_flight -= 1  # it took no place
        self._measure_rtt(now, sent_at)
        if sent_at <= self._rejected_at:
            return  # it was sent before the last rejection was known
        self._rejected_at = now
        if not self._is_burst_configured:
            self._bucket.size = max(1, min(self._accepted, self._bucket.size - 1))
        self._bucket.empty(now)

    def on_no_response(self, now: float) -> None:
        self._occupy_place(now)

    on_inconclusive = on_no_response

    def on_not_sent(self, now: float) -> None:  # noqa: ARG002 - see `Limit`
        self._in_flight -= 1
        self._bucket.refund()
        self._last_arrived_at = -math.inf

    def _occupy_place(self, counted_at: float) -> None:
        self._in_flight -= 1
        self._free.append(counted_at + self._per)
        if len(self._free) > 1 and self._free[-2] > self._free[-1]:  # responses come in any order
            insort(self._free, self._free.pop())

    def _measure_rtt(self, now: float, sent_at: float) -> None:
        rtt = now - sent_at
        self._shortest_rtt = min(self._shortest_rtt, rtt)
        self._jitter = max(min(rtt - self._shortest_rtt, _LARGEST_JITTER), self._jitter * _JITTER_DECAY)
        if sent_at == self._last_sent_at:
            self._last_arrived_at = now - self._shortest_rtt


class _Bucket:
    """A token bucket of *size*, refilled at *rate* tokens a second, and full at first."""

    def __init__(self, size: int, rate: float) -> None:
        self.size = size
        self._rate = rate
        self._tokens = float(size)
        self._at = -math.inf

    def level(self, now: float) -> float:
        return min(self.size, self._tokens + (now - self._at) * self._rate)

    def ready_at(self, now: float) -> float:
        missing = 1.0 - self.level(now)
        return now + missing / self._rate if missing > 1e-9 else now

    def take(self, now: float) -> bool:
        """Take a token, and tell whether the bucket was full."""
        level = self.level(now)
        self._tokens, self._at = level - 1.0, now
        return level > self.size - 1e-9

    def refund(self) -> None:
        self._tokens += 1.0

    def empty(self, now: float) -> None:
        """Leave no token, and owe one more if the bucket holds several."""
        self._tokens, self._at = min(self.level(now), 0.0) - (self.size > 1), now
