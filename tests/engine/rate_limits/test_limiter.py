"""When the next request of a scope may be sent: configured limits, pauses, and requests in flight."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import RateLimit
from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async._engine.rate_limits.limiter import ScopeLimiter

#: Made-up times are whole numbers of ticks, a power of two, so that sums of them are exact.
TICK = 1 / 1024


def next_tick(when: float) -> float:
    return when if when == math.inf else math.ceil(when / TICK) * TICK


# ---- rejections


LIMITS = st.integers(1, 6).flatmap(
    lambda count: st.builds(
        RateLimit,
        st.just(count),
        st.sampled_from([1 / 8, 0.5, 1.0, 2.0, 10.0]),
        st.one_of(st.none(), st.integers(1, count)),
    )
)


def far_limiter() -> ScopeLimiter:
    """Return a limiter whose configured limit is never reached, so that only responses count."""
    return ScopeLimiter(RateLimit(1_000_000_000, 1.0, burst=1_000_000))


def rejected_before(*, at: float = -1.0) -> ScopeLimiter:
    """Return a `far_limiter` after a first rejection, which may be due to jitter and makes no pause."""
    limiter = far_limiter()
    assert rejected(limiter, at) == 0.0
    assert limiter.ready_at(at) == pytest.approx(at, abs=1e-6)
    return limiter


def rejected(limiter: ScopeLimiter, now: float, retry_after: float | None = None) -> float:
    limiter.on_send(now)
    return reject(limiter, now, retry_after, sent_at=now)


def reject(limiter: ScopeLimiter, now: float, retry_after: float | None = None, *, sent_at: float) -> float:
    """Reject a request sent at *sent_at*; return the seconds until the next may be sent."""
    limiter.on_reject(now, retry_after, sent_at=sent_at)
    return limiter.paused_for(now) or round(min(limiter.ready_at(now) - now, 30.0), 6)


def test_an_unknown_limit_bounds_requests_in_flight_but_not_their_number() -> None:
    limiter = ScopeLimiter(None)
    for second in range(1000):
        assert limiter.ready_at(second) == second
        limiter.on_send(second)
        limiter.on_accept(second + 0.25, sent_at=second)
    for _ in range(1000):
        if limiter.ready_at(1000.25) > 1000.25:
            break
        limiter.on_send(1000.25)
    else:
        pytest.fail("the first rejection would have been one of all of them")
    assert (limiter.paused_for(1000.25), limiter.rejecting_for(1000.25), limiter.rejections) == (0.0, 0.0, 0)


def test_after_rejections_at_an_unknown_limit_discovery_sets_growing_pauses() -> None:
    """Each pause is half of the silence so far."""
    limiter, now, instants = ScopeLimiter(None), 0.0, list[float]()
    for _ in range(6):
        instants.append(now)
        assert rejected(limiter, now) == pytest.approx(limiter.ready_at(now) - now)
        assert limiter.paused_for(now) == 0.0  # the service named no wait
        now = limiter.ready_at(now)
    assert instants == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.225, 0.3375])
    assert limiter.rejections == 6


def test_after_a_rejection_other_responses_are_waited_for_until_overdue() -> None:
    limiter = ScopeLimiter(None)
    limiter.on_send(0.0)
    limiter.on_send(0.0)
    assert reject(limiter, 1.0, None, sent_at=0.0) == 3.0
    assert limiter.ready_at(1.0) == 4.0


def test_pauses_double_from_half_a_second_to_thirty() -> None:
    limiter, now, pauses = rejected_before(), 0.0, list[float]()
    for _ in range(9):
        pauses.append(rejected(limiter, now))
        assert limiter.ready_at(now) == now + pauses[-1]
        now = limiter.ready_at(now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert limiter.rejections == 10


def test_an_acceptance_makes_the_next_pause_short_again() -> None:
    limiter = rejected_before()
    assert [rejected(limiter, now) for now in (0.0, 0.5, 1.5)] == [0.5, 1.0, 2.0]
    limiter.on_send(3.5)
    limiter.on_accept(3.6, sent_at=3.5)
    assert [rejected(limiter, now) for now in (4.0, 4.1)] == [0.0, 0.5]


def test_an_acceptance_during_a_pause_does_not_shorten_the_next_pause() -> None:
    limiter = rejected_before()
    limiter.on_send(0.0)
    assert rejected(limiter, 0.0) == 0.5
    limiter.on_accept(0.25, sent_at=0.0)  # it was sent before the rejection
    assert limiter.ready_at(0.25) == 0.5
    assert [rejected(limiter, now) for now in (0.5, 0.6)] == [0.0, 1.0]


def test_a_rejection_of_a_request_sent_before_the_pause_makes_no_new_pause() -> None:
    limiter = rejected_before()
    for _ in range(3):
        limiter.on_send(0.0)
    assert reject(limiter, 1.0, None, sent_at=0.0) == 0.5
    assert reject(limiter, 1.25, None, sent_at=0.0) == 0.25
    assert reject(limiter, 9.0, None, sent_at=0.0) == 0.0
    assert limiter.rejections == 4
    assert rejected(limiter, 9.0) == 1.0


@pytest.mark.parametrize("retry_after", [0.001, 7.0, 1e9])
def test_retry_after_is_kept_exactly_at_a_configured_limit(retry_after: float) -> None:
    limiter = far_limiter()
    assert rejected(limiter, 0.0, retry_after) == retry_after
    assert limiter.ready_at(0.0) == retry_after
    assert limiter.paused_for(retry_after) == 0.0
    assert limiter.ready_at(retry_after + 1) == retry_after + 1


@pytest.mark.parametrize("retry_after", [7.0, 1e9])
def test_retry_after_is_kept_exactly_at_an_unknown_limit(retry_after: float) -> None:
    limiter = ScopeLimiter(None)
    assert rejected(limiter, 0.0, retry_after) == retry_after
    assert limiter.ready_at(0.0) == retry_after


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_a_retry_after_of_zero_counts_as_none(retry_after: float | None) -> None:
    limiter = rejected_before()
    assert [rejected(limiter, 0.0, retry_after), rejected(limiter, 0.5, retry_after)] == [0.5, 1.0]


def test_the_longest_of_several_retry_afters_holds() -> None:
    limiter = ScopeLimiter(None)
    for _ in range(3):
        limiter.on_send(0.0)
    assert reject(limiter, 1.0, 10.0, sent_at=0.0) == 10.0
    assert reject(limiter, 2.0, 5.0, sent_at=0.0) == 9.0
    assert reject(limiter, 3.0, 20.0, sent_at=0.0) == 20.0
    assert limiter.ready_at(3.0) == 23.0


def test_a_pause_of_ours_never_shortens_a_retry_after() -> None:
    limiter = ScopeLimiter(None)
    for _ in range(3):
        limiter.on_send(0.0)
    limiter.on_reject(1.0, 100.0, sent_at=0.0)
    limiter.on_reject(2.0, None, sent_at=0.0)
    limiter.on_not_sent(3.0)
    assert limiter.ready_at(3.0) == 101.0


def test_a_retry_after_does_not_make_the_next_pause_longer() -> None:
    limiter = far_limiter()
    assert rejected(limiter, 0.0, 50.0) == 50.0
    assert rejected(limiter, 50.0) == 0.5


def test_a_limiter_cuts_a_retry_after_to_its_longest_wait() -> None:
    limiter = ScopeLimiter(None, longest=600.0)
    assert rejected(limiter, 10.0, 1e9) == 600.0
    assert limiter.ready_at(10.0) == 610.0


def test_after_rejections_one_request_is_in_flight_and_one_more_for_each_accepted() -> None:
    limiter = rejected_before()
    rejected(limiter, 0.0)
    widths = []
    now = 0.5
    for _ in range(4):
        width = 0
        while limiter.ready_at(now) == now:
            limiter.on_send(now)
            width += 1
        assert limiter.ready_at(now) == math.inf
        widths.append(width)
        for _ in range(width):
            limiter.on_accept(now, sent_at=now)
        now += 1
    assert widths == [1, 2, 4, 8]


def test_a_rejection_reduces_the_requests_in_flight_to_one_again() -> None:
    limiter = rejected_before()
    rejected(limiter, 0.0)
    limiter.on_send(0.5)
    limiter.on_accept(0.5, sent_at=0.5)
    limiter.on_send(1.0)
    rejected(limiter, 1.0)
    rejected(limiter, 1.0)
    assert limiter.ready_at(1.5) == math.inf  # the other one is still in flight
    limiter.on_no_response(2.0)
    assert limiter.ready_at(2.0) == 2.0


def test_a_request_without_a_response_changes_only_the_number_in_flight() -> None:
    limiter = rejected_before()
    rejected(limiter, 0.0)
    limiter.on_send(0.5)
    assert limiter.ready_at(0.5) == math.inf
    limiter.on_no_response(5.0)
    assert limiter.ready_at(5.0) == 5.0
    assert limiter.rejecting_for(5.0) == 6.0
    limiter.on_send(5.0)
    assert limiter.ready_at(5.0) == math.inf


def test_an_unreachable_service_is_tried_after_growing_pauses() -> None:
    limiter, now, waits = ScopeLimiter(None), 0.0, list[float]()
    for _ in range(8):
        limiter.on_send(now)
        limiter.on_not_sent(now)
        waits.append(limiter.ready_at(now) - now)
        now = limiter.ready_at(now)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert limiter.rejections == 0
    limiter.on_send(now)
    limiter.on_accept(now, sent_at=now)
    limiter.on_send(now)
    limiter.on_not_sent(now)
    assert limiter.ready_at(now) == now + 0.5


def test_a_whole_pool_that_cannot_connect_makes_one_pause() -> None:
    limiter = ScopeLimiter(None)
    for _ in range(16):
        limiter.on_send(0.0)
    for _ in range(16):
        limiter.on_not_sent(10.0)
    assert limiter.ready_at(10.0) == 10.5


def test_rejecting_for_counts_from_the_first_rejection_to_the_next_acceptance() -> None:
    limiter = ScopeLimiter(None)
    assert limiter.rejecting_for(5.0) == 0.0
    rejected(limiter, 10.0)
    rejected(limiter, 10.5)
    assert limiter.rejecting_for(40.0) == 30.0
    limiter.on_send(40.0)
    limiter.on_accept(41.0, sent_at=40.0)
    assert limiter.rejecting_for(50.0) == 0.0
    rejected(limiter, 60.0)
    assert limiter.rejecting_for(61.0) == 1.0


def test_a_limiter_keeps_a_configured_limit() -> None:
    limiter = ScopeLimiter(RateLimit(2, 10.0))
    limiter.on_send(0.0)
    limiter.on_send(0.0)
    assert limiter.ready_at(0.0) == math.inf
    limiter.on_accept(1.0, sent_at=0.0)
    limiter.on_no_response(2.0)
    assert limiter.ready_at(2.0) == 11.0
    limiter.on_send(11.0)
    assert reject(limiter, 11.0, 3.0, sent_at=11.0) == 3.0
    assert limiter.ready_at(11.0) == 16.0  # the wait ends at 14, but there is no token yet
    limiter.on_send(16.0)
    limiter.on_not_sent(16.0)
    assert limiter.ready_at(16.0) == 16.5  # its place and its token are back


# ---- the rate


def test_a_configured_rate_is_the_rate() -> None:
    assert ScopeLimiter(RateLimit(20, 10.0)).rate == 2.0


def test_an_unknown_rate_is_none_until_it_is_discovered() -> None:
    limiter, now, free = ScopeLimiter(None), 0.0, 0.0
    assert limiter.rate is None
    for _ in range(200):  # at most one request in half a second is accepted
        now = max(now, limiter.ready_at(now))
        limiter.on_send(now)
        if now >= free:
            free = now + 0.5
            limiter.on_accept(now, sent_at=now)
        else:
            limiter.on_reject(now, None, sent_at=now)
    assert limiter.rate == pytest.approx(2.0, rel=0.05)


# ---- two limiters


def test_a_limiter_pauses_like_another_until_that_is_ended() -> None:
    one, two = ScopeLimiter(None), ScopeLimiter(None)
    rejected(one, 0.0, 9.0)
    two.pause_like(one, 0.0)
    assert (two.ready_at(0.0), two.paused_for(1.0)) == (9.0, 8.0)
    assert (one.is_paused(0.0), two.is_paused(0.0)) == (True, False)
    two.end_borrowed_pause()
    assert (two.ready_at(0.0), two.paused_for(1.0)) == (0.0, 0.0)


def test_a_limiter_pauses_like_another_for_a_minute_at_most() -> None:
    for longest in (math.inf, 600.0):
        one, two = ScopeLimiter(None), ScopeLimiter(None, longest=longest)
        rejected(one, 10.0, 86_400.0)
        two.pause_like(one, 10.0)
        assert two.ready_at(10.0) == 70.0


def test_a_pause_of_its_own_outlasts_a_borrowed_one() -> None:
    one, two = ScopeLimiter(None), ScopeLimiter(None)
    rejected(one, 0.0, 9.0)
    rejected(two, 0.0, 5.0)
    two.pause_like(one, 0.0)
    two.end_borrowed_pause()
    assert two.ready_at(0.0) == 5.0


def test_a_borrowed_pause_is_not_lent() -> None:
    one, two = ScopeLimiter(None), ScopeLimiter(None)
    rejected(one, 0.0, 9.0)
    two.pause_like(one, 0.0)
    one.pause_like(two, 0.0)
    assert two.paused_for(0.0) == one.paused_for(0.0) == 9.0
    one.end_borrowed_pause()
    assert one.ready_at(0.0) == 9.0


def test_a_replaced_discovery_does_not_wait_for_responses_that_the_next_one_gets() -> None:
    shared, fresh = Discovery(), Discovery()
    creates, queries = ScopeLimiter(None, shared), ScopeLimiter(None, shared)
    creates.on_send(0.0)
    queries.on_send(0.0)
    creates.on_reject(1.0, None, sent_at=0.0)
    assert creates.ready_at(1.0) == 4.0
    queries.replace_limit(fresh)
    assert creates.ready_at(1.0) == 1.0
    for _ in range(100):
        if queries.ready_at(1.0) > 1.0:
            break
        queries.on_send(1.0)
    else:
        pytest.fail("the new one does not count the requests in flight")
    queries.on_accept(1.0, sent_at=0.0)
    assert queries.ready_at(1.0) == 1.0


class LimiterMachine(RuleBasedStateMachine):
    """Any traffic: nothing is sent too early, and something can always be sent at last."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.in_flight: list[float] = []
        self.paused_until = -math.inf
        self.narrow = False
        self.shut_since = math.inf
        self.rejections = 0

    @initialize(limit=st.one_of(st.none(), LIMITS), longest=st.sampled_from([2.0, 600.0, math.inf]))
    def open(self, limit: RateLimit | None, longest: float) -> None:
        self.longest = longest
        self.known = limit is not None
        self.limiter = ScopeLimiter(limit, longest=longest)

    @rule(ticks=st.one_of(st.integers(0, 200), st.integers(0, 60_000)))
    def wait(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule()
    def wait_until_ready(self) -> None:
        ready = self.limiter.ready_at(self.now)
        if ready < math.inf:
            self.now = next_tick(ready)

    @rule()
    def send(self) -> None:
        if self.limiter.ready_at(self.now) <= self.now:
            assert self.now >= self.paused_until
            assert not (self.narrow and self.in_flight and self.known)
            self.limiter.on_send(self.now)
            self.in_flight.append(self.now)

    def returned(self, data: st.DataObject) -> float:
        return self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def on_accept(self, data: st.DataObject) -> None:
        sent_at = self.returned(data)
        self.limiter.on_accept(self.now, sent_at=sent_at)
        self.narrow, self.shut_since = False, math.inf
        assert self.limiter.rejecting_for(self.now) == 0.0

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def on_no_response(self, data: st.DataObject) -> None:
        self.returned(data)
        self.limiter.on_no_response(self.now)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def on_not_sent(self, data: st.DataObject) -> None:
        self.returned(data)
        self.limiter.on_not_sent(self.now)
        self.narrow, self.shut_since = True, min(self.shut_since, self.now)
        assert self.limiter.paused_for(self.now) > 0

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), hint=st.one_of(st.none(), st.sampled_from([0.0, 0.25, 3.0, 1000.0])))
    def on_reject(self, data: st.DataObject, hint: float | None) -> None:
        sent_at = self.returned(data)
        closed = reject(self.limiter, self.now, hint, sent_at=sent_at)
        self.narrow = self.narrow or sent_at >= self.shut_since  # the first may be due to jitter
        self.shut_since = min(self.shut_since, self.now)
        self.rejections += 1
        if hint:
            self.paused_until = max(self.paused_until, self.now + min(hint, self.longest))
        if hint:
            assert closed == self.limiter.paused_for(self.now)
        assert 0 <= closed <= max(30.0, self.paused_until - self.now)

    @invariant()
    def nothing_is_sent_before_a_retry_after(self) -> None:
        assert self.limiter.ready_at(self.now) >= max(self.now, self.paused_until)

    @invariant()
    def something_can_be_sent_once_nothing_is_in_flight(self) -> None:
        if not self.in_flight:
            assert self.limiter.ready_at(self.now) < math.inf

    @invariant()
    def rejections_are_counted(self) -> None:
        assert self.limiter.rejections == self.rejections

    def teardown(self) -> None:
        """Send three more requests, each within a bounded time."""
        if not hasattr(self, "limiter"):
            return
        while self.in_flight:
            self.in_flight.pop()
            self.limiter.on_no_response(self.now)
        self.now = max(self.now, self.paused_until)
        for _ in range(3):
            ready = next_tick(self.limiter.ready_at(self.now))
            assert ready - self.now <= self.longest_pause()
            self.now = ready
            assert self.limiter.ready_at(self.now) == self.now
            self.limiter.on_send(self.now)
            self.limiter.on_accept(self.now, sent_at=self.now)

    def longest_pause(self) -> float:
        """Return the longest pause: 30 s at a configured limit, an hour at one that is discovered."""
        return (30.0 if self.known else 4000.0) + TICK


LimiterMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLimiterUnderAnyTraffic: Any = LimiterMachine.TestCase


def test_a_configured_rate_without_a_burst_starts_with_four_at_once_and_goes_on_at_the_rate() -> None:
    """The service rejects what is in flight beyond its burst, so few requests try how large that is."""
    limiter = ScopeLimiter(RateLimit(20, 1.0))
    for _ in range(4):
        assert limiter.ready_at(0.0) == 0.0
        limiter.on_send(0.0)
    for left in (0.05, 0.1, 0.15):
        assert limiter.ready_at(0.0) == pytest.approx(left)
        assert limiter.ready_ignoring_rate(0.0) == 0.0
        limiter.on_send(left)
    limiter = ScopeLimiter(RateLimit(20, 1.0))
    for _ in range(4):
        limiter.on_send(0.0)
    limiter.on_accept(0.1, sent_at=0.0)
    for _ in range(2):
        assert limiter.ready_at(0.1) == 0.1
        limiter.on_send(0.1)
    assert limiter.ready_at(0.1) == pytest.approx(0.15)
    limiter.on_reject(0.2, None, sent_at=0.1)
    limiter.on_reject(0.2, None, sent_at=0.1)
    limiter.on_reject(0.3, None, sent_at=0.25)
    assert (
        limiter.ready_at(1.0) == limiter.ready_ignoring_rate(1.0) == math.inf
    )  # rejected twice in a row: one at a time from now on
    configured = ScopeLimiter(RateLimit(20, 1.0, burst=20))
    for _ in range(20):
        assert configured.ready_at(0.0) == 0.0
        configured.on_send(0.0)
