"""Windows of a second, told from buckets by when they refuse."""

from __future__ import annotations

import pytest

from ruxa_async._engine.boundaries import Boundaries

from .limits_sim import Fixed, Limit, Tokens


def asked(limit: Limit, paces: list[float], *, pause: float = 0.0) -> Boundaries:
    """Ask evenly at each of *paces* until a no, and again after a *pause*."""
    found, now = Boundaries(), 0.0
    for pace in paces:
        now += pause
        while not limit.take(now):
            found.passed(now)
            now += 1 / pace
        found.refused(now)
    return found


PACES = [150.0, 210.0, 130.0, 180.0, 250.0]


def test_where_windows_fall_together_at_four_refusals_their_count_is_known() -> None:
    window = Fixed(100, 1.0, ends=0.7)
    assert asked(window, PACES[:3], pause=1.0).count() is None
    assert asked(Fixed(100, 1.0, ends=0.7), PACES, pause=1.0).count() == 100


def test_a_bucket_has_none() -> None:
    assert asked(Tokens(100, 20), PACES, pause=0.37).count() is None


def test_where_several_counts_would_do_none_is_known() -> None:
    """Each time three are let through at the same place of a second: windows of one, two and three would do."""
    found = Boundaries()
    for second in range(4):
        for at in (0.1, 0.2, 0.3, 0.4, 0.5):
            found.passed(second + at)
        found.refused(second + 0.6)
    assert found.count() is None


def test_refusals_with_nothing_let_through_between_are_one() -> None:
    found = Boundaries()
    for at in range(5):
        found.passed(at / 100)
    for at in range(6):
        found.refused(0.1 + at / 10)
    assert found.count() is None
    assert len(found._noes) == 1


def test_what_does_not_agree_any_more_is_forgotten_from_the_oldest_on() -> None:
    """The limit was another at the first refusals."""
    found = asked(Tokens(70, 5), [100.0, 90.0], pause=0.31)
    window, now = Fixed(100, 1.0, ends=10.7), 10.0
    for pace in PACES[:4]:
        now += 1.0
        while not window.take(now):
            found.passed(now)
            now += 1 / pace
        found.refused(now)
    assert found.count() == 100
    assert len(found._noes) == 4


@pytest.mark.parametrize("count", [2, 0])
def test_of_a_window_that_holds_less_than_three_nothing_is_said(count: int) -> None:
    found = Boundaries()
    for second in range(6):
        for _ in range(count):
            found.passed(second + 0.25)
        found.refused(second + 0.5)
    assert found.count() is None
