"""Requests in flight, the smoothed round-trip time, and overdue responses."""

from __future__ import annotations

from ruxa_async._engine.rate_limits.in_flight import InFlight


def test_the_round_trip_time_is_smoothed() -> None:
    flight = InFlight()
    for sent_at, rtt in ((0.0, 1.0), (10.0, 2.0)):
        flight.on_send(sent_at, 5.0)
        flight.on_response(sent_at + rtt, sent_at)
    assert flight.rtt == 1.2


def test_a_response_that_a_blocked_event_loop_notices_late_counts_as_twice_the_round_trip_time() -> None:
    flight = InFlight()
    for sent_at, rtt in ((0.0, 1.0), (10.0, 60.0)):
        flight.on_send(sent_at, 5.0)
        flight.on_response(sent_at + rtt, sent_at)
    assert flight.rtt == 1.2


def test_a_response_returns_the_pace_at_its_departure() -> None:
    flight = InFlight()
    flight.on_send(0.0, 5.0)
    flight.on_send(1.0, 7.0)
    assert flight.on_response(2.0, 0.0) == 5.0
    assert flight.on_response(2.0, 1.0) == 7.0
    assert flight.on_response(2.0, 1.5) is None


def test_only_requests_accepted_in_the_last_second_count() -> None:
    flight = InFlight()
    for n in range(1000):
        flight.on_send(float(n), 1.0)
        flight.on_accept(n + 0.5, float(n))
        assert flight.accepted_lately(n + 0.5) == 1


def test_paces_of_lost_requests_are_forgotten() -> None:
    flight = InFlight()
    for n in range(5000):
        flight.on_send(float(n), 1.0)
        flight.on_no_response()
    assert len(flight._paces) <= 2048


def test_without_a_known_round_trip_a_response_is_overdue_after_ten_seconds() -> None:
    flight = InFlight()
    flight.on_send(0.0, 1.0)
    assert (flight.awaited, flight.overdue_at) == (1, 10.0)
    flight.on_send(10.0, 1.0)
    assert (flight.count, flight.awaited) == (2, 1)


def test_an_overdue_response_does_not_change_the_round_trip_time() -> None:
    flight = InFlight()
    flight.on_send(0.0, 1.0)
    flight.on_response(0.5, 0.0)
    flight.on_send(1.0, 1.0)
    assert flight.overdue_at == 3.0
    flight.on_send(4.0, 1.0)
    flight.on_response(4.25, 1.0)
    assert (flight.rtt, flight.awaited) == (0.5, 1)


def test_a_lost_request_counts_as_the_overdue_one_and_an_unsent_one_does_not() -> None:
    flight = InFlight()
    flight.on_send(0.0, 1.0)
    flight.on_send(20.0, 1.0)
    flight.on_no_response()
    assert (flight.count, flight.awaited) == (1, 1)
    flight.on_not_sent()
    assert (flight.count, flight.awaited) == (0, 0)


def test_requests_of_another_limit_are_taken_over() -> None:
    flight = InFlight()
    flight.take_over(3)
    assert flight.awaited == 3
    flight.take_over(-3)
    assert flight.awaited == 0
