"""A heap of instants that forgets lazily.

Moving or removing an entry only changes the ticket on the item; the stale heap entry is dropped when it comes up,
and all of them when they outnumber the live ones. So every operation is O(log n) amortised, and an item costs one
tuple. (The idea is that of trio's ``Deadlines``.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

__all__ = ("Deadlines", "Schedule", "Scheduled")

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

    def items(self) -> list[_T]:
        """Return the items that are in, in no order; sorting many takes longer than whatever is done with each."""
        return [item for _, ticket, item in self._heap if item.ticket == ticket]

    def set_all(self, when: Callable[[_T, float], float]) -> None:
        """Make every item due when *when* says, which is given the item and the time at which it was due."""
        self._heap = [
            (when(item, at), ticket, item) for at, ticket, item in self._heap if item.ticket == ticket
        ]
        heapify(self._heap)

    def set(self, item: _T, when: float) -> None:
        """Make *item* due at *when*, wherever it was before. Equal times come up in the order of their setting."""
        if not item.ticket:
            self._live += 1
        self._tickets = item.ticket = self._tickets + 1
        heap = self._heap
        heappush(heap, (when, item.ticket, item))
        if len(heap) > 2 * self._live + _PRUNE_ABOVE:
            self._prune()

    def discard(self, item: _T) -> None:
        """Take *item* out, if it is in."""
        if item.ticket:
            item.ticket = 0
            self._live -= 1

    def next_time(self) -> float:
        """Return when the next item is due, infinity if there is none."""
        heap = self._heap
        while heap:
            when, ticket, item = heap[0]
            if item.ticket == ticket:
                return when
            heappop(heap)
        return math.inf

    def first(self) -> _T | None:
        """Return the item that is due first and leave it in, None if there is none."""
        self.next_time()  # drops what is stale
        return self._heap[0][2] if self._heap else None

    def count_due(self, now: float, most: int) -> int:
        """Return how many items are due at *now*, *most* if there are more."""
        heap, found, places = self._heap, 0, [0]
        while places and found < most:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now:  # what lies below a later entry is later still
                found += heap[place][2].ticket == heap[place][1]
                places += (2 * place + 1, 2 * place + 2)
        return found

    def pop_due(self, now: float) -> _T | None:
        """Take out and return the item that has been due longest at *now*, None if none is due."""
        if self.next_time() > now or not self._heap:
            return None
        item = heappop(self._heap)[2]
        item.ticket = 0
        self._live -= 1
        return item

    def _prune(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
        heapify(self._heap)


class Bounded(Protocol):
    """Anything with room for a *deadline*, None while it has none."""

    deadline: float | None


_B = TypeVar("_B", bound=Bounded)


class Deadlines(Generic[_B]):
    """Items by their deadlines, most of which are never reached; each has one at most, and knows it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _B]] = []
        self._order = 0
        self._live = 0

    def set(self, item: _B, when: float) -> None:
        """Give *item*, which has none, the deadline *when*."""
        item.deadline = when
        self._live += 1
        self._order += 1
        heappush(self._heap, (when, self._order, item))
        if len(self._heap) > 2 * self._live + _PRUNE_ABOVE:
            self._heap = [entry for entry in self._heap if entry[2].deadline == entry[0]]
            heapify(self._heap)

    def discard(self, item: _B) -> None:
        """Take the deadline of *item* away, if it has one."""
        if item.deadline is not None:
            item.deadline = None
            self._live -= 1

    def next_time(self) -> float:
        """Return when the next deadline passes, infinity if there is none."""
        heap = self._heap
        while heap and heap[0][2].deadline != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop_due(self, now: float) -> _B | None:
        """Take the deadline that passed first away from its item and return that, None if none has passed."""
        if self.next_time() > now or not self._heap:
            return None
        item = heappop(self._heap)[2]
        self.discard(item)
        return item
