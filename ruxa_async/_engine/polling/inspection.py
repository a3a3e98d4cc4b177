"""When to look at something that ends at an unknown time, so that looks and lateness together cost least.

The duration T of a task is log-normal. Who knows that it was pending at age a picks the age b of the next look. With S
the survival function and U(x) = E[T; T > x], the least expected cost still to come, times S(a), is

    W(a) = min over b of  price S(a) + E[b - T; a < T <= b] + W(b)
         = price S(a) - U(a) + min over b of  b S(a) + (U(b) - b S(b) + W(b)),

the recursion behind optimum checking schedules (Barlow, Hunter and Proschan, J. SIAM 11, 1963; for many looks it
tends to a density of sqrt(h / 2 price), h being the hazard: Keller, Management Science 21, 1974). The bracket is fixed
by b, so that the minimum is over straight lines in S(a) with slope b: their lower envelope, kept while a falls, solves
the whole recursion in one pass. Every age on the grid is tried, so it is exact but for the grid.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ("Plan", "Shape", "upper_tail")

# The grid of ages, in standard deviations of the log of the duration: one task in 30,000 ends below it, one in three
# million above. A step is a seventh of the usual gap between two looks; what is lost by it is less than a thousandth.
_LOWEST = -4.0
_HIGHEST = 5.0
_STEP = 0.04
# Above this one task in 700 is left if the law holds, and it is likelier that it holds no longer.
_TRUSTED = 3.0
# So many medians are as good as any more, and nothing overflows.
_MOST = 1e9
_ROOT_HALF = math.sqrt(0.5)


def upper_tail(z: float) -> float:
    """Return the chance that a standard normal variable exceeds *z*."""
    return 0.5 * math.erfc(z * _ROOT_HALF)


_GRID = [_LOWEST + _STEP * i for i in range(round((_HIGHEST - _LOWEST) / _STEP) + 1)]
_SURVIVAL = [upper_tail(z) for z in _GRID]
_LAST = round((_TRUSTED - _LOWEST) / _STEP)


class Shape:
    """A plan in units of the median duration, so that one serves all laws that differ only in that.

    *sigma* is that of the log of the duration; *price* is what one look is worth in lateness; *shortest* and *longest*
    bound the gaps.
    """

    __slots__ = ("price", "scale", "targets")

    def __init__(self, sigma: float, price: float, *, shortest: float, longest: float) -> None:
        self.price = min(price, _MOST)
        self.scale = 1.0 / (sigma * _STEP)
        self.targets = _solve(sigma, self.price, min(shortest, _MOST), longest)


class Plan:
    """The best age of the next look for every age at which a task was last seen pending.

    *mu* is the mean of the log of the duration in seconds, everything else is in *shape*.
    """

    __slots__ = ("_median", "_mu", "_price", "_scale", "_targets")

    def __init__(self, mu: float, shape: Shape) -> None:
        self._mu = mu
        self._median = math.exp(mu)
        self._price = shape.price * self._median
        self._scale = shape.scale
        self._targets = shape.targets

    def next(self, age: float) -> float:
        """Return the age in seconds of the next look at a task last seen pending at *age*, 0 if it never was.

        Past the ages that the law expects, this takes the one hazard without a scale, 1/age: a task that has run
        for so long is as likely to end within as long again as not. Keller's gap is then sqrt(2 price age).
        """
        targets = self._targets
        place = (math.log(age) - self._mu) * self._scale - _LOWEST / _STEP if age > 0.0 else 0.0
        if place <= 0.0:
            return self._median * targets[0]
        if place >= _LAST:
            return age + math.sqrt(2.0 * self._price * age)
        i = int(place)
        low = targets[i]
        return self._median * (low + (targets[i + 1] - low) * (place - i))


def _solve(sigma: float, price: float, shortest: float, longest: float) -> list[float]:
    """Return the next age for every trusted age of the grid; all are in medians of the duration."""
    ages = [math.exp(sigma * z) for z in _GRID]
    scale = math.exp(0.5 * sigma * sigma)
    beyond = [scale * upper_tail(z - sigma) for z in _GRID]
    bracket = [0.0] * len(ages)  # U(b) - b S(b) + W(b)
    targets = [0.0] * len(ages)
    lines = _Envelope(bracket, ages)
    unadded = furthest = len(ages) - 1
    for i in range(len(ages) - 1, -1, -1):
        age, survival = ages[i], _SURVIVAL[i]
        while unadded > i and ages[unadded] >= age + shortest:
            lines.add(unadded)
            unadded -= 1
        best = lines.lowest(survival)
        worth = price * survival
        if best is None:  # the grid ends before the next look is allowed
            targets[i] = age + shortest
        else:
            while ages[furthest] > age + longest and furthest > i + 1:
                furthest -= 1
            best = min(best, furthest)
            targets[i] = ages[best]
            worth += ages[best] * survival + bracket[best] - beyond[i]
        bracket[i] = beyond[i] - age * survival + worth
    return targets[: _LAST + 1]


class _Envelope:
    """The lower envelope of lines that come with falling slopes, asked at rising places (a "convex hull trick")."""

    __slots__ = ("_heights", "_kept", "_slopes")

    def __init__(self, heights: list[float], slopes: list[float]) -> None:
        self._heights = heights
        self._slopes = slopes
        self._kept: deque[int] = deque()

    def add(self, line: int) -> None:
        """Add *line*, an index into heights and slopes; drop those that it keeps from ever being the lowest."""
        kept, heights, slopes = self._kept, self._heights, self._slopes
        height, slope = heights[line], slopes[line]
        while len(kept) > 1:
            one, two = kept[-2], kept[-1]
            rise, fall = heights[two] - heights[one], slopes[one] - slopes[two]
            if (height - heights[two]) * fall > rise * (slopes[two] - slope):
                break
            kept.pop()
        kept.append(line)

    def lowest(self, place: float) -> int | None:
        """Return the line that is the lowest at *place*, None if there is no line."""
        kept, heights, slopes = self._kept, self._heights, self._slopes
        while len(kept) > 1:
            one, two = kept[0], kept[1]
            if heights[two] + slopes[two] * place > heights[one] + slopes[one] * place:
                break
            kept.popleft()
        return kept[0] if kept else None
