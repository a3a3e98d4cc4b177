"""A configured limit: the service never counts more than it allows, and no time is wasted."""

from __future__ import annotations

import heapq
import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import RateLimit
from ruxa_async._engine.rate_limits.known_limit import KnownLimit

#: Made-up times are whole numbers of ticks, a power of two, so that sums of them are exact.
TICK = 1 / 1024


def next_tick(when: float) -> float:
    return when if when == math.inf else math.ceil(when / TICK) * TICK


def sent_at_once(known: KnownLimit, now: float) -> int:
    """Send while the limit allows it; return the number of requests."""
    count = 0
    while known.ready_at(now) <= now:
        known.on_send(now)
        count += 1
    return count


def test_the_whole_count_is_sent_at_once_and_then_responses_decide() -> None:
    known = KnownLimit(RateLimit(20, 10.0))
    assert known.ready_at(5.0) == 5.0
    assert sent_at_once(known, 5.0) == 20
    assert known.ready_at(5.0) == math.inf
    assert known.ready_at(1000.0) == math.inf


def test_a_place_is_free_one_period_after_its_response() -> None:
    known = KnownLimit(RateLimit(2, 10.0))
    assert sent_at_once(known, 0.0) == 2
    known.on_no_response(1.0)
    assert known.ready_at(1.0) == 11.0
    known.on_no_response(4.0)
    assert known.ready_at(4.0) == 11.0
    assert sent_at_once(known, 11.0) == 1
    assert known.ready_at(11.0) == 14.0


def test_a_request_in_flight_takes_a_place_as_an_answered_one_does() -> None:
    known = KnownLimit(RateLimit(3, 10.0))
    assert sent_at_once(known, 0.0) == 3
    known.on_no_response(1.0)
    assert sent_at_once(known, 11.0) == 1
    assert known.ready_at(11.0) == math.inf
    known.on_no_response(12.0)
    assert known.ready_at(12.0) == 22.0


def test_responses_in_any_order_free_places_in_the_order_of_time() -> None:
    known = KnownLimit(RateLimit(3, 10.0, burst=3))
    for sent_at in (0.0, 1.0, 2.0):
        known.on_send(sent_at)
    for sent_at in (2.0, 0.0, 1.0):
        known.on_accept(3.0, sent_at=sent_at)
    for free_at in (10.0, 11.0, 12.0):
        assert known.ready_at(3.0) == free_at
        known.on_send(known.ready_at(free_at))


def test_the_limit_is_used_up_while_fewer_than_two_may_be_sent_and_the_bucket_is_not_full() -> None:
    known = KnownLimit(RateLimit(10, 1.0, burst=3))
    assert not known.is_used_up(0.0)
    known.on_send(0.0)
    assert not known.is_used_up(0.0)
    known.on_send(0.0)
    assert known.is_used_up(0.0)
    assert not known.is_used_up(0.2)
    single = KnownLimit(RateLimit(10, 1.0, burst=1))
    assert not single.is_used_up(0.0)
    single.on_send(0.0)
    assert single.is_used_up(0.05)
    assert not single.is_used_up(0.11)


def test_80_creates_at_20_in_10_seconds_are_sent_within_30_seconds() -> None:
    known, now, instants = KnownLimit(RateLimit(20, 10.0)), 0.0, list[float]()
    while len(instants) < 80:
        now = known.ready_at(now)
        known.on_send(now)
        known.on_no_response(now)
        instants.append(now)
    assert instants == [0.0] * 20 + [10.0] * 20 + [20.0] * 20 + [30.0] * 20


def test_a_burst_of_one_spaces_requests_evenly() -> None:
    known, now, instants = KnownLimit(RateLimit(20, 10.0, burst=1)), 0.0, list[float]()
    while len(instants) < 9:
        now = known.ready_at(now)
        known.on_send(now)
        known.on_no_response(now)
        instants.append(now)
    assert instants == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_a_burst_refills_with_the_rate_and_no_further() -> None:
    known = KnownLimit(RateLimit(8, 8.0, burst=2))
    for now, leave in ((0.0, 2), (0.5, 0), (1.0, 1), (2.5, 1), (3.0, 1), (7.0, 2)):
        assert sent_at_once(known, now) == leave, now
        for _ in range(leave):
            known.on_no_response(now)
    assert known.ready_at(7.5) == 8.0


def test_the_count_holds_where_the_burst_would_allow_more() -> None:
    known = KnownLimit(RateLimit(2, 4.0, burst=1))
    for now in (0.0, 2.0):
        assert sent_at_once(known, now) == 1
        known.on_no_response(now + 1.5)
    assert known.ready_at(4.0) == 5.5  # the bucket has one, the window not


def test_with_a_configured_burst_places_are_free_one_period_after_the_departure() -> None:
    """Latency costs no throughput, however much it varies."""
    known = KnownLimit(RateLimit(2, 4.0, burst=2))
    for now, rtt in ((0.0, 0.1), (2.0, 1.5)):
        known.on_send(now)
        known.on_accept(now + rtt, sent_at=now)
    assert known.ready_at(3.5) == 4.0
    known.on_send(4.0)
    assert known.ready_at(4.0) == 6.0


def test_an_unsent_request_gives_its_place_back() -> None:
    known = KnownLimit(RateLimit(1, 60.0))
    known.on_send(0.0)
    assert known.ready_at(0.0) == math.inf
    known.on_not_sent(0.0)
    assert known.ready_at(0.0) == 0.0
    assert sent_at_once(known, 1.0) == 1


def test_an_unsent_request_gives_its_token_back() -> None:
    known = KnownLimit(RateLimit(10, 10.0, burst=2))
    known.on_send(0.0)
    known.on_send(1.0)
    known.on_not_sent(0.0)
    assert sent_at_once(known, 1.0) == 2


def test_a_returned_token_does_not_make_the_bucket_larger() -> None:
    known = KnownLimit(RateLimit(10, 10.0, burst=2))
    known.on_send(0.0)
    known.on_not_sent(0.0)
    assert sent_at_once(known, 5.0) == 2


# ---- rejections


def rejected(known: KnownLimit, sent_at: float, now: float) -> None:
    known.on_reject(now, None, sent_at=sent_at)


def test_a_rejection_empties_the_bucket_and_reserves_one_token() -> None:
    known = KnownLimit(RateLimit(10, 1.0, burst=5))
    known.on_send(0.0)
    rejected(known, 0.0, 0.5)
    assert known.ready_at(0.5) == pytest.approx(0.7)


def test_rejections_of_requests_sent_before_the_first_was_known_are_ignored() -> None:
    known = KnownLimit(RateLimit(10, 1.0, burst=5))
    for _ in range(3):
        known.on_send(0.0)
    for now in (0.5, 0.51, 0.52):
        rejected(known, 0.0, now)
    assert known.ready_at(0.52) == pytest.approx(0.7)


def test_an_unknown_burst_becomes_the_number_accepted_before_the_rejection() -> None:
    known = KnownLimit(RateLimit(20, 1.0))
    for _ in range(20):
        known.on_send(0.0)
    for _ in range(6):
        known.on_accept(0.1, sent_at=0.0)
    for _ in range(14):
        rejected(known, 0.0, 0.1)
    assert sent_at_once(known, 10.0) == 6


def test_an_unknown_burst_is_at_least_one_and_never_grows() -> None:
    known = KnownLimit(RateLimit(4, 4.0))
    for now in (0.0, 10.0, 20.0):
        known.on_send(now)
        rejected(known, now, now)
    assert sent_at_once(known, 40.0) == 1


def test_a_configured_burst_stays() -> None:
    known = KnownLimit(RateLimit(4, 4.0, burst=3))
    known.on_send(0.0)
    rejected(known, 0.0, 0.0)
    assert sent_at_once(known, 40.0) == 3


def test_a_rejected_request_takes_no_place() -> None:
    known = KnownLimit(RateLimit(2, 60.0))
    known.on_send(0.0)
    known.on_send(0.0)
    known.on_accept(0.0, sent_at=0.0)
    rejected(known, 0.0, 0.0)
    assert known.ready_at(0.0) == 30.0  # for a token; its place would be free at 60


def test_at_a_burst_of_one_the_next_request_waits_until_the_last_has_surely_arrived() -> None:
    known = KnownLimit(RateLimit(10, 1.0, burst=1))
    known.on_send(0.0)
    known.on_accept(0.01, sent_at=0.0)  # the shortest round trip
    known.on_send(1.0)
    assert known.ready_at(1.0) == pytest.approx(1.1)
    known.on_accept(1.04, sent_at=1.0)
    assert known.ready_at(1.04) == pytest.approx(1.13)
    known.on_send(2.0)
    assert known.ready_at(2.0) == pytest.approx(2.13)  # no response yet, but there is jitter


def test_a_stuck_request_adds_ten_seconds_of_jitter_at_most() -> None:
    known = KnownLimit(RateLimit(10, 1.0, burst=1))
    known.on_send(0.0)
    known.on_accept(0.01, sent_at=0.0)
    known.on_send(1.0)
    known.on_accept(91.0, sent_at=1.0)
    known.on_send(100.0)
    assert known.ready_at(100.0) == pytest.approx(100 + 10 + 0.1)


def test_no_time_before_the_first_request_counts() -> None:
    known = KnownLimit(RateLimit(4, 4.0, burst=2))
    assert known.ready_at(-1e9) == -1e9
    assert sent_at_once(known, 1e9) == 2


@attrs.frozen
class RoundTrip:
    """One request: its idle time before, its round trip in ticks, and when during that it is counted."""

    idle: int
    ticks: int
    counted: float
    leaves: bool = True


ROUND_TRIPS = st.builds(
    RoundTrip,
    idle=st.sampled_from([0, 0, 0, 1, 100, 1024, 5000]),
    ticks=st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 6000)),
    counted=st.floats(0, 1),
)
LIMITS = st.integers(1, 6).flatmap(
    lambda count: st.builds(
        RateLimit,
        st.just(count),
        st.sampled_from([1 / 8, 0.5, 1.0, 2.0, 10.0]),
        st.one_of(st.none(), st.integers(1, count)),
    )
)


@attrs.define
class Traffic:
    sent: list[float] = attrs.field(factory=list)
    counted: list[float] = attrs.field(factory=list)


def run(limit: RateLimit, round_trips: list[RoundTrip]) -> Traffic:
    """Send every request as early as the limit allows; fail if it never allows one again."""
    known, now, traffic = KnownLimit(limit), 0.0, Traffic()
    answers: list[tuple[float, int, float, bool]] = []
    for number, rtt in enumerate(round_trips):
        now += rtt.idle * TICK
        while True:
            while answers and answers[0][0] <= now:
                when, _, left_at, left = heapq.heappop(answers)
                if left:
                    known.on_accept(when, sent_at=left_at)
                else:
                    known.on_not_sent(0.0)
            ready = known.ready_at(now)
            assert ready >= now
            if ready == now:
                break
            news = answers[0][0] if answers else math.inf
            assert min(ready, news) < math.inf, "nothing is in flight, and nothing may ever be sent again"
            now = min(next_tick(ready), news)
        known.on_send(now)
        back = now + rtt.ticks * TICK
        heapq.heappush(answers, (back, number, now, rtt.leaves))
        if rtt.leaves:
            traffic.sent.append(now)
            traffic.counted.append(min(now + rtt.counted * (back - now), back))
    traffic.counted.sort()
    return traffic


def most_in_any(window: float, instants: list[float]) -> int:
    """The most of the sorted *instants* in any half-open window."""
    most = first = 0
    for last, instant in enumerate(instants):
        while instants[first] <= instant - window:
            first += 1
        most = max(most, last - first + 1)
    return most


WINDOWS = LIMITS.map(lambda limit: attrs.evolve(limit, burst=None))


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(limit=WINDOWS, round_trips=st.lists(ROUND_TRIPS, max_size=40))
def test_the_service_never_counts_more_than_the_limit(limit: RateLimit, round_trips: list[RoundTrip]) -> None:
    traffic = run(limit, round_trips)
    assert len(traffic.sent) == len(round_trips)
    assert most_in_any(limit.per, traffic.counted) <= limit.count


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(limit=WINDOWS, round_trips=st.lists(ROUND_TRIPS, max_size=40), data=st.data())
def test_unsent_requests_do_not_loosen_the_limit(
    limit: RateLimit, round_trips: list[RoundTrip], data: st.DataObject
) -> None:
    round_trips = [attrs.evolve(rtt, leaves=data.draw(st.booleans())) for rtt in round_trips]
    assert most_in_any(limit.per, run(limit, round_trips).counted) <= limit.count


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(limit=LIMITS, round_trips=st.lists(ROUND_TRIPS, max_size=40))
def test_no_more_are_sent_than_the_burst_and_the_refill_since(
    limit: RateLimit, round_trips: list[RoundTrip]
) -> None:
    sent = run(limit, round_trips).sent
    burst = limit.count if limit.burst is None else limit.burst
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            flowed = (sent[last] - start) * limit.count / limit.per
            assert last - first + 1 <= burst + flowed + 1e-6


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    limit=LIMITS.filter(lambda limit: limit.burst is not None),
    ticks=st.integers(0, 6000),
    counted=st.floats(0, 1),
    idle=st.lists(st.sampled_from([0, 0, 0, 1, 100, 1024]), max_size=40),
)
def test_without_jitter_a_configured_burst_keeps_the_limit_too(
    limit: RateLimit, ticks: int, counted: float, idle: list[int]
) -> None:
    traffic = run(limit, [RoundTrip(each, ticks, counted) for each in idle])
    assert most_in_any(limit.per - 1e-6, traffic.counted) <= limit.count


@settings(max_examples=100, deadline=None)
@given(limit=LIMITS, number=st.integers(1, 60))
def test_with_prompt_answers_no_time_is_wasted(limit: RateLimit, number: int) -> None:
    sent = run(limit, [RoundTrip(0, 0, 0.0)] * number).sent
    assert sent[-1] <= max(0, number - 1) * (limit.per / limit.count + TICK)


def test_a_limit_that_another_process_used_up_is_free_one_period_later() -> None:
    known = KnownLimit(RateLimit(20, 10.0))
    known.use_up(100.0)
    assert known.ready_at(103.0) == 110.0
    assert sent_at_once(known, 110.0) == 20


def test_a_burst_that_another_process_used_up_refills_at_the_rate() -> None:
    known = KnownLimit(RateLimit(50, 1.0, burst=10))
    known.use_up(100.0)
    assert known.ready_at(100.0) == pytest.approx(100.02)
    assert sent_at_once(known, 100.1) == 5


def test_a_long_window_counts_as_used_up_for_a_minute() -> None:
    known = KnownLimit(RateLimit(1_000, 86_400.0))
    known.use_up(100.0)
    assert known.ready_at(101.0) == 160.0
    assert known.ready_at(161.0) == 161.0
