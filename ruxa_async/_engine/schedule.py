"""A heap of instants that forgets lazily.

Moving or removing an entry only changes the ticket on the item; the stale heap entry is dropped when it comes up,
and all of them when they outnumber the live ones. So every operation is O(log n) amortised, and an item costs one
tuple. (The idea is that of trio's ``Deadlines``.)
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ("Schedule", "Scheduled")

_PRUNE_ABOVE = 1000  # below this a stale entry costs less than counting


class Scheduled(Protocol):
    """Anything with room for a *ticket*, 0 while it is in no schedule."""

    ticket: int


_T = TypeVar("_T", bound=Scheduled)


class Schedule(Generic[_T]):
    """Items by the time they are due; each is in at most once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _T]] = []
        self._tickets = 0
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def __iter__(self) -> Iterator[_T]:
        """Iterate over the items that are in, as they are now, the one that is due first first."""
        return iter([entry[2] for entry in sorted(self._heap) if entry[2].ticket == entry[1]])

    def set(self, item: _T, when: float) -> None:
        """Make *item* due at *when*, wherever it was before. Equal times come up in the order of their setting."""
        if not item.ticket:
            self._live += 1
        self._tickets += 1
        item.ticket = self._tickets
        heapq.heappush(self._heap, (when, self._tickets, item))
        if len(self._heap) > 2 * self._live + _PRUNE_ABOVE:
            self._prune()

    def discard(self, item: _T) -> None:
        """Take *item* out, if it is in."""
        if item.ticket:
            item.ticket = 0
            self._live -= 1

    def next_time(self) -> float:
        """Return when the next item is due, infinity if there is none."""
        heap = self._heap
        while heap and heap[0][2].ticket != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop_due(self, now: float) -> _T | None:
        """Take out and return the item that has been due longest at *now*, None if none is due."""
        if self.next_time() > now or not self._heap:
            return None
        item = heapq.heappop(self._heap)[2]
        self.discard(item)
        return item

    def _prune(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
        heapq.heapify(self._heap)
