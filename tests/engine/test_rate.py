"""When the next request of a scope may leave: limits that are known, and refusals that say so."""

from __future__ import annotations

import heapq
import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import RateLimit
from ruxa_async._engine.rate import Gate, Pacer

#: Made-up times are whole numbers of ticks, a power of two, so that sums of them are exact.
TICK = 1 / 1024


def next_tick(when: float) -> float:
    return when if when == math.inf else math.ceil(when / TICK) * TICK


# ---- a limit that is known


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


# ---- refusals


def refused(gate: Gate, now: float, retry_after: float | None = None) -> float:
    gate.sent(now)
    return gate.refused(now, retry_after, sent_at=now)


def test_a_gate_without_a_limit_lets_everything_go_until_it_is_refused() -> None:
    gate = Gate(None)
    for _ in range(1000):
        assert gate.ready_at(3.0) == 3.0
        gate.sent(3.0)
    assert (gate.closed_for(3.0), gate.shut_for(3.0), gate.refusals) == (0.0, 0.0, 0)


def test_pauses_double_from_half_a_second_to_thirty() -> None:
    gate, now, pauses = Gate(None), 0.0, list[float]()
    for _ in range(9):
        pauses.append(refused(gate, now))
        assert gate.ready_at(now) == now + pauses[-1]
        now = gate.ready_at(now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert gate.refusals == 9


def test_an_acceptance_makes_the_next_pause_short_again() -> None:
    gate = Gate(None)
    assert [refused(gate, now) for now in (0.0, 0.5, 1.5)] == [0.5, 1.0, 2.0]
    gate.sent(3.5)
    gate.passed(3.6)
    assert refused(gate, 4.0) == 0.5


def test_an_acceptance_while_the_gate_is_closed_does_not_shorten_the_next_pause() -> None:
    gate = Gate(None)
    gate.sent(0.0)
    assert refused(gate, 0.0) == 0.5
    gate.passed(0.25)  # it left before the refusal
    assert gate.ready_at(0.25) == 0.5
    assert refused(gate, 0.5) == 1.0


def test_a_refusal_of_what_left_before_the_gate_closed_is_no_news() -> None:
    gate = Gate(None)
    for _ in range(3):
        gate.sent(0.0)
    assert gate.refused(1.0, None, sent_at=0.0) == 0.5
    assert gate.refused(1.25, None, sent_at=0.0) == 0.25
    assert gate.refused(9.0, None, sent_at=0.0) == 0.0
    assert gate.refusals == 3
    assert refused(gate, 9.0) == 1.0


@pytest.mark.parametrize("retry_after", [0.001, 7.0, 1e9])
def test_a_told_time_is_kept_to_the_instant(retry_after: float) -> None:
    gate = Gate(None)
    assert refused(gate, 0.0, retry_after) == retry_after
    assert gate.ready_at(0.0) == retry_after
    assert gate.closed_for(retry_after) == 0.0
    assert gate.ready_at(retry_after + 1) == retry_after + 1


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_nothing_told_and_a_wait_of_zero_are_the_same(retry_after: float | None) -> None:
    gate = Gate(None)
    assert [refused(gate, 0.0, retry_after), refused(gate, 0.5, retry_after)] == [0.5, 1.0]


def test_the_longest_of_several_told_times_holds() -> None:
    gate = Gate(None)
    for _ in range(3):
        gate.sent(0.0)
    assert gate.refused(1.0, 10.0, sent_at=0.0) == 10.0
    assert gate.refused(2.0, 5.0, sent_at=0.0) == 9.0
    assert gate.refused(3.0, 20.0, sent_at=0.0) == 20.0
    assert gate.ready_at(3.0) == 23.0


def test_a_pause_of_our_own_never_shortens_a_told_time() -> None:
    gate = Gate(None)
    for _ in range(3):
        gate.sent(0.0)
    gate.refused(1.0, 100.0, sent_at=0.0)
    gate.refused(2.0, None, sent_at=0.0)
    gate.unsent(3.0)
    assert gate.ready_at(3.0) == 101.0


def test_a_told_time_does_not_make_the_next_pause_longer() -> None:
    gate = Gate(None)
    assert refused(gate, 0.0, 50.0) == 50.0
    assert refused(gate, 50.0) == 0.5


def test_a_gate_with_a_longest_wait_waits_no_longer() -> None:
    gate = Gate(None, longest=600.0)
    assert refused(gate, 10.0, 1e9) == 600.0
    assert gate.ready_at(10.0) == 610.0


def test_after_a_refusal_one_goes_at_a_time_and_one_more_for_each_that_passed() -> None:
    gate = Gate(None)
    refused(gate, 0.0)
    widths = []
    now = 0.5
    for _ in range(4):
        width = 0
        while gate.ready_at(now) == now:
            gate.sent(now)
            width += 1
        assert gate.ready_at(now) == math.inf
        widths.append(width)
        for _ in range(width):
            gate.passed(now)
        now += 1
    assert widths == [1, 2, 4, 8]


def test_a_refusal_narrows_the_window_to_one_again() -> None:
    gate = Gate(None)
    refused(gate, 0.0)
    gate.sent(0.5)
    gate.passed(0.5)
    gate.sent(1.0)
    gate.sent(1.0)
    gate.refused(1.0, None, sent_at=1.0)
    assert gate.ready_at(1.5) == math.inf  # the other one is still away
    gate.lost(2.0)
    assert gate.ready_at(2.0) == 2.0


def test_a_lost_request_teaches_nothing() -> None:
    gate = Gate(None)
    refused(gate, 0.0)
    gate.sent(0.5)
    assert gate.ready_at(0.5) == math.inf
    gate.lost(5.0)
    assert gate.ready_at(5.0) == 5.0
    assert gate.shut_for(5.0) == 5.0
    gate.sent(5.0)
    assert gate.ready_at(5.0) == math.inf


def test_an_unreachable_service_is_tried_after_growing_pauses() -> None:
    gate, now, waits = Gate(None), 0.0, list[float]()
    for _ in range(8):
        gate.sent(now)
        gate.unsent(now)
        waits.append(gate.ready_at(now) - now)
        now = gate.ready_at(now)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert gate.refusals == 0
    gate.sent(now)
    gate.passed(now)
    gate.sent(now)
    gate.unsent(now)
    assert gate.ready_at(now) == now + 0.5


def test_a_whole_pool_that_cannot_connect_makes_one_pause() -> None:
    gate = Gate(None)
    for _ in range(16):
        gate.sent(0.0)
    for _ in range(16):
        gate.unsent(10.0)
    assert gate.ready_at(10.0) == 10.5


def test_the_gate_is_shut_from_the_first_refusal_to_the_next_acceptance() -> None:
    gate = Gate(None)
    assert gate.shut_for(5.0) == 0.0
    refused(gate, 10.0)
    refused(gate, 10.5)
    assert gate.shut_for(40.0) == 30.0
    gate.sent(40.0)
    gate.passed(41.0)
    assert gate.shut_for(50.0) == 0.0
    refused(gate, 60.0)
    assert gate.shut_for(61.0) == 1.0


def test_a_gate_keeps_a_known_limit_too() -> None:
    gate = Gate(RateLimit(2, 10.0))
    gate.sent(0.0)
    gate.sent(0.0)
    assert gate.ready_at(0.0) == math.inf
    gate.passed(1.0)
    gate.lost(2.0)
    assert gate.ready_at(2.0) == 11.0
    gate.sent(11.0)
    assert gate.refused(11.0, 3.0, sent_at=11.0) == 3.0
    assert gate.ready_at(11.0) == 14.0  # the told time; the window would say 12
    gate.sent(14.0)
    gate.unsent(14.0)
    assert gate.ready_at(14.0) == 14.5  # its place and its token are back


class GateMachine(RuleBasedStateMachine):
    """Any traffic: nothing leaves before its time, and something always can."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wire: list[float] = []
        self.told_until = -math.inf
        self.narrow = False
        self.refusals = 0

    @initialize(limit=st.one_of(st.none(), LIMITS), longest=st.sampled_from([2.0, 600.0, math.inf]))
    def open(self, limit: RateLimit | None, longest: float) -> None:
        self.longest = longest
        self.gate = Gate(limit, longest=longest)

    @rule(ticks=st.one_of(st.integers(0, 200), st.integers(0, 60_000)))
    def wait(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule()
    def wait_until_ready(self) -> None:
        ready = self.gate.ready_at(self.now)
        if ready < math.inf:
            self.now = next_tick(ready)

    @rule()
    def send(self) -> None:
        if self.gate.ready_at(self.now) <= self.now:
            assert self.now >= self.told_until
            assert not (self.narrow and self.wire)
            self.gate.sent(self.now)
            self.wire.append(self.now)

    def returned(self, data: st.DataObject) -> float:
        return self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def passed(self, data: st.DataObject) -> None:
        self.returned(data)
        self.gate.passed(self.now)
        self.narrow = False
        assert self.gate.shut_for(self.now) == 0.0

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def lost(self, data: st.DataObject) -> None:
        self.returned(data)
        self.gate.lost(self.now)

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def unsent(self, data: st.DataObject) -> None:
        self.returned(data)
        self.gate.unsent(self.now)
        self.narrow = True
        assert self.gate.closed_for(self.now) > 0

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), hint=st.one_of(st.none(), st.sampled_from([0.0, 0.25, 3.0, 1000.0])))
    def refused(self, data: st.DataObject, hint: float | None) -> None:
        sent_at = self.returned(data)
        closed = self.gate.refused(self.now, hint, sent_at=sent_at)
        self.narrow = True
        self.refusals += 1
        if hint:
            self.told_until = max(self.told_until, self.now + min(hint, self.longest))
        assert closed == self.gate.closed_for(self.now)
        assert 0 <= closed <= max(30.0, self.told_until - self.now)

    @invariant()
    def nothing_leaves_before_the_told_time(self) -> None:
        assert self.gate.ready_at(self.now) >= max(self.now, self.told_until)

    @invariant()
    def something_can_leave_once_nothing_is_on_the_wire(self) -> None:
        if not self.wire:
            assert self.gate.ready_at(self.now) < math.inf

    @invariant()
    def refusals_are_counted(self) -> None:
        assert self.gate.refusals == self.refusals

    def teardown(self) -> None:
        """However it went, the next three requests leave within a bounded time."""
        if not hasattr(self, "gate"):
            return
        while self.wire:
            self.wire.pop()
            self.gate.lost(self.now)
        self.now = max(self.now, self.told_until)
        for _ in range(3):
            ready = next_tick(self.gate.ready_at(self.now))
            assert ready - self.now <= 30.0 + TICK
            self.now = ready
            assert self.gate.ready_at(self.now) == self.now
            self.gate.sent(self.now)
            self.gate.passed(self.now)


GateMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGateUnderAnyTraffic: Any = GateMachine.TestCase
