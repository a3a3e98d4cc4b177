"""Finding a limit that nobody told, and running at it, in virtual time over limits of every shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import pytest
from engine.limits_sim import Changing, Fixed, Limit, Run, Sliding, Tokens, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async._engine.creep import Creep
from ruxa_async._engine.governor import Governor
from ruxa_async._engine.steps import Steps
from ruxa_async._engine.window import Window

TRIPS = (0.001, 0.05, 0.2)
TICK = 1 / 1024

#: What may be asked for: at least so many per cent of what was possible, in the whole run and from a fifth to four
#: fifths of it, and at most so many refusals.
Bounds: TypeAlias = tuple[int, int, int]

#: A limit, what is to be let through, and bounds for a round trip of 1, 50 and 200 ms, untold and then told when to
#: come back.
LIMITS: list[tuple[str, Callable[[], Limit], int, tuple[Bounds, ...]]] = [
    (
        "TB 20/1",
        lambda: Tokens(20, 1),
        601,
        (
            (98, 97, 14),
            (97, 98, 14),
            (94, 97, 22),
            (93, 98, 13),
            (92, 97, 13),
            (90, 97, 12),
        ),
    ),
    (
        "TB 50/1",
        lambda: Tokens(50, 1),
        1501,
        (
            (97, 97, 17),
            (96, 97, 28),
            (93, 97, 28),
            (92, 97, 17),
            (91, 97, 15),
            (89, 96, 14),
        ),
    ),
    (
        "TB 50/10",
        lambda: Tokens(50, 10),
        1510,
        (
            (98, 98, 9),
            (98, 98, 7),
            (96, 98, 20),
            (97, 98, 8),
            (98, 98, 13),
            (94, 98, 22),
        ),
    ),
    (
        "TB 20/10",
        lambda: Tokens(20, 10),
        610,
        (
            (98, 98, 6),
            (98, 98, 6),
            (98, 98, 13),
            (98, 98, 5),
            (98, 98, 6),
            (97, 98, 14),
        ),
    ),
    (
        "TB 120/100",
        lambda: Tokens(120, 100),
        3700,
        (
            (98, 98, 17),
            (98, 98, 33),
            (97, 98, 75),
            (98, 98, 14),
            (97, 98, 18),
            (96, 98, 98),
        ),
    ),
    (
        "TB 200/40",
        lambda: Tokens(200, 40),
        6040,
        (
            (98, 98, 25),
            (97, 98, 40),
            (92, 98, 48),
            (98, 98, 28),
            (95, 98, 45),
            (91, 98, 46),
        ),
    ),
    (
        "TB 10/10",
        lambda: Tokens(10, 10),
        310,
        (
            (98, 98, 5),
            (98, 98, 7),
            (98, 98, 10),
            (98, 98, 4),
            (98, 98, 5),
            (98, 98, 7),
        ),
    ),
    (
        "TB 2/20",
        lambda: Tokens(2, 20),
        80,
        (
            (98, 96, 6),
            (98, 98, 8),
            (98, 98, 16),
            (93, 89, 4),
            (97, 96, 5),
            (95, 96, 10),
        ),
    ),
    (
        "SW 20/10",
        lambda: Sliding(20, 10),
        240,
        (
            (98, 98, 7),
            (98, 98, 7),
            (98, 98, 8),
            (98, 98, 2),
            (98, 98, 2),
            (98, 98, 3),
        ),
    ),
    (
        "SW 20/2",
        lambda: Sliding(20, 2),
        320,
        (
            (98, 98, 5),
            (98, 98, 5),
            (98, 98, 6),
            (98, 89, 2),
            (98, 98, 2),
            (98, 90, 3),
        ),
    ),
    (
        "FW 20/10",
        lambda: Fixed(20, 10, ends=7.0),
        240,
        (
            (98, 85, 7),
            (98, 85, 7),
            (98, 85, 8),
            (98, 98, 3),
            (98, 98, 3),
            (98, 98, 4),
        ),
    ),
    (
        "FW 100/1",
        lambda: Fixed(100, 1, ends=0.7),
        3100,
        (
            (98, 98, 14),
            (93, 98, 41),
            (96, 94, 36),
            (98, 98, 5),
            (88, 97, 68),
            (85, 84, 123),
        ),
    ),
]

CASES = [
    pytest.param(
        fresh, count, trip, told, bounds[3 * told + index], id=f"{name}-{trip}-{'told' if told else 'untold'}"
    )
    for name, fresh, count, bounds in LIMITS
    for told in (False, True)
    for index, trip in enumerate(TRIPS)
]


@pytest.mark.parametrize(("fresh", "count", "trip", "told", "bounds"), CASES)
def test_the_limit_is_used(
    fresh: Callable[[], Limit], count: int, trip: float, told: bool, bounds: Bounds
) -> None:
    """The bounds are a little looser than what was measured, for N = 30 x rate + burst.

    The targets of issue 3 are 95 % whole and 99 % steady with at most 1 % refused (92, 95 and 2 % for a burst of 1). Missed:

    - 1 % refused: at rates up to 10/s, where finding the limit alone costs 4 to 9 refusals of 80 to 310 requests, and
      at some round trips of 200 ms, where a pace that is twice the limit's has as many on the wire;
    - 100 in windows of 1 s at round trips of 50 and 200 ms, told in whole seconds when to come back: a wait of one second
      says nothing of a window's end, so four stretches are needed to see that it is no bucket. Of windows of 10 s there are
      twelve in all, so that "steady" is six or seven of them as they happen to lie.
    """
    whole, steady, refusals = bounds
    run = simulate(fresh(), trip=trip, told=told, count=count, until=900)
    assert len(run.passed) == count
    assert run.share(fresh) * 100 >= whole
    assert run.steady(fresh) * 100 >= steady
    assert len(run.refused) <= refusals


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize(("told", "most"), [(False, (6, 6, 7)), (True, (1, 1, 2))])
def test_twelve_windows_of_twenty_in_ten_seconds(trip: float, told: bool, most: tuple[int, ...]) -> None:
    """Issue 3 allows 6 refusals untold; a round trip of 200 ms, with two on the wire at the first no, costs one more."""
    run = simulate(Sliding(20, 10), trip=trip, told=told, count=240)
    assert len(run.refused) <= most[TRIPS.index(trip)]
    assert isinstance(run.governor._shape, Window)
    assert run.governor.rate == 2.0
    assert sum(20 <= time < 120 for time in run.passed) >= 0.95 * 200


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(
    ("fresh", "shape"),
    [
        (lambda: Tokens(50, 1), Steps),
        (lambda: Tokens(5, 1), Steps),
        (lambda: Tokens(50, 10), Creep),
        (lambda: Tokens(10, 10), Creep),
        (lambda: Tokens(50, 100), Creep),
        (lambda: Sliding(20, 10), Window),
        (lambda: Sliding(20, 2), Window),
        (lambda: Fixed(20, 10, ends=7.0), Window),
        (lambda: Fixed(100, 1, ends=0.7), Window),
    ],
)
def test_the_shape_of_a_limit_is_told_from_what_is_let_through(
    fresh: Callable[[], Limit], shape: type, told: bool
) -> None:
    assert type(simulate(fresh(), trip=0.001, told=told, until=30).governor._shape) is shape


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("burst", [1, 10])
@pytest.mark.parametrize("after", [25, 100])
def test_a_rate_that_halves_or_doubles_is_used_again_within_ten_seconds(
    after: int, burst: int, trip: float
) -> None:
    run = changed(50, after, burst, trip=trip, told=False)
    assert run.share(lambda: Changing(Tokens(50, burst), Tokens(after, burst), 15), 25, 40) >= 0.95


@pytest.mark.parametrize(
    ("after", "burst", "trip", "share"),
    [
        (25, 1, 0.001, 0.95),
        (25, 1, 0.05, 0.94),
        (25, 1, 0.2, 0.84),
        (25, 10, 0.001, 0.95),
        (25, 10, 0.05, 0.95),
        (25, 10, 0.2, 0.95),
        (100, 1, 0.001, 0.95),
        (100, 1, 0.05, 0.95),
        (100, 1, 0.2, 0.95),
        (100, 10, 0.001, 0.95),
        (100, 10, 0.05, 0.95),
        (100, 10, 0.2, 0.95),
    ],
)
def test_a_rate_that_changes_where_each_no_forbids_a_second(
    after: int, burst: int, trip: float, share: float
) -> None:
    """The target, 0.95 within ten seconds, is missed where the share asked for is less."""
    run = changed(50, after, burst, trip=trip, told=True)
    assert run.share(lambda: Changing(Tokens(50, burst), Tokens(after, burst), 15), 25, 40) >= share


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("after", "share"), [(10, 0.85), (40, 0.85)])
@pytest.mark.parametrize("trip", TRIPS)
def test_a_window_whose_count_halves_or_doubles_is_found_again(
    after: int, share: float, trip: float, told: bool
) -> None:
    def fresh() -> Limit:
        return Changing(Sliding(20, 2), Sliding(after, 2), 40)

    run = simulate(fresh(), trip=trip, told=told, until=120)
    assert run.share(fresh, 80, 120) >= share


def changed(before: int, after: int, burst: int, *, trip: float, told: bool) -> Run:
    return simulate(Changing(Tokens(before, burst), Tokens(after, burst), 15), trip=trip, told=told, until=40)


# ---- finding it


def leave(governor: Governor, now: float) -> int:
    """Send all that may leave at *now*; return how many that were."""
    count = 0
    while governor.ready_at(now) <= now:
        governor.sent(now)
        count += 1
    return count


class Asking:
    """One request at a time, each as soon as it may leave, and answered after a millisecond."""

    def __init__(self, passed: int) -> None:
        """Let *passed* through at once, a millisecond each, and refuse the next."""
        self.governor, self.now = Governor(), 0.0
        assert [self.ask(passes=True) for _ in range(passed)] == [index * TICK for index in range(passed)]
        self.began = self.ask(passes=False)

    def ask(self, *, passes: bool) -> float:
        """Return when it left."""
        sent_at = max(self.now, self.governor.ready_at(self.now))
        self.governor.sent(sent_at)
        self.now = sent_at + TICK
        if passes:
            self.governor.passed(self.now, sent_at=sent_at)
        else:
            self.governor.refused(self.now, None, sent_at=sent_at)
        return sent_at


def test_few_are_unanswered_before_anything_is_known() -> None:
    governor = Governor()
    assert leave(governor, 0.0) == 4
    assert governor.ready_at(0.1) == 10.0
    assert governor.rate is None


def test_an_answer_that_does_not_come_is_waited_for_no_more() -> None:
    """Ten seconds, or four trips and two seconds at least; and when it comes after all, it says nothing of trips."""
    governor = Governor()
    leave(governor, 0.0)
    for _ in range(3):
        governor.passed(1.0, sent_at=0.0)
    assert leave(governor, 1.0) == 40 - 1
    assert governor.ready_at(4.5) == 5.0
    assert leave(governor, 5.0) == 40
    governor.passed(6.0, sent_at=0.0)  # an hour later would do as well
    assert leave(governor, 6.0) == 0
    for _ in range(40):
        governor.passed(6.0, sent_at=5.0)
    assert leave(governor, 6.0) == 2 * 41


def test_what_did_not_leave_after_all_is_not_overdue() -> None:
    governor = Governor()
    leave(governor, 0.0)
    assert leave(governor, 10.0) == 4
    for _ in range(8):
        governor.unsent()
    assert leave(governor, 10.0) == 4


def test_an_answer_that_does_not_come_does_not_hold_back_what_tries_the_limit() -> None:
    """One of five is never answered, the fifth is refused; the next leaves two seconds after the last."""
    governor = Governor()
    governor.sent(0.0)
    for n in range(1, 5):
        governor.sent(n / 10)
        governor.passed(n / 10 + TICK, sent_at=n / 10)
    governor.sent(0.5)
    governor.refused(0.5 + TICK, None, sent_at=0.5)
    assert governor.ready_at(1.0) == 2.5
    governor.sent(2.5)
    governor.refused(2.5 + TICK, None, sent_at=2.5)
    assert 2.5 < governor.ready_at(2.5 + TICK) < 60  # no sooner for its answer, and no later


def test_few_are_unanswered_as_long_as_no_limit_is_met() -> None:
    """40 a second at first, times the round trip; then twice what was let through in the last second."""
    governor = Governor()
    leave(governor, 0.0)
    for _ in range(4):
        governor.passed(0.125, sent_at=0.0)
    assert leave(governor, 0.125) == 0.125 * 40
    for _ in range(5):
        governor.passed(0.25, sent_at=0.125)
    for _ in range(39):
        governor.sent(0.25)
        governor.passed(0.375, sent_at=0.25)
    assert leave(governor, 0.375) == 0.125 * 2 * 48


def test_without_a_limit_the_pace_grows_and_stays_free() -> None:
    run = simulate(Tokens(1e9, 10**9), trip=0.05, until=2)
    assert len(run.passed) > 440
    assert run.passed[-1] - run.passed[-100] < 0.3
    assert (run.governor.rate, run.refused) == (None, [])


def test_after_a_short_pause_times_are_tried_that_people_choose_but_15_s_apart_at_most() -> None:
    asking = Asking(5)
    times = [asking.ask(passes=False) for _ in range(10)]
    assert times[0] == asking.began + TICK + 0.05
    assert times[1:7] == pytest.approx([1.02, 2.04, 5.1, 10.2, 15.3, 30.3])  # since the first left
    assert times[7:] == pytest.approx([45.3, 60.3, 75.3])


def test_after_one_alone_the_pauses_grow_fourfold_but_by_no_more_than_15_s() -> None:
    asking = Asking(1)
    pauses = [asking.ask(passes=False) - asking.began for _ in range(8)]
    assert pauses[:5] == pytest.approx([TICK + 0.05 * 4**power for power in range(5)])
    assert [after - before for before, after in pairwise(pauses[4:])] == pytest.approx([15.0] * 3)


def test_where_the_first_burst_took_long_the_times_count_from_its_end() -> None:
    """A window may have ended meanwhile, so that the one which refuses began later."""
    governor = Governor()
    for index in range(16):
        governor.sent(index / 12)
        governor.passed(index / 12 + TICK, sent_at=index / 12)
    for sent_at in (1.4, 1.5):
        governor.sent(sent_at)
        governor.refused(sent_at + TICK, None, sent_at=sent_at)
    assert governor.ready_at(1.6) == pytest.approx(1.4 + 1.02)


def test_one_at_a_time_tries_after_a_pause() -> None:
    asking = Asking(5)
    assert asking.governor.ready_at(asking.now) == asking.began + TICK + 0.05
    assert leave(asking.governor, 1.0) == 1
    assert asking.governor.ready_at(1.5) == 3.0


def test_fewer_than_at_first_after_a_pause_is_a_bucket() -> None:
    """5 at first, then 3 in what flowed in during 50 ms."""
    asking = Asking(5)
    spans = [asking.ask(passes=passes) - asking.began for passes in (True, True, True, False)]
    assert isinstance(asking.governor._shape, Creep)
    assert asking.governor.rate == pytest.approx(3 / spans[-1], rel=0.2)


def test_as_many_as_at_first_and_one_more_soon_is_a_bucket_that_was_full() -> None:
    asking = Asking(5)
    for _ in range(5):
        first = asking.ask(passes=True)
        assert asking.governor.rate is None
    soon = asking.ask(passes=True)
    assert soon - first < 0.02  # a fifth of what the five took
    assert isinstance(asking.governor._shape, Creep)
    assert asking.governor.rate == pytest.approx(5 / 0.056, rel=0.1)


def test_as_many_as_at_first_and_not_one_more_is_a_window() -> None:
    asking = Asking(5)
    for passes in (False, False, False, True, True, True, True, True, False):
        asking.ask(passes=passes)
    assert isinstance(asking.governor._shape, Window)
    assert asking.governor.rate == 5 / 5  # of the times that people choose, the longest from 2 to 5 s


@pytest.mark.parametrize(("no", "pause"), [(0, 0.05), (2, 0.8)])
def test_one_at_first_and_one_after_a_pause_is_a_gap(no: int, pause: float) -> None:
    asking = Asking(1)
    for _ in range(no):
        asking.ask(passes=False)
    asking.ask(passes=True)
    assert isinstance(asking.governor._shape, Steps)
    assert asking.governor.rate == pytest.approx(1 / (TICK + pause))


def test_a_long_wait_that_is_asked_for_at_first_is_a_window() -> None:
    governor = Governor()
    leave(governor, 0.0)
    governor.passed(0.1, sent_at=0.0)
    governor.passed(0.1, sent_at=0.0)
    governor.refused(0.1, 10.0, sent_at=0.0)
    governor.passed(0.1, sent_at=0.0)
    assert isinstance(governor._shape, Window)
    assert governor.rate == 0.2


def test_a_no_after_seconds_without_one_is_about_a_rate() -> None:
    governor = Governor()
    for index in range(100):
        governor.sent(index / 25)
        governor.passed(index / 25 + 0.001, sent_at=index / 25)
    governor.sent(4.0)
    governor.refused(4.001, None, sent_at=4.0)
    assert governor.rate == 25.0  # as many as were let through in the last second


def test_those_on_the_wire_at_the_first_no_are_no_news_but_of_the_burst_if_they_left_before() -> None:
    governor = Governor()
    for sent_at in (0.0, 0.01, 0.02, 0.03):
        governor.sent(sent_at)
    governor.passed(0.1, sent_at=0.0)
    governor.refused(0.12, None, sent_at=0.02)
    governor.passed(0.13, sent_at=0.01)
    governor.refused(0.13, None, sent_at=0.03)
    assert (governor._burst, governor._wire.count, governor.rate) == (2, 0, None)
    assert governor.ready_at(0.13) == pytest.approx(0.17)


def test_one_that_is_let_through_is_one_though_its_answer_came_after_the_first_no() -> None:
    governor = Governor()
    assert leave(governor, 0.0) == 4
    for now in (0.004, 0.005, 0.006):
        governor.refused(now, None, sent_at=0.0)
    governor.passed(0.007, sent_at=0.0)
    now = governor.ready_at(0.007)
    governor.sent(now)
    governor.passed(now + 0.005, sent_at=now)
    assert isinstance(governor._shape, Steps)


def test_where_one_is_let_through_after_each_silence_it_is_a_gap() -> None:
    """It was taken for a bucket, and that was refuted; no window holds one, and to sound for it would never end."""
    governor, now = Governor(), 0.0
    governor._search_again(now, now)
    for passes in (True, False, True):
        assert governor.rate is None
        now = max(now, governor.ready_at(now))
        governor.sent(now)
        if passes:
            governor.passed(now + TICK, sent_at=now)
        else:
            governor.refused(now + TICK, None, sent_at=now)
        now += TICK
    assert isinstance(governor._shape, Steps)


def test_one_that_left_after_the_refused_one_and_got_through_says_nothing() -> None:
    governor = Governor()
    for sent_at in (0.0, 0.01, 0.02):
        governor.sent(sent_at)
    governor.passed(0.1, sent_at=0.0)
    governor.refused(0.11, None, sent_at=0.01)
    governor.passed(0.12, sent_at=0.02)
    assert (governor._burst, governor.rate) == (1, None)


def test_a_window_that_is_refuted_starts_the_search_again() -> None:
    governor = Governor()
    leave(governor, 0.0)
    for _ in range(3):
        governor.passed(0.1, sent_at=0.0)
    governor.refused(0.1, 5.0, sent_at=0.0)
    now = 6.0
    for _ in range(4):
        assert governor.rate is not None
        now = max(now, governor.ready_at(now))
        governor.sent(now)
        governor.refused(now + 0.1, None, sent_at=now)
        now += 0.1
    assert governor.rate is None
    assert governor.ready_at(now) == pytest.approx(now + 0.05)


@pytest.mark.parametrize("trip", [0.02, 0.05, 0.1, 0.2])
def test_a_window_that_was_taken_for_a_bucket_is_sounded(trip: float) -> None:
    def fresh() -> Limit:
        return Fixed(100, 1.0, ends=0.7)

    run = simulate(fresh(), trip=trip, until=60)
    assert isinstance(run.governor._shape, Window)
    assert run.governor.rate == pytest.approx(100, rel=0.1)
    assert run.share(fresh, 30) >= 0.9


def test_a_window_of_a_time_that_nobody_chooses_is_believed_when_it_was_sounded_three_times() -> None:
    """Ten are let through in 0.6 s, and more 3 s after the first of them: too long for 2 s, too short for 5."""
    governor, now, opens, openings = Governor(), 0.0, 3.0, 0
    governor._search_again(now, now)
    while governor.rate is None:
        now = max(governor.ready_at(now), now)
        governor.sent(now)
        if now < opens:
            governor.refused(now + TICK, None, sent_at=now)
            now += TICK
            continue
        governor.passed(now + TICK, sent_at=now)
        openings, opens = openings + 1, now + 3.0
        for _ in range(9):
            governor.sent(now + 0.5)
            governor.passed(now + 0.5, sent_at=now + 0.5)
        now += 0.6
    assert openings == 4
    assert isinstance(governor._shape, Window)
    assert governor.rate == pytest.approx(10 / 3.8, rel=0.01)


def kind(governor: Governor) -> type:
    return type(governor._shape)


def test_a_bucket_that_was_taken_for_a_gap_is_found_out() -> None:
    """One passes, one is refused, one passes after a pause: a gap, it seems, but ten are let through at once."""
    asking = Asking(1)
    asking.ask(passes=False)
    asking.ask(passes=True)
    assert kind(asking.governor) is Steps
    limit = Tokens(10, 10)
    for _ in range(1000):
        sent_at = max(asking.now, asking.governor.ready_at(asking.now))
        asking.governor.sent(sent_at)
        asking.now = sent_at + TICK
        if limit.take(sent_at):
            asking.governor.refused(asking.now, 1.0, sent_at=sent_at)
            asking.now += 1.0
        else:
            asking.governor.passed(asking.now, sent_at=sent_at)
    assert kind(asking.governor) is not Steps
    assert asking.governor.rate == pytest.approx(10.0, rel=0.05)


def test_one_of_those_that_fill_up_again_and_did_not_leave_gives_its_place_back() -> None:
    asking = Asking(3)
    asking.ask(passes=True)
    for _ in range(5):
        asking.governor.sent(asking.now)
        asking.governor.unsent()
    left = 0
    while asking.governor._left:
        asking.ask(passes=True)
        left += 1
    assert left == 2


def test_a_request_that_is_lost_or_not_sent_leaves_its_place() -> None:
    governor = Governor()
    assert leave(governor, 0.0) == 4
    governor.lost(0.1)
    governor.unsent()
    assert leave(governor, 0.1) == 2


def test_those_that_left_before_are_answered_for_whatever_the_shape() -> None:
    governor = Governor()
    governor.take_over(3)
    assert leave(governor, 0.0) == 1
    for _ in range(3):
        governor.passed(0.1, sent_at=0.0)
    governor.refused(0.1, 5.0, sent_at=0.0)
    governor.take_over(1)
    assert governor.ready_at(100.0) == math.inf
    governor.take_over(-1)
    assert governor.ready_at(100.0) == 100.0
    assert leave(governor, 100.0) == 1
    governor.lost(100.1)
    assert leave(governor, 200.0) == 1
    governor.unsent()
    assert governor._wire.count == 0


# ---- whatever comes

HINTS = st.one_of(st.none(), st.sampled_from([0.001, 0.3, 1.0, 2.0, 10.0, 3600.0, 1e9, 1e300]))
ACTIONS = st.tuples(
    st.sampled_from(["send", "send", "force", "pass", "pass", "refuse", "refuse", "lose", "unsend", "wait"]),
    st.sampled_from([0.0, 0.0, 1e-6, 0.001, 0.02, 0.3, 2.0, 15.0, 100.0]),
    st.integers(0, 3),
    HINTS,
)


class Machine:
    """A governor, a clock, and what is on the wire."""

    def __init__(self) -> None:
        self.governor = Governor()
        self.now = 100.0
        self.wire: list[float] = []

    def do(self, action: str, later: float, which: int, hint: float | None) -> None:
        ready = self.governor.ready_at(self.now)
        self.now = max(self.now + later, min(ready, self.now + 1e3) if action == "send" else 0.0)
        if action == "force" or (action == "send" and self.governor.ready_at(self.now) <= self.now):
            self.governor.sent(self.now)
            self.wire.append(self.now)
        elif self.wire and action in {"pass", "refuse", "lose", "unsend"}:
            self.answer(action, self.wire.pop(which % len(self.wire)), hint)
        self.check()

    def answer(self, action: str, sent_at: float, hint: float | None) -> None:
        if action == "pass":
            self.governor.passed(self.now, sent_at=sent_at)
        elif action == "refuse":
            self.governor.refused(self.now, hint, sent_at=sent_at)
        elif action == "lose":
            self.governor.lost(self.now)
        else:
            self.governor.unsent()

    def check(self) -> None:
        ready, rate = self.governor.ready_at(self.now), self.governor.rate
        assert not math.isnan(ready)
        assert ready < math.inf or self.wire
        assert rate is None or 0 < rate < math.inf
        assert self.governor._wire.count == len(self.wire)
        shape = self.governor._shape
        if isinstance(shape, Window):
            assert shape._on_wire == shape._pacer._on_wire == len(self.wire)


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=80))
def test_after_any_answers_the_next_may_leave_at_some_time(
    actions: list[tuple[str, float, int, float | None]],
) -> None:
    machine = Machine()
    for action in actions:
        machine.do(*action)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS.filter(lambda each: each[3] is None), max_size=60))
def test_after_any_answers_without_a_hint_there_is_progress_again(
    actions: list[tuple[str, float, int, float | None]],
) -> None:
    """Once everything passes, ten more leave, with at most an hour between two: the longest time of a window."""
    machine = Machine()
    for action in actions:
        machine.do(*action)
    while machine.wire:
        machine.do("pass", 0.01, 0, None)
    for _ in range(10):
        ready = machine.governor.ready_at(machine.now)
        assert ready <= machine.now + 3600 + 1
        machine.now = max(machine.now, ready)
        machine.do("send", 0.0, 0, None)
        machine.do("pass", 0.01, 0, None)


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("hint", [1.0, 1.5, None])
def test_a_service_that_refused_for_long_is_asked_again_within_a_minute(
    hint: float | None, before: int
) -> None:
    machine = Machine()
    for _ in range(before):
        machine.do("send", 0.001, 0, None)
        machine.do("pass", 0.001, 0, None)
    for _ in range(300):
        machine.do("send", 0.001, 0, None)
        machine.do("refuse", 0.001, 0, hint)
        ready = machine.governor.ready_at(machine.now)
        assert machine.now < ready <= machine.now + 61 + (hint or 0)
        machine.now = max(ready, machine.now)
    for _ in range(3):
        machine.do("send", 0.001, 0, None)
        machine.do("pass", 0.001, 0, None)
        assert machine.governor.ready_at(machine.now) <= machine.now + 61


@pytest.mark.parametrize("trip", [0.001, 0.05, 0.2])
@pytest.mark.parametrize(("count", "per"), [(100, 1), (60, 3), (30, 7), (20, 10)])
def test_fixed_windows_are_read_from_waits_that_are_told_exactly(count: int, per: float, trip: float) -> None:
    """The first windows cost most of what is lost: the longer the trip, the fewer leave before one answer is in."""

    def fresh() -> Limit:
        return Fixed(count, per, ends=0.7 * per)

    run = simulate(fresh(), trip=trip, told=True, exactly=True, count=31 * count, until=900)
    assert run.share(fresh) >= (0.88 if (count, trip) == (100, 0.2) else 0.95)
    assert len(run.refused) <= 0.02 * 31 * count
    assert isinstance(run.governor._shape, Window)
