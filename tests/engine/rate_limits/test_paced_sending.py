"""A pace that sweeps around the estimated rate."""

from __future__ import annotations

import pytest

from ruxa_async._engine.rate_limits.in_flight import InFlight
from ruxa_async._engine.rate_limits.paced_sending import PacedSending


class Sender:
    """Sends as *phase* says, each request with a response 1 ms later."""

    def __init__(self, phase: PacedSending, in_flight: InFlight, now: float = 0.0) -> None:
        self.phase, self.in_flight, self.now = phase, in_flight, now

    def request(self, *, accepted: bool = True, retry_after: float = 0.0, blocked: float = 0.0) -> float:
        """Make a request, notice the response *blocked* seconds late, and return the pace at which it left."""
        self.now = max(self.now, self.phase.ready_at(self.now))
        sent_at, pace = self.now, self.phase.on_send(self.now)
        self.in_flight.on_send(sent_at, pace)
        self.now += 0.001 + blocked
        if accepted:
            self.in_flight.on_accept(self.now, sent_at)
            self.phase.on_accept(self.now, sent_at)
        else:
            self.in_flight.on_response(self.now, sent_at)
            self.phase.on_reject(self.now, sent_at, retry_after, pace)
            self.now += retry_after
        return pace


def paced(rate: float, *, weight: float = 50.0, width: float = 0.1, burst: float = 10.0) -> Sender:
    in_flight = InFlight()
    return Sender(PacedSending(in_flight, rate, 0.0, 0.0, weight=weight, width=width, burst=burst), in_flight)


def test_the_pace_rises_to_the_rate_stays_near_it_and_goes_beyond() -> None:
    sender = paced(10.0)
    paces = [sender.request() for _ in range(301)]
    assert paces[0] == pytest.approx(9.0)
    assert paces[50] == pytest.approx(10 * (1 - 0.1 / 8))
    assert paces[100] == pytest.approx(10.0)
    assert paces[200] == pytest.approx(11.0)
    assert paces[300] == pytest.approx(18.0)


def test_the_pace_is_no_more_than_twice_what_is_accepted() -> None:
    sender = paced(10.0, weight=2.0, width=0.5)
    paces = [sender.request() for _ in range(200)]
    assert max(paces[:12]) <= 20.0
    assert paces[-1] > 100.0


def test_a_rejection_is_followed_by_a_request_one_interval_later_and_then_growing_pauses() -> None:
    sender = paced(10.0)
    for accepted in (True, True, False):
        sender.request(accepted=accepted)
    rejected_at = sender.now - 0.001
    assert sender.phase.ready_at(sender.now) == pytest.approx(rejected_at + 0.1)
    for _ in range(20):
        sender.request(accepted=False)
    assert sender.phase.ready_at(sender.now) - sender.now > 1.0


def test_where_a_wait_was_named_one_request_is_in_flight_after_it() -> None:
    sender = paced(10.0)
    sender.request()
    sender.request(accepted=False, retry_after=2.0)
    sender.in_flight.on_send(sender.now, 0.0)
    assert sender.phase.ready_at(sender.now) == sender.now + 2.0


def test_what_was_accepted_between_two_rejections_is_averaged_into_the_rate() -> None:
    sender = paced(10.0, weight=100.0)
    for _ in range(60):
        sender.request()
    sender.request(accepted=False)
    sender.request()
    assert sender.phase.rate == pytest.approx(9.78, abs=0.01)


def test_a_rate_that_was_far_too_low_is_bisected_with_the_pace_of_the_rejection() -> None:
    sender = paced(1.0, weight=2.0, width=0.5)
    while sender.request() < 6.0:
        pass
    low = sender.phase.rate
    sender.request(accepted=False)
    sender.request()
    assert low < 2.0 < sender.phase.rate < 6.0


def test_a_rate_that_is_rejected_at_once_twice_is_lowered() -> None:
    sender = paced(100.0)
    for _ in range(2):
        sender.request(accepted=False)
        sender.request()
    assert sender.phase.rate < 92.0


def test_of_a_minimum_interval_the_paces_decide_and_waits_do_not() -> None:
    sender = paced(20.0, burst=1.0)
    for _ in range(80):
        sender.request()
    sender.request(accepted=False, retry_after=10.0)
    sender.request()
    assert sender.phase.rate == pytest.approx(20.0, rel=0.05)


def test_a_silence_that_the_rate_does_not_explain_changes_nothing_the_first_time() -> None:
    sender = paced(10.0)
    for _ in range(2):
        before = sender.phase.rate
        for _ in range(30):
            sender.request()
        for _ in range(12):
            sender.request(accepted=False)
        sender.request()
        changed = sender.phase.rate != before
    assert before == 10.0
    assert changed


def test_after_a_second_such_silence_the_pace_is_tested_widely_within_twenty_requests() -> None:
    sender = paced(10.0)
    for _ in range(2):
        for _ in range(30):
            sender.request()
        for _ in range(12):
            sender.request(accepted=False)
        sender.request()
    rate = sender.phase.rate
    paces = [sender.request() for _ in range(20)]
    assert paces[0] == pytest.approx(rate / 2)
    assert paces[16] == pytest.approx(rate)


@pytest.mark.parametrize("where", ["rejection", "pause", "acceptance"])
def test_time_in_which_the_event_loop_is_blocked_does_not_count(where: str) -> None:
    rates = []
    for blocked in (0.0, 50.0):
        sender = paced(10.0, weight=100.0)
        for _ in range(2):
            for _ in range(60):
                sender.request()
            sender.request(accepted=False, blocked=blocked * (where == "rejection"))
            sender.now += blocked * (where == "pause")
            sender.request(blocked=blocked * (where == "acceptance"))
        rates.append(sender.phase.rate)
    assert rates[1] == pytest.approx(rates[0], rel=0.02)


def test_a_late_request_is_made_up_for_by_one_unless_an_interval_counts() -> None:
    for burst, at_once in ((10.0, True), (1.0, False)):
        sender = paced(10.0, burst=burst)
        sender.now = 5.0
        sender.request()
        assert (sender.phase.ready_at(5.0) <= 5.0) is at_once


def test_one_request_is_sent_in_thirty_seconds_however_many_are_rejected() -> None:
    sender = paced(1e-6)
    for _ in range(50):
        before = sender.now
        sender.request(accepted=False)
        assert sender.now - before <= 62.0


def test_of_a_named_wait_only_the_time_until_the_bucket_is_full_counts() -> None:
    rates = []
    for wait in (1.0, 5.0):  # a bucket of 10 tokens is full after a second
        sender = paced(10.0, burst=10.0)
        for _ in range(60):
            sender.request()
        sender.request(accepted=False, retry_after=wait)
        sender.request()
        rates.append(sender.phase.rate)
    assert rates[0] == pytest.approx(rates[1], rel=0.01)
    assert rates[0] != 10.0
