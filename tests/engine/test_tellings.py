"""What a service tells of a window when it says how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async._engine.tellings import Reading, Tellings, first_window


def stretch(told: Tellings, count: int, refused_at: float, wait: float | None) -> Reading | None:
    """Have *count* let through, then one refused that left at *refused_at*."""
    for _ in range(count):
        told.passed(refused_at - 0.001)
    return told.refused(refused_at + 0.001, wait, refused_at)


def test_what_passes_between_two_exact_waits_is_what_a_window_holds_and_their_ends_are_its_time() -> None:
    told = Tellings()
    assert stretch(told, 70, 1.0, 0.75) is None  # when it began is not known
    assert stretch(told, 100, 2.0, 0.75) == Reading(100, 1.0, sure=True)


def test_odd_times_are_read_from_exact_waits() -> None:
    told = Tellings()
    stretch(told, 5, 1.0, 0.5)
    reading = stretch(told, 60, 2.0, 2.7)
    assert reading is not None
    assert reading.per == pytest.approx(3.2, rel=0.01)


def test_a_wait_for_one_is_what_a_bucket_tells() -> None:
    told = Tellings()
    stretch(told, 10, 1.0, 0.1)
    reading = stretch(told, 10, 2.0, 0.1)
    assert reading is not None
    assert not reading.sure


@pytest.mark.parametrize(("per", "wait"), [(3.0, 3.0), (7.0, 7.0), (10.0, 9.0), (60.0, 55.0)])
def test_waits_in_whole_seconds_tell_a_time_of_whole_seconds(per: float, wait: float) -> None:
    told = Tellings()
    stretch(told, 60, 0.3, wait)
    assert stretch(told, 60, 0.3 + per, wait) == Reading(60, per, sure=True)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param((9, 10, 20, 40, 80, 160), id="a bucket that is learned"),
        pytest.param((61, 61, 61, 61, 61, 61), id="a bucket that is known"),
        pytest.param((54, 50, 82, 50, 81, 50), id="windows of a second that waits of a second do not show"),
    ],
)
def test_waits_of_a_second_in_whole_seconds_show_no_window(counts: tuple[int, ...]) -> None:
    told = Tellings()
    for index, count in enumerate(counts):
        reading = stretch(told, count, 1.5 * index, 1.0)
        assert reading is None or not reading.sure


def test_a_refusal_without_a_wait_ends_what_was_told() -> None:
    told = Tellings()
    stretch(told, 10, 1.0, 0.7)
    assert stretch(told, 10, 2.0, None) is None
    assert stretch(told, 10, 3.0, 0.7) is None
    assert stretch(told, 10, 4.0, 0.7) == Reading(10, 1.0, sure=True)


def test_waits_that_contradict_each_other_tell_nothing() -> None:
    told = Tellings()
    stretch(told, 10, 1.0, 100.5)
    assert stretch(told, 10, 2.0, 0.7) is None


def test_what_left_before_the_last_no_was_known_is_no_news() -> None:
    told = Tellings()
    stretch(told, 10, 1.0, 0.7)
    assert told.refused(1.1, 0.7, 1.0005) is None
    told.passed(1.0005)
    assert stretch(told, 10, 2.0, 0.7) == Reading(10, 1.0, sure=True)
    assert stretch(told, 2, 3.0, 0.7) is None  # too few to tell


@pytest.mark.parametrize(
    ("wait", "per"),
    [(9.7, 10.0), (2.7, 3.0), (6.7, 7.0), (10.0, 10.0), (13.07, pytest.approx(13.37, rel=0.01))],
)
def test_a_first_refusal_tells_the_time_of_a_window_that_began_with_the_first_request(
    wait: float, per: float
) -> None:
    assert first_window(0.0, 0.3, wait) == per


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1e6), st.none() | st.floats(0, 1e9)), max_size=40))
def test_whatever_is_told_a_reading_is_a_window(steps: list[tuple[int, float, float | None]]) -> None:
    told, now = Tellings(), 0.0
    for count, pause, wait in steps:
        now += pause
        reading = stretch(told, count, now, wait)
        assert reading is None or (reading.count >= 3 and reading.per > 0)
