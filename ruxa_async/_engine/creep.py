"""Run at a rate that is known roughly, and learn it better while running.

Between two moments at which a service said no it had nothing left at either end, so what it let through in between
is its rate: A requests in T seconds, one request more or less. That is a *measure*. The next one is provoked by a
creep: after n in the last measure, the m-th request is paced at ``rate (1 + m / 4n^2)``. If the measure was one
short, the creep makes up for it within n; if it was right, the excess adds up to one request after about 3n. So each
measure is three times as exact as the one before, until it is as long as may be for one refusal. All the while the
service is asked for a little more than it gives, so nothing that it would give is lost.

A measure that lets more through than could have been there means that the limit is higher: the pace becomes the
rate, and an eighth of n is believed. After a wait that the service asked for, what it has by then may be spent at once; but how much that was
is not known, so the next no bounds the rate instead of measuring it.
"""

from __future__ import annotations

__all__ = ("Creep",)

#: A measure is at most so long: one refusal in about three times as many requests.
LONGEST_MEASURE = 50
#: Nor is it longer than this many seconds, so that a wrong one is not believed for long.
LONGEST_SECONDS = 10.0
#: More than could have been there, by so many requests, is no accident.
_BEYOND = 1.5
_AGAIN = 4.0
_LONGEST_PAUSE = 15.0


class Creep:
    """Pace requests at *rate* a second, believed within one in *measure*; *burst* may be there after a wait."""

    def __init__(self, rate: float, measure: float, burst: int, *, now: float) -> None:
        self._adopt(rate)
        self._burst = burst
        self._trip = 0.0
        self._measure = 1.0
        self._believe(measure)
        self._next = now + 1 / self.rate
        self._mark, self._changed = now, now
        self._passed = self._crept = 0
        self._at_once = 0
        self._slack = 1.0  # what may have been there at the mark
        self._again = 0
        self._known = now

    def _believe(self, measure: float) -> None:
        measure = max(1.0, min(measure, LONGEST_SECONDS * self.rate))
        self._exact = measure
        self._measure = min(max(measure, self.rate * self._trip), LONGEST_MEASURE)

    def _adopt(self, rate: float) -> None:
        self.rate = max(rate, 1 / _LONGEST_PAUSE)

    def _pace(self) -> float:
        return self.rate * (1 + self._crept / (4 * self._measure**2))

    def ready_at(self, now: float) -> float:
        """Return when the next request may leave."""
        return now if self._at_once and now >= self._mark else self._next

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        if self._at_once and now >= self._mark:
            self._at_once -= 1
            self._next = now + 1 / self.rate
            return
        gap = 1 / self._pace()
        self._next = max(self._next, now - gap) + gap  # one that was late is made up for, no more

    def passed(self, now: float, sent_at: float) -> None:
        """Note that a request was let through."""
        self._trip = now - sent_at
        self._again = 0
        if sent_at > self._mark:
            self._passed += 1
        if sent_at <= self._changed or self._passed <= 0:
            return
        self._crept += 1
        beyond = self._passed - self.rate * (sent_at - self._mark)
        if beyond > self._slack + _BEYOND + self._crept / self._exact:
            self._adopt(self._pace())
            self._begin(now, slack=float(self._burst))
            self._believe(self._measure / 8)

    def refused(self, now: float, retry_after: float | None, sent_at: float) -> None:
        """Note a refusal; *retry_after* is in seconds."""
        if sent_at <= self._known:
            return  # it left before the last no was known, so it is no news
        self._known = now
        if self._passed <= 0 and self._slack == 1.0 and not retry_after:
            self._again += 1
            self._next = now + min(0.5 / self.rate * _AGAIN**self._again, _LONGEST_PAUSE)
            return
        self._end(sent_at)
        self.begin_after_refusal(now, retry_after, sent_at)

    def begin_after_refusal(self, now: float, retry_after: float | None, sent_at: float) -> None:
        """Begin a measure with a refusal of a request that left at *sent_at*."""
        self._begin(now, slack=1.0)
        self._mark = sent_at
        self._next = now + 0.5 / self.rate
        if retry_after:
            self._reopen(now + retry_after, retry_after)

    def _end(self, sent_at: float) -> None:
        """Read the measure that a no ended: the rate lies between what surely flowed in and what may have."""
        span, passed = sent_at - self._mark, self._passed
        guess = self._pace() * (1 - 1 / (self._measure + 1))
        if passed <= 0 or span <= 0:
            if passed < 0:
                self._burst = max(1, self._burst + passed)
            else:
                self._adopt(guess)
            return
        low, high = (passed - self._slack) / span, (passed + 1) / span
        exact = 2 * passed / (self._slack + 1)
        if exact >= self._measure or not low <= guess <= high:
            self._adopt(max((low + high) / 2, 0.5 / span))
            self._believe(exact)
        else:
            self._adopt(guess)

    def _begin(self, now: float, *, slack: float) -> None:
        self._mark = self._changed = now
        self._passed = self._crept = 0
        self._at_once = 0
        self._slack = slack

    def _reopen(self, opens: float, waited: float) -> None:
        """Spend at once what will surely be there when the service lets us come back, and measure from then on."""
        flow, doubt = self.rate * waited, 1 / self._exact
        self._at_once = int(min(self._burst, flow * (1 - min(doubt, 0.5))))
        self._mark = self._next = opens
        self._passed = -self._at_once
        self._slack = max(1.0, min(self._burst, flow * (1 + doubt) + 1) - self._at_once)
