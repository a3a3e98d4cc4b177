"""A configured limit and creates that wait for the journal: they depart later, and several at once."""

from __future__ import annotations

import heapq
import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruxa_async import RateLimit
from ruxa_async._engine.rate_limits.known_limit import KnownLimit

BURSTS = st.integers(2, 8).flatmap(
    lambda burst: st.builds(
        RateLimit, st.integers(burst, 12), st.sampled_from([0.5, 1.0, 10.0]), burst=st.just(burst)
    )
)
#: seconds for which one create waits for the journal, and then for its response
WAITS = st.tuples(st.sampled_from([0.0, 0.001, 0.1, 0.5, 2.0]), st.sampled_from([0.0, 0.05, 1.0, 20.0]))


@attrs.define
class Service:
    """What the service counts: a full bucket, and the requests of the last period."""

    limit: RateLimit
    departures: list[float] = attrs.field(factory=list)
    tokens: float = math.inf
    rejected: int = 0

    def on_request(self, now: float) -> None:
        limit = self.limit
        assert limit.burst is not None
        since = now - self.departures[-1] if self.departures else 0.0
        self.tokens = min(limit.burst, self.tokens + since * limit.count / limit.per)
        self.departures.append(now)
        counted = sum(each > now - limit.per + 1e-6 for each in self.departures)
        self.rejected += self.tokens < 1 - 1e-6 or counted > limit.count
        self.tokens -= 1


def departures(limit: RateLimit, waits: list[tuple[float, float]]) -> Service:
    """Send each create as early as *limit* allows, let it wait for the journal, then for its response."""
    known, service, now = KnownLimit(limit), Service(limit), 0.0
    held: list[float] = []
    answers: list[tuple[float, float]] = []
    todo = list(reversed(waits))
    waiting: dict[float, list[tuple[float, float]]] = {}
    while todo or held or answers:
        if todo and known.ready_at(now) <= now:
            wait, rtt = todo.pop()
            known.on_send(now)
            known.hold_back()
            heapq.heappush(held, now + wait)
            waiting.setdefault(now + wait, []).append((now, rtt))
            continue
        ready = max(known.ready_at(now), now + 1e-6) if todo else math.inf
        now = min([ready, *held[:1], *(each for each, _ in answers[:1])])
        while held and held[0] <= now:
            sent_at, rtt = waiting[heapq.heappop(held)].pop()
            known.on_departure(now)
            service.on_request(now)
            heapq.heappush(answers, (now + rtt, sent_at))
        while answers and answers[0][0] <= now:
            _, sent_at = heapq.heappop(answers)
            known.on_accept(now, sent_at=sent_at)
    return service


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(limit=BURSTS, waits=st.lists(WAITS, max_size=40))
def test_the_service_rejects_nothing_however_long_creates_wait(
    limit: RateLimit, waits: list[tuple[float, float]]
) -> None:
    service = departures(limit, waits)
    assert len(service.departures) == len(waits)
    assert service.rejected == 0


@pytest.mark.parametrize("wait", [0.0, 0.005, 0.1])
def test_a_place_in_the_window_is_taken_for_the_wait_longer_and_no_more(wait: float) -> None:
    service = departures(RateLimit(50, 1.0, burst=10), [(wait, 0.05)] * 510)
    assert service.departures[-1] <= 10 * (1 + wait) + 0.2
    assert service.rejected == 0


def test_sixteen_creates_that_become_durable_together_depart_within_the_limit() -> None:
    known, now = KnownLimit(RateLimit(50, 1.0, burst=10)), 0.0
    for _ in range(10):
        known.on_send(now)
        known.hold_back()
    assert known.ready_at(60.0) > 60.0  # the bucket of the service is full, and all of it is spoken for
    for _ in range(10):
        known.on_departure(60.0)
    assert known.ready_at(60.0) == pytest.approx(60.02)


def test_an_aborted_create_that_was_held_back_holds_nothing_back_afterwards() -> None:
    known = KnownLimit(RateLimit(50, 1.0, burst=2))
    for now in (0.0, 10.0, 20.0):
        known.on_send(now)
        known.hold_back()
        known.on_departure(now)
        known.on_no_response(now)
    sent = 0
    while known.ready_at(60.0) <= 60.0:
        known.on_send(60.0)
        sent += 1
    assert sent == 2


def test_a_limit_that_takes_over_requests_counts_them_from_when_they_were_sent() -> None:
    known = KnownLimit(RateLimit(2, 10.0, burst=2))
    known.take_over(2)
    known.on_departure(0.0)  # of one that the limit before held back: it is counted already
    known.on_accept(1.0, sent_at=0.5)
    known.take_over(-1)
    assert known.ready_at(1.0) == 1.0
    known.on_send(1.0)
    assert known.ready_at(1.0) == 10.5
