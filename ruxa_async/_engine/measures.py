"""Read what a service let through between its refusals as a bucket: how much it holds, and how fast it fills.

A bucket of b that fills with r a second refuses only when it has nothing left. So if it was full last at s, it let
through all of b and what flowed in since: A(s, t) = b + r (t - s), one request more or less, where t is the refusal.
If it was never full since the refusal before, at m, then A(m, t) = r (t - m). Which of these it was is not known,
but the rate is the largest that they say. So for each b a stretch between two refusals has its rate, and the right
b is one for which all stretches have the same. Several may be: then the rate is known so much the less.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from attrs import define, frozen

__all__ = ("Bucket", "Measure", "fit")

#: Seconds by which the instants at which requests arrive may differ from those at which they leave, but for a constant.
_JITTER = 1e-3
_SHORTEST = 1e-3
#: A rate that is so many times what was let through is none: the service would have let more through.
_FARFETCHED = 8.0
#: Sizes that are always worth a try: all small ones, then steps of a tenth, up to 4,000.
_SIZES = (*range(1, 17), *(round(16 * 1.1**step) for step in range(1, 59)))

_Story: TypeAlias = tuple[
    int, float, float
]  # a size, and the lowest and the highest rate with which it explains


@frozen
class Bucket:
    """The buckets that explain what was seen: of *small* to *large*, filling with *low* to *high* a second."""

    small: int
    large: int
    low: float
    high: float


@define(eq=False)
class Measure:
    """What was let through up to a refusal.

    *points* are (seconds before the refusal, requests let through in them), those that can bound a rate. *span* is
    how long the stretch was, in seconds, None if nobody knows what there was when it began.
    """

    points: Sequence[tuple[float, int]]
    span: float | None
    passed: int

    @classmethod
    def read(cls, passed: Iterable[float], *, since: float | None, until: float) -> Measure:
        """Read the instants at which requests left that *passed*, *since* a refusal, if there was one."""
        times = sorted((time for time in passed if time <= until), reverse=True)
        points: list[tuple[float, int]] = []
        for count, time in enumerate(times, 1):
            point = (max(until - time, _SHORTEST), count)
            while points and (point[0] <= points[-1][0] or _hides(points, point)):
                points.pop()
            points.append(point)
        return cls(points, None if since is None else max(until - since, _SHORTEST), len(times))

    @property
    def seen(self) -> float:
        """The requests a second that were let through, on the whole or in the last second."""
        if self.span is not None:
            return max(self.passed, 0.5) / self.span
        span, count = next(((span, count) for span, count in self.points if span >= 1), (1.0, self.passed))
        return max(count, 0.5) / span

    def rates(self, size: int) -> tuple[float, float]:
        """Return the lowest and the highest rate with which a bucket of *size* explains this."""
        low = max(((count - size) / (span + _JITTER) for span, count in self.points), default=0.0)
        high = max(
            ((count - size + 1) / max(span - _JITTER, 1e-4) for span, count in self.points), default=0.0
        )
        if self.span is not None:
            low = max(low, (self.passed - 1) / (self.span + _JITTER))
            high = max(high, (self.passed + 1) / max(self.span - _JITTER, _SHORTEST))
        return max(low, 0.0), max(high, 0.0)


def _hides(points: Sequence[tuple[float, int]], after: tuple[float, int]) -> bool:
    """Tell whether the last of *points* lies under the line from the one before it to *after*, so bounds nothing."""
    if len(points) < 2:
        return False
    (left, fewest), (middle, some) = points[-2:]
    return (some - fewest) * (after[0] - left) <= (after[1] - fewest) * (middle - left)


def fit(measures: Sequence[Measure], sizes: tuple[int, int] | None = None) -> tuple[Bucket, int]:
    """Return the buckets that explain the most of the latest *measures*, and how many of them that are.

    Where *sizes* are known, from the smallest to the largest, only these are tried. If even the latest measure is
    not explained by any, it is taken for what flowed into a bucket that was never full.
    """
    worth_a_try = sorted(_worth_a_try(measures))
    if sizes is not None:
        worth_a_try = sorted({*sizes, *(size for size in worth_a_try if sizes[0] <= size <= sizes[1])})
    stories, used = _explain(measures, worth_a_try)
    if not used:
        stories, used = [(_SIZES[-1], *measures[-1].rates(_SIZES[-1]))], 1
    high = max(high for _, _, high in stories)
    # Of several stories the one with the lowest rate is believed: if it is wrong, that costs little and shows soon.
    believed = 2 * max(min(low for _, low, _ in stories), measures[-1].seen)
    stories = [story for story in stories if story[1] <= believed] or stories
    return Bucket(stories[0][0], stories[-1][0], min(low for _, low, _ in stories), high), used


def _worth_a_try(measures: Sequence[Measure]) -> set[int]:
    """Return some sizes of all kinds, and those with which two of *measures* agree."""
    flowed = {measure.passed / measure.span for measure in measures if measure.span is not None}
    points = [point for measure in measures for point in measure.points]
    sizes = {count - rate * span for span, count in points for rate in flowed}
    wholes = [measure.points[-1] for measure in measures if measure.points]
    for one, some in wholes:
        sizes |= {some - (more - some) / (other - one) * one for other, more in wholes if other > one}
    agreeing = {round(size) + more for size in sizes for more in (-1, 0, 1)}
    return {*_SIZES, *(size for size in agreeing if size > 0)}


def _explain(measures: Sequence[Measure], sizes: Sequence[int]) -> tuple[list[_Story], int]:
    """Return what explains the most of the latest *measures*, and how many of them that are."""
    stories: list[_Story] = [(size, 0.0, math.inf) for size in sizes]
    for used, measure in enumerate(reversed(measures)):
        narrowed = []
        for size, low, high in stories:
            its_low, its_high = measure.rates(size)
            both_low, both_high = max(low, its_low), min(high, its_high)
            if 0 < both_high >= both_low <= _FARFETCHED * measure.seen:
                narrowed.append((size, both_low, both_high))
        if not narrowed:
            return stories, used
        stories = narrowed
    return stories, len(measures)
