"""Binary heaps of items by time, with lazy deletion.

To move or remove an item only changes an attribute of the item. The old heap entry is then stale. It is
dropped when it reaches the top; when stale entries outnumber the others, all are dropped. So every operation
takes O(log n) amortised, and an item costs one tuple for each heap. trio's ``Deadlines`` works the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

__all__ = ("DeadlineHeap", "PriorityQueue", "Queueable")

#: Stale entries that are kept in any case: to rebuild a smaller heap costs more than the memory is worth.
_STALE_ALLOWED = 1000


class Queueable(Protocol):
    """An item of a `PriorityQueue`, which sets its *ticket* to the number of its entry, or 0 without one."""

    ticket: int


_T = TypeVar("_T", bound=Queueable)


class PriorityQueue(Generic[_T]):
    """Items in the order of a number, such as the time at which they are due. Each is in at most once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _T]] = []
        self._tickets = 0
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def __iter__(self) -> Iterator[_T]:
        """Iterate over a sorted copy of the items."""
        return iter([entry[2] for entry in sorted(self._heap) if entry[2].ticket == entry[1]])

    def items(self) -> list[_T]:
        """Return the items in no particular order, which saves sorting them."""
        return [item for _, ticket, item in self._heap if item.ticket == ticket]

    def set_all(self, when: Callable[[_T, float], float]) -> None:
        """Replace the time of every item by *when*(item, current time)."""
        self._heap = [
            (when(item, at), ticket, item) for at, ticket, item in self._heap if item.ticket == ticket
        ]
        heapify(self._heap)

    def set(self, item: _T, when: float) -> None:
        """Add *item* at the time *when*, or move it there. Equal times stay in the order of the calls."""
        if not item.ticket:
            self._live += 1
        self._tickets = item.ticket = self._tickets + 1
        heap = self._heap
        heappush(heap, (when, item.ticket, item))
        if len(heap) > 2 * self._live + _STALE_ALLOWED:
            self._heap = [entry for entry in heap if entry[2].ticket == entry[1]]
            heapify(self._heap)

    def discard(self, item: _T) -> None:
        """Remove *item*, if it is in."""
        if item.ticket:
            item.ticket = 0
            self._live -= 1

    def next_time(self) -> float:
        """Return the time of the first item, infinity without one."""
        heap = self._heap
        while heap:
            when, ticket, item = heap[0]
            if item.ticket == ticket:
                return when
            heappop(heap)
        return math.inf

    def first(self) -> _T | None:
        """Return the first item without removing it, None without one."""
        self.next_time()  # drops stale entries
        return self._heap[0][2] if self._heap else None

    def count_due(self, now: float, most: int) -> int:
        """Return how many items are due at *now*, at most *most*."""
        heap, found, places = self._heap, 0, [0]
        while places and found < most:
            place = places.pop()
            if (
                place < len(heap) and heap[place][0] <= now
            ):  # the children of an entry are not earlier than it
                found += heap[place][2].ticket == heap[place][1]
                places += (2 * place + 1, 2 * place + 2)
        return found

    def pop_due(self, now: float) -> _T | None:
        """Remove and return the first item if it is due at *now*, else None."""
        if self.next_time() > now or not self._heap:
            return None
        item = heappop(self._heap)[2]
        self.discard(item)
        return item


class HasDeadline(Protocol):
    """An item of a `DeadlineHeap`, which sets its *deadline*; None without one."""

    deadline: float | None


_B = TypeVar("_B", bound=HasDeadline)


class DeadlineHeap(Generic[_B]):
    """Items by deadline. An entry is stale if its time is not the item's deadline, so no ticket is needed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _B]] = []
        self._pushes = 0
        self._live = 0

    def set(self, item: _B, when: float) -> None:
        """Give *item* the deadline *when*; it must have none yet."""
        item.deadline = when
        self._live += 1
        self._pushes += 1
        heappush(self._heap, (when, self._pushes, item))
        if len(self._heap) > 2 * self._live + _STALE_ALLOWED:
            self._heap = [entry for entry in self._heap if entry[2].deadline == entry[0]]
            heapify(self._heap)

    def discard(self, item: _B) -> None:
        """Remove the deadline of *item*, if it has one."""
        if item.deadline is not None:
            item.deadline = None
            self._live -= 1

    def next_time(self) -> float:
        """Return the first deadline, infinity without one."""
        heap = self._heap
        while heap and heap[0][2].deadline != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else math.inf

    def pop_due(self, now: float) -> _B | None:
        """Remove the first deadline if it has passed at *now*, and return its item, else None."""
        if self.next_time() > now or not self._heap:
            return None
        item = heappop(self._heap)[2]
        self.discard(item)
        return item
