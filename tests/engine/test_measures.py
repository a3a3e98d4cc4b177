"""Reading stretches between refusals as a bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async._engine.measures import Measure, fit

from .limits_sim import Tokens

MS = 1e-3


def stretches(rate: float, burst: int, *, paces: list[float], wait: float) -> list[Measure]:
    """Run into a bucket at each of *paces* in turn, with a *wait* after each refusal, and measure each stretch."""
    limit, now, since = Tokens(rate, burst), 0.0, None
    measures = []
    for pace in paces:
        passed = []
        while limit.take(now) == 0.0:
            passed.append(now)
            now += 1 / pace
        measures.append(Measure.read(passed, since=since, until=now))
        since = now
        now += wait
    return measures


def test_between_two_refusals_flows_what_passed_or_one_more_or_less() -> None:
    measure = Measure.read([0.5 * step for step in range(1, 20)], since=0.0, until=10.0)
    low, high = measure.rates(1000)
    assert (low, high) == pytest.approx((18 / 10.001, 20 / 9.999))
    assert measure.seen == 1.9


def test_a_bucket_that_was_full_holds_so_much_the_less_the_faster_it_fills() -> None:
    """Twenty at once, and the next a second later refused: 20 if none flows in, 15 at five a second."""
    measure = Measure.read([0.0] * 20, since=None, until=1.0)
    assert measure.rates(15) == pytest.approx((5 / 1.001, 6 / 0.999))
    assert measure.rates(20) == pytest.approx((0.0, 1 / 0.999))
    assert measure.rates(30) == (0.0, 0.0)


def test_what_was_seen_is_of_the_last_second_where_nobody_knows_how_it_began() -> None:
    assert Measure.read([step / 10 for step in range(100)], since=None, until=10.0).seen == pytest.approx(
        10.0
    )
    assert Measure.read([0.0, 0.1], since=None, until=0.2).seen == 2.0
    assert Measure.read([], since=None, until=0.2).seen == 0.5
    assert Measure.read([], since=0.0, until=0.1).seen == 5.0


def test_only_the_points_that_bound_a_rate_are_kept() -> None:
    assert len(Measure.read([step / 50 for step in range(1000)], since=0.0, until=20.0).points) < 5


def test_one_that_left_with_the_refused_one_counts() -> None:
    measure = Measure.read([1.0, 1.0, 2.0], since=0.0, until=1.0)
    assert (measure.passed, measure.points) == (2, [(MS, 2)])


@pytest.mark.parametrize(
    ("rate", "burst", "wait"), [(10, 10, 1.0), (200, 40, 1.0), (30, 40, 1.0), (50, 10, 0.3), (2, 20, 2.0)]
)
def test_three_stretches_at_different_paces_tell_rate_and_size(rate: float, burst: int, wait: float) -> None:
    measures = stretches(rate, burst, paces=[1000.0, 2.0 * rate, 1.1 * rate], wait=wait)
    bucket, used = fit(measures)
    assert used == 3
    assert bucket.small <= burst + 1
    assert bucket.large >= burst - 1
    assert bucket.low <= rate * 1.001
    assert bucket.high >= rate * 0.999


def test_a_stretch_that_no_bucket_explains_with_the_others_makes_them_forgotten() -> None:
    before = stretches(50, 10, paces=[1000.0, 100.0, 60.0], wait=0.1)
    after = stretches(10, 10, paces=[1000.0, 20.0, 12.0], wait=0.1)
    bucket, used = fit(before + after)
    assert used <= 3
    assert bucket.low <= 10.01


def test_sizes_that_are_known_are_kept_to() -> None:
    measures = stretches(50, 10, paces=[1000.0, 100.0], wait=0.1)
    bucket, _ = fit(measures, (10, 11))
    assert (bucket.small, bucket.large) in {(10, 10), (10, 11), (11, 11)}


def test_where_nothing_explains_the_last_it_flowed_into_a_bucket_that_was_never_full() -> None:
    """One passed in ten seconds and then thirty at once: with a bucket of one that would be 30,000 a second."""
    measure = Measure.read([10.0] * 30, since=0.0, until=10.0)
    bucket, used = fit([measure], (1, 1))
    assert used == 1
    assert (bucket.low, bucket.high) == pytest.approx((29 / 10.001, 31 / 9.999))


@given(
    rate=st.floats(0.5, 300),
    burst=st.integers(1, 200),
    paces=st.lists(st.floats(1.1, 5), min_size=1, max_size=5),
    wait=st.floats(0, 3),
)
def test_the_true_bucket_is_never_excluded(rate: float, burst: int, paces: list[float], wait: float) -> None:
    for measure in stretches(rate, burst, paces=[pace * rate for pace in paces], wait=wait):
        low, high = measure.rates(burst)
        assert low <= rate * 1.0001
        assert high >= rate * 0.9999


@given(
    st.lists(st.lists(st.floats(0, 100), max_size=30), min_size=1, max_size=6),
    st.floats(0, 100),
    st.one_of(st.none(), st.tuples(st.integers(1, 9), st.integers(9, 4000))),
)
def test_whatever_was_let_through_there_is_a_bucket(
    passed: list[list[float]], until: float, sizes: tuple[int, int] | None
) -> None:
    bucket, used = fit([Measure.read(each, since=0.0, until=until) for each in passed], sizes)
    assert 1 <= used <= len(passed)
    assert 1 <= bucket.small <= bucket.large
    assert 0 <= bucket.low <= bucket.high < 1e9
