"""The throughput of a batch and the time that it needs. Pure: the caller passes the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import define, field, frozen

__all__ = ("Durations", "Left", "Pace")

_SPAN = 30.0
_MIN_SPAN = 1.0
_KEPT = 200
_NEARLY_ALL = 0.95


@define
class Pace:
    """How much a second a count grew lately, over half a minute at most."""

    _seen: deque[tuple[float, int]] = field(factory=deque)

    def per_second(self, now: float, count: int) -> float | None:
        """Note that it is *count* now; None while nothing can be said."""
        self._seen.append((now, count))
        while now - self._seen[0][0] > _SPAN:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now - since) if now - since >= _MIN_SPAN and count > before else None


@define
class Durations:
    """The durations of recent tasks, in seconds; *medians* by model stand in until there are some."""

    _seen: deque[float] = field(factory=lambda: deque(maxlen=_KEPT))

    def add(self, seconds: float) -> None:
        """Note that a task took *seconds*."""
        self._seen.append(seconds)

    def mean(self, medians: Iterable[float] = ()) -> float | None:
        """Return how long a task takes on the whole."""
        return sum(self._seen) / len(self._seen) if self._seen else max(medians, default=None)

    def nearly_all(self, medians: Iterable[float] = ()) -> float | None:
        """Return the time in which nearly every task ends; models without recent tasks count by median."""
        seen = sorted(self._seen)
        late = seen[int(len(seen) * _NEARLY_ALL)] if seen else 0.0
        return max([late, *medians]) or None


@frozen(kw_only=True)
class Left:
    """What is left to do: rows to submit, tasks *running*, outputs to *download*."""

    submit: int
    running: int
    download: int

    def seconds(
        self,
        *,
        accepted: float | None,
        downloaded: float | None,
        most_running: int,
        mean: float | None,
        nearly_all: float | None,
        since_accepted: float,
    ) -> float | None:
        """Return in how many seconds all of it will be done, None while nobody can tell.

        Tasks are *accepted* and outputs *downloaded* at these rates a second at present; *mean* and
        *nearly_all* are how long tasks take, and *most_running* of them run at once. The last was accepted
        *since_accepted* seconds ago.
        """
        if (self.submit or self.running) and (mean is None or nearly_all is None):
            return None
        left = 0.0
        if self.submit:
            if not accepted:
                return None
            # The first tasks are accepted quicker than places become free.
            left = self.submit / min(accepted, most_running / max(mean or 0.0, 1e-3)) + (nearly_all or 0.0)
        elif self.running:
            left = max(0.0, (nearly_all or 0.0) - since_accepted)
        return left + (self.download / downloaded if downloaded else 0.0)
