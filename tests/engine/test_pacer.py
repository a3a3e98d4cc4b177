"""A limit that was told is kept: the service never counts more than it allows, and no time is wasted."""

from __future__ import annotations

import heapq
import math

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import RateLimit
from ruxa_async._engine.pacer import Pacer

#: Made-up times are whole numbers of ticks, a power of two, so that sums of them are exact.
TICK = 1 / 1024


def next_tick(when: float) -> float:
    return when if when == math.inf else math.ceil(when / TICK) * TICK


def sent_at_once(pacer: Pacer, now: float) -> int:
    """Send until the pacer says no; return how many that were."""
    count = 0
    while pacer.ready_at(now) <= now:
        pacer.sent(now)
        count += 1
    return count


def test_a_fresh_pacer_lets_the_whole_count_go_and_waits_for_answers() -> None:
    pacer = Pacer(RateLimit(20, 10.0))
    assert pacer.ready_at(5.0) == 5.0
    assert sent_at_once(pacer, 5.0) == 20
    assert pacer.ready_at(5.0) == math.inf
    assert pacer.ready_at(1000.0) == math.inf


def test_a_place_is_free_again_one_period_after_its_answer() -> None:
    pacer = Pacer(RateLimit(2, 10.0))
    assert sent_at_once(pacer, 0.0) == 2
    pacer.answered(1.0)
    assert pacer.ready_at(1.0) == 11.0
    pacer.answered(4.0)
    assert pacer.ready_at(4.0) == 11.0
    assert sent_at_once(pacer, 11.0) == 1
    assert pacer.ready_at(11.0) == 14.0


def test_a_place_on_the_wire_is_worth_as_much_as_an_answer() -> None:
    pacer = Pacer(RateLimit(3, 10.0))
    assert sent_at_once(pacer, 0.0) == 3
    pacer.answered(1.0)
    assert sent_at_once(pacer, 11.0) == 1
    assert pacer.ready_at(11.0) == math.inf
    pacer.answered(12.0)
    assert pacer.ready_at(12.0) == 22.0


def test_80_creates_at_20_in_10_seconds_leave_over_30_seconds() -> None:
    pacer, now, instants = Pacer(RateLimit(20, 10.0)), 0.0, list[float]()
    while len(instants) < 80:
        now = pacer.ready_at(now)
        pacer.sent(now)
        pacer.answered(now)
        instants.append(now)
    assert instants == [0.0] * 20 + [10.0] * 20 + [20.0] * 20 + [30.0] * 20


def test_a_burst_of_one_spaces_requests_evenly() -> None:
    pacer, now, instants = Pacer(RateLimit(20, 10.0, burst=1)), 0.0, list[float]()
    while len(instants) < 9:
        now = pacer.ready_at(now)
        pacer.sent(now)
        pacer.answered(now)
        instants.append(now)
    assert instants == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_a_burst_refills_with_the_rate_and_no_further() -> None:
    pacer = Pacer(RateLimit(8, 8.0, burst=2))
    for now, leave in ((0.0, 2), (0.5, 0), (1.0, 1), (2.5, 1), (3.0, 1), (7.0, 2)):
        assert sent_at_once(pacer, now) == leave, now
        for _ in range(leave):
            pacer.answered(now)
    assert pacer.ready_at(7.5) == 8.0


def test_the_count_holds_where_the_burst_would_let_more_go() -> None:
    pacer = Pacer(RateLimit(2, 4.0, burst=1))
    for now in (0.0, 2.0):
        assert sent_at_once(pacer, now) == 1
        pacer.answered(now + 1.5)
    assert pacer.ready_at(4.0) == 5.5  # the bucket has one, the window not


def test_a_request_that_did_not_leave_gives_its_place_back() -> None:
    pacer = Pacer(RateLimit(1, 60.0))
    pacer.sent(0.0)
    assert pacer.ready_at(0.0) == math.inf
    pacer.unsent()
    assert pacer.ready_at(0.0) == 0.0
    assert sent_at_once(pacer, 1.0) == 1


def test_a_request_that_did_not_leave_keeps_its_token_of_a_burst() -> None:
    """It may have spilled over meanwhile, and then giving it back would let one too many go."""
    pacer = Pacer(RateLimit(10, 10.0, burst=2))
    pacer.sent(0.0)
    pacer.sent(1.0)
    pacer.unsent()
    assert sent_at_once(pacer, 1.0) == 1


def test_no_time_before_the_first_request_counts() -> None:
    pacer = Pacer(RateLimit(4, 4.0, burst=2))
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


def run(limit: RateLimit, trips: list[Trip]) -> Traffic:
    """Send every trip as early as the pacer lets it go; fails where it lets nothing go any more."""
    pacer, now, traffic = Pacer(limit), 0.0, Traffic()
    answers: list[tuple[float, int, bool]] = []
    for number, trip in enumerate(trips):
        now += trip.idle * TICK
        while True:
            while answers and answers[0][0] <= now:
                when, _, left = heapq.heappop(answers)
                if left:
                    pacer.answered(when)
                else:
                    pacer.unsent()
            ready = pacer.ready_at(now)
            assert ready >= now
            if ready == now:
                break
            news = answers[0][0] if answers else math.inf
            assert min(ready, news) < math.inf, "nothing on the wire, and nothing may leave ever again"
            now = min(next_tick(ready), news)
        pacer.sent(now)
        back = now + trip.ticks * TICK
        heapq.heappush(answers, (back, number, trip.leaves))
        if trip.leaves:
            traffic.sent.append(now)
            traffic.counted.append(min(now + trip.counted * (back - now), back))
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


@settings(max_examples=300, deadline=None)
@given(limit=LIMITS, trips=st.lists(TRIPS, max_size=40))
def test_the_service_never_counts_more_than_the_limit(limit: RateLimit, trips: list[Trip]) -> None:
    traffic = run(limit, trips)
    assert len(traffic.sent) == len(trips)
    assert most_in_any(limit.per, traffic.counted) <= limit.count


@settings(max_examples=200, deadline=None)
@given(limit=LIMITS, trips=st.lists(TRIPS, max_size=40), data=st.data())
def test_requests_that_never_left_do_not_loosen_the_limit(
    limit: RateLimit, trips: list[Trip], data: st.DataObject
) -> None:
    trips = [attrs.evolve(trip, leaves=data.draw(st.booleans())) for trip in trips]
    assert most_in_any(limit.per, run(limit, trips).counted) <= limit.count


@settings(max_examples=300, deadline=None)
@given(limit=LIMITS, trips=st.lists(TRIPS, max_size=40))
def test_no_more_than_the_burst_and_what_flowed_in_since_ever_leave(
    limit: RateLimit, trips: list[Trip]
) -> None:
    sent = run(limit, trips).sent
    burst = limit.count if limit.burst is None else limit.burst
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            flowed = (sent[last] - start) * limit.count / limit.per
            assert last - first + 1 <= burst + flowed + 1e-6


@settings(max_examples=100, deadline=None)
@given(limit=LIMITS, number=st.integers(1, 60))
def test_with_prompt_answers_no_time_is_wasted(limit: RateLimit, number: int) -> None:
    sent = run(limit, [Trip(0, 0, 0.0)] * number).sent
    assert sent[-1] <= max(0, number - 1) * (limit.per / limit.count + TICK)
