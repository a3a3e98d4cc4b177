"""The figures that the benchmarks of limits share: how much of a limit a run used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from ruxa_async.emulator import Limiter

__all__ = ("Yield", "displacement")

_Span = tuple[float, float]


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


@frozen
class Yield:
    """The instants at which requests were accepted, and the times in which the service forbade any.

    Instants are in seconds since the first of them; forbidden times may overlap.
    """

    passed: Sequence[float]
    forbidden: Sequence[_Span] = field(default=(), converter=_merged)

    @classmethod
    def since_first(cls, passed: Sequence[float], forbidden: Iterable[_Span] = ()) -> Yield:
        """Return the yield for instants on any clock, with the first of *passed* as 0."""
        first = min(passed)
        spans = [(start - first, end - first) for start, end in forbidden]
        return cls(sorted(at - first for at in passed), spans)

    @property
    def took(self) -> float:
        """Seconds from the first accepted request to the last, less those that the service forbade."""
        end = self.passed[-1]
        closed = sum(max(0.0, min(until, end) - max(start, 0.0)) for start, until in self.forbidden)
        return end - closed

    def whole(self, rate: float, burst: int) -> float:
        """Return the least time for N requests, (N - burst) / rate, in percent of the time `took`."""
        return 100 * (len(self.passed) - burst) / rate / self.took

    def share(self, best: Sequence[float], start: float, end: float) -> float:
        """Return the accepted requests from *start* to *end*, in percent of those at the instants *best*."""
        return 100 * _within(self.passed, start, end) / _within(best, start, end)

    def steady(self, limit: Limiter) -> float:
        """Return the `share` of a client that knows *limit*, from a fifth to four fifths of the run."""
        return self.share(self.best(limit), 0.2 * self.passed[-1], 0.8 * self.passed[-1])

    def best(self, limit: Limiter) -> list[float]:
        """Return the instants at which a client that knows *limit* and the forbidden times is accepted."""
        now, best, closed = 0.0, [], deque(self.forbidden)
        while now <= self.passed[-1]:
            if closed and now >= closed[0][0]:
                now = max(now, closed.popleft()[1])
                continue
            wait = limit.take(now)
            if not wait:
                best.append(now)
            now += wait
        return best


def _within(instants: Iterable[float], start: float, end: float) -> int:
    return sum(start <= at <= end for at in instants)


def displacement(order: Sequence[int]) -> float:
    """Return the mean difference between the places of a request in the queue and in *order*, divided by N.

    *order* lists places in the queue, in the order of acceptance. 0: first in, first out; 1/3: random order.
    """
    return sum(abs(rank - place) for rank, place in enumerate(order)) / len(order) ** 2
