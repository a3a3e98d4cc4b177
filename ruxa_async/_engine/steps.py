"""Run at a limit that lets one request through at a time.

Such a limit is a gap: a request that comes soon enough after the last one is refused. So the gap is halved in
between what was too short and what was enough, until they differ by two in a hundred, and tried again now and then:
each try that passes makes the next twice as bold, and each that proves the gap too short adds twice as much.
"""

from __future__ import annotations

import math

__all__ = ("Steps",)

_TRIED_AGAIN_AFTER = 180
#: What took longer than a minute was an outage rather than a gap.
_LONGEST = 60.0
#: One in a hundred times 2^7 is more than twice as much: no need to grow faster than a pause does.
_WRONG_AT_MOST = 7
_CLOSE = 1.02
#: So many that came within so many requests of the one before prove that there is more than a gap.
_REFUTED_BY = 8
#: After so many in a row the first gap that was too short is tried once more: something else may have refused then.
_PROVEN_AFTER = 3
_SOON = 60


class Steps:
    """Space requests: *too_short* seconds are known to be, *enough* too; the last one passed at *passed_at*."""

    def __init__(self, too_short: float, enough: float, *, passed_at: float) -> None:
        self._enough = min(enough, _LONGEST)
        self._too_short = too_short if too_short < self._enough else 0.0
        self._last_passed = passed_at
        self._since_refusal = 0
        #: Whether *too_short* is a guess: where one proves wrong, the next is twice as bold.
        self._guessed = False
        #: What was too short before there was a gap to keep, and then while it is tried once more.
        self._unproven, self._proving = self._too_short, 0.0
        #: How often in a row what was enough proved not to be: each time twice as much is added.
        self._wrong = 0
        self._known = -math.inf
        #: How many were let through in a row before the last no, and how often in a row such a no came too soon.
        self.in_a_row = 2
        self._too_soon = 0
        self._trial = math.inf  # when the request leaves that tries a shorter gap; infinity if none does
        self._next = passed_at + self._gap(passed_at)

    @property
    def rate(self) -> float:
        """The requests a second that are let through for sure."""
        return 1 / self._enough

    @property
    def refuted(self) -> bool:
        """Tell whether the limit can hardly be a gap: what was enough proves not to be, time and again."""
        return self._too_soon >= _REFUTED_BY

    def export(self) -> dict[str, float]:
        """Return what is known, for a later run."""
        return {"too_short": self._too_short, "enough": self._enough}

    def ready_at(self, now: float) -> float:  # noqa: ARG002 - as the other shapes
        """Return when the next request may leave."""
        return self._next

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        self._next = now + self._gap(now)

    def _gap(self, now: float) -> float:
        if self._since_refusal > _TRIED_AGAIN_AFTER:
            self._too_short = 0.965 * self._enough
            self._guessed = True
            self._since_refusal = 0
        if self._unproven and self._since_refusal >= _PROVEN_AFTER:
            self._proving, self._unproven = self._too_short, 0.0
            self._too_short, self._guessed = self._enough / 2, True
        if self._enough > _CLOSE * self._too_short and self._trial == math.inf:
            middle = max(self._enough / 4, (self._enough + self._too_short) / 2 if self._too_short else 0.0)
            self._trial = now + middle
            return middle
        return 1.003 * self._enough

    def passed(self, now: float, sent_at: float) -> None:  # noqa: ARG002
        """Note that a request was let through."""
        self._answered(sent_at)
        self._since_refusal += 1
        gap = sent_at - self._last_passed
        if gap <= 0:
            return  # answers come in any order
        self._last_passed = sent_at
        if gap <= 1.1 * self._enough:
            self._wrong = 0
        if gap < self._enough:
            if gap < self._proving:
                self._proving = 0.0
            if self._guessed:
                self._too_short = max(0.0, gap - 4 * (self._enough - gap))
            self._enough = gap
            self._too_short = min(self._too_short, 0.98 * gap)

    def refused(self, now: float, retry_after: float | None, sent_at: float) -> None:  # noqa: ARG002
        """Note a refusal."""
        self._answered(sent_at)
        if sent_at <= self._known:
            return
        self._known = now
        gap = sent_at - self._last_passed
        self._too_soon = (
            self._too_soon + 1 if gap > 0.99 * self._enough and 2 <= self._since_refusal < _SOON else 0
        )
        self.in_a_row = max(2, self._since_refusal)
        self._since_refusal = 0
        self._guessed = False
        self._too_short = max(self._too_short, self._proving, min(gap, _LONGEST))
        self._proving = 0.0
        if gap >= self._unproven:
            self._unproven = 0.0
        if self._enough <= 1.001 * self._too_short:
            self._wrong = min(self._wrong + 1, _WRONG_AT_MOST)
            self._enough = (1 + 0.01 * 2**self._wrong) * self._too_short
        self._next = max(now, self._last_passed + 1.01 * self._enough)

    def _answered(self, sent_at: float) -> None:
        if sent_at >= self._trial - 1e-9:
            self._trial = math.inf
