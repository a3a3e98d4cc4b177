"""Read a window of time from what a service tells of it: when to come back.

A bucket tells a wait in which one request flows in. One that is told to wait for the time of many has met a window,
and each wait tells where that ends. So between two waits, what was let through is what a window holds, and from the
end of one to the end of the other goes its time.

Waits are told exactly or in whole seconds, rounded up: then an end is known to a second only, and waits of one second
say nothing.
"""

from __future__ import annotations

import math

from attrs import frozen

from .window import shortest_window

__all__ = ("Reading", "Tellings", "first_window")

#: Told to wait while so many would have flowed into a bucket: it is none.
_DRY = 5.0
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


def first_window(began: float, sent_at: float, wait: float) -> float:
    """Return the time of a window that began at *began*, if it is full at *sent_at* and told to *wait*."""
    end = _End.told(sent_at, wait)
    return _chosen(end.low - began, end.high - began)


class Tellings:
    """The waits that a service told. Times are in seconds."""

    def __init__(self) -> None:
        self._known = -math.inf
        self._end: _End | None = None
        self._count = 0

    def passed(self, sent_at: float) -> None:
        """Note that a request was let through."""
        if sent_at > self._known:
            self._count += 1

    def refused(self, now: float, wait: float | None, sent_at: float) -> Reading | None:
        """Note a refusal with the *wait* that it told; return the window that can be read from it, if any."""
        if sent_at <= self._known:
            return None  # it left before the last no was known, so it is no news
        before, count = self._end, self._count
        self._known, self._count = now, 0
        self._end = _End.told(sent_at, wait) if wait else None
        if self._end is None or before is None or count < _FEWEST:
            return None
        low, high = max(self._end.low, sent_at) - before.high, self._end.high - before.low
        if not 0 < high >= low:
            return None
        return Reading(count, _chosen(low, high), sure=(self._end.low - sent_at) * count > _DRY * high)


def _chosen(low: float, high: float) -> float:
    """Return the shortest time that people choose between *low* and *high*, or a whole number of seconds."""
    error = max(_JITTER, _NEAR * high)
    if high - low < error:  # told exactly
        low, high = low - error, high + error
    whole = max(1.0, math.floor(low) + 1.0)
    return shortest_window(low, high) or min(whole, high)
