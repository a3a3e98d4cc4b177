"""When the next request of a scope may leave: limits that are known, and refusals that say so."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import RateLimit
from ruxa_async._engine.rate_limits.discovery import Discovery
from ruxa_async._engine.rate_limits.limiter import Gate

#: Made-up times are whole numbers of ticks, a power of two, so that sums of them are exact.
TICK = 1 / 1024


def next_tick(when: float) -> float:
    return when if when == math.inf else math.ceil(when / TICK) * TICK


# ---- refusals


LIMITS = st.integers(1, 6).flatmap(
    lambda count: st.builds(
        RateLimit,
        st.just(count),
        st.sampled_from([1 / 8, 0.5, 1.0, 2.0, 10.0]),
        st.one_of(st.none(), st.integers(1, count)),
    )
)


def told() -> Gate:
    """A gate with a limit that was told and that is never reached here, so that only what the service says counts."""
    return Gate(RateLimit(1_000_000_000, 1.0, burst=1_000_000))


def refused_before(*, at: float = -1.0) -> Gate:
    """Such a gate after a first refusal, which may be the fault of the way there and costs no pause."""
    gate = told()
    assert refused(gate, at) == 0.0
    assert gate.ready_at(at) == pytest.approx(at, abs=1e-6)
    return gate


def refused(gate: Gate, now: float, retry_after: float | None = None) -> float:
    gate.sent(now)
    return refuse(gate, now, retry_after, sent_at=now)


def refuse(gate: Gate, now: float, retry_after: float | None = None, *, sent_at: float) -> float:
    """Have a request refused that left before; return for how many seconds nothing leaves now."""
    gate.refused(now, retry_after, sent_at=sent_at)
    return gate.closed_for(now) or round(min(gate.ready_at(now) - now, 30.0), 6)


def test_a_gate_without_a_limit_lets_few_go_unanswered_and_any_number_in_a_row() -> None:
    gate = Gate(None)
    for second in range(1000):
        assert gate.ready_at(second) == second
        gate.sent(second)
        gate.passed(second + 0.25, sent_at=second)
    for _ in range(1000):
        if gate.ready_at(1000.25) > 1000.25:
            break
        gate.sent(1000.25)
    else:
        pytest.fail("a first refusal would have refused them all")
    assert (gate.closed_for(1000.25), gate.shut_for(1000.25), gate.refusals) == (0.0, 0.0, 0)


def test_pauses_for_an_unknown_limit_are_the_discoverys_and_grow() -> None:
    """A silence is looked at again after half of its length so far."""
    gate, now, instants = Gate(None), 0.0, list[float]()
    for _ in range(6):
        instants.append(now)
        assert refused(gate, now) == pytest.approx(gate.ready_at(now) - now)
        assert gate.closed_for(now) == 0.0  # nobody said so
        now = gate.ready_at(now)
    assert instants == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.225, 0.3375])
    assert gate.refusals == 6


def test_after_a_refusal_the_answers_of_others_are_waited_for_but_not_for_ever() -> None:
    gate = Gate(None)
    gate.sent(0.0)
    gate.sent(0.0)
    assert refuse(gate, 1.0, None, sent_at=0.0) == 3.0
    assert gate.ready_at(1.0) == 4.0


def test_pauses_double_from_half_a_second_to_thirty() -> None:
    gate, now, pauses = refused_before(), 0.0, list[float]()
    for _ in range(9):
        pauses.append(refused(gate, now))
        assert gate.ready_at(now) == now + pauses[-1]
        now = gate.ready_at(now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert gate.refusals == 10


def test_an_acceptance_makes_the_next_pause_short_again() -> None:
    gate = refused_before()
    assert [refused(gate, now) for now in (0.0, 0.5, 1.5)] == [0.5, 1.0, 2.0]
    gate.sent(3.5)
    gate.passed(3.6, sent_at=3.5)
    assert [refused(gate, now) for now in (4.0, 4.1)] == [0.0, 0.5]


def test_an_acceptance_while_the_gate_is_closed_does_not_shorten_the_next_pause() -> None:
    gate = refused_before()
    gate.sent(0.0)
    assert refused(gate, 0.0) == 0.5
    gate.passed(0.25, sent_at=0.0)  # it left before the refusal
    assert gate.ready_at(0.25) == 0.5
    assert [refused(gate, now) for now in (0.5, 0.6)] == [0.0, 1.0]


def test_a_refusal_of_what_left_before_the_gate_closed_is_no_news() -> None:
    gate = refused_before()
    for _ in range(3):
        gate.sent(0.0)
    assert refuse(gate, 1.0, None, sent_at=0.0) == 0.5
    assert refuse(gate, 1.25, None, sent_at=0.0) == 0.25
    assert refuse(gate, 9.0, None, sent_at=0.0) == 0.0
    assert gate.refusals == 4
    assert refused(gate, 9.0) == 1.0


@pytest.mark.parametrize("retry_after", [0.001, 7.0, 1e9])
def test_a_told_time_is_kept_to_the_instant(retry_after: float) -> None:
    gate = told()
    assert refused(gate, 0.0, retry_after) == retry_after
    assert gate.ready_at(0.0) == retry_after
    assert gate.closed_for(retry_after) == 0.0
    assert gate.ready_at(retry_after + 1) == retry_after + 1


@pytest.mark.parametrize("retry_after", [7.0, 1e9])
def test_a_told_time_is_kept_to_the_instant_where_the_limit_is_unknown(retry_after: float) -> None:
    gate = Gate(None)
    assert refused(gate, 0.0, retry_after) == retry_after
    assert gate.ready_at(0.0) == retry_after


@pytest.mark.parametrize("retry_after", [None, 0.0])
def test_nothing_told_and_a_wait_of_zero_are_the_same(retry_after: float | None) -> None:
    gate = refused_before()
    assert [refused(gate, 0.0, retry_after), refused(gate, 0.5, retry_after)] == [0.5, 1.0]


def test_the_longest_of_several_told_times_holds() -> None:
    gate = Gate(None)
    for _ in range(3):
        gate.sent(0.0)
    assert refuse(gate, 1.0, 10.0, sent_at=0.0) == 10.0
    assert refuse(gate, 2.0, 5.0, sent_at=0.0) == 9.0
    assert refuse(gate, 3.0, 20.0, sent_at=0.0) == 20.0
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
    gate = told()
    assert refused(gate, 0.0, 50.0) == 50.0
    assert refused(gate, 50.0) == 0.5


def test_a_gate_with_a_longest_wait_waits_no_longer() -> None:
    gate = Gate(None, longest=600.0)
    assert refused(gate, 10.0, 1e9) == 600.0
    assert gate.ready_at(10.0) == 610.0


def test_after_a_refusal_one_goes_at_a_time_and_one_more_for_each_that_passed() -> None:
    gate = refused_before()
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
            gate.passed(now, sent_at=now)
        now += 1
    assert widths == [1, 2, 4, 8]


def test_a_refusal_narrows_the_window_to_one_again() -> None:
    gate = refused_before()
    refused(gate, 0.0)
    gate.sent(0.5)
    gate.passed(0.5, sent_at=0.5)
    gate.sent(1.0)
    refused(gate, 1.0)
    refused(gate, 1.0)
    assert gate.ready_at(1.5) == math.inf  # the other one is still away
    gate.lost(2.0)
    assert gate.ready_at(2.0) == 2.0


def test_a_lost_request_teaches_nothing() -> None:
    gate = refused_before()
    refused(gate, 0.0)
    gate.sent(0.5)
    assert gate.ready_at(0.5) == math.inf
    gate.lost(5.0)
    assert gate.ready_at(5.0) == 5.0
    assert gate.shut_for(5.0) == 6.0
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
    gate.passed(now, sent_at=now)
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
    gate.passed(41.0, sent_at=40.0)
    assert gate.shut_for(50.0) == 0.0
    refused(gate, 60.0)
    assert gate.shut_for(61.0) == 1.0


def test_a_gate_keeps_a_known_limit_too() -> None:
    gate = Gate(RateLimit(2, 10.0))
    gate.sent(0.0)
    gate.sent(0.0)
    assert gate.ready_at(0.0) == math.inf
    gate.passed(1.0, sent_at=0.0)
    gate.lost(2.0)
    assert gate.ready_at(2.0) == 11.0
    gate.sent(11.0)
    assert refuse(gate, 11.0, 3.0, sent_at=11.0) == 3.0
    assert gate.ready_at(11.0) == 16.0  # the told time is 14, but then there is no token yet
    gate.sent(16.0)
    gate.unsent(16.0)
    assert gate.ready_at(16.0) == 16.5  # its place and its token are back


# ---- what is known of the limit


def test_the_rate_that_was_told_is_the_rate() -> None:
    assert Gate(RateLimit(20, 10.0)).rate == 2.0


def test_a_rate_that_nobody_told_is_none_until_it_is_found() -> None:
    gate, now, free = Gate(None), 0.0, 0.0
    assert gate.rate is None
    for _ in range(200):  # at most one request in half a second is let through
        now = max(now, gate.ready_at(now))
        gate.sent(now)
        if now >= free:
            free = now + 0.5
            gate.passed(now, sent_at=now)
        else:
            gate.refused(now, None, sent_at=now)
    assert gate.rate == pytest.approx(2.0, rel=0.05)


# ---- what two gates have to do with each other


def test_a_gate_closes_as_long_as_another_was_told_and_opens_again() -> None:
    one, two = Gate(None), Gate(None)
    refused(one, 0.0, 9.0)
    two.close_as(one, 0.0)
    assert (two.ready_at(0.0), two.closed_for(1.0)) == (9.0, 8.0)
    assert (one.refuses(0.0), two.refuses(0.0)) == (True, False)
    two.reopen()
    assert (two.ready_at(0.0), two.closed_for(1.0)) == (0.0, 0.0)


def test_a_gate_waits_a_minute_at_most_for_what_another_was_told() -> None:
    for longest in (math.inf, 600.0):
        one, two = Gate(None), Gate(None, longest=longest)
        refused(one, 10.0, 86_400.0)
        two.close_as(one, 10.0)
        assert two.ready_at(10.0) == 70.0


def test_what_a_gate_was_told_itself_outlasts_its_reopening() -> None:
    one, two = Gate(None), Gate(None)
    refused(one, 0.0, 9.0)
    refused(two, 0.0, 5.0)
    two.close_as(one, 0.0)
    two.reopen()
    assert two.ready_at(0.0) == 5.0


def test_a_closing_is_not_handed_back_and_forth() -> None:
    one, two = Gate(None), Gate(None)
    refused(one, 0.0, 9.0)
    two.close_as(one, 0.0)
    one.close_as(two, 0.0)
    assert two.closed_for(0.0) == one.closed_for(0.0) == 9.0
    one.reopen()
    assert one.ready_at(0.0) == 9.0


def test_the_discovery_before_waits_for_no_answer_that_the_next_one_gets() -> None:
    """Else it would wait for that for nothing."""
    shared, fresh = Discovery(), Discovery()
    creates, queries = Gate(None, shared), Gate(None, shared)
    creates.sent(0.0)
    queries.sent(0.0)
    creates.refused(1.0, None, sent_at=0.0)
    assert creates.ready_at(1.0) == 4.0
    queries.use(fresh)
    assert creates.ready_at(1.0) == 1.0
    for _ in range(100):
        if queries.ready_at(1.0) > 1.0:
            break
        queries.sent(1.0)
    else:
        pytest.fail("the new one does not know of any on the wire")
    queries.passed(1.0, sent_at=0.0)
    assert queries.ready_at(1.0) == 1.0


class GateMachine(RuleBasedStateMachine):
    """Any traffic: nothing leaves before its time, and something always can."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wire: list[float] = []
        self.told_until = -math.inf
        self.narrow = False
        self.shut_since = math.inf
        self.refusals = 0

    @initialize(limit=st.one_of(st.none(), LIMITS), longest=st.sampled_from([2.0, 600.0, math.inf]))
    def open(self, limit: RateLimit | None, longest: float) -> None:
        self.longest = longest
        self.known = limit is not None
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
            assert not (self.narrow and self.wire and self.known)
            self.gate.sent(self.now)
            self.wire.append(self.now)

    def returned(self, data: st.DataObject) -> float:
        return self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def passed(self, data: st.DataObject) -> None:
        sent_at = self.returned(data)
        self.gate.passed(self.now, sent_at=sent_at)
        self.narrow, self.shut_since = False, math.inf
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
        self.narrow, self.shut_since = True, min(self.shut_since, self.now)
        assert self.gate.closed_for(self.now) > 0

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), hint=st.one_of(st.none(), st.sampled_from([0.0, 0.25, 3.0, 1000.0])))
    def refused(self, data: st.DataObject, hint: float | None) -> None:
        sent_at = self.returned(data)
        closed = refuse(self.gate, self.now, hint, sent_at=sent_at)
        self.narrow = self.narrow or sent_at >= self.shut_since  # the first may be the fault of the way there
        self.shut_since = min(self.shut_since, self.now)
        self.refusals += 1
        if hint:
            self.told_until = max(self.told_until, self.now + min(hint, self.longest))
        if hint:
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
            assert ready - self.now <= self.longest_pause()
            self.now = ready
            assert self.gate.ready_at(self.now) == self.now
            self.gate.sent(self.now)
            self.gate.passed(self.now, sent_at=self.now)

    def longest_pause(self) -> float:
        """A told limit pauses for 30 s at most, or for a trip and a token, of 10 s each; one that is looked for may be as slow as one request in an hour."""
        return (30.0 if self.known else 4000.0) + TICK


GateMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGateUnderAnyTraffic: Any = GateMachine.TestCase


def test_a_configured_rate_without_a_burst_starts_with_four_at_once_and_goes_on_at_the_rate() -> None:
    """What the service rejects of a burst is what is in flight, so a burst is tried with few, and more for each response."""
    gate = Gate(RateLimit(20, 1.0))
    for _ in range(4):
        assert gate.ready_at(0.0) == 0.0
        gate.sent(0.0)
    for left in (0.05, 0.1, 0.15):
        assert gate.ready_at(0.0) == pytest.approx(left)
        assert gate.opens_at(0.0) == 0.0
        gate.sent(left)
    gate = Gate(RateLimit(20, 1.0))
    for _ in range(4):
        gate.sent(0.0)
    gate.passed(0.1, sent_at=0.0)
    for _ in range(2):
        assert gate.ready_at(0.1) == 0.1
        gate.sent(0.1)
    assert gate.ready_at(0.1) == pytest.approx(0.15)
    gate.refused(0.2, None, sent_at=0.1)
    gate.refused(0.2, None, sent_at=0.1)
    gate.refused(0.3, None, sent_at=0.25)
    assert (
        gate.ready_at(1.0) == gate.opens_at(1.0) == math.inf
    )  # rejected twice in a row: one at a time from now on
    told = Gate(RateLimit(20, 1.0, burst=20))
    for _ in range(20):
        assert told.ready_at(0.0) == 0.0
        told.sent(0.0)
