"""A configured rate limit, kept so that the service rejects nothing.

A request is sent only if both have room:

- A sliding window: at most ``count`` requests in any ``per`` seconds.
- A token bucket: at most ``burst`` requests at once, refilled at ``count / per`` a second.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque

from ruxa_async.settings import RateLimit

__all__ = ("KnownLimit",)

#: With each response of less jitter, the largest recent jitter is multiplied by this factor.
_JITTER_DECAY = 0.995
#: Seconds; jitter is cut to this, since a request that takes longer is stuck and says nothing about others.
_LARGEST_JITTER = 10.0


#: Seconds; after a process took over from another, a window counts as used up for no longer than this. A 429
#: costs nothing, and without this bound a limit of a day would stop a client for a day.
_LONGEST_USED_UP = 60.0


class KnownLimit:
    """A `Limit` of ``count`` requests in any ``per`` seconds, at most ``burst`` of them at once.

    The service counts a request at some moment between its departure and its response. Without a configured
    burst, a request therefore takes a place in the window from its departure until ``per`` seconds after its
    response. The service then never counts more than ``count`` in ``per``, but latency costs throughput.

    With a configured burst, a place is free again ``per`` seconds after the departure, so that latency costs
    no throughput. A request that waits for the journal (`hold_back`) departs later, perhaps with others at
    once. Until then the bucket is refilled only as far as its tokens and the requests held back fit into it.

    Requests that were sent evenly can arrive close together. A 429 therefore means that the service's bucket
    holds fewer tokens than ours. Ours is emptied, and owes one token more as a reserve. Without a configured
    burst it also shrinks to the number of requests that were accepted since it was full. A bucket of one
    token has no room for a reserve. There the next request is sent one interval after the last one has
    arrived at the latest: its response time less the shortest round trip or, before the response, its
    departure plus the largest recent jitter.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._count = limit.count
        self._per = limit.per
        self._is_burst_configured = limit.burst is not None
        self._bucket = _Bucket(limit.burst or limit.count, limit.count / limit.per)
        self._free: deque[float] = deque()  # when the places of answered requests are free again, sorted
        self._in_flight = 0
        # When the requests in flight departed, the oldest first; those of another limit count as long ago.
        self._departures: deque[float] = deque()
        self._shortest_rtt = math.inf
        self._jitter = 0.0  # seconds; the largest recent round trip less the shortest one
        self._last_sent_at = -math.inf
        self._last_arrived_at = -math.inf  # when the last request reached the service, at the latest
        self._accepted = 0  # since the bucket was full
        self._rejected_at = -math.inf

    @property
    def rate(self) -> float:
        return self._count / self._per

    def use_up(self, at: float) -> None:
        """Count the limit as used up at the time *at*, by requests of another process."""
        if self._is_burst_configured:
            self._bucket.use_up(at)
        else:
            self._free.extend([at + min(self._per, _LONGEST_USED_UP)] * self._count)

    def take_over(self, in_flight: int) -> None:
        self._in_flight += in_flight
        self._departures.extendleft([-math.inf] * in_flight)
        for _ in range(min(-in_flight, len(self._departures))):
            self._departures.popleft()

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
        """Tell whether the bucket has fewer than two tokens left (or fewer than one, if it holds one)."""
        return self._bucket.level(now) < min(2, self._bucket.size)

    def on_send(self, now: float) -> None:
        self._in_flight += 1
        self._departures.append(now)
        self._last_sent_at, self._last_arrived_at = now, now + self._jitter
        if self._bucket.take(now):
            self._accepted = 0

    def hold_back(self) -> None:
        """Note that the request that was just counted departs only when `on_departure` says so."""
        self._count_held(self._departures.pop())

    def on_departure(self, now: float) -> None:
        """Note that a request that was held back departs."""
        if len(self._departures) < self._in_flight:  # another limit may have counted it
            self._departures.append(now)
        self._count_held(now)

    def on_accept(self, now: float, *, sent_at: float) -> None:
        self._accepted += 1
        self._measure_rtt(now, sent_at)
        departed_at = self._end_flight(now, sent_at)
        self._occupy_place(departed_at if self._is_burst_configured else now)

    def on_reject(self, now: float, retry_after: float | None, *, sent_at: float) -> None:  # noqa: ARG002
        self._end_flight(now, sent_at)  # it took no place
        self._measure_rtt(now, sent_at)
        if sent_at <= self._rejected_at:
            return  # it was sent before the last rejection was known
        self._rejected_at = now
        if not self._is_burst_configured:
            self._bucket.size = max(1, min(self._accepted, self._bucket.size - 1))
        self._bucket.empty(now)

    def on_no_response(self, now: float) -> None:
        self._end_flight(now, now)
        self._occupy_place(now)

    on_inconclusive = on_no_response

    def on_not_sent(self, now: float) -> None:
        self._end_flight(now, now)
        self._bucket.refund()
        self._last_arrived_at = -math.inf

    def _end_flight(self, now: float, sent_at: float) -> float:
        """Count one request in flight less; return when it departed.

        Responses come in any order. Whichever comes first is taken for that of the oldest departure: the
        others then count for longer, never shorter.
        """
        self._in_flight -= 1
        departed_at = self._departures.popleft() if self._departures else -math.inf
        self._count_held(now)
        return sent_at if departed_at == -math.inf else departed_at

    def _count_held(self, now: float) -> None:
        self._bucket.hold(max(0, self._in_flight - len(self._departures)), now)

    def _occupy_place(self, counted_at: float) -> None:
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
    """A token bucket of *size*, refilled at *rate* tokens a second, and full at first.

    Requests that are held took a token and have not departed, so the service counts them later. A bucket of
    one token leaves them out: it would otherwise stand still while a request waits.
    """

    def __init__(self, size: int, rate: float) -> None:
        self.size = size
        self._held = 0
        self._rate = rate
        self._tokens = float(size)
        self._at = -math.inf

    def level(self, now: float) -> float:
        room = self.size - self._held if self.size > 1 else 1
        return min(room, self._tokens + (now - self._at) * self._rate)

    def ready_at(self, now: float) -> float:
        missing = 1.0 - self.level(now)
        return now + missing / self._rate if missing > 1e-9 else now

    def take(self, now: float) -> bool:
        """Take a token, and tell whether the bucket was full."""
        level = self.level(now)
        self._tokens, self._at = level - 1.0, now
        return level > self.size - 1e-9

    def hold(self, requests: int, now: float) -> None:
        """Keep room for the tokens of *requests* from now on."""
        if requests != self._held:
            self._tokens, self._at, self._held = self.level(now), now, requests

    def use_up(self, at: float) -> None:
        """Leave no token at the time *at*."""
        self._tokens, self._at = 0.0, at

    def refund(self) -> None:
        self._tokens += 1.0

    def empty(self, now: float) -> None:
        """Leave no token; if the bucket holds several, owe one."""
        self._tokens, self._at = min(self.level(now), 0.0) - (self.size > 1), now
