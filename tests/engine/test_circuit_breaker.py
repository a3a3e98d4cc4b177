"""The circuit breaker: when the next create may be sent while the service is failing."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async._engine.circuit_breaker import (
    CHECK_INTERVAL,
    FIRST_WAIT,
    LONGEST_WAIT,
    PROBE_TIMEOUT,
    RECOVERED,
    THRESHOLD,
    CircuitBreaker,
)

FREE = -math.inf


def opened(now: float = 10.0) -> CircuitBreaker:
    """Return a breaker that three creates opened at *now*, a second after they were sent."""
    breaker = CircuitBreaker()
    for create in "abc":
        breaker.on_send(create, now - 1)
    for create in "abc":
        breaker.on_unknown(create, now, sent_at=now - 1)
    return breaker


def probe(breaker: CircuitBreaker, *, good: bool = False) -> float:
    """Send a probe as soon as allowed and answer it 0.1 s later; return when it was sent."""
    at = breaker.ready_at()
    breaker.on_send(at, at)
    (breaker.on_good if good else breaker.on_unknown)(at, at + 0.1, sent_at=at)
    return at


def test_clear_replies_delay_no_create() -> None:
    breaker = CircuitBreaker()
    breaker.on_send("a", 1.0)
    breaker.on_good("a", 2.0, sent_at=1.0)
    assert breaker.ready_at() == FREE
    assert (breaker.is_open, breaker.open_for(9.0), breaker.check_at) == (False, 0.0, math.inf)


def test_after_an_unknown_outcome_one_create_at_a_time_is_sent() -> None:
    breaker = CircuitBreaker()
    breaker.on_send("a", 0.0)
    breaker.on_unknown("a", 1.0, sent_at=0.0)
    assert (breaker.ready_at(), breaker.is_open) == (FREE, False)
    breaker.on_send("b", 1.0)
    assert breaker.ready_at() == 1.0 + PROBE_TIMEOUT
    breaker.on_unknown("b", 2.0, sent_at=1.0)
    assert (breaker.ready_at(), breaker.is_open) == (FREE, False)


def test_the_third_unknown_outcome_in_a_row_opens_the_circuit() -> None:
    breaker = opened(10.0)
    assert (breaker.is_open, breaker.openings, breaker.open_for(12.0)) == (True, 1, 2.0)
    assert breaker.ready_at() == 10.0 + FIRST_WAIT


def test_creates_on_the_wire_at_the_opening_do_not_lengthen_the_wait() -> None:
    breaker = opened(10.0)
    breaker.on_unknown("d", 10.1, sent_at=9.9)
    assert breaker.ready_at() == 10.0 + FIRST_WAIT


def test_each_failed_probe_doubles_the_wait_up_to_a_minute() -> None:
    breaker = opened(10.0)
    left = [probe(breaker) for _ in range(9)]
    gaps = [round(later - earlier - 0.1, 6) for earlier, later in itertools.pairwise(left)]
    assert left[0] == 11.0
    assert gaps == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert gaps[-1] == LONGEST_WAIT


def test_an_unanswered_probe_delays_the_next_one_by_half_a_minute() -> None:
    breaker = opened(10.0)
    breaker.on_send("p", 11.0)
    assert breaker.ready_at() == 11.0 + PROBE_TIMEOUT
    breaker.on_send("q", 41.0)
    breaker.on_unknown("p", 50.0, sent_at=11.0)  # no longer the last probe
    assert breaker.ready_at() == 41.0 + PROBE_TIMEOUT


def test_each_clear_reply_allows_one_more_create_on_the_wire() -> None:
    breaker = opened(10.0)
    probe(breaker, good=True)
    assert not breaker.is_open
    assert breaker.seconds_open == breaker.last_outage == pytest.approx(1.1)
    for number in range(2):
        assert breaker.ready_at() == FREE
        breaker.on_send(number, 12.0)
    assert breaker.ready_at() == 12.0 + PROBE_TIMEOUT
    breaker.on_good(0, 12.1, sent_at=12.0)
    assert breaker.ready_at() == FREE


def test_after_32_clear_replies_the_circuit_is_closed() -> None:
    breaker = opened(10.0)
    probe(breaker, good=True)
    for number in range(RECOVERED):
        breaker.on_good(number, 13.0, sent_at=12.0)
    for number in range(1000):
        breaker.on_send(number, 14.0)
    assert breaker.ready_at() == FREE


def test_a_new_outage_during_recovery_keeps_the_longer_waits() -> None:
    breaker = opened(10.0)
    probe(breaker)
    probe(breaker, good=True)
    for create in range(THRESHOLD):
        breaker.on_unknown(create, 20.0, sent_at=19.0)
    assert (breaker.openings, breaker.ready_at()) == (2, 20.0 + 4 * FIRST_WAIT)


def test_a_late_clear_reply_from_before_the_outage_does_not_close_it() -> None:
    breaker = opened(10.0)
    breaker.on_good("old", 10.5, sent_at=5.0)
    assert breaker.is_open


def test_a_callback_that_proves_the_newest_unknown_create_closes_the_circuit() -> None:
    breaker = opened(10.0)
    breaker.on_proven(11.0, sent_at=8.0)
    assert breaker.open_for(11.0) == 1.0
    breaker.on_proven(12.0, sent_at=9.0)
    assert breaker.open_for(12.0) == 0.0
    breaker = CircuitBreaker()
    breaker.on_proven(12.0, sent_at=9.0)
    assert breaker.ready_at() == FREE


def test_a_late_unknown_outcome_of_an_old_create_is_ignored() -> None:
    breaker = CircuitBreaker()
    breaker.on_good("new", 100.0, sent_at=99.0)
    for create in "abc":
        breaker.on_unknown(create, 120.0, sent_at=0.0)
    assert (breaker.ready_at(), breaker.is_open) == (FREE, False)


def test_a_create_that_was_not_sent_is_no_probe() -> None:
    breaker = opened(10.0)
    breaker.on_send("p", 11.0)
    breaker.on_not_sent("other", 11.5)
    assert breaker.ready_at() == 11.0 + PROBE_TIMEOUT
    breaker.on_not_sent("p", 12.0)
    assert breaker.ready_at() == 12.0


# ---- queries


def test_one_query_a_second_is_sent_while_queries_fail() -> None:
    breaker = opened(10.0)
    assert breaker.check_at == 10.0
    breaker.on_query_send(10.0)
    assert breaker.check_at == 10.0 + CHECK_INTERVAL
    breaker.on_query_failed(10.2)
    breaker.on_query_failed(10.4)
    assert breaker.check_at == 10.2 + CHECK_INTERVAL


def test_queries_are_ignored_while_the_circuit_is_closed() -> None:
    breaker = CircuitBreaker()
    breaker.on_query_send(1.0)
    breaker.on_query_failed(1.0)
    breaker.on_query_good(2.0, sent_at=1.0)
    assert (breaker.check_at, breaker.ready_at()) == (math.inf, FREE)


def test_queries_that_never_failed_advance_no_probe_and_need_no_checks() -> None:
    breaker = opened(10.0)
    breaker.on_query_good(10.1, sent_at=9.0)  # sent before the opening
    assert breaker.check_at == 10.0
    breaker.on_query_good(10.3, sent_at=10.2)
    assert (breaker.check_at, breaker.ready_at()) == (math.inf, 10.0 + FIRST_WAIT)


def test_a_successful_query_after_failed_ones_advances_the_next_probe() -> None:
    breaker = opened(10.0)
    for _ in range(5):
        probe(breaker)
    waits_until = breaker.ready_at()
    breaker.on_query_failed(50.0)
    breaker.on_query_good(52.0, sent_at=51.0)
    assert breaker.ready_at() == 52.0 < waits_until
    assert breaker.check_at == math.inf


def test_a_query_does_not_delay_a_probe() -> None:
    breaker = opened(10.0)
    breaker.on_query_failed(10.1)
    breaker.on_query_good(11.5, sent_at=11.4)
    assert breaker.ready_at() == 10.0 + FIRST_WAIT


def test_each_failed_early_probe_makes_the_next_early_probe_wait_longer() -> None:
    breaker = opened(10.0)
    for _ in range(8):
        probe(breaker)
    now, gaps = 1000.0, []
    last = probe(breaker)
    for _ in range(8):
        breaker.on_query_failed(now := last + 0.2)
        breaker.on_query_good(now, sent_at=now)
        at = probe(breaker)
        gaps.append(round(at - last, 6))
        last = at
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


# ---- random sequences


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "good", "unknown", "not_sent", "query_good", "query_failed", "wait"]),
            st.floats(0.0, 100.0),
        ),
        max_size=200,
    )
)
def test_no_wait_is_longer_than_a_minute(steps: list[tuple[str, float]]) -> None:
    breaker, now, sent = CircuitBreaker(), 0.0, dict[int, float]()
    for number, (step, seconds) in enumerate(steps):
        now += seconds
        if step == "send" and breaker.ready_at() <= now:
            breaker.on_send(number, now)
            sent[number] = now
        elif step in ("good", "unknown") and sent:
            create, sent_at = sent.popitem()
            (breaker.on_good if step == "good" else breaker.on_unknown)(create, now, sent_at=sent_at)
        elif step == "not_sent" and sent:
            breaker.on_not_sent(sent.popitem()[0], now)
        elif step == "query_good":
            breaker.on_query_good(now, sent_at=now)
        elif step == "query_failed":
            breaker.on_query_send(now)
            breaker.on_query_failed(now)
        assert breaker.ready_at() <= now + LONGEST_WAIT
        assert breaker.check_at == math.inf or breaker.check_at <= now + CHECK_INTERVAL
        assert breaker.open_for(now) >= 0
