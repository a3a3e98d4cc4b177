"""Optimal inspection: the ages at which polls cost least."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async._engine.polling.inspection import Plan, Shape, upper_tail

NORMAL = NormalDist()
LAWS = [(math.log(10.0), 0.4), (math.log(10.0), 0.15), (math.log(120.0), 0.6), (math.log(3.0), 1.5)]


def plan(mu: float, sigma: float, price: float, shortest: float = 1e-6, longest: float = 1e6) -> Plan:
    median = math.exp(mu)
    return Plan(mu, Shape(sigma, price / median, shortest=shortest / median, longest=longest / median))


def cost(mu: float, sigma: float, price: float, ages: list[float]) -> float:
    """Return the expected cost of polls at *ages* and of lateness; the last age is beyond every end."""
    total, before = 0.0, 0.0
    for age in ages:
        low, high = survival(mu, sigma, before), survival(mu, sigma, age)
        gone = beyond(mu, sigma, before) - beyond(mu, sigma, age)
        total += price * low + age * (low - high) - gone
        before = age
    return total


def survival(mu: float, sigma: float, age: float) -> float:
    return 1.0 if age == 0.0 else NORMAL.cdf((mu - math.log(age)) / sigma)


def beyond(mu: float, sigma: float, age: float) -> float:
    mean = math.exp(mu + sigma * sigma / 2)
    return mean if age == 0.0 else mean * NORMAL.cdf((mu - math.log(age)) / sigma + sigma)


def looks(made: Plan, until: float, shortest: float = 0.0) -> list[float]:
    ages = [made.next_poll(0.0)]
    while ages[-1] < until:
        ages.append(max(made.next_poll(ages[-1]), ages[-1] + shortest))
    return ages


def test_the_upper_tail_is_that_of_the_normal_distribution() -> None:
    assert upper_tail(0.0) == 0.5
    assert upper_tail(1.0) == pytest.approx(1 - NORMAL.cdf(1.0))
    assert upper_tail(-math.inf) == 1.0
    assert upper_tail(math.inf) == 0.0


@pytest.mark.parametrize(("mu", "sigma"), LAWS)
@pytest.mark.parametrize("share", [0.01, 0.035, 0.3])
def test_no_small_change_of_one_poll_lowers_the_cost(mu: float, sigma: float, share: float) -> None:
    price = share * sigma * math.exp(mu)
    ages = looks(plan(mu, sigma, price), math.exp(mu + 4.5 * sigma))
    least = cost(mu, sigma, price, ages)
    for i in range(len(ages) - 1):
        before = ages[i - 1] if i else 0.0
        for moved in (0.7 * ages[i] + 0.3 * before, 0.7 * ages[i] + 0.3 * ages[i + 1]):
            assert cost(mu, sigma, price, [*ages[:i], moved, *ages[i + 1 :]]) > 0.998 * least
        assert cost(mu, sigma, price, [*ages[:i], *ages[i + 1 :]]) > 0.998 * least
        added = (before + ages[i]) / 2
        assert cost(mu, sigma, price, [*ages[:i], added, *ages[i:]]) > 0.998 * least


@pytest.mark.parametrize(("mu", "sigma"), LAWS)
def test_the_cost_equals_that_of_the_recursion_over_every_pair_of_ages(mu: float, sigma: float) -> None:
    price = 0.05 * sigma * math.exp(mu)
    ages = [0.0, *(math.exp(mu + sigma * (-4 + 9 * i / 300)) for i in range(301))]
    left = [survival(mu, sigma, age) for age in ages]
    rest = [beyond(mu, sigma, age) for age in ages]
    least = [0.0] * len(ages)
    for a in range(len(ages) - 2, -1, -1):
        least[a] = price * left[a] + min(
            ages[b] * (left[a] - left[b]) - rest[a] + rest[b] + least[b] for b in range(a + 1, len(ages))
        )
    found = looks(plan(mu, sigma, price), ages[-1])
    assert cost(mu, sigma, price, found) == pytest.approx(least[0], rel=0.005)


def test_many_polls_reach_the_density_of_keller() -> None:
    """Keller's limit for a price near zero."""
    mu, sigma, price = math.log(10.0), 0.4, 0.01
    made, dense = plan(mu, sigma, price), 0.0
    for age in (6.0 + 0.01 * i for i in range(1200)):
        z = (math.log(age) - mu) / sigma
        hazard = NORMAL.pdf(z) / (sigma * age * NORMAL.cdf(-z))
        dense += 0.01 * math.sqrt(hazard / (2 * price))
    count, age = 0, 6.0
    while age < 18.0:
        age, count = made.next_poll(age), count + 1
    assert count == pytest.approx(dense, rel=0.04)


def test_times_scale_with_the_median() -> None:
    one, ten = plan(0.0, 0.3, 0.01), plan(math.log(10.0), 0.3, 0.1)
    for age in (0.0, 0.5, 1.0, 2.0, 5.0):
        assert ten.next_poll(10 * age) == pytest.approx(10 * one.next_poll(age), rel=1e-6)


def test_the_plan_allows_for_the_longest_interval() -> None:
    made = plan(math.log(120.0), 0.3, 5.0, longest=30.0)
    assert 29.0 < made.next_poll(70.0) - 70.0 <= 30.0


def test_the_plan_allows_for_the_shortest_interval() -> None:
    mu, sigma, price = math.log(2.0), 0.1, 1e-4
    bounded = looks(plan(mu, sigma, price, shortest=1.0), 3.0, shortest=1.0)
    clamped = looks(plan(mu, sigma, price), 3.0, shortest=1.0)
    assert cost(mu, sigma, price, bounded) < 0.8 * cost(mu, sigma, price, clamped)


def test_beyond_trusted_ages_intervals_grow_with_the_root_of_the_age() -> None:
    made = plan(math.log(10.0), 0.2, 0.1)
    for age in (20.0, 45.0, 180.0, 1e6):
        assert made.next_poll(age) - age == pytest.approx(math.sqrt(0.2 * age))


@settings(max_examples=150, deadline=None)
@given(
    mu=st.floats(-7, 21),
    sigma=st.floats(0.02, 4.5),
    price=st.floats(1e-9, 1e300),
    shortest=st.floats(1e-9, 1e300),
    longest=st.floats(1e-9, 1e300),
    age=st.floats(0.0, 1e300),
)
def test_no_poll_is_before_the_last_one(
    mu: float, sigma: float, price: float, shortest: float, longest: float, age: float
) -> None:
    assert plan(mu, sigma, price, shortest, longest).next_poll(age) >= age
