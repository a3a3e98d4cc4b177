"""Tell a window of a second from a bucket by when it refuses, for a wait of a second told in whole ones says nothing.

A window that holds n refuses when n were let through since it began, and windows begin whole seconds apart. So for
each n, every refusal says between which two requests its window began. If these instants fall together, seconds aside,
at refusal after refusal, and for one n alone, then no bucket is likely to be the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

from attrs import frozen

__all__ = ("PER", "Boundaries")

#: Seconds. A longer window is told from a bucket by the silence that it brings, and by longer waits.
PER = 1.0
#: So many refusals must agree, and all that are kept.
_REFUSALS, _KEPT = 4, 6
_FEWEST, _MOST = 3, 1024
#: Seconds by which the instants at which requests arrive may differ from those at which they leave, but for a constant.
_JITTER = 2e-3

_Span: TypeAlias = tuple[float, float]


@frozen
class _No:
    """A refusal of a request that left *at* an instant, and when those left that were let through in the second before it."""

    at: float
    passed: Sequence[float]  # the last one first

    def began(self, count: int) -> _Span:
        """Return between which instants the window began, if it had let *count* through."""
        earliest = self.at - PER
        before = self.passed[count] if len(self.passed) > count else earliest
        return before - _JITTER, self.passed[count - 1] + _JITTER


class Boundaries:
    """The last refusals, and what was let through before each of them. Times are in seconds."""

    def __init__(self) -> None:
        self._passed: deque[float] = deque(maxlen=_MOST)
        self._noes: deque[_No] = deque(maxlen=_KEPT)
        self._passed_since = False

    def passed(self, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was let through."""
        self._passed.append(sent_at)
        self._passed_since = True

    def refused(self, sent_at: float) -> None:
        """Note a refusal that is news, of a request that left at *sent_at*; with none let through since the last it is none."""
        if not self._passed_since:
            return
        self._passed_since = False
        before = [left for left in reversed(self._passed) if sent_at - PER < left <= sent_at]
        self._noes.append(_No(sent_at, before))

    def count(self) -> int | None:
        """Return what the window holds that the last refusals look like, None if they look like none or like several."""
        while len(self._noes) >= _REFUSALS:
            most = min(len(no.passed) for no in self._noes)
            alike = [count for count in range(_FEWEST, most + 1) if self._fall_together(count)]
            if alike:
                return alike[0] if len(alike) == 1 else None
            self._noes.popleft()
        return None

    def _fall_together(self, count: int) -> bool:
        first, *others = (no.began(count) for no in self._noes)
        spans = [first]
        for other in others:
            spans = [both for span in spans for both in _both(span, other)]
        return bool(spans)


def _both(one: _Span, other: _Span) -> list[_Span]:
    """Return where *one* and *other*, moved by whole seconds, meet."""
    turn = (one[0] - other[1]) // PER
    moved = [(other[0] + more * PER, other[1] + more * PER) for more in (turn, turn + 1, turn + 2)]
    met = ((max(one[0], low), min(one[1], high)) for low, high in moved)
    return [(low, high) for low, high in met if low < high]
