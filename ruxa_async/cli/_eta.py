"""The throughput of a batch and the time that it still needs. Pure: the caller passes the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import define, field, frozen

__all__ = ("Durations", "Remaining", "Throughput")

#: Seconds over which throughput is averaged: a batch shows a change of its rate within half a minute.
_MAX_SPAN = 30.0
#: Seconds; over a shorter span no throughput is shown.
_MIN_SPAN = 1.0
#: Recent tasks whose durations are kept.
_MAX_DURATIONS = 200
#: The quantile of the durations that stands for "nearly all tasks have ended".
_NEARLY_ALL = 0.95


@define
class Throughput:
    """The growth of a count per second, averaged over the last half minute."""

    _samples: deque[tuple[float, int]] = field(factory=deque)

    def per_second(self, now: float, count: int) -> float | None:
        """Record *count* at *now*; return the growth, None if it is 0 or the span is below a second."""
        self._samples.append((now, count))
        while now - self._samples[0][0] > _MAX_SPAN:
            self._samples.popleft()
        since, before = self._samples[0]
        return (count - before) / (now - since) if now - since >= _MIN_SPAN and count > before else None


@define
class Durations:
    """The durations of the last 200 tasks in seconds; *medians* by model stand in while there are none."""

    _seconds: deque[float] = field(factory=lambda: deque(maxlen=_MAX_DURATIONS))

    def add(self, seconds: float) -> None:
        """Record the duration of a task."""
        self._seconds.append(seconds)

    def mean(self, medians: Iterable[float] = ()) -> float | None:
        """Return the mean duration, without tasks the longest of *medians*, None without either."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else max(medians, default=None)

    def nearly_all(self, medians: Iterable[float] = ()) -> float | None:
        """Return the 95 % quantile, or the longest of *medians* if that is longer; None without either.

        The medians count because models differ, and the recent tasks may all be of a fast one.
        """
        ordered = sorted(self._seconds)
        late = ordered[int(len(ordered) * _NEARLY_ALL)] if ordered else 0.0
        return max([late, *medians]) or None


@frozen(kw_only=True)
class Remaining:
    """The work that remains: rows to *submit*, tasks *running*, generations to *download*."""

    submit: int
    running: int
    download: int

    def seconds(
        self,
        *,
        accepted: float | None,
        downloaded: float | None,
        max_running: int,
        mean: float | None,
        nearly_all: float | None,
        since_accepted: float,
    ) -> float | None:
        """Return the seconds until all of it is done, None while the rates or durations are not known.

        *accepted* and *downloaded* are the present rates per second of tasks and generations. Tasks take
        *mean* seconds, 95 % of them at most *nearly_all*, and at most *max_running* run at once. The last
        task was accepted *since_accepted* seconds ago.
        """
        if (self.submit or self.running) and (mean is None or nearly_all is None):
            return None
        seconds = 0.0
        if self.submit:
            if not accepted:
                return None
            # At first tasks are accepted faster than others end; max_running / mean is the lasting rate.
            rate = min(accepted, max_running / max(mean or 0.0, 1e-3))
            seconds = self.submit / rate + (nearly_all or 0.0)
        elif self.running:
            seconds = max(0.0, (nearly_all or 0.0) - since_accepted)
        return seconds + (self.download / downloaded if downloaded else 0.0)
