"""A window of time: its requests are sent at once, and its end is waited for."""

from __future__ import annotations

from collections import deque

import pytest

from ruxa_async._engine.rate_limits.in_flight import InFlight
from ruxa_async._engine.rate_limits.paced_sending import PacedSending
from ruxa_async._engine.rate_limits.phase import Phase
from ruxa_async._engine.rate_limits.slow_start import SlowStart
from ruxa_async._engine.rate_limits.windowed_sending import WindowedSending


class Sender:
    """Sends one request after the other as the phase says, each with a response 1 ms later.

    At first 10 requests were accepted at 0, then none until 10.
    """

    def __init__(self, too_short: float = 9.9) -> None:
        self.in_flight = InFlight()
        self.now = 10.0
        self.phase: Phase = WindowedSending(
            self.in_flight,
            deque([0.0] * 10),
            count=10,
            period=10.0,
            too_short=too_short,
            now=10.0,
            sent_at=10.0,
            rejected_at=1.0,
            burst=9.0,
            slow_start=SlowStart,
        )

    def request(self, *, accepted: bool = True) -> float:
        """Make a request, and return when it left."""
        self.now = sent_at = max(self.now, self.phase.ready_at(self.now))
        self.in_flight.on_send(sent_at, self.phase.on_send(sent_at))
        self.now += 0.001
        if accepted:
            self.in_flight.on_accept(self.now, sent_at)
            self.phase = self.phase.on_accept(self.now, sent_at)
        else:
            self.in_flight.on_response(self.now, sent_at)
            self.phase = self.phase.on_reject(self.now, sent_at, 0.0, 0.0)
        return sent_at

    def group(self) -> None:
        """Use up the window after the silence; the request after that is rejected."""
        for _ in range(9):
            self.request()
        assert self.request(accepted=False) == pytest.approx(11.009, abs=0.01)


def test_a_group_is_sent_at_once_and_one_more_is_tried_a_tenth_of_the_window_later() -> None:
    sender = Sender()
    assert [sender.request() for _ in range(9)] == pytest.approx([10.0 + n / 1000 for n in range(9)])
    assert sender.request(accepted=False) == pytest.approx(11.008)
    assert sender.request() == pytest.approx(20.0)
    assert [sender.request() for _ in range(9)] == pytest.approx([20.001 + n / 1000 for n in range(9)])


def test_one_more_that_is_accepted_at_first_shows_a_bucket() -> None:
    sender = Sender()
    for _ in range(10):
        sender.request()
    assert isinstance(sender.phase, PacedSending)
    assert sender.phase.rate == 1.0


def test_one_more_that_is_accepted_later_shows_that_there_is_more_room() -> None:
    sender = Sender()
    sender.group()
    for _ in range(140):
        sender.request()
        if isinstance(sender.phase, SlowStart):
            break
    assert isinstance(sender.phase, SlowStart)


def test_as_many_as_were_accepted_are_in_flight_after_a_silence() -> None:
    sender = Sender()
    for _ in range(1):
        sender.in_flight.on_send(10.0, sender.phase.on_send(10.0))
    assert sender.phase.ready_at(10.0) > 10.0
    sender.in_flight.on_accept(10.1, 10.0)
    sender.phase.on_accept(10.1, 10.0)
    for _ in range(2):
        assert sender.phase.ready_at(10.1) == 10.1
        sender.in_flight.on_send(10.1, sender.phase.on_send(10.1))
    assert sender.phase.ready_at(10.1) > 10.1


def test_a_period_that_is_known_roughly_is_bisected_by_a_probe() -> None:
    sender = Sender(too_short=6.0)
    sender.group()
    assert sender.request() == pytest.approx(18.0)
    assert sender.phase.rate == pytest.approx(10 / 8.0)


def test_a_probe_that_comes_too_early_is_followed_by_one_at_the_end_and_then_growing_pauses() -> None:
    sender = Sender(too_short=6.0)
    sender.group()
    rejected = [sender.request(accepted=False) for _ in range(5)]
    assert rejected == pytest.approx([18.0, 20.0, 20.5, 21.0, 21.5], abs=0.01)
    sender.request()
    assert sender.phase.rate == pytest.approx(10 / 12.25, rel=0.001)


@pytest.mark.parametrize("until", [24.0, 45.0])
def test_a_silence_of_more_than_five_quarters_of_the_period_is_an_outage_the_first_time(until: float) -> None:
    sender = Sender()
    sender.group()
    while sender.now < until:
        sender.request(accepted=False)
    sender.request()
    assert sender.phase.rate == 1.0


def test_a_second_long_silence_in_a_row_is_the_period() -> None:
    sender = Sender()
    sender.group()
    for _ in range(2):
        end = sender.now + 25.0
        while sender.now < end:
            sender.request(accepted=False)
        for _ in range(10):
            sender.request()
    assert sender.phase.rate is not None
    assert sender.phase.rate < 0.5


def test_a_long_wait_after_a_rejection_lengthens_the_period_by_a_quarter_at_most() -> None:
    sender = Sender()
    sender.group()
    sender.request(accepted=False)
    sender.now = 90.0  # the wait that the service named
    sender.request()
    assert sender.phase.rate == pytest.approx(10 / 12.5, rel=0.001)


def test_an_outage_in_a_search_for_more_room_changes_nothing() -> None:
    sender = Sender()
    sender.group()
    window = sender.phase
    while not isinstance(sender.phase, SlowStart):
        sender.request()
    rate, end = window.rate, sender.now + 60.0
    while sender.now < end:
        sender.request(accepted=False)
    sender.request()
    assert sender.phase is window
    assert window.rate == rate


def test_fewer_than_half_at_first_show_a_bucket_and_its_rate() -> None:
    sender = Sender()
    sender.request()
    sender.request(accepted=False)
    assert isinstance(sender.phase, PacedSending)
    assert sender.phase.rate == pytest.approx(2 / 9.0, rel=0.01)


def test_a_window_that_accepts_fewer_is_waited_for() -> None:
    sender = Sender()
    sender.group()
    sender.now = 20.5
    for _ in range(8):
        sender.request()
    sender.request(accepted=False)
    assert sender.phase.rate == pytest.approx(0.8)
    assert sender.request() == pytest.approx(30.5, abs=0.01)


def test_a_window_that_accepts_far_fewer_may_be_in_an_outage_the_first_time() -> None:
    sender = Sender()
    sender.group()
    sender.now = 20.5
    for expected in (1.0, 0.6):
        for _ in range(6):
            sender.request()
        sender.request(accepted=False)
        assert sender.phase.rate == pytest.approx(expected)


def test_a_window_that_accepts_two_keeps_its_count_once_and_becomes_a_rate_the_second_time() -> None:
    sender = Sender()
    sender.group()
    sender.now = 20.5
    for expected in (WindowedSending, PacedSending):
        for _ in range(2):
            sender.request()
        sender.request(accepted=False)
        assert isinstance(sender.phase, expected)
    assert sender.phase.rate == pytest.approx(0.2)


def test_after_sixty_requests_a_probe_tests_whether_the_period_is_shorter() -> None:
    sender = Sender()
    sender.group()
    probes = []
    for _ in range(8):
        began = sender.now
        probes.append(sender.request() - began)
        for _ in range(9):
            sender.request()
    early = next(index for index, probe in enumerate(probes) if probe < 8.0)
    assert 4 <= early <= 6
    assert probes[early] == pytest.approx(6.0, abs=0.1)
    assert probes[early + 1] == pytest.approx(3.0, abs=0.1)  # the bounds are bisected again


def test_a_test_that_is_rejected_while_a_group_is_sent_does_not_close_the_window() -> None:
    sender = Sender()
    for _ in range(9):
        sender.request()
    tested_at = sender.phase.ready_at(sender.now)
    sender.in_flight.on_send(tested_at, sender.phase.on_send(tested_at))
    sender.in_flight.on_send(20.1, sender.phase.on_send(20.1))
    sender.in_flight.on_response(20.2, tested_at)
    assert sender.phase.on_reject(20.2, tested_at, 0.0, 0.0) is sender.phase
    assert sender.phase.ready_at(20.2) == 20.0


def test_no_more_are_in_flight_than_the_window_holds_until_they_are_overdue() -> None:
    sender = Sender()
    sender.in_flight.on_send(10.0, sender.phase.on_send(10.0))
    sender.in_flight.take_over(9)
    assert sender.phase.ready_at(10.0) == 20.0


def test_a_late_response_to_an_early_request_makes_no_period_of_zero() -> None:
    sender = Sender()
    sender.group()
    sender.phase = sender.phase.on_accept(sender.now, 10.0)  # sent when the first of the group was
    assert 0 < (sender.phase.rate or 0) < 1000


def test_a_request_accepted_before_the_rejection_and_answered_later_takes_a_place() -> None:
    sender = Sender()
    sender.phase.on_late_accept(9.0)
    for _ in range(7):
        sender.request()
    assert sender.phase.ready_at(sender.now) <= sender.now
    sender.request()
    assert sender.phase.ready_at(sender.now) > sender.now
