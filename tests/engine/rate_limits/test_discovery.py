"""Discovery of an unknown rate limit, in virtual time, at limits of every shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from engine.limits_sim import Changing, simulate
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async.emulator import FixedWindow, Limiter, SlidingWindow, TokenBucket


class Storm:
    """Rejects everything from *start* to *end*, and is *limit* otherwise."""

    def __init__(self, limit: Limiter, start: float, end: float) -> None:
        self._limit, self._start, self._end = limit, start, end

    def take(self, now: float) -> float:
        if self._start <= now < self._end:
            return self._end - now
        return self._limit.take(now)


class Stranger:
    """Lets another client take *rate* requests a second of *limit*, evenly, before us."""

    def __init__(self, limit: Limiter, rate: float) -> None:
        self._limit, self._gap, self._next = limit, 1 / rate, 0.0

    def take(self, now: float) -> float:
        while self._next <= now:
            self._limit.take(self._next)
            self._next += self._gap
        return self._limit.take(now)


LIMITS: dict[str, tuple[Callable[[], Limiter], float, int]] = {
    "20/s burst 1": (lambda: TokenBucket(20, 1).limiter(), 20, 600),
    "50/s burst 10": (lambda: TokenBucket(50, 10).limiter(), 50, 1500),
    "120/s burst 100": (lambda: TokenBucket(120, 100).limiter(), 120, 3000),
    "20 in any 2 s": (lambda: SlidingWindow(20, 2).limiter(), 10, 320),
    "20 in windows of 10 s": (lambda: FixedWindow(20, 10, phase=-3).limiter(), 2, 240),
}


@pytest.mark.parametrize("rtt", [0.001, 0.05])
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_any_shape_is_found_and_used(name: str, rtt: float) -> None:
    fresh, rate, count = LIMITS[name]
    run = simulate(fresh(), rtt=rtt, count=count)
    assert run.discovery.rate == pytest.approx(rate, rel=0.2)
    assert run.share(fresh) >= 0.75
    assert run.rejections <= 0.2


def test_nothing_is_sent_before_a_named_retry_after() -> None:
    run = simulate(TokenBucket(20, 1).limiter(), rtt=0.02, told=True, count=600)
    assert run.passed[-1] <= 42.0
    assert not [at for at in run.passed for start, end in run.forbidden if start < at < end]


def test_no_rate_is_known_before_a_rejection_and_requests_are_in_flight_by_the_round_trip() -> None:
    run = simulate(TokenBucket(1e9, 10**9).limiter(), rtt=0.1, until=3.0)
    assert run.discovery.rate is None
    assert run.discovery.expected_in_flight(3.0) > 0
    assert len(run.passed) > 500


def test_a_service_that_rejects_everything_at_first_is_used_soon_after() -> None:
    run = simulate(Storm(TokenBucket(1e9, 10**9).limiter(), 0.0, 20.0), rtt=0.05, count=300)
    assert run.passed[-1] <= 26.0
    assert len(run.refused) <= 30


def test_an_outage_does_not_change_an_established_rate() -> None:
    run = simulate(Storm(TokenBucket(50, 10).limiter(), 20.0, 40.0), rtt=0.05, until=60.0)
    assert len([at for at in run.passed if 45 <= at < 60]) >= 0.8 * 50 * 15


@pytest.mark.parametrize(("after", "seconds"), [(10, 20.0), (100, 30.0)])
def test_a_limit_that_changes_is_followed(after: float, seconds: float) -> None:
    run = simulate(
        Changing(TokenBucket(50, 10).limiter(), TokenBucket(after, 10).limiter(), 20.0),
        rtt=0.02,
        until=20.0 + seconds + 10.0,
    )
    assert len([at for at in run.passed if at >= 20.0 + seconds]) >= 0.8 * after * 10


def test_the_share_of_another_client_is_left_to_it() -> None:
    run = simulate(Stranger(TokenBucket(20, 10).limiter(), 4.0), rtt=0.02, until=120.0)
    assert len(run.passed) >= 0.9 * 16 * 120


def test_a_rejection_of_a_request_sent_before_the_last_one_was_known_is_ignored() -> None:
    discovery = Discovery()
    for at in (0.0, 0.01):
        discovery.on_send(at)
    discovery.on_reject(0.5, None, sent_at=0.0)
    ready = discovery.ready_at(0.6)
    discovery.on_reject(0.55, None, sent_at=0.01)
    assert discovery.ready_at(0.6) == 0.6 < ready


def test_an_overdue_response_is_not_waited_for() -> None:
    discovery = Discovery()
    for _ in range(4):
        assert discovery.ready_at(0.0) == 0.0
        discovery.on_send(0.0)
    assert discovery.ready_at(1.0) == 10.0
    discovery.on_no_response(5.0)
    discovery.on_not_sent(5.0)
    assert discovery.ready_at(5.0) == 5.0


def test_requests_that_are_taken_over_count_as_in_flight() -> None:
    discovery = Discovery()
    discovery.take_over(4)
    assert discovery.ready_at(0.0) == math.inf
    discovery.on_accept(1.0, sent_at=0.0)
    assert discovery.ready_at(1.0) == 1.0


def established(rate: float) -> Discovery:
    return Discovery.restored({"rate": rate}, 0.0)


def test_lateness_of_a_wake_up_is_made_up_for_by_one_request_at_most() -> None:
    discovery = established(10.0)
    due = discovery.ready_at(0.0)
    discovery.on_send(due + 1.0)
    assert discovery.ready_at(due + 1.0) == due + 1.0
    discovery.on_send(due + 1.0)
    assert discovery.ready_at(due + 1.0) > due + 1.05


def test_without_a_rejection_the_pace_grows_without_bound() -> None:
    discovery, now = established(10.0), 0.0
    for _ in range(2000):
        now = discovery.ready_at(now)
        discovery.on_send(now)
        discovery.on_accept(now + 0.001, sent_at=now)
    assert now < 100.0
    assert discovery.ready_at(now) - now < 0.001


def test_a_caller_below_the_rate_does_not_raise_the_estimate() -> None:
    discovery, now = established(10.0), 0.0
    for _ in range(500):
        now = max(discovery.ready_at(now), now + 0.5)
        discovery.on_send(now)
        discovery.on_accept(now + 0.001, sent_at=now)
    discovery.on_send(now)
    discovery.on_send(now)
    assert discovery.ready_at(now) - now > 0.05


def test_a_second_silence_in_a_row_is_no_outage_any_more() -> None:
    discovery, now = established(20.0), 0.0
    for _ in range(2):
        for _ in range(30):
            now = discovery.ready_at(now)
            discovery.on_send(now)
            discovery.on_accept(now + 0.001, sent_at=now)
        assert discovery.rate == pytest.approx(20.0, rel=0.2)
        end = now + 30.0
        while now < end:
            now = discovery.ready_at(now)
            discovery.on_send(now)
            discovery.on_reject(now + 0.001, None, sent_at=now)
    now = discovery.ready_at(now)
    discovery.on_send(now)
    discovery.on_accept(now + 0.001, sent_at=now)
    assert discovery.rate is not None
    assert discovery.rate < 10.0


def test_a_silence_bounds_the_wait_for_the_next_request() -> None:
    discovery, now = established(1e-6), 0.0
    for _ in range(200):
        ready = discovery.ready_at(now)
        assert ready - now <= 62.0
        now = ready
        discovery.on_send(now)
        discovery.on_reject(now + 0.01, None, sent_at=now)


#: What goes wrong, how many seconds after the last trouble, and for how many seconds.
TROUBLES = st.lists(
    st.tuples(st.sampled_from(["storm", "stall"]), st.floats(15.0, 40.0), st.floats(1.0, 60.0)),
    min_size=1,
    max_size=3,
)
BUCKETS = st.builds(TokenBucket, st.sampled_from([20.0, 50.0, 100.0]), st.sampled_from([5, 20]))
COUNTS, PERIODS = st.sampled_from([20, 100]), st.sampled_from([2.0, 5.0])
WINDOWS = st.builds(SlidingWindow, COUNTS, PERIODS) | st.builds(FixedWindow, COUNTS, PERIODS)


@given(
    limit=BUCKETS | WINDOWS,
    rtt=st.sampled_from([0.001, 0.05]),
    troubles=TROUBLES,
    told=st.booleans(),
)
@example(limit=FixedWindow(20, 2.0), rtt=0.05, troubles=[("storm", 15.0, 1.75)], told=False)
@example(limit=FixedWindow(20, 2.0), rtt=0.05, troubles=[("storm", 15.75, 1.0)], told=False)
@example(limit=FixedWindow(20, 2.0), rtt=0.05, troubles=[("storm", 24.75, 1.0)], told=False)
@example(limit=FixedWindow(20, 2.0), rtt=0.05, troubles=[("storm", 25.5, 1.75)], told=False)
@example(limit=FixedWindow(20, 2.0), rtt=0.05, troubles=[("storm", 26.25, 1.0)], told=False)
@example(limit=FixedWindow(7, 1.0), rtt=0.05, troubles=[("storm", 39.86, 56.91)], told=False)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_after_storms_and_stalls_requests_are_sent_at_four_fifths_of_the_limit(
    limit: TokenBucket | SlidingWindow | FixedWindow,
    rtt: float,
    troubles: list[tuple[str, float, float]],
    told: bool,
) -> None:
    rate, at_once = (
        (limit.rate, 2) if isinstance(limit, TokenBucket) else (limit.count / limit.per, limit.count)
    )
    limiter: Limiter = limit.limiter()
    end, stalls = 0.0, []
    for kind, pause, seconds in troubles:
        start, end = end + pause, end + pause + seconds
        if kind == "storm":
            limiter = Storm(limiter, start, end)
        else:
            stalls.append((start, end))
    settled = end + max(10.0, troubles[-1][2] / 4)
    run = simulate(limiter, rtt=rtt, told=told, stalls=stalls, until=settled + 40.0)
    accepted = len([at for at in run.passed if at >= settled])
    forbidden = 0.0
    if isinstance(limit, TokenBucket):  # in the window that it waits for, nothing is accepted anyway
        forbidden = sum(
            min(end, settled + 40.0) - max(start, settled) for start, end in run.forbidden if end > settled
        )
    assert accepted >= 0.8 * rate * (40.0 - forbidden) - at_once


@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from(["accept", "reject", "wait", "lost", "not sent", "stall"]), st.integers(1, 40)
        ),
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_request_waits_longer_than_twice_the_longest_silence_and_a_minute(
    answers: list[tuple[str, int]],
) -> None:
    discovery, now, silent_since, longest = Discovery(), 0.0, 0.0, 0.0
    for kind, times in answers:
        for _ in range(times):
            if kind == "stall":
                now += 1.0
                continue
            ready = discovery.ready_at(now)
            assert ready - now <= 2 * max(longest, now - silent_since) + 60.0
            now = ready
            discovery.on_send(now)
            sent_at, now = now, now + 0.02
            match kind:
                case "accept":
                    discovery.on_accept(now, sent_at=sent_at)
                    longest, silent_since = max(longest, now - silent_since), now
                case "reject" | "wait":
                    discovery.on_reject(now, 1.0 if kind == "wait" else None, sent_at=sent_at)
                    now += kind == "wait"
                case "lost":
                    discovery.on_no_response(now)
                case _:
                    discovery.on_not_sent(now)
