"""Running at a rate: what a measure says, and how fast the pace grows in between."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ruxa_async._engine.creep import Creep

TRIP = 1 / 1024


def passes(creep: Creep, count: int) -> float:
    """Send *count* as soon as they may leave, each let through after a millisecond; return when the last one left."""
    sent_at = 0.0
    for _ in range(count):
        sent_at = creep.ready_at(0.0) if creep.ready_at(0.0) > 0 else creep._next
        creep.sent(sent_at)
        creep.passed(sent_at + TRIP, sent_at)
    return sent_at


def refused(creep: Creep, hint: float | None = None) -> float:
    sent_at = creep._next
    creep.sent(sent_at)
    creep.refused(sent_at + TRIP, hint, sent_at)
    return sent_at


def after_refusal(
    rate: float = 10.0, measure: float = 4.0, burst: int = 10, hint: float | None = None
) -> Creep:
    creep = Creep(rate, measure, burst, now=0.0)
    creep.begin_after_refusal(0.0, hint, 0.0)
    return creep


def test_the_first_leaves_half_a_gap_after_a_no_and_the_next_a_gap_later() -> None:
    creep = after_refusal()
    assert creep.ready_at(0.0) == 0.05
    creep.sent(0.05)
    assert creep.ready_at(0.05) == pytest.approx(0.15)


def test_one_that_was_late_is_made_up_for_and_no_more() -> None:
    creep = after_refusal()
    creep.sent(0.10)
    assert creep.ready_at(0.10) == pytest.approx(0.15)
    creep.sent(7.0)
    assert creep.ready_at(7.0) == pytest.approx(7.0)
    creep.sent(7.0)
    assert creep.ready_at(7.0) == pytest.approx(7.1)


def test_the_pace_creeps_by_one_in_four_squared_measures_a_request() -> None:
    creep = after_refusal(10.0, 4.0)
    for crept in range(12):
        assert creep._pace() == pytest.approx(10.0 * (1 + crept / 64))
        passes(creep, 1)


def test_the_excess_comes_to_one_request_after_about_three_measures() -> None:
    creep = after_refusal(10.0, 20.0)
    last = passes(creep, 60)
    assert 60 - 10.0 * last == pytest.approx(1.5, abs=0.6)


def test_a_measure_is_what_was_let_through_between_two_refusals() -> None:
    """Seven passed between them: from 6 (one was there at the start) to 8 (one less than it takes at the end)."""
    creep = after_refusal(10.0, 1.0)
    passes(creep, 7)
    span = refused(creep)
    assert creep.rate == pytest.approx(7 / span)
    assert creep._measure == 7.0


def test_a_shorter_measure_that_agrees_says_only_that_the_creep_went_one_too_far() -> None:
    creep = after_refusal(10.0, 20.0)
    passes(creep, 8)
    pace = creep._pace()
    refused(creep)
    assert creep.rate == pytest.approx(pace * 20 / 21)
    assert creep._measure == 20.0


def test_a_shorter_measure_that_disagrees_is_believed() -> None:
    """One passed at 10 a second, and then none for six seconds more: it cannot be ten."""
    creep = after_refusal(10.0, 20.0)
    passes(creep, 1)
    creep.refused(6.0, None, 5.0)
    assert creep.rate == pytest.approx(0.2)
    assert creep._measure == 1.0


def test_each_measure_is_about_three_times_as_exact() -> None:
    """A service that gives exactly ten a second, with nothing left at the first refusal."""
    creep, level, at = after_refusal(9.0, 2.0), 0.0, 0.0
    measures: list[float] = []
    while len(measures) < 4:
        sent_at = creep.ready_at(at)
        level, at = min(10.0, level + 10.0 * (sent_at - at)), sent_at
        creep.sent(sent_at)
        if level >= 1:
            level -= 1
            creep.passed(sent_at + TRIP, sent_at)
        else:
            creep.refused(sent_at + TRIP, None, sent_at)
            measures.append(creep._measure)
    assert measures[-1] == 50.0  # one refusal in 150, and no fewer
    assert creep.rate == pytest.approx(10.0, rel=0.01)
    assert all(2 <= after / before <= 7 for before, after in pairwise(measures) if after < 50), measures


def test_a_measure_is_no_shorter_than_what_is_on_the_wire_and_no_longer_than_ten_seconds() -> None:
    creep = after_refusal(10.0, 4.0)
    creep.passed(1.0, 0.0)
    creep._believe(4.0)
    assert creep._measure == 10.0
    creep = Creep(1.0, 40.0, 5, now=0.0)
    assert creep._measure == 10.0


def test_more_than_could_have_been_there_raises_the_rate_and_an_eighth_is_believed() -> None:
    creep = after_refusal(10.0, 16.0)
    creep.sent(0.05)
    for index in range(3):
        creep.passed(0.06, 0.05 + index / 1000)
    assert creep.rate == 10.0
    creep.passed(0.06, 0.055)
    assert creep.rate == pytest.approx(10.0 * (1 + 4 / 1024))
    assert creep._measure == 2.0
    assert creep._slack == 10.0  # a bucket that was not met may have been full


def test_a_refusal_with_nothing_let_through_since_the_last_doubles_the_pauses_twice() -> None:
    creep = after_refusal(10.0)
    pauses = []
    for _ in range(6):
        now = creep._next
        refused(creep)
        pauses.append(creep._next - now - TRIP)
    assert pauses == pytest.approx([0.2, 0.8, 3.2, 12.8, 15.0, 15.0])
    assert creep.rate == 10.0
    passes(creep, 1)
    assert creep._again == 0


def test_a_refusal_of_what_left_before_the_last_no_was_known_is_no_news() -> None:
    creep = after_refusal()
    passes(creep, 3)
    creep.refused(1.0, None, 0.9)
    rate, ready = creep.rate, creep.ready_at(1.0)
    creep.refused(1.1, 5.0, 0.95)
    assert (creep.rate, creep.ready_at(1.1)) == (rate, ready)


def test_at_the_end_of_a_wait_what_is_surely_there_leaves_at_once() -> None:
    """Within one in four, ten a second come to 7.5 in a second."""
    creep = after_refusal(10.0, 4.0, burst=20, hint=1.0)
    assert creep.ready_at(0.0) == 1.0
    for _ in range(7):
        assert creep.ready_at(1.0) == 1.0
        creep.sent(1.0)
    assert creep.ready_at(1.0) == pytest.approx(1.1)
    assert creep._slack == pytest.approx(10 * 1.25 + 1 - 7)  # what more may have been there


def test_no_more_than_the_burst_leaves_at_once_however_long_the_wait() -> None:
    assert after_refusal(10.0, 4.0, burst=3, hint=1e300)._at_once == 3


def test_a_rate_that_is_hardly_known_lets_half_of_it_leave_at_once() -> None:
    assert after_refusal(10.0, 1.0, burst=20, hint=1.0)._at_once == 5


def reopened(passed: int) -> Creep:
    """Have seven leave at once after a wait, *passed* of them let through and the next one refused."""
    creep = after_refusal(10.0, 4.0, burst=20, hint=1.0)
    for _ in range(7):
        creep.sent(1.0)
    for _ in range(passed):
        creep.passed(1.01, 1.001)
    creep.refused(1.01, 1.0, 1.001)
    return creep


def test_fewer_than_thought_after_a_wait_means_a_smaller_burst_and_says_nothing_of_the_rate() -> None:
    creep = reopened(5)
    assert (creep._burst, creep.rate) == (18, 10.0)


def test_just_as_many_as_thought_after_a_wait_slows_the_pace() -> None:
    creep = reopened(7)
    assert (creep._burst, creep.rate) == (20, 8.0)


def test_after_a_wait_the_next_no_bounds_the_rate() -> None:
    """Four passed beyond the seven in 2 s: from (4 - slack) / 2 to 5 / 2."""
    creep = after_refusal(10.0, 4.0, burst=7, hint=1.0)
    assert creep._slack == 1.0
    for _ in range(7):
        creep.sent(1.0)
    for index in range(7):
        creep.passed(1.1, 1.0 + (index + 1) / 1024)
    for index in range(4):
        creep.passed(1.6 + index / 4, 1.5 + index / 4)
    creep.refused(3.1, None, 3.0)
    assert creep.rate == pytest.approx(4 / 2)


@pytest.mark.parametrize("hint", [1.0, 0.5])
def test_there_is_one_in_fifteen_seconds_at_least_however_often_it_was_refused(hint: float) -> None:
    creep = after_refusal(hint=hint)
    for _ in range(500):
        now = creep.ready_at(0.0)
        creep._at_once = 0
        creep._passed = 0
        creep.refused(now + TRIP, hint, now)
    assert creep.rate == 1 / 15
