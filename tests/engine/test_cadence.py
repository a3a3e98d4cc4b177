"""The gaps between two queries of one task grow with its age, between two bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import Polling
from ruxa_async._engine.cadence import Cadence

AGES = st.floats(min_value=0, max_value=1e9)
POSITIVE = st.floats(min_value=1e-3, max_value=1e4)


@st.composite
def pollings(draw: st.DrawFn) -> Polling:
    low, high = sorted((draw(POSITIVE), draw(POSITIVE)))
    return Polling(min_interval=low, max_interval=high, price=draw(POSITIVE))


def asked_at(cadence: Cadence, until: float) -> list[float]:
    """The ages at which a task is asked that is pending until *until*, the last one after it."""
    age, ages = 0.0, list[float]()
    while age < until:
        age += cadence.gap(age)
        ages.append(age)
    return ages


@pytest.mark.parametrize(
    ("age", "gap"),
    [
        (0.0, 0.25),
        (0.1, 0.25),  # the root is 0.245
        (0.15, 0.3),
        (1.35, 0.9),
        (15.0, 3.0),
        (60.0, 6.0),
        (240.0, 12.0),
        (1500.0, 30.0),
        (1501.0, 30.0),
        (1e308, 30.0),
        (math.inf, 30.0),
    ],
)
def test_the_gap_is_the_root_of_twice_the_price_times_the_age(age: float, gap: float) -> None:
    assert Cadence(Polling()).gap(age) == pytest.approx(gap, rel=1e-12)


@pytest.mark.parametrize("age", [-1e-9, -1.0, -1e308, -math.inf])
def test_a_clock_that_went_back_counts_as_no_age(age: float) -> None:
    assert Cadence(Polling()).gap(age) == 0.25


def test_a_dearer_query_is_asked_less_often() -> None:
    assert Cadence(Polling(price=1.2)).gap(15.0) == 6.0
    assert Cadence(Polling(price=0.075)).gap(15.0) == 1.5


def test_equal_bounds_make_a_fixed_interval() -> None:
    cadence = Cadence(Polling(min_interval=4.0, max_interval=4.0))
    assert asked_at(cadence, 19.0) == [4.0, 8.0, 12.0, 16.0, 20.0]


def test_a_ten_second_task_is_asked_nine_times_and_seen_half_a_second_late() -> None:
    ages = asked_at(Cadence(Polling()), 10.0)
    assert [round(age, 2) for age in ages] == [0.25, 0.64, 1.26, 2.12, 3.25, 4.65, 6.32, 8.27, 10.49]


def test_a_task_of_ten_minutes_is_asked_65_times_and_seen_at_most_20_seconds_late() -> None:
    ages = asked_at(Cadence(Polling()), 600.0)
    assert len(ages) == 65
    assert ages[-1] - ages[-2] < 20.0


@settings(max_examples=200, deadline=None)
@given(polling=pollings(), age=AGES)
def test_every_gap_is_within_the_bounds(polling: Polling, age: float) -> None:
    assert polling.min_interval <= Cadence(polling).gap(age) <= polling.max_interval


@settings(max_examples=200, deadline=None)
@given(polling=pollings(), ages=st.tuples(AGES, AGES))
def test_no_gap_is_shorter_than_that_of_a_younger_task(polling: Polling, ages: tuple[float, float]) -> None:
    cadence = Cadence(polling)
    assert cadence.gap(min(ages)) <= cadence.gap(max(ages))
