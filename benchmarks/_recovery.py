"""The time from a disturbance until requests are accepted at four fifths of the possible rate again."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from benchmarks._draws import Draw
from benchmarks._ideal import schedule

__all__ = ("recovered_after",)

_ENOUGH = 0.8
_FEWEST = 10  # requests, or a whole window, over which a rate is measured


def recovered_after(draw: Draw, arrivals: Sequence[float]) -> float:
    """Return the seconds from the end of the disturbance until *arrivals* come at 80 % of the possible rate.

    They do from the first instant on after which, for ten requests' time or one window, four fifths of what
    the limit allows in the long run arrive. Where nothing limits them any more, and where they never do so,
    it is the time until the last arrival. Without a disturbance that ends, it counts from the start; of
    stalls, the first one counts.
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
            # The last stretch may be shorter.
            lasted = span if start + span <= after[-1] else after[-1] - start
            if count >= _ENOUGH * rate * lasted:
                return start - end
    return after[-1] - end


def _end(draw: Draw) -> float:
    """Return when the disturbance is over."""
    if draw.storm is not None:
        return draw.storm[1]
    if draw.changes_at is not None:
        return draw.changes_at
    if draw.used_up:
        return schedule(draw)[0]
    return draw.stalls[0][1] if draw.stalls else 0.0


def _possible(draw: Draw) -> float:
    """Return how many creates a second the account accepts in the long run after the disturbance."""
    rate = draw.rate if draw.changes_at is None else draw.rate_after
    if draw.cap is not None:
        rate = min(rate, draw.cap / (draw.duration + draw.rtt))
    return rate * (1 - draw.taken) / (2 if draw.shared else 1)
