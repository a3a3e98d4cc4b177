"""The time from a disturbance until requests are accepted at four fifths of the possible rate again."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from benchmarks._draws import Draw
from benchmarks._ideal import schedule

__all__ = ("recovered_after",)

_ENOUGH = 0.8
_FEWEST = 10  # the rate is measured over the time of this many requests, or over a window


def recovered_after(draw: Draw, arrivals: Sequence[float]) -> float:
    """Return the seconds from the end of the disturbance until *arrivals* reach 80 % of the possible rate.

    The rate is measured over one window, or over the time of ten requests if that is longer. If the limit was
    removed, or the rate is never reached, this is the time until the last arrival. It counts from the start
    if no disturbance ends, and from the end of the first of several stalls.
    """
    end = _end(draw)
    after = [at for at in arrivals if at >= end]
    if not after:
        return 0.0
    rate = _possible(draw)
    if rate < math.inf:
        span = max(draw.per, _FEWEST / rate)
        for index, start in enumerate([end, *after]):
            count = bisect_left(after, start + span) - max(0, index - 1)
            # The last interval may be shorter.
            length = span if start + span <= after[-1] else after[-1] - start
            if count >= _ENOUGH * rate * length:
                return start - end
    return after[-1] - end


def _end(draw: Draw) -> float:
    """Return the time at which the disturbance ends."""
    if draw.storm is not None:
        return draw.storm[1]
    if draw.changes_at is not None:
        return draw.changes_at
    if draw.used_up:
        return schedule(draw)[0]
    return draw.stalls[0][1] if draw.stalls else 0.0


def _possible(draw: Draw) -> float:
    """Return the creates a second that the account accepts in the long run after the disturbance."""
    rate = draw.rate if draw.changes_at is None else draw.rate_after
    if draw.cap is not None:
        rate = min(rate, draw.cap / (draw.duration + draw.rtt))
    return rate * (1 - draw.taken) / (2 if draw.shared else 1)
