"""Lower bounds of a rate from what was accepted since the limiter was empty."""

from __future__ import annotations

from ruxa_async._engine.rate_limits.stretch import Stretch


def test_requests_that_the_rate_does_not_explain_are_an_excess() -> None:
    stretch = Stretch(0.0, 1)
    for n in range(1, 11):
        stretch.add(n / 2)
    assert stretch.excess(2.0, 5.0) == 0
    assert stretch.excess(1.0, 5.0) == 5


def test_the_last_requests_prove_a_rate_however_slow_the_first_were() -> None:
    stretch = Stretch(0.0)
    for n in range(10):
        stretch.add(10.0 * n)
    for n in range(1, 101):
        stretch.add(90.0 + n / 20)
    assert 18.0 < stretch.sustained(1.0, 95.0) < 20.1


def test_a_burst_proves_no_rate() -> None:
    stretch = Stretch(0.0)
    for n in range(20):
        stretch.add(n / 1000)
    assert stretch.sustained(20.0, 1.0) == 0.0


def test_requests_without_time_between_them_prove_no_rate() -> None:
    stretch = Stretch(0.0)
    for _ in range(20):
        stretch.add(1.0)
    assert stretch.sustained(1.0, 1.0) == 0.0
