"""Quantiles, histograms, and round steps for axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import frozen

__all__ = ("Bins", "bins_of", "histogram", "nice_step", "quantile", "time_step")

#: Round times in seconds, for the steps of a time axis.
_TIME_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@frozen
class Bins:
    """The *counts* of a histogram with bins of width *step* from *start*; *beyond* counts greater values."""

    start: float
    step: float
    counts: tuple[int, ...]
    beyond: int = 0

    @property
    def end(self) -> float:
        """The upper end of the last bin."""
        return self.start + self.step * len(self.counts)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the *share* quantile of *ordered* values, interpolated between two of them."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def nice_step(span: float, most: int) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that divides *span* into at most *most* steps."""
    if span <= 0:
        return 1.0
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))


def time_step(span: float, most: int) -> float:
    """Return the least round time in seconds that divides *span* seconds into at most *most* steps."""
    fitting = (step for step in _TIME_STEPS if span / step <= most)
    return next(fitting, math.ceil(span / most / 86400) * 86400.0)


def histogram(values: Iterable[float], most: int = 30) -> Bins:
    """Return a histogram of about *most* bins; *values* are not empty and not negative.

    The greatest half per cent counts as `Bins.beyond`, so that one outlier does not put all others into one
    bin.
    """
    ordered = sorted(values)
    low, high = ordered[0], quantile(ordered, 0.995)
    start = 0.0 if low < high / 2 else low
    step = nice_step(max(high - start, high * 0.01, 1e-3), most)
    start = min(math.floor(start / step) * step, low)  # the product may be rounded up
    return bins_of(ordered, start, step, max(0, math.floor((high - start) / step)) + 1)


def bins_of(values: Iterable[float], start: float, step: float, number: int) -> Bins:
    """Return a histogram of *values*: *number* bins from *start*, each *step* wide.

    Smaller values count in the first bin, greater ones as `Bins.beyond`.
    """
    counts = [0] * number
    beyond = 0
    for value in values:
        place = math.floor((value - start) / step)
        if place < number:
            counts[max(0, place)] += 1
        else:
            beyond += 1
    return Bins(start, step, tuple(counts), beyond)
