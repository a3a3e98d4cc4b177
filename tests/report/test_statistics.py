"""Counts are complete, and steps are round."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ruxa_async.report._statistics import bins_of, histogram, nice_step, quantile, time_step


def test_quantiles_lie_between_values() -> None:
    assert [quantile([1, 2, 4], share) for share in (0, 0.25, 0.5, 1)] == [1, 1.5, 2, 4]
    assert quantile([7], 0.95) == 7


@pytest.mark.parametrize(
    ("span", "most", "step"), [(10, 5, 2), (10, 4, 5), (0.3, 3, 0.1), (1632, 6, 500), (0, 4, 1)]
)
def test_steps_are_round(span: float, most: int, step: float) -> None:
    assert nice_step(span, most) == pytest.approx(step)


@pytest.mark.parametrize(
    ("span", "most", "step"), [(87, 50, 2), (60, 6, 10), (3600, 6, 600), (86400 * 9, 6, 86400 * 2)]
)
def test_time_steps_are_round_in_minutes_and_hours(span: float, most: int, step: float) -> None:
    assert time_step(span, most) == step


def test_each_value_counts_in_its_bin() -> None:
    bins = bins_of([0, 0.9, 1, 2.5, 9], 0, 1, 3)
    assert (bins.counts, bins.beyond, bins.end) == ((2, 1, 1), 1, 3)


def test_outliers_do_not_widen_the_bins() -> None:
    bins = histogram([*[n / 100 for n in range(1000)], 5000.0])
    assert (bins.step, bins.beyond) == (0.5, 1)
    assert bins.end == pytest.approx(10)


@pytest.mark.long
@pytest.mark.parametrize("value", [number / 1000 for number in range(1, 1000)])
def test_a_single_value_is_counted(value: float) -> None:
    assert sum(histogram([value]).counts) == 1


@given(st.lists(st.floats(0, 1e10), min_size=1, max_size=50))
@example([0.42])  # a start that is rounded up
def test_a_histogram_counts_everything(values: list[float]) -> None:
    bins = histogram(values)
    assert sum(bins.counts) + bins.beyond == len(values)
    assert bins.start <= min(values)
    assert 1 <= len(bins.counts) <= 200
