"""Slow start until the first 429, and the silence after it."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest

from ruxa_async._engine.rate_limits.in_flight import InFlight
from ruxa_async._engine.rate_limits.paced_sending import PacedSending
from ruxa_async._engine.rate_limits.phase import Phase
from ruxa_async._engine.rate_limits.slow_start import Silence, SlowStart
from ruxa_async._engine.rate_limits.windowed_sending import WindowedSending


def silence(
    accepted: int, *, began: float = 0.0, rejected_at: float = 1.0, retry_after: float = 0.0
) -> Silence:
    return Silence(
        InFlight(),
        deque([began] * accepted),
        accepted=accepted,
        began=began,
        now=rejected_at,
        sent_at=rejected_at,
        retry_after=retry_after,
    )


def after(phase: Silence, rejected: list[float], accepted: float, retry_after: float = 0.0) -> Phase:
    for at in rejected:
        assert phase.on_reject(at, at, retry_after, 0.0) is phase
    return phase.on_accept(accepted, accepted)


def test_four_requests_leave_before_the_first_response_and_more_with_each_accepted() -> None:
    in_flight = InFlight()
    phase = SlowStart(in_flight)
    for _ in range(4):
        assert phase.ready_at(0.0) == -float("inf")
        in_flight.on_send(0.0, phase.on_send(0.0))
    assert phase.ready_at(0.0) == 10.0
    for _ in range(4):
        in_flight.on_accept(0.5, 0.0)
        phase.on_accept(0.5, 0.0)
    # 40 a second for a round trip of half a second.
    for n in range(20):
        assert phase.ready_at(0.5) <= 0.5 + n / 40
        in_flight.on_send(0.5, phase.on_send(0.5))
    assert phase.ready_at(0.5) == 2.5


def test_pauses_begin_at_50_ms_and_grow_by_half_of_the_silence_to_five_seconds() -> None:
    phase = silence(10)
    assert phase.ready_at(1.0) == 1.05
    phase.on_reject(1.05, 1.05, 0.0, 0.0)
    assert phase.ready_at(1.05) == pytest.approx(1.10)
    phase.on_reject(3.0, 3.0, 0.0, 0.0)
    assert phase.ready_at(3.0) == 4.0
    phase.on_reject(60.0, 60.0, 0.0, 0.0)
    assert phase.ready_at(60.0) == 65.0


def test_an_outage_at_the_start_is_no_limit() -> None:
    phase = after(silence(0), [2.0, 5.0], 10.0)
    assert isinstance(phase, SlowStart)


def test_one_request_after_the_other_is_a_minimum_interval() -> None:
    phase = after(silence(1, rejected_at=0.1), [0.3, 0.5], 0.6)
    assert isinstance(phase, PacedSending)
    assert 1 / 0.6 <= phase.rate <= 1 / 0.5


def test_a_wait_in_fractions_of_a_second_is_the_interval() -> None:
    phase = after(silence(1, rejected_at=0.1, retry_after=0.9), [], 1.0)
    assert phase.rate == pytest.approx(1.0, rel=0.05)


def test_a_wait_in_fractions_of_a_second_counts_from_the_rejection_not_from_the_next_request() -> None:
    phase = after(silence(1, rejected_at=0.0, retry_after=0.01), [], 0.6)  # a round trip of 0.3 s, twice
    assert phase.rate == pytest.approx(100.0, rel=0.05)


def test_a_wait_in_whole_seconds_is_a_guess_that_doubles_with_each_accepted_request() -> None:
    phase = after(silence(1, rejected_at=0.1, retry_after=1.0), [], 1.1)
    assert isinstance(phase, PacedSending)
    paces = []
    for n in range(4):
        paces.append(phase.on_send(2.0 + n))
        phase.on_accept(2.5 + n, 2.0 + n)
    assert [later / pace for pace, later in pairwise(paces)] == [2.0, 2.0, 2.0]


def test_a_short_silence_after_a_burst_is_the_time_of_one_token() -> None:
    phase = after(silence(20, rejected_at=0.5), [0.6], 0.7)
    assert isinstance(phase, PacedSending)
    assert phase.rate == pytest.approx(1 / 0.2)


def test_a_long_silence_may_be_the_rest_of_a_window() -> None:
    phase = after(silence(20), [5.0, 8.0], 10.0)
    assert isinstance(phase, WindowedSending)
    assert phase.rate == 2.0


def test_requests_accepted_before_the_rejection_and_answered_later_count() -> None:
    phase = silence(19)
    phase.on_late_accept(0.5)
    assert after(phase, [5.0, 8.0], 10.0).rate == 2.0
    start = SlowStart(InFlight())
    start.on_send(0.0)
    start.on_late_accept(0.0)
    later = start.on_reject(0.2, 0.1, 0.0, 0.0)
    assert later.on_accept(1.0, 1.0).rate is not None


def test_of_more_departures_than_were_accepted_the_latest_count() -> None:
    phase = silence(20)
    for _ in range(5):
        phase._departures.append(0.5)
    assert after(phase, [5.0, 8.0], 10.0).rate == 2.0


def test_a_named_wait_in_whole_seconds_bounds_the_period_of_a_window_to_one_second() -> None:
    phase = after(silence(20, retry_after=9.0), [], 10.0)
    assert isinstance(phase, WindowedSending)
    assert (phase.rate, phase._too_short) == (2.0, 9.0)


def test_a_request_that_is_sent_long_after_the_named_wait_makes_no_longer_period() -> None:
    phase = after(silence(20, retry_after=9.0), [], 50.0)
    assert phase.rate == 2.0
