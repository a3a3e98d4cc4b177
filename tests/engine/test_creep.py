"""Running at a bucket: how fast the pace grows, and what each answer says."""

from __future__ import annotations

import pytest

from ruxa_async._engine.creep import LONGEST_MEASURE, Creep
from ruxa_async._engine.measures import Bucket, Measure

from .limits_sim import Tokens

TRIP = 1 / 1024


def evenly(count: int, span: float, *, ended: float = 0.0) -> Measure:
    """A stretch between two refusals, *span* seconds long until *ended*, in which *count* passed evenly."""
    step = span / (count + 1)
    return Measure.read(
        [ended - span + step * n for n in range(1, count + 1)], since=ended - span, until=ended
    )


def after_refusal(count: int = 10, span: float = 1.0, *, wait: float | None = None) -> Creep:
    return Creep([evenly(count, span)], now=0.0, refused_at=0.0, retry_after=wait)


def passes(creep: Creep, count: int, *, now: float = 0.0) -> float:
    """Send *count*, each as soon as it may leave, let through after a millisecond; return when the last one left."""
    for _ in range(count):
        now = max(now, creep.ready_at(now))
        creep.sent(now)
        creep.passed(now + TRIP, now)
    return now


def refused(creep: Creep, hint: float | None = None, *, now: float = 0.0) -> float:
    now = max(now, creep.ready_at(now))
    creep.sent(now)
    creep.refused(now + TRIP, hint, now)
    return now


def runs_at(creep: Creep, rate: float, burst: int, *, until: float, hint: float | None = None) -> list[float]:
    """Run at a bucket that is empty at first; return when requests were refused."""
    limit, now, noes = Tokens(rate, burst), 0.0, []
    for _ in range(burst):
        limit.take(0.0)
    while now < until:
        now = max(now, creep.ready_at(now))
        creep.sent(now)
        if limit.take(now):
            creep.refused(now + TRIP, hint, now)
            noes.append(now)
        else:
            creep.passed(now + TRIP, now)
    return noes


def test_the_first_leaves_half_a_gap_after_a_no_and_the_next_a_gap_later() -> None:
    creep = after_refusal()
    assert creep.rate == pytest.approx(10.0, rel=0.01)
    assert creep.ready_at(0.0) == pytest.approx(0.05, rel=0.01)
    creep.sent(0.05)
    assert creep.ready_at(0.05) == pytest.approx(0.15, rel=0.01)


@pytest.mark.parametrize(
    ("burst", "rate", "tokens"),
    [(1, 10.0, 0.5), (8, 100.0, 2.0), (40, 100.0, 2.5), (40, 5.0, 1.25), (40, 1.0, 0.5)],
)
def test_a_quarter_of_the_bucket_fills_after_a_no_but_no_more_than_in_a_quarter_of_a_second(
    burst: int, rate: float, tokens: float
) -> None:
    """What a bucket keeps is not lost, and the more there is the longer the creep goes without a no."""
    creep = Creep.restored(rate, burst, now=0.0, since=0.0)
    passes(creep, 1)
    creep._begin(0.0, 0.0, None)
    assert creep.ready_at(0.0) * creep.rate == pytest.approx(tokens, rel=0.05)


def test_one_that_was_late_is_made_up_for_and_no_more() -> None:
    creep = after_refusal()
    creep.sent(0.10)
    assert creep.ready_at(0.10) == pytest.approx(0.15, rel=0.01)
    creep.sent(7.0)
    assert creep.ready_at(7.0) == pytest.approx(7.0)
    creep.sent(7.0)
    assert creep.ready_at(7.0) == pytest.approx(7.1, rel=0.01)


def test_the_pace_creeps_by_one_in_four_squared_measures_a_request() -> None:
    creep = after_refusal(10)
    now = 0.0
    for crept in range(12):
        assert creep._pace() == pytest.approx(creep.rate * (1 + crept / (4 * creep._measure**2)))
        now = passes(creep, 1, now=now)
    assert creep._measure == pytest.approx(10.0, rel=0.1)  # ten in a second, one more or less


def test_each_stretch_is_about_three_times_as_exact_up_to_the_longest() -> None:
    creep = after_refusal(9, 1.0)
    noes = runs_at(creep, 10.0, 10, until=120.0)
    assert creep._measure == LONGEST_MEASURE
    assert creep.rate == pytest.approx(10.0, rel=0.01)
    assert len(noes) <= 10


@pytest.mark.parametrize("hint", [None, 1.0])
def test_size_and_rate_are_found_and_kept(hint: float | None) -> None:
    creep = after_refusal(7, 1.0)
    runs_at(creep, 20.0, 10, until=200.0, hint=hint)
    assert creep.rate == pytest.approx(20.0, rel=0.02)
    if hint:
        assert 9 <= creep._bucket.small <= creep._bucket.large <= 11


def test_the_pace_never_grows_faster_than_answers_can_tell() -> None:
    creep = after_refusal(100, 1.0)
    creep.passed(1.0, -1.0)
    creep._adopt(100.0, exact=1.0)
    assert creep._measure == 100.0 * 2.0 / 2 or creep._measure == LONGEST_MEASURE
    creep = after_refusal(100, 1.0)
    creep._adopt(96.0, exact=1.0)
    assert creep._measure == 4.0


def test_more_than_could_have_been_there_raises_the_rate_and_an_eighth_is_believed() -> None:
    creep = after_refusal(300, 30.0)
    assert creep._measure == LONGEST_MEASURE
    before, now = creep.rate, 0.0
    while creep._measures:
        now = passes(creep, 1, now=now)
        assert creep._crept < 1000
    assert creep.rate > before
    assert creep._exact == pytest.approx(8.0, rel=0.05)


def test_a_refusal_with_nothing_let_through_since_the_last_doubles_the_pauses_twice() -> None:
    creep = after_refusal(10, 1.0)
    pauses = []
    for _ in range(6):
        now = refused(creep)
        pauses.append(creep._next - now - TRIP)
    assert pauses == pytest.approx([0.2, 0.8, 3.2, 12.8, 15.0, 15.0], rel=0.01)
    passes(creep, 1, now=60.0)
    assert creep._again == 0


def test_nothing_for_longer_than_a_bucket_can_be_empty_refutes_it() -> None:
    creep = after_refusal(10, 1.0)
    refused(creep)  # half a token may have come by then
    refused(creep)
    assert not creep.refuted
    refused(creep)  # more than ten should have
    assert creep.refuted


def test_a_refusal_of_what_left_before_the_last_no_was_known_is_no_news() -> None:
    creep = after_refusal()
    creep.refused(1.0, None, 0.9)
    rate, ready = creep.rate, creep.ready_at(1.0)
    creep.refused(1.1, 5.0, 0.95)
    assert (creep.rate, creep.ready_at(1.1)) == (rate, ready)


def test_at_the_end_of_a_wait_what_is_surely_there_leaves_at_once() -> None:
    """Ten a second within one: nine, and the rate is taken for rather too low."""
    creep = after_refusal(10, 1.0, wait=1.0)
    assert creep.rate == pytest.approx(9.5, rel=0.01)
    assert creep.ready_at(0.0) == 1.0
    for _ in range(creep._at_once):
        assert creep.ready_at(1.0) == 1.0
        creep.sent(1.0)
    assert creep.ready_at(1.0) == pytest.approx(1.0 + 2 / creep.rate)  # with one in hand


def test_no_more_than_the_smallest_that_it_can_hold_leaves_at_once_however_long_the_wait() -> None:
    creep = after_refusal(10, 1.0, wait=1e300)
    assert creep._at_once == creep._bucket.small


def test_what_passed_after_the_refused_one_is_there_no_more_after_the_wait() -> None:
    creep = Creep([evenly(100, 10.0)], now=0.2, refused_at=0.0, retry_after=1.0)
    at_once = creep._at_once
    creep.passed(0.25, 0.05)
    creep.passed(0.26, 0.06)
    assert creep._at_once == min(at_once, int(9.9 * 1.2 - 2))


def test_a_size_on_which_three_agreed_is_given_up_after_four_that_do_not() -> None:
    creep = after_refusal(7, 1.0)
    runs_at(creep, 20.0, 10, until=100.0, hint=1.0)
    assert creep._agreed >= 3
    now = 200.0
    for turn in range(8):  # as many as one likes at once, and each time more
        now = max(now, creep.ready_at(now))
        for _ in range(40 + 30 * turn):
            creep.sent(now)
            creep.passed(now + TRIP, now)
        creep.refused(now + 2 * TRIP, 1.0, now)
    assert creep._bucket.large > 11


def test_what_passed_before_is_taken_in() -> None:
    creep = Creep([evenly(10, 1.0)], now=0.0, refused_at=0.0)
    creep.go_on([0.5, 0.5, 0.5], 8.0, now=1.0)
    assert creep.rate == pytest.approx(max(8.0, creep._bucket.low))
    assert creep.ready_at(1.0) == pytest.approx(1.0 + 1 / creep.rate)
    creep.refused(2.0, None, 1.5)
    assert creep._measures[-1].passed == 3


@pytest.mark.parametrize("hint", [1.0, 0.5])
def test_nothing_after_each_wait_refutes_it_too(hint: float) -> None:
    creep = after_refusal(wait=hint)
    now = refused(creep, hint)
    assert creep.ready_at(now) == now + TRIP + hint
    refused(creep, hint, now=now)
    assert creep.refuted


def test_there_is_one_in_fifteen_seconds_at_least() -> None:
    assert after_refusal(1, 1000.0).rate == 1 / 15


@pytest.mark.parametrize(("explained", "at_once"), [(2, 1), (3, 6)])
def test_of_a_size_that_nothing_tells_the_middle_leaves_at_once_after_three_stretches(
    explained: int, at_once: int
) -> None:
    creep = after_refusal()
    creep._bucket = Bucket(1, 43, 90.0, 110.0)
    creep.explained, creep._flowed = explained, 90.0
    assert creep._surely_there() == at_once
