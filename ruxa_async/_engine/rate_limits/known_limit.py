"""Keep a rate limit that is configured."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque

from ruxa_async.settings import RateLimit

__all__ = ("KnownLimit",)

#: How much of the spread of trips is still believed after one more that took no longer than the shortest.
_FADING = 0.995
#: Seconds. What took so much longer was stuck, which says nothing of other trips.
_MOST_SPREAD = 10.0


class KnownLimit:
    """Keep a limit of ``count`` requests in any ``per`` seconds, at most ``burst`` of them back to back.

    The service counts a request at some moment between its leaving and its answer. So a place is taken when it
    leaves, and is free again ``per`` seconds after its answer came: however the trip was, the service never sees
    more than ``count`` in ``per``.

    A burst is a bucket of that size, filling with ``count / per``. Where one was told, the bucket is what the service
    has, and trips must not be paid for with the rate: places are free ``per`` seconds after the request left, so that the
    service may count what left evenly a little unevenly.

    A refusal says that the service's bucket is emptier than ours, for what was spread here may have bunched on the
    way: ours is emptied, and one request more, so that each leaves more room for the next. A bucket of one has no
    such room, so there the next request waits until the one before has surely arrived, as far as its answer tells,
    or the trips before did. If no burst was told, the service takes no more back to back than it just did.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._count = limit.count
        self._per = limit.per
        self._told = limit.burst is not None
        self._bucket = _Bucket(limit.burst or limit.count, limit.count / limit.per)
        self._free: deque[float] = deque()  # when the places of answered requests are free again
        self._on_wire = 0
        self._shortest = math.inf
        self._spread = 0.0  # what trips took beyond the shortest, at most and lately
        self._last = -math.inf  # when the last request left
        self._arrived = -math.inf  # when it arrived, at the latest
        self._run = 0  # how many were let through since the bucket was full
        self._known = -math.inf

    def take_over(self, on_wire: int) -> None:
        """Answer for *on_wire* requests that left before."""
        self._on_wire += on_wire

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave, infinity if only an answer can tell."""
        free = self._free
        while free and free[0] <= now:
            free.popleft()
        over = self._on_wire + len(free) - self._count
        if over >= len(free):
            return math.inf
        ready = self._bucket.ready_at(now)
        if self._bucket.size == 1:
            ready = max(ready, self._arrived + self._per / self._count)
        return ready if over < 0 else max(ready, free[over])

    def used_up(self, now: float) -> bool:
        """Tell whether less than two requests may leave at once, though more might if none had lately."""
        return self._bucket.level(now) < min(2, self._bucket.size)

    def on_send(self, now: float) -> None:
        """Note that a request leaves."""
        self._on_wire += 1
        self._last, self._arrived = now, now + self._spread
        if self._bucket.take(now):
            self._run = 0

    def on_accept(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was let through."""
        self._run += 1
        self._timed(now, sent_at)
        self.answered(sent_at if self._told else now)

    def on_reject(self, now: float, *, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was not, so that it took no place."""
        self._on_wire -= 1
        self._timed(now, sent_at)
        if sent_at <= self._known:
            return  # it left before the last no was known, so it is no news
        self._known = now
        if not self._told:
            self._bucket.shrink(max(1, min(self._run, self._bucket.size - 1)))
        self._bucket.empty(now)

    def answered(self, at: float) -> None:
        """Note a request that the service counted at the time *at* at the latest."""
        self._on_wire -= 1
        self._free.append(at + self._per)
        if len(self._free) > 1 and self._free[-2] > self._free[-1]:  # answers come in any order
            insort(self._free, self._free.pop())

    def on_not_sent(self) -> None:
        """Note that a request did not leave after all, so that its place and its token are free again."""
        self._on_wire -= 1
        self._bucket.refund()
        self._arrived = -math.inf

    def _timed(self, now: float, sent_at: float) -> None:
        rtt = now - sent_at
        self._shortest = min(self._shortest, rtt)
        self._spread = max(min(rtt - self._shortest, _MOST_SPREAD), self._spread * _FADING)
        if sent_at == self._last:
            self._arrived = now - self._shortest


class _Bucket:
    """A bucket of *size* tokens that was full for ever and fills with *rate* a second."""

    def __init__(self, size: int, rate: float) -> None:
        self.size = size
        self._rate = rate
        self._tokens = float(size)
        self._at = -math.inf

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

    def shrink(self, size: int) -> None:
        self.size = size

    def empty(self, now: float) -> None:
        """Leave nothing, and one token less than that where there is room for one."""
        self._tokens, self._at = min(self.level(now), 0.0) - (self.size > 1), now

    def level(self, now: float) -> float:
        """Return how many tokens there are."""
        return min(self.size, self._tokens + (now - self._at) * self._rate)
