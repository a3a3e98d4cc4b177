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
        """Return the yield of instants on any clock."""
        first = min(passed)
        spans = [(start - first, end - first) for start, end in forbidden]
        return cls(sorted(at - first for at in passed), spans)

    @property
    def took(self) -> float:
        """Seconds from the first to the last, without the forbidden ones."""
        end = self.passed[-1]
        closed = sum(max(0.0, min(until, end) - max(start, 0.0)) for start, until in self.forbidden)
        return end - closed

    def whole(self, rate: float, burst: int) -> float:
        """Return 100 x (N - burst) / rate over the time that it took."""
        return 100 * (len(self.passed) - burst) / rate / self.took

    def share(self, best: Sequence[float], start: float, end: float) -> float:
        """Return the accepted requests from *start* to *end*, in percent of those at the instants *best*."""
        return 100 * _within(self.passed, start, end) / _within(best, start, end)

    def steady(self, limit: Limiter) -> float:
        """Return the share of the best at *limit* from a fifth to four fifths of the run."""
        return self.share(self.best(limit), 0.2 * self.passed[-1], 0.8 * self.passed[-1])

    def best(self, limit: Limiter) -> list[float]:
        """Return the instants of a client that knows *limit*, sends at once, and avoids forbidden times."""
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
    """Return the mean distance between a request's place in the queue and among the accepted, over N.

    *order* has the places in the queue, in the order of acceptance. First in, first out is 0; random order,
    1/3.
    """
    return sum(abs(rank - place) for rank, place in enumerate(order)) / len(order) ** 2
