"""How many requests are on the wire, how long a trip takes, and which answers are not waited for any more.

Who looks for a limit waits for what is unanswered, for it may be what the limit let through. But an answer that does not
come would hold back all others until its request is given up, and for a create that is minutes.
"""

from __future__ import annotations

import math

__all__ = ("Unanswered",)

#: An answer that takes so many times as long as others, and so many seconds at least, is not waited for any more;
#: nor is one that takes so many seconds where there were no others.
_OVERDUE, _LEAST_OVERDUE, _FIRST_OVERDUE = 4.0, 2.0, 10.0


class Unanswered:
    """The requests of one limit that are on the wire. Times are in seconds."""

    def __init__(self) -> None:
        self.count = 0
        #: A usual round trip, None before the first answer.
        self.trip: float | None = None
        self._overdue, self._overdue_left = 0, -math.inf
        self._left_last = math.inf

    @property
    def waited_for(self) -> int:
        """How many answers are worth waiting for."""
        return self.count - self._overdue

    @property
    def overdue_at(self) -> float:
        """When no answer is waited for any more, unless another request leaves."""
        patience = _FIRST_OVERDUE if self.trip is None else max(_LEAST_OVERDUE, _OVERDUE * self.trip)
        return self._left_last + patience

    def take_over(self, more: int) -> None:
        """Count *more* that left before, or fewer if it is negative."""
        self.count += more
        self._overdue = max(0, min(self._overdue, self.count))

    def sent(self, now: float) -> None:
        """Note that a request leaves."""
        if self.count and now >= self.overdue_at:
            self._overdue, self._overdue_left = self.count, self._left_last
        self.count += 1
        self._left_last = now

    def answered(self, now: float, sent_at: float) -> None:
        """Note the answer to a request that left at *sent_at*; one that was overdue says nothing of other trips."""
        self.count -= 1
        if self._overdue and sent_at <= self._overdue_left:
            self._overdue -= 1
        else:
            trip = now - sent_at
            self.trip = trip if self.trip is None else 0.8 * self.trip + 0.2 * trip

    def lost(self) -> None:
        """Note that no answer will come: it will have been an overdue one, if there is one."""
        self.count -= 1
        self._overdue = max(0, self._overdue - 1)

    def unsent(self) -> None:
        """Note that a request did not leave after all."""
        self.count -= 1
        self._overdue = min(self._overdue, self.count)
