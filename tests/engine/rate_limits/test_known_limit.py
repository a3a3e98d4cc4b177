"""A limit that was told is kept: the service never counts more than it allows, and no time is wasted."""

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


def sent_at_once(pacer: KnownLimit, now: float) -> int:
    """Send until the pacer says no; return how many that were."""
    count = 0
    while pacer.ready_at(now) <= now:
        pacer.on_send(now)
        count += 1
    return count


def test_a_fresh_pacer_lets_the_whole_count_go_and_waits_for_answers() -> None:
    pacer = KnownLimit(RateLimit(20, 10.0))
    assert pacer.ready_at(5.0) == 5.0
    assert sent_at_once(pacer, 5.0) == 20
    assert pacer.ready_at(5.0) == math.inf
    assert pacer.ready_at(1000.0) == math.inf


def test_a_place_is_free_again_one_period_after_its_answer() -> None:
    pacer = KnownLimit(RateLimit(2, 10.0))
    assert sent_at_once(pacer, 0.0) == 2
    pacer.on_no_response(1.0)
    assert pacer.ready_at(1.0) == 11.0
    pacer.on_no_response(4.0)
    assert pacer.ready_at(4.0) == 11.0
    assert sent_at_once(pacer, 11.0) == 1
    assert pacer.ready_at(11.0) == 14.0


def test_a_place_on_the_wire_is_worth_as_much_as_an_answer() -> None:
    pacer = KnownLimit(RateLimit(3, 10.0))
    assert sent_at_once(pacer, 0.0) == 3
    pacer.on_no_response(1.0)
    assert sent_at_once(pacer, 11.0) == 1
    assert pacer.ready_at(11.0) == math.inf
    pacer.on_no_response(12.0)
    assert pacer.ready_at(12.0) == 22.0


def test_answers_in_any_order_free_places_in_the_order_of_time() -> None:
    pacer = KnownLimit(RateLimit(3, 10.0, burst=3))
    for sent_at in (0.0, 1.0, 2.0):
        pacer.on_send(sent_at)
    for sent_at in (2.0, 0.0, 1.0):
        pacer.on_accept(3.0, sent_at=sent_at)
    assert list(pacer._free) == [10.0, 11.0, 12.0]


def test_the_limit_is_used_up_while_less_than_two_may_leave_and_the_bucket_is_not_full() -> None:
    pacer = KnownLimit(RateLimit(10, 1.0, burst=3))
    assert not pacer.is_used_up(0.0)
    pacer.on_send(0.0)
    assert not pacer.is_used_up(0.0)
    pacer.on_send(0.0)
    assert pacer.is_used_up(0.0)
    assert not pacer.is_used_up(0.2)
    single = KnownLimit(RateLimit(10, 1.0, burst=1))
    assert not single.is_used_up(0.0)
    single.on_send(0.0)
    assert single.is_used_up(0.05)
    assert not single.is_used_up(0.11)


def test_80_creates_at_20_in_10_seconds_leave_over_30_seconds() -> None:
    pacer, now, instants = KnownLimit(RateLimit(20, 10.0)), 0.0, list[float]()
    while len(instants) < 80:
        now = pacer.ready_at(now)
        pacer.on_send(now)
        pacer.on_no_response(now)
        instants.append(now)
    assert instants == [0.0] * 20 + [10.0] * 20 + [20.0] * 20 + [30.0] * 20


def test_a_burst_of_one_spaces_requests_evenly() -> None:
    pacer, now, instants = KnownLimit(RateLimit(20, 10.0, burst=1)), 0.0, list[float]()
    while len(instants) < 9:
        now = pacer.ready_at(now)
        pacer.on_send(now)
        pacer.on_no_response(now)
        instants.append(now)
    assert instants == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_a_burst_refills_with_the_rate_and_no_further() -> None:
    pacer = KnownLimit(RateLimit(8, 8.0, burst=2))
    for now, leave in ((0.0, 2), (0.5, 0), (1.0, 1), (2.5, 1), (3.0, 1), (7.0, 2)):
        assert sent_at_once(pacer, now) == leave, now
        for _ in range(leave):
            pacer.on_no_response(now)
    assert pacer.ready_at(7.5) == 8.0


def test_the_count_holds_where_the_burst_would_let_more_go() -> None:
    pacer = KnownLimit(RateLimit(2, 4.0, burst=1))
    for now in (0.0, 2.0):
        assert sent_at_once(pacer, now) == 1
        pacer.on_no_response(now + 1.5)
    assert pacer.ready_at(4.0) == 5.5  # the bucket has one, the window not


def test_with_a_burst_that_was_told_places_are_free_a_period_after_the_request_left() -> None:
    """Trips are not paid for with the rate, however uneven they are."""
    pacer = KnownLimit(RateLimit(2, 4.0, burst=1))
    for now, rtt in ((0.0, 0.1), (2.0, 1.5)):
        pacer.on_send(now)
        pacer.on_accept(now + rtt, sent_at=now)
    assert list(pacer._free) == [4.0, 6.0]


def test_a_request_that_did_not_leave_gives_its_place_back() -> None:
    pacer = KnownLimit(RateLimit(1, 60.0))
    pacer.on_send(0.0)
    assert pacer.ready_at(0.0) == math.inf
    pacer.on_not_sent(0.0)
    assert pacer.ready_at(0.0) == 0.0
    assert sent_at_once(pacer, 1.0) == 1


def test_a_request_that_did_not_leave_gives_its_token_of_a_burst_back() -> None:
    pacer = KnownLimit(RateLimit(10, 10.0, burst=2))
    pacer.on_send(0.0)
    pacer.on_send(1.0)
    pacer.on_not_sent(0.0)
    assert sent_at_once(pacer, 1.0) == 2


def test_a_returned_token_does_not_make_the_bucket_larger() -> None:
    pacer = KnownLimit(RateLimit(10, 10.0, burst=2))
    pacer.on_send(0.0)
    pacer.on_not_sent(0.0)
    assert sent_at_once(pacer, 5.0) == 2


# ---- refused in spite of it


def refused(pacer: KnownLimit, sent_at: float, now: float) -> None:
    pacer.on_reject(now, None, sent_at=sent_at)


def test_a_refusal_empties_the_bucket_and_leaves_room_for_one_that_comes_early() -> None:
    pacer = KnownLimit(RateLimit(10, 1.0, burst=5))
    pacer.on_send(0.0)
    refused(pacer, 0.0, 0.5)
    assert pacer.ready_at(0.5) == pytest.approx(0.7)


def test_refusals_of_what_left_before_the_first_was_known_are_no_news() -> None:
    pacer = KnownLimit(RateLimit(10, 1.0, burst=5))
    for _ in range(3):
        pacer.on_send(0.0)
    for now in (0.5, 0.51, 0.52):
        refused(pacer, 0.0, now)
    assert pacer.ready_at(0.52) == pytest.approx(0.7)


def test_a_burst_that_nobody_told_becomes_what_was_let_through_before_the_refusal() -> None:
    pacer = KnownLimit(RateLimit(20, 1.0))
    for _ in range(20):
        pacer.on_send(0.0)
    for _ in range(6):
        pacer.on_accept(0.1, sent_at=0.0)
    for _ in range(14):
        refused(pacer, 0.0, 0.1)
    assert sent_at_once(pacer, 10.0) == 6


def test_a_burst_that_nobody_told_is_at_least_one_and_never_grows() -> None:
    pacer = KnownLimit(RateLimit(4, 4.0))
    for now in (0.0, 10.0, 20.0):
        pacer.on_send(now)
        refused(pacer, now, now)
    assert sent_at_once(pacer, 40.0) == 1


def test_a_burst_that_was_told_stays() -> None:
    pacer = KnownLimit(RateLimit(4, 4.0, burst=3))
    pacer.on_send(0.0)
    refused(pacer, 0.0, 0.0)
    assert sent_at_once(pacer, 40.0) == 3


def test_what_was_refused_took_no_place() -> None:
    pacer = KnownLimit(RateLimit(2, 60.0))
    pacer.on_send(0.0)
    pacer.on_send(0.0)
    pacer.on_accept(0.0, sent_at=0.0)
    refused(pacer, 0.0, 0.0)
    assert pacer.ready_at(0.0) == 30.0  # for a token; its place would be free at 60


def test_where_only_one_may_come_at_a_time_the_next_waits_until_the_last_has_surely_arrived() -> None:
    pacer = KnownLimit(RateLimit(10, 1.0, burst=1))
    pacer.on_send(0.0)
    pacer.on_accept(0.01, sent_at=0.0)  # the shortest trip
    pacer.on_send(1.0)
    assert pacer.ready_at(1.0) == pytest.approx(1.1)
    pacer.on_accept(1.04, sent_at=1.0)
    assert pacer.ready_at(1.04) == pytest.approx(1.13)
    pacer.on_send(2.0)
    assert pacer.ready_at(2.0) == pytest.approx(2.13)  # its answer is not in, but trips are uneven here


def test_a_request_that_was_stuck_says_nothing_of_how_long_others_take() -> None:
    pacer = KnownLimit(RateLimit(10, 1.0, burst=1))
    pacer.on_send(0.0)
    pacer.on_accept(0.01, sent_at=0.0)
    pacer.on_send(1.0)
    pacer.on_accept(91.0, sent_at=1.0)
    pacer.on_send(100.0)
    assert pacer.ready_at(100.0) == pytest.approx(100 + 10 + 0.1)


def test_no_time_before_the_first_request_counts() -> None:
    pacer = KnownLimit(RateLimit(4, 4.0, burst=2))
    assert pacer.ready_at(-1e9) == -1e9
    assert sent_at_once(pacer, 1e9) == 2


@attrs.frozen
class Trip:
    """One request: how long it waits for its turn to be asked for, how long it is away, when it is counted."""

    idle: int
    ticks: int
    counted: float
    leaves: bool = True


TRIPS = st.builds(
    Trip,
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


def run(limit: RateLimit, rtts: list[Trip]) -> Traffic:
    """Send every trip as early as the pacer lets it go; fails where it lets nothing go any more."""
    pacer, now, traffic = KnownLimit(limit), 0.0, Traffic()
    answers: list[tuple[float, int, float, bool]] = []
    for number, rtt in enumerate(rtts):
        now += rtt.idle * TICK
        while True:
            while answers and answers[0][0] <= now:
                when, _, left_at, left = heapq.heappop(answers)
                if left:
                    pacer.on_accept(when, sent_at=left_at)
                else:
                    pacer.on_not_sent(0.0)
            ready = pacer.ready_at(now)
            assert ready >= now
            if ready == now:
                break
            news = answers[0][0] if answers else math.inf
            assert min(ready, news) < math.inf, "nothing on the wire, and nothing may leave ever again"
            now = min(next_tick(ready), news)
        pacer.on_send(now)
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


@settings(max_examples=300, deadline=None)
@given(limit=WINDOWS, rtts=st.lists(TRIPS, max_size=40))
def test_the_service_never_counts_more_than_the_limit(limit: RateLimit, rtts: list[Trip]) -> None:
    traffic = run(limit, rtts)
    assert len(traffic.sent) == len(rtts)
    assert most_in_any(limit.per, traffic.counted) <= limit.count


@settings(max_examples=200, deadline=None)
@given(limit=WINDOWS, rtts=st.lists(TRIPS, max_size=40), data=st.data())
def test_requests_that_never_left_do_not_loosen_the_limit(
    limit: RateLimit, rtts: list[Trip], data: st.DataObject
) -> None:
    rtts = [attrs.evolve(rtt, leaves=data.draw(st.booleans())) for rtt in rtts]
    assert most_in_any(limit.per, run(limit, rtts).counted) <= limit.count


@settings(max_examples=300, deadline=None)
@given(limit=LIMITS, rtts=st.lists(TRIPS, max_size=40))
def test_no_more_than_the_burst_and_what_flowed_in_since_ever_leave(
    limit: RateLimit, rtts: list[Trip]
) -> None:
    sent = run(limit, rtts).sent
    burst = limit.count if limit.burst is None else limit.burst
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            flowed = (sent[last] - start) * limit.count / limit.per
            assert last - first + 1 <= burst + flowed + 1e-6


@settings(max_examples=200, deadline=None)
@given(
    limit=LIMITS.filter(lambda limit: limit.burst is not None),
    ticks=st.integers(0, 6000),
    counted=st.floats(0, 1),
    idle=st.lists(st.sampled_from([0, 0, 0, 1, 100, 1024]), max_size=40),
)
def test_on_even_trips_a_burst_that_was_told_keeps_the_limit_too(
    limit: RateLimit, ticks: int, counted: float, idle: list[int]
) -> None:
    traffic = run(limit, [Trip(each, ticks, counted) for each in idle])
    assert most_in_any(limit.per - 1e-6, traffic.counted) <= limit.count


@settings(max_examples=100, deadline=None)
@given(limit=LIMITS, number=st.integers(1, 60))
def test_with_prompt_answers_no_time_is_wasted(limit: RateLimit, number: int) -> None:
    sent = run(limit, [Trip(0, 0, 0.0)] * number).sent
    assert sent[-1] <= max(0, number - 1) * (limit.per / limit.count + TICK)
