"""Read a window of time from what a service tells of it: when to come back.

A bucket tells a wait in which one request flows in. One that is told to wait for the time of many has met a window,
and each wait tells where that ends. So between two waits, what was let through is what a window holds, and from the
end of one to the end of the other goes its time.

Waits are told exactly or in whole seconds, rounded up: then an end is known to a second only, and waits of one second
say nothing. But a window lets as many through however fast they came, and a bucket does not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from attrs import frozen

from .window import shortest_window

__all__ = ("Reading", "Tellings", "first_window")

#: Told to wait while so many would have flowed into a bucket: it is none.
_DRY = 5.0
#: So many stretches in a row of less than so many seconds: no bucket is met so often by who learns of it. If as many
#: were let through in some of them, and in the others at most twice as many, those began and ended in one window.
_IN_A_ROW, _SHORT = 5, 3.0
_FEWEST = 3
#: By how much the time from one wait's end to another's may be wrong: by so many seconds, or such a part of it.
_JITTER, _NEAR = 0.01, 0.005


@frozen
class Reading:
    """A window of *count* requests in *per* seconds, *sure* if it can hardly be a bucket."""

    count: int
    per: float
    sure: bool


@frozen
class _End:
    """The end of a wait, for requests that leave: between these instants."""

    low: float
    high: float

    @classmethod
    def told(cls, sent_at: float, wait: float) -> _End:
        rounded = 1.0 if wait == int(wait) else 0.0
        return cls(sent_at + wait - rounded, sent_at + wait)


@frozen
class _Stretch:
    """What was let through between two waits, and the bounds of the time from the end of one to that of the other."""

    count: int
    low: float
    high: float
    span: float  # from one refusal to the other


def first_window(began: float, sent_at: float, wait: float) -> float:
    """Return the time of a window that began at *began*, if it is full at *sent_at* and told to *wait*."""
    end = _End.told(sent_at, wait)
    return _chosen(end.low - began, end.high - began)


class Tellings:
    """The waits that a service told. Times are in seconds."""

    def __init__(self) -> None:
        self._known = self._refused_at = -math.inf
        self._end: _End | None = None
        self._count = 0
        self._exact = False
        self._stretches: deque[_Stretch] = deque(maxlen=_IN_A_ROW)

    def passed(self, sent_at: float) -> None:
        """Note that a request was let through."""
        if sent_at > self._known:
            self._count += 1

    def refused(self, now: float, wait: float | None, sent_at: float) -> Reading | None:
        """Note a refusal with the *wait* that it told; return the window that can be read from it, if any."""
        if sent_at <= self._known:
            return None  # it left before the last no was known, so it is no news
        before, count = self._end, self._count
        span = sent_at - self._refused_at
        self._known, self._refused_at, self._count = now, sent_at, 0
        self._end = _End.told(sent_at, wait) if wait else None
        self._exact = self._end is not None and self._end.low == self._end.high
        if self._end is None or before is None:
            self._stretches.clear()
            return None
        if count < _FEWEST:
            return None
        low, high = max(self._end.low, sent_at) - before.high, self._end.high - before.low
        self._stretches.append(_Stretch(count, low, high, span))
        alike = self._alike()
        if alike:
            return _read(alike, sure=True)
        return _read([self._stretches[-1]], sure=(self._end.low - sent_at) * count > _DRY * high)

    def _alike(self) -> list[_Stretch]:
        """Return stretches that can only have been of one window each, if there are."""
        if (
            len(self._stretches) < _IN_A_ROW
            or self._exact
            or max(one.span for one in self._stretches) > _SHORT
        ):
            return []
        fewest = min(one.count for one in self._stretches)
        within = [one for one in self._stretches if one.count == fewest]
        most = max(one.count for one in self._stretches)
        straddled = 1.2 * fewest < most <= 2 * fewest
        return within if straddled and fewest < 150 and len(within) > _IN_A_ROW // 2 else []


def _read(stretches: Sequence[_Stretch], *, sure: bool) -> Reading | None:
    low, high = max(one.low for one in stretches), min(one.high for one in stretches)
    return Reading(stretches[-1].count, _chosen(low, high), sure) if 0 < high >= low else None


def _chosen(low: float, high: float) -> float:
    """Return the shortest time that people choose between *low* and *high*, or a whole number of seconds."""
    error = max(_JITTER, _NEAR * high)
    if high - low < error:  # told exactly
        low, high = low - error, high + error
    whole = max(1.0, math.floor(low) + 1.0)
    return shortest_window(low, high) or min(whole, high)
