"""Run at a bucket that is known roughly, and learn it better while running.

Each refusal ends a stretch, and a stretch is read as a `Measure`: all of the last ones that one bucket explains say
how fast it fills, and how much it holds. The next refusal is provoked by a creep: where the rate is believed within
one in n, the m-th request is paced at ``rate (1 + m / 4n^2)``. If the rate was one in n too low, the creep makes up
for it within n; if it was right, the excess adds up to one request after about 3n. So each stretch is three times
as exact as the one before, until it is as long as may be for one refusal. All the while the service is asked for a
little more than it gives, so nothing that it would give is lost. Nor is what the bucket keeps: so after a
refusal it is left to fill a little, and the creep takes the longer to use that up.

More let through than the bucket could have held means that the limit is higher: the pace becomes the rate, and an
eighth of n is believed. After a wait that the service asked for, what has surely come in by then leaves at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from attrs import evolve

from .measures import Measure, fit

__all__ = ("Creep",)

#: The rate is believed within one in so many at most: one refusal in about three times as many requests.
LONGEST_MEASURE = 64
#: Nor within one in more requests than leave in so many seconds, so that a wrong one is not believed for long.
LONGEST_SECONDS = 10.0
#: The pace grows by a factor of e in no less than 1/6 s.
_FASTEST = 6.0
#: More than could have been there, by so many requests, is no accident.
_BEYOND = 1.5
#: Nothing let through where so many should have been: this is no bucket.
_DRY = 5.0
_AGAIN = 4.0
_LONGEST_PAUSE = 15.0
_MEASURES_KEPT = 6
#: Where so many stretches agree on what the bucket holds, a new one that does not is about the rate ...
_AGREED = 3
#: ... unless so many in a row say otherwise.
_STRANGE = 3
_PASSED_KEPT = 4096
#: A remembered rate is believed within one request in so many: less wastes the memory, more is slow to see it raised.
_REMEMBERED = 16
#: After a no such a part of the bucket is left to fill, so many requests at most, for so many seconds at most.
_RESTED, _MOST_RESTED, _LONGEST_REST = 0.25, 2.5, 0.25


class Creep:
    """Pace requests at the bucket that explains *measures*, the last of which was ended by a refusal.

    The refused request left at *refused_at*, and the service asked for *retry_after* seconds, if it did.
    """

    def __init__(
        self, measures: Iterable[Measure], *, now: float, refused_at: float, retry_after: float | None = None
    ) -> None:
        self._measures = deque(measures, maxlen=_MEASURES_KEPT)
        self._passed: deque[float] = deque(maxlen=_PASSED_KEPT)  # since the refusal
        self._trip = 0.0
        self._again = self._at_once = 0
        self._opens = self._flowed = 0.0
        self._known = now
        self._strange = self._agreed = 0
        #: Whether nothing was let through for so long that this can be no bucket.
        self.refuted = False
        self._bucket, self._agreed = fit(self._measures)
        #: How many of the last stretches the bucket explains.
        self.explained = self._agreed
        self._begin(now, refused_at, retry_after)

    @classmethod
    def restored(cls, rate: float, burst: int, *, now: float, since: float) -> Creep:
        """Return one that begins with what an earlier run found, after which nothing left *since*."""
        creep = cls([Measure((), _REMEMBERED / rate, _REMEMBERED)], now=now, refused_at=since)
        creep._bucket = evolve(creep._bucket, small=burst, large=burst)
        creep._adopt(rate, exact=_REMEMBERED)
        creep._next = now + 1 / creep.rate
        return creep

    def export(self) -> dict[str, float]:
        """Return what is known, for a later run."""
        return {"rate": self.rate, "burst": self._bucket.small}

    def go_on(self, passed: Iterable[float], rate: float, *, now: float) -> None:
        """Take in those that *passed* since, and left at these instants; *rate* is a guess, and the bucket may be full."""
        self._passed.extend(passed)
        self._adopt(max(rate, self._bucket.low), exact=1.0)
        self._level, self._at = float(self._bucket.large), now
        self._changed = self._known = now
        self._next = now + 1 / self.rate

    def _adopt(self, rate: float, *, exact: float) -> None:
        """Take *rate* for the limit's, within one in *exact*."""
        self.rate = max(rate, 1 / _LONGEST_PAUSE)
        self._exact = max(1.0, min(exact, LONGEST_SECONDS * self.rate))
        slowest = max(self.rate * self._trip / 2, math.sqrt(self.rate / _FASTEST))
        self._measure = min(max(self._exact, slowest), LONGEST_MEASURE)

    def _pace(self) -> float:
        return self.rate * (1 + self._crept / (4 * self._measure**2))

    # ---- when

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave."""
        return now if self._at_once and now >= self._opens else self._next

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        if self._at_once and now >= self._opens:
            self._at_once -= 1
            self._next = (
                now + 2 / self.rate
            )  # so that the creep begins with one in hand, and takes it in the end
            return
        gap = 1 / self._pace()
        self._next = max(self._next, now - gap) + gap  # one that was late is made up for, no more

    # ---- what happens

    def passed(self, now: float, sent_at: float) -> None:
        """Note that a request was let through."""
        self._trip = now - sent_at
        self._again = 0
        if sent_at <= self._mark:
            return
        self._passed.append(sent_at)
        self._level = self._level_at(sent_at) - 1
        self._at = max(self._at, sent_at)
        if self._at_once and sent_at < self._opens:
            self._flowed -= 1  # it took of what would have been there after the wait
            self._at_once = self._surely_there()
        elif sent_at > self._changed and not self._at_once:
            self._crept += 1
            if -self._level > _BEYOND + self._crept / self._exact:
                self._higher(now)

    def _level_at(self, now: float) -> float:
        return min(self._bucket.large, self._level + self.rate * max(0.0, now - self._at))

    def _higher(self, now: float) -> None:
        """Learn that more is let through than was thought."""
        self._adopt(self._pace(), exact=self._measure / 8)
        self._measures.clear()
        self._changed, self._crept, self._level = now, 0, 0.5

    def refused(self, now: float, retry_after: float | None, sent_at: float) -> None:
        """Note a refusal; *retry_after* is in seconds."""
        if sent_at <= self._known:
            return  # it left before the last no was known, so it is no news
        if not self._passed:
            self._known = now
            self._again += 1
            pause = min(0.5 / self.rate * _AGAIN**self._again, _LONGEST_PAUSE)
            self._next = self._opens = now + (retry_after or pause)
            self._at_once = 0
            self.refuted = self._bucket.low * (sent_at - self._mark) > _DRY
            return
        self._measures.append(Measure.read(self._passed, since=self._mark, until=sent_at))
        self._fit()
        self._begin(now, sent_at, retry_after)

    def _fit(self) -> None:
        """Find the bucket that explains the last stretches, and forget those before them."""
        sizes = (self._bucket.small, self._bucket.large) if self._agreed >= _AGREED else None
        self._bucket, used = fit(self._measures, sizes)
        self._strange = self._strange + 1 if used < 2 else 0
        if self._strange > _STRANGE:
            self._bucket, used = fit(self._measures)
            self._strange = self._agreed = 0
        self.explained = used
        self._agreed = max(self._agreed, used)
        while len(self._measures) > used:
            self._measures.popleft()

    def _begin(self, now: float, refused_at: float, retry_after: float | None) -> None:
        """Begin a stretch with a refusal."""
        seen, low = self._measures[-1].seen, self._bucket.low
        high = min(self._bucket.high, 4 * max(low, seen))
        if high > 2 * low:
            rate = min(max(seen, low), high)
        else:
            rate = low + (high - low) * (
                0.25 if retry_after else 0.5
            )  # where a no costs a wait, rather too low
        self._adopt(rate, exact=2 * rate / max(high - low, 1e-9))
        self._mark, self._changed, self._known = refused_at, now, now
        self._passed.clear()
        self._crept = 0
        rest = max(0.5, min(self._bucket.small * _RESTED, _MOST_RESTED, self.rate * _LONGEST_REST))
        self._level, self._at = 0.5, refused_at
        self._opens = now + (retry_after or 0.0)
        self._next = self._opens if retry_after else now + rest / self.rate
        self._flowed = low * (self._opens - refused_at)
        self._at_once = self._surely_there() if retry_after else 0

    def _surely_there(self) -> int:
        # Where stretch after stretch says no more of the size, something in between does.
        size = (
            self._bucket.small if self.explained <= 2 else math.sqrt(self._bucket.small * self._bucket.large)
        )
        return max(0, int(min(size, self._flowed)))
