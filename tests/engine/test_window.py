"""Running at a window of time, of which count and length are guesses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async._engine.window import Opening, Window, likely_window, shortest_window


@pytest.mark.parametrize(
    ("shortest", "longest", "likely"),
    [
        (0.8, 3.2, 2.0),
        (3.2, 12.8, 10.0),
        (0.2, 0.8, 0.8),
        (9.0, 9.9, 10.0),
        (10.0, 14.0, 14.0),
        (0.0, 1e9, 3600.0),
    ],
)
def test_the_likely_window_is_one_that_people_choose(shortest: float, longest: float, likely: float) -> None:
    assert likely_window(shortest, longest) == likely


@given(st.floats(0, 1e6), st.floats(1e-6, 1e300))
def test_the_likely_window_is_within_its_bounds(shortest: float, longer: float) -> None:
    """Two in a hundred are let pass, for what was measured is a trip short at worst."""
    longest = shortest + longer
    assert shortest < likely_window(shortest, longest) <= longest * 1.02 or longer < math.ulp(shortest)


@pytest.mark.parametrize(
    ("too_short", "enough", "shortest"),
    [(0.5, 3.2, 1.0), (1.0, 3.2, 2.0), (0.9, 1.0, 1.0), (2.5, 3.2, None)],
)
def test_the_shortest_window_is_one_that_people_choose(
    too_short: float, enough: float, shortest: float
) -> None:
    assert shortest_window(too_short, enough) == shortest


def answered(window: Window, now: float, count: int, *, trip: float = 0.01) -> None:
    for _ in range(count):
        assert window.ready_at(now) <= now
        window.sent(now)
        window.passed(now + trip, now)


def full(count: int = 3, per: float = 10.0) -> Window:
    """A window that *count* answers at 0 have filled."""
    return Window(count, per, [0.0] * count, now=0.0)


def refused(window: Window, *, trip: float = 0.01) -> float:
    """Send one when it may leave, have it refused, and return when it left."""
    now = window.ready_at(1e6) if window.ready_at(0.0) == math.inf else window.ready_at(0.0)
    window.sent(now)
    window.refused(now + trip, None, now)
    return now


def test_the_guess_is_kept() -> None:
    window = full()
    assert window.rate == 0.3
    assert window.ready_at(1.0) == 10.0


def test_after_a_wait_one_goes_ahead_and_the_rest_follow_when_it_is_let_through() -> None:
    window = full()
    assert window.ready_at(5.0) == 10.0
    window.sent(10.0)
    assert window.ready_at(10.0) == math.inf
    window.passed(10.1, 10.0)
    assert window.ready_at(10.1) == 10.1
    window.sent(10.1)
    assert window.ready_at(10.1) == 10.1  # the rest need not wait for each other
    window.sent(10.1)
    assert window.ready_at(10.1) == math.inf
    window.passed(10.2, 10.1)
    window.passed(10.2, 10.1)
    assert window.ready_at(10.2) == pytest.approx(
        20.002
    )  # 10 s after it left, and as much later as trips differ


def test_only_the_last_answers_count_and_those_on_the_wire() -> None:
    window = Window(2, 10.0, [0.0, 1.0, 2.0], now=2.0, on_wire=1)
    assert window.ready_at(2.0) == math.inf
    window.passed(3.0, 1.5)
    assert window.ready_at(3.0) == pytest.approx(11.502)


def test_a_guess_that_is_refused_stretches_to_the_next_time_that_people_choose() -> None:
    window = full(3, 1.0)
    times = []
    for _ in range(5):
        refused(window)
        times.append(3 / window.rate)
    assert times == pytest.approx([2.0, 5.0, 10.0, 15.0, 30.0])
    assert window.refuted


def test_there_is_no_longer_time_than_an_hour() -> None:
    window = full(3, 3600.0)
    refused(window)
    assert window.rate == 3 / 3600


def test_a_window_is_refuted_by_four_refusals_in_a_row() -> None:
    window = full(3, 1.0)
    for _ in range(3):
        refused(window)
        assert not window.refuted
    answered(window, 100.0, 1)
    for now in (200.0, 300.0, 400.0):
        window.sent(now)
        window.refused(now + 0.01, None, now)
        assert not window.refuted
    window.refused(500.0, None, 499.0)
    assert window.refuted


def test_what_left_before_the_last_no_was_known_is_no_news() -> None:
    window = Window(3, 10.0, [], now=1.0, on_wire=2)
    window.refused(1.1, None, 1.0)
    assert (window.rate, window._on_wire) == (0.3, 1)
    window.refused(1.2, None, 1.05)
    assert window.rate == 0.2
    assert window._on_wire == 0


def test_where_the_time_had_served_before_it_is_the_count_that_fell() -> None:
    window = full(10, 1.0)
    for now in (2.0, 4.0, 6.0):
        answered(window, now, 10)
    assert window.ready_at(7.0) == pytest.approx(7.002)
    answered(window, 8.0, 4)
    window.sent(8.02)
    window.refused(8.03, None, 8.02)
    assert window.rate == 4.0
    for _ in range(3):
        window._known = -math.inf
        window.refused(8.03, None, 8.02)
    assert window.rate == 1.0  # by one at least each time
    window.refused(9.0, None, 8.5)
    assert window.rate == 0.5  # there is no less than one, so now it is the time


def test_one_more_is_tried_after_300_and_two_more_when_it_passed() -> None:
    window = full(20, 1.0)
    rates = []
    for index in range(21):
        answered(window, 2.0 * index + 2, int(window.rate))
        rates.append(window.rate)
    assert rates[:14] == [20.0] * 14
    assert rates[14] == 21.0  # after fifteen windows
    assert rates[16] == 23.0  # two windows later
    assert rates[18] == 27.0
    assert rates[20] == 35.0


def test_a_refused_trial_is_taken_back() -> None:
    window = full(20, 1.0)
    for index in range(15):
        answered(window, 2.0 * index + 2, 20)
    assert window.rate == 21.0
    answered(window, 32.0, 20)
    window.sent(32.0)
    window.refused(32.01, None, 32.0)
    assert window.rate == 20.0
    assert not window.refuted
    for index in range(14):
        answered(window, 2.0 * index + 34, 20)
    assert window.rate == 20.0


def test_a_trial_that_costs_a_long_wait_is_rarer() -> None:
    window = full(20, 1.0)
    window.sent(5.0)
    window.refused(5.01, 30.0, 5.0)
    assert window.rate == 10.0  # a second was too short, so it may be two
    assert window._tried_after == 20 * 30 * 10


def served(window: Window, windows: int, *, start: float) -> float:
    """Fill *windows* windows, and return when the last began."""
    now = start
    for _ in range(windows):
        now = max(now, window.ready_at(now))
        answered(window, now, int(window._count))
        now += 0.02
    return now


def test_a_time_shorter_than_a_guess_is_tried_and_kept_while_it_serves() -> None:
    """Not two seconds, and five were enough: four are, and three are."""
    window = Window(60, 5.0, [], now=0.0, too_short=2.0)
    now = served(window, 5, start=1.0)
    assert window.rate == 60 / 4
    now = served(window, 5, start=now)
    assert window.rate == 60 / 3
    served(window, 5, start=now)
    assert window.rate == 61 / 3  # no whole second is left to try


def test_a_shorter_time_that_is_refused_is_too_short_and_the_one_before_is_taken_back() -> None:
    window = Window(60, 5.0, [], now=0.0, too_short=3.0)
    now = served(window, 5, start=1.0)
    assert window.rate == 60 / 4
    now = window.ready_at(now)
    window.sent(now)
    window.refused(now + 0.01, None, now)
    assert window.rate == 60 / 5
    served(window, 5, start=now + 5)
    assert window.rate == 61 / 5


def test_a_window_that_holds_a_little_less_than_the_guess_holds_that() -> None:
    window = full(100, 1.0)
    answered(window, 2.0, 1)
    for _ in range(94):
        window.sent(2.01)
        window.passed(2.02, 2.01)
    window.sent(2.03)
    window.refused(2.04, None, 2.03)
    assert window.rate == 95.0
    assert not window.refuted


def test_a_lost_answer_may_have_been_counted_and_an_unsent_request_was_not() -> None:
    window = Window(1, 10.0, [], now=0.0)
    window.sent(1.0)
    window.unsent()
    assert window.ready_at(1.0) == 1.0
    window.sent(1.0)
    window.lost(2.0)
    assert window.ready_at(2.0) == 12.0


def test_requests_of_others_are_answered_for() -> None:
    window = Window(2, 10.0, [], now=0.0)
    window.take_over(1)
    assert window.ready_at(0.0) == math.inf
    window.take_over(-1)
    assert window.ready_at(0.0) == 0.0


def test_a_window_that_holds_markedly_less_than_the_guess_is_refuted_at_once() -> None:
    window = full(10, 1.0)
    answered(window, 2.0, 1)
    for _ in range(4):
        window.sent(2.01)
        window.passed(2.02, 2.01)
    window.sent(2.02)
    window.refused(2.03, None, 2.02)
    assert window.fewer == Opening(2.0, 5)
    assert window.refuted


def test_once_it_has_served_for_two_windows_none_goes_ahead() -> None:
    window = full(3, 1.0)
    for now in (2.0, 4.0, 6.0):
        answered(window, now, 3)
    assert window.ready_at(6.5) == pytest.approx(7.002)
    for _ in range(3):
        assert window.ready_at(8.0) == 8.0
        window.sent(8.0)


def test_places_are_free_so_much_later_as_trips_differ() -> None:
    window = full(2, 1.0)
    answered(window, 2.0, 1, trip=0.3)
    answered(window, 4.0, 2, trip=0.1)
    assert window.ready_at(4.0) == pytest.approx(4.1 + 1.0)  # no later than the answers would have it
