"""When to ask a running task for its state.

The best density of queries for a duration with hazard h(t), where a query costs as much as c seconds of lateness,
is sqrt(h(t) / 2c) (Keller, "Optimum checking schedules for systems subject to random failure", Management
Science 21, 1974). Knowing nothing of a model, this takes the one hazard without a scale, h(t) = 1/t: a task that
has run for t seconds is as likely to end within the next t as not. The gap between two queries is then
sqrt(2 c t): it grows with the age of the task, and the lateness stays small beside it.
"""

from __future__ import annotations

import math

from ruxa_async.settings import Polling

__all__ = ("Cadence",)


class Cadence:
    """The gaps between the queries of one task."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling

    def gap(self, age: float) -> float:
        """Return the seconds to wait before the next query of a task that has run for *age* seconds.

        Always between ``Polling.min_interval`` and ``Polling.max_interval``.
        """
        best = math.sqrt(2.0 * self._polling.price * max(age, 0.0))
        return min(max(best, self._polling.min_interval), self._polling.max_interval)
