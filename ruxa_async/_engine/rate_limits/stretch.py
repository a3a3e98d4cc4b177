"""What was accepted since a limiter was last known to be empty: lower bounds of its rate."""

from __future__ import annotations

from collections import deque

__all__ = ("Stretch",)

#: Accepted requests whose departures are kept: enough for the bound of a suffix, and bounded memory.
_KEPT = 512
#: A suffix must hold this many requests more than the burst, or the jitter of one arrival decides.
_MORE_THAN_BURST = 4


class Stretch:
    """The requests accepted since *began*, when the limiter had just become able to accept one. Times are in seconds."""

    def __init__(self, began: float, accepted: int = 0) -> None:
        self.began = began
        self.accepted = accepted
        self._departures: deque[float] = deque(maxlen=_KEPT)

    def add(self, sent_at: float) -> None:
        """Note that a request that left at *sent_at* was accepted."""
        self.accepted += 1
        self._departures.append(sent_at)

    def excess(self, rate: float, sent_at: float) -> float:
        """Return how many more requests were accepted until *sent_at* than *rate* explains."""
        return self.accepted - 1 - rate * (sent_at - self.began)

    def sustained(self, burst: float, until: float) -> float:
        """Return the largest rate that the requests accepted last prove, 0 if they prove none.

        A token bucket of size *burst* accepts at most *burst* + rate x time in any time, so each suffix of the
        stretch is a lower bound, however slow the stretch began.
        """
        best, count, kept = 0.0, 2, self._departures
        while count <= len(kept):
            elapsed = until - kept[-count]
            if count >= burst + _MORE_THAN_BURST and elapsed > 0:
                best = max(best, (count - burst) / elapsed)
            count += max(1, count // 2)
        return best
