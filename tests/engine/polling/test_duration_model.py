"""The log-normal distribution of durations, fitted to intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async._engine.polling import duration_model
from ruxa_async._engine.polling.duration_model import (
    LogNormal,
    Prior,
    Span,
    _extrapolated,
    fit,
    moments,
    span,
)

NORMAL = NormalDist()
PRIOR = Prior(math.log(30.0), 2.0)


def durations(count: int, median: float, sigma: float) -> list[float]:
    """Return *count* quantiles of the distribution, evenly spread."""
    return [median * math.exp(sigma * NORMAL.inv_cdf((i + 0.5) / count)) for i in range(count)]


def polled(duration: float, gap: float) -> Span:
    """Return the sample that polling every *gap* seconds gives for *duration*."""
    seen = span(gap * (math.ceil(duration / gap) - 1), gap * math.ceil(duration / gap))
    assert seen is not None
    return seen


def integral(low: float, high: float) -> tuple[float, float]:
    """Mean and mean square of a standard normal variable from *low* to *high*, by the midpoint rule."""
    step = (high - low) / 20000
    points = [low + (i + 0.5) * step for i in range(20000)]
    mass = [math.exp(-(z * z - low * low) / 2) for z in points]
    total = sum(mass)
    mean = sum(z * m for z, m in zip(points, mass, strict=True)) / total
    return mean, sum(z * z * m for z, m in zip(points, mass, strict=True)) / total


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 1), (-3, 0.5), (0.5, 3), (1, 1.04), (1, 1.06), (4, 9), (-9, -4), (8, 8.5), (29, 32), (-0.01, 0.01)],
)
def test_the_moments_are_those_of_a_truncated_normal_distribution(low: float, high: float) -> None:
    mean, square = moments(low, high)
    assert (mean, square) == pytest.approx(integral(low, high), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_moments_of_a_one_sided_interval(side: float) -> None:
    for edge in (-2.0, 0.0, 3.0, 25.0):
        low, high = sorted((side * edge, side * math.inf))
        mean, square = moments(low, high)
        assert (side * mean, square) == pytest.approx(integral(edge, edge + 12), rel=2e-3)


def test_the_moments_without_bounds_are_0_and_1() -> None:
    assert moments(-math.inf, math.inf) == (0.0, 1.0)


@pytest.mark.parametrize(("low", "high"), [(31, 32), (1000, 1000.1), (1e4, math.inf), (-math.inf, -50)])
def test_far_out_the_mean_is_at_the_near_end(low: float, high: float) -> None:
    mean, square = moments(low, high)
    assert low <= mean <= high
    assert min(abs(low), abs(high)) == pytest.approx(abs(mean), rel=0.01)
    assert square == pytest.approx(mean * mean)


@pytest.mark.parametrize(
    ("median", "sigma", "gap"), [(10, 0.4, 1), (10, 0.15, 2), (120, 0.6, 30), (3, 0.4, 2)]
)
def test_the_fit_recovers_the_distribution_from_intervals(median: float, sigma: float, gap: float) -> None:
    law = fit([polled(each, gap) for each in durations(200, median, sigma)], PRIOR)
    assert math.exp(law.mu) == pytest.approx(median, rel=0.03)
    assert law.sigma == pytest.approx(sigma, rel=0.08)


def test_late_polls_do_not_lengthen_durations() -> None:
    coarse = fit([polled(each, 5.0) for each in durations(200, 10.0, 0.4)], PRIOR)
    fine = fit([polled(each, 0.1) for each in durations(200, 10.0, 0.4)], PRIOR)
    assert coarse.mu == pytest.approx(fine.mu, abs=0.03)


def test_exact_times_give_mean_and_deviation_of_the_logs() -> None:
    law = fit([Span(at, at) for at in (1.0, 2.0, 3.0)] * 100, PRIOR)
    assert law.mu == pytest.approx(2.0, abs=0.001)
    assert law.sigma == pytest.approx(math.sqrt(2 / 3), rel=0.01)


def test_one_sample_moves_the_mean_and_keeps_the_prior_sigma() -> None:
    law = fit([Span(2.0, 2.0)], PRIOR)
    assert law.mu == pytest.approx(2.0, abs=0.06)
    assert law.sigma == pytest.approx(0.4, rel=0.15)


def test_without_samples_the_fit_is_the_prior() -> None:
    law = fit([], PRIOR)
    assert (law.mu, law.sigma) == pytest.approx((PRIOR.mu, PRIOR.sigma))


def test_running_tasks_correct_for_short_ones_ending_first() -> None:
    ten = durations(100, 10.0, 0.4)[:10]
    alone = fit([Span(math.log(each), math.log(each)) for each in ten], PRIOR)
    running = Span(math.log(ten[-1]), math.inf, weight=90.0)
    law = fit([*(Span(math.log(each), math.log(each)) for each in ten), running], PRIOR)
    assert math.exp(alone.mu) < 6.0
    assert math.exp(law.mu) == pytest.approx(10.0, rel=0.1)


def test_a_weight_counts_as_that_number_of_samples() -> None:
    many = fit([Span(1.0, 1.0)] * 3 + [Span(2.0, 2.5)], PRIOR)
    weighed = fit([Span(1.0, 1.0, weight=3.0), Span(2.0, 2.5)], PRIOR)
    assert (many.mu, many.sigma) == pytest.approx((weighed.mu, weighed.sigma))


def test_a_good_start_leads_to_the_same_fit() -> None:
    spans = [polled(each, 3.0) for each in durations(50, 10.0, 0.4)]
    far, near = fit(spans, PRIOR), fit(spans, PRIOR, LogNormal(math.log(10.0), 0.4))
    assert far.mu == pytest.approx(near.mu, abs=0.02)
    assert far.sigma == pytest.approx(near.sigma, rel=0.05)


def test_a_slow_fit_stops_after_the_last_round(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [polled(each, 15.0) for each in durations(50, 10.0, 0.4)]
    start, whole = LogNormal(0.0, 1.0), fit(spans, PRIOR)
    monkeypatch.setattr(duration_model, "_MAX_ROUNDS", 1)
    part = fit(spans, PRIOR, start)
    assert abs(part.mu - whole.mu) < abs(start.mu - whole.mu)


def test_equal_steps_are_not_extrapolated() -> None:
    assert _extrapolated(LogNormal(0.0, 1.0), LogNormal(1.0, 1.0), LogNormal(2.0, 1.0)) == LogNormal(2.0, 1.0)


def test_equal_durations_give_the_smallest_sigma() -> None:
    law = fit([Span(2.0, 2.0, weight=1e9)], PRIOR)
    assert law.mu == pytest.approx(2.0)
    assert law.sigma == 0.02


@pytest.mark.parametrize(
    ("low", "high", "exact", "wanted"),
    [
        (0.0, 5.0, None, (-math.inf, math.log(5))),
        (2.0, 5.0, None, (math.log(2), math.log(5))),
        (2.0, 5.0, 3.0, (math.log(3), math.log(3))),
        (2.0, 5.0, 5.0, (math.log(5), math.log(5))),
        (2.0, 5.0, 6.0, (math.log(2), math.log(5))),
        (2.0, 5.0, -1.0, (math.log(2), math.log(5))),
        (2.0, 5.0, math.nan, (math.log(2), math.log(5))),
        (5.0, 2.0, None, (math.log(5), math.log(5))),
        (0.0, 0.0, None, (-math.inf, math.log(1e-3))),
        (1e300, 1e308, None, (math.log(1e9), math.log(1e9))),
    ],
)
def test_an_exact_duration_narrows_a_span_that_contains_it(
    low: float, high: float, exact: float | None, wanted: tuple[float, float]
) -> None:
    seen = span(low, high, exact)
    assert seen is not None
    assert (seen.low, seen.high) == wanted


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1.0), (1.0, math.nan), (0.0, math.inf)])
def test_a_span_of_infinite_ages_is_none(low: float, high: float) -> None:
    assert span(low, high) is None


SECONDS = st.floats(0.0, 1e300)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    seen=st.lists(st.tuples(SECONDS, SECONDS, st.none() | SECONDS), max_size=12), running=st.lists(SECONDS)
)
def test_every_fit_is_within_bounds(
    seen: list[tuple[float, float, float | None]], running: list[float]
) -> None:
    spans = [each for each in (span(*one) for one in seen) if each is not None]
    spans += [Span(math.log(age), math.inf) for age in running if age > 0.0]
    law = fit(spans, PRIOR)
    assert math.log(1e-3) <= law.mu <= math.log(1e9)
    assert 0.02 <= law.sigma <= 3.0
