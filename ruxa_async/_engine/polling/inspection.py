"""Optimal inspection: when to poll a task that ends at an unknown time, for the least expected cost.

The cost is *price* for each poll, plus the seconds between the end of the task and the poll that detects it.
The duration T is log-normal. A task that was pending at age a is polled next at age b. With the survival
function S and U(x) = E[T; T > x], the least expected cost still to come, times S(a), is

    W(a) = min over b of  price S(a) + E[b - T; a < T <= b] + W(b)
         = price S(a) - U(a) + min over b of  b S(a) + (U(b) - b S(b) + W(b)),

the recursion of optimum checking schedules (Barlow, Hunter and Proschan, J. SIAM 11, 1963). For many polls it
tends to a density of sqrt(h / (2 price)) polls per second, where h is the hazard (Keller, Management Science
21, 1974).

The second term depends on b alone. So the minimum is over straight lines in S(a) with slope b. Their lower
envelope solves the recursion in one pass from the highest age down, exactly on the grid of ages.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ("Plan", "Shape", "upper_tail")

# The grid of ages, in standard deviations of the log of the duration from its mean. One task in 30,000 ends
# below the grid, one in three million above it. A step is a seventh of the usual gap between two polls; a
# finer grid lowers the expected cost by less than a thousandth.
_LOWEST = -4.0
_HIGHEST = 5.0
_STEP = 0.04
# Standard deviations above the mean up to which the plan follows the fitted distribution. If the fit is
# right, only one task in 700 runs longer. When one does, the likelier explanation is that the fit is wrong.
_TRUSTED = 3.0
# Largest price and interval, in medians of the duration: a larger one changes no plan, and could overflow.
_MAX_RATIO = 1e9
_ROOT_HALF = math.sqrt(0.5)


def upper_tail(z: float) -> float:
    """Return the probability that a standard normal variable exceeds *z*."""
    return 0.5 * math.erfc(z * _ROOT_HALF)


_GRID = [_LOWEST + _STEP * i for i in range(round((_HIGHEST - _LOWEST) / _STEP) + 1)]
_SURVIVAL = [upper_tail(z) for z in _GRID]
_LAST = round((_TRUSTED - _LOWEST) / _STEP)


class Shape:
    """The poll ages in units of the median duration, for all distributions with the same *sigma*.

    *sigma* is the standard deviation of the log of the duration. *price* is the cost of a poll. *shortest*
    and *longest* bound the interval between two polls. All but *sigma* are in medians of the duration.
    """

    def __init__(self, sigma: float, price: float, *, shortest: float, longest: float) -> None:
        self.price: float = min(price, _MAX_RATIO)
        self.scale: float = 1.0 / (sigma * _STEP)
        self.targets: list[float] = _solve(sigma, self.price, min(shortest, _MAX_RATIO), longest)


class Plan:
    """The optimal age of the next poll of a task, by the age at which it was last pending.

    *mu* is the mean of the log of the duration in seconds.
    """

    def __init__(self, mu: float, shape: Shape) -> None:
        self._mu = mu
        self._median = math.exp(mu)
        self._price = shape.price * self._median
        self._scale = shape.scale
        self._targets = shape.targets

    def next_poll(self, age: float) -> float:
        """Return the age in seconds at which to poll a task that was last pending at *age*, 0 if never.

        Beyond `_TRUSTED` standard deviations the hazard is taken as 1/age, as if half of the tasks that old
        ran for twice their age. Keller's interval is then sqrt(2 price age).
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
    """Return the age of the next poll for each age of the grid up to `_TRUSTED`, all in medians."""
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
        if best is None:  # no age of the grid is *shortest* later
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
    """The lower envelope of lines: the lowest line at each x (the "convex hull trick").

    Line i is heights[i] + slopes[i] x. Each line added must have a smaller slope than the last, and each x
    asked for must be larger than the last. So every line is added and dropped once: O(1) amortised.
    """

    def __init__(self, heights: list[float], slopes: list[float]) -> None:
        self._heights = heights
        self._slopes = slopes
        self._kept: deque[int] = deque()

    def add(self, line: int) -> None:
        """Add line number *line*; drop lines that are the lowest at no x any more."""
        kept, heights, slopes = self._kept, self._heights, self._slopes
        height, slope = heights[line], slopes[line]
        while len(kept) > 1:
            one, two = kept[-2], kept[-1]
            rise, fall = heights[two] - heights[one], slopes[one] - slopes[two]
            if (height - heights[two]) * fall > rise * (slopes[two] - slope):
                break
            kept.pop()
        kept.append(line)

    def lowest(self, x: float) -> int | None:
        """Return the number of the lowest line at *x*, None without lines; drop those before it."""
        kept, heights, slopes = self._kept, self._heights, self._slopes
        while len(kept) > 1:
            one, two = kept[0], kept[1]
            if heights[two] + slopes[two] * x > heights[one] + slopes[one] * x:
                break
            kept.popleft()
        return kept[0] if kept else None
