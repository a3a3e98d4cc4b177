"""Heaps with lazy deletion, compared with a model that deletes at once."""

from __future__ import annotations

import math
import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ruxa_async._engine.deadline_heap import DeadlineHeap, PriorityQueue


@attrs.define(eq=False)
class Item:
    name: int
    ticket: int = 0


class Naive:
    """A queue that scans all items for each operation."""

    def __init__(self) -> None:
        self._entries: dict[Item, tuple[float, int]] = {}
        self._settings = 0

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, item: Item, when: float) -> None:
        self._settings += 1
        self._entries[item] = (when, self._settings)

    def discard(self, item: Item) -> None:
        self._entries.pop(item, None)

    def next_time(self) -> float:
        return min((when for when, _ in self._entries.values()), default=math.inf)

    def pop_due(self, now: float) -> Item | None:
        due = [(entry, item) for item, entry in self._entries.items() if entry[0] <= now]
        if not due:
            return None
        item = min(due, key=lambda pair: pair[0])[1]
        del self._entries[item]
        return item


def items(count: int) -> list[Item]:
    return [Item(name) for name in range(count)]


def names_due(queue: PriorityQueue[Item], now: float) -> list[int]:
    names = []
    while (item := queue.pop_due(now)) is not None:
        names.append(item.name)
    return names


def test_an_empty_queue_is_never_due() -> None:
    queue = PriorityQueue[Item]()
    assert len(queue) == 0
    assert queue.next_time() == math.inf
    assert queue.pop_due(1e300) is None
    assert queue.pop_due(math.inf) is None


def test_items_are_due_in_the_order_of_their_times() -> None:
    queue = PriorityQueue[Item]()
    for item, when in zip(items(4), (3.0, 1.0, 4.0, 2.0), strict=True):
        queue.set(item, when)
    assert queue.next_time() == 1.0
    assert names_due(queue, 3.0) == [1, 3, 0]
    assert (len(queue), queue.next_time()) == (1, 4.0)
    assert names_due(queue, 4.0) == [2]


def test_an_item_is_due_at_its_time_and_not_before() -> None:
    queue = PriorityQueue[Item]()
    queue.set(Item(0), 5.0)
    assert queue.pop_due(math.nextafter(5.0, 0.0)) is None
    assert names_due(queue, 5.0) == [0]


def test_equal_times_keep_the_order_of_their_setting() -> None:
    queue = PriorityQueue[Item]()
    a, b, c = items(3)
    for item in (a, b, c, a):
        queue.set(item, 1.0)
    assert names_due(queue, 1.0) == [1, 2, 0]


def test_setting_again_moves_an_item_both_ways() -> None:
    queue = PriorityQueue[Item]()
    a, b = items(2)
    queue.set(a, 1.0)
    queue.set(b, 2.0)
    queue.set(a, 3.0)
    assert (len(queue), queue.next_time()) == (2, 2.0)
    queue.set(a, 0.5)
    assert (len(queue), queue.next_time()) == (2, 0.5)
    assert names_due(queue, 9.0) == [0, 1]


def test_a_discarded_item_is_never_due() -> None:
    queue = PriorityQueue[Item]()
    a, b = items(2)
    queue.set(a, 1.0)
    queue.set(b, 2.0)
    queue.discard(a)
    assert (len(queue), queue.next_time()) == (1, 2.0)
    assert names_due(queue, 9.0) == [1]


def test_discarding_an_absent_item_changes_nothing() -> None:
    queue = PriorityQueue[Item]()
    a, b = items(2)
    queue.set(a, 1.0)
    queue.discard(b)
    queue.discard(a)
    queue.discard(a)
    assert (len(queue), queue.next_time()) == (0, math.inf)


def test_a_popped_item_can_be_set_again() -> None:
    queue = PriorityQueue[Item]()
    item = Item(0)
    for when in (1.0, 2.0, 1.0):
        queue.set(item, when)
        assert queue.pop_due(2.0) is item
        assert item.ticket == 0
    assert len(queue) == 0


def test_an_item_at_infinity_is_in_and_never_due() -> None:
    queue = PriorityQueue[Item]()
    queue.set(Item(0), math.inf)
    assert (len(queue), queue.next_time()) == (1, math.inf)
    assert queue.pop_due(1e300) is None


def test_moving_one_item_for_ever_needs_no_more_memory() -> None:
    queue = PriorityQueue[Item]()
    still, moved = items(2)
    queue.set(still, 1e9)
    for when in range(10_000):
        queue.set(moved, float(when))
        assert len(queue._heap) <= 2 * 2 + 1000
    assert (len(queue), queue.next_time()) == (2, 9999.0)
    assert names_due(queue, 1e9) == [1, 0]


def test_ten_thousand_random_moves_agree_with_the_model() -> None:
    chance = random.Random(20261122)
    queue, naive, all_items = PriorityQueue[Item](), Naive(), items(40)
    for _ in range(10_000):
        item, when = chance.choice(all_items), float(chance.randrange(1000))
        match chance.randrange(8):
            case 0:
                queue.discard(item)
                naive.discard(item)
            case 1:
                assert queue.pop_due(when / 8) is naive.pop_due(when / 8)
            case _:
                queue.set(item, when)
                naive.set(item, when)
        assert (len(queue), queue.next_time()) == (len(naive), naive.next_time())
    assert len(naive) > 10


NAMES = st.integers(min_value=0, max_value=5)
TIMES = st.one_of(st.integers(min_value=-3, max_value=3).map(float), st.floats(allow_nan=False))


class ScheduleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = PriorityQueue[Item]()
        self.naive = Naive()
        self.items = items(6)

    @rule(name=NAMES, when=TIMES)
    def set(self, name: int, when: float) -> None:
        self.queue.set(self.items[name], when)
        self.naive.set(self.items[name], when)

    @rule(name=NAMES)
    def discard(self, name: int) -> None:
        self.queue.discard(self.items[name])
        self.naive.discard(self.items[name])

    @rule(now=TIMES)
    def pop_due(self, now: float) -> None:
        assert self.queue.pop_due(now) is self.naive.pop_due(now)

    @invariant()
    def both_agree(self) -> None:
        assert len(self.queue) == len(self.naive)
        assert self.queue.next_time() == self.naive.next_time()

    @invariant()
    def only_what_is_in_has_a_ticket(self) -> None:
        assert sum(bool(item.ticket) for item in self.items) == len(self.queue)


ScheduleMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestScheduleAgainstTheModel = ScheduleMachine.TestCase


@settings(max_examples=100, deadline=None)
@given(whens=st.lists(TIMES, max_size=50))
def test_popped_items_are_sorted_and_complete(whens: list[float]) -> None:
    queue = PriorityQueue[Item]()
    for name, when in enumerate(whens):
        queue.set(Item(name), when)
    order = names_due(queue, math.inf)
    assert order == sorted(range(len(whens)), key=lambda name: (whens[name], name))


def test_items_leave_out_discarded_ones() -> None:
    queue = PriorityQueue[Item]()
    a, b, c = items(3)
    for item, when in ((a, 3.0), (b, 1.0), (c, 2.0), (a, 0.5)):
        queue.set(item, when)
    queue.discard(b)
    assert sorted(item.name for item in queue.items()) == [0, 2]


def test_all_items_are_moved_at_once() -> None:
    queue = PriorityQueue[Item]()
    a, b, c = items(3)
    for item, when in ((a, 1.0), (b, 2.0), (c, 3.0)):
        queue.set(item, when)
    queue.discard(b)
    queue.set_all(lambda item, at: 5.0 if item is a else at)
    assert (len(queue), queue.next_time()) == (2, 3.0)
    queue.set(b, 4.0)
    assert names_due(queue, 9.0) == [2, 1, 0]


@given(st.lists(st.integers(0, 8)), st.integers(0, 8), st.integers(0, 6), st.randoms())
def test_due_items_are_counted_up_to_a_bound(
    whens: list[int], now: int, most: int, chance: random.Random
) -> None:
    queue = PriorityQueue[Item]()
    kept = 0
    for item, when in zip(items(len(whens)), whens, strict=True):
        queue.set(item, when)
        if chance.random() < 0.3:
            queue.discard(item)
        else:
            kept += when <= now
    assert queue.count_due(now, most) == min(kept, most)


@attrs.define(eq=False)
class Bound:
    name: int
    deadline: float | None = None


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans())), st.integers(0, 8))
def test_deadlines_pass_in_order_without_discarded_ones(given_: list[tuple[int, bool]], now: int) -> None:
    deadlines = DeadlineHeap[Bound]()
    bounds = [Bound(name) for name in range(len(given_))]
    for bound, (when, _) in zip(bounds, given_, strict=True):
        deadlines.set(bound, when)
    for bound, (_, dropped) in zip(bounds, given_, strict=True):
        if dropped:
            deadlines.discard(bound)
            deadlines.discard(bound)
    left = sorted((when, place) for place, (when, dropped) in enumerate(given_) if not dropped)
    assert deadlines.next_time() == (left[0][0] if left else math.inf)
    passed = []
    while (late := deadlines.pop_due(now)) is not None:
        assert late.deadline is None
        passed.append(late.name)
    assert passed == [place for when, place in left if when <= now]
    assert deadlines.pop_due(math.inf) is (bounds[left[len(passed)][1]] if left[len(passed) :] else None)


def test_stale_deadlines_are_dropped() -> None:
    deadlines = DeadlineHeap[Bound]()
    kept = Bound(-1)
    deadlines.set(kept, 1e9)
    for name in range(10_000):
        bound = Bound(name)
        deadlines.set(bound, 1e9 + name)
        deadlines.discard(bound)
    assert len(deadlines._heap) <= 1_003
    assert deadlines.pop_due(math.inf) is kept
