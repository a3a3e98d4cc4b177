"""What is on the wire, and for how long an answer is waited for."""

from __future__ import annotations

import math

from ruxa_async._engine.unanswered import Unanswered


def test_where_nothing_left_nothing_is_overdue() -> None:
    wire = Unanswered()
    assert (wire.count, wire.waited_for, wire.trip, wire.overdue_at) == (0, 0, None, math.inf)


def test_the_first_answer_is_waited_for_ten_seconds() -> None:
    wire = Unanswered()
    wire.sent(1.0)
    assert (wire.waited_for, wire.overdue_at) == (1, 11.0)
    wire.sent(11.0)
    assert (wire.count, wire.waited_for, wire.overdue_at) == (2, 1, 21.0)


def test_later_ones_are_waited_for_four_trips_and_two_seconds_at_least() -> None:
    wire = Unanswered()
    wire.sent(0.0)
    wire.answered(0.25, 0.0)
    wire.sent(1.0)
    assert (wire.trip, wire.overdue_at) == (0.25, 3.0)
    wire.answered(6.0, 1.0)
    wire.sent(10.0)
    assert (wire.trip, wire.overdue_at) == (0.8 * 0.25 + 0.2 * 5, 10.0 + 4 * 1.2)


def test_an_overdue_answer_says_nothing_of_trips() -> None:
    wire = Unanswered()
    wire.sent(0.0)
    wire.sent(10.0)
    wire.answered(11.0, 10.0)
    wire.answered(100.0, 0.0)
    assert (wire.count, wire.waited_for, wire.trip) == (0, 0, 1.0)


def test_what_is_lost_will_have_been_overdue() -> None:
    wire = Unanswered()
    wire.sent(0.0)
    wire.sent(10.0)
    wire.lost()
    assert (wire.count, wire.waited_for) == (1, 1)
    wire.lost()
    assert (wire.count, wire.waited_for) == (0, 0)


def test_there_are_never_more_overdue_than_on_the_wire() -> None:
    for change in (Unanswered.unsent, lambda wire: wire.take_over(-1)):
        wire = Unanswered()
        wire.sent(0.0)
        wire.sent(0.0)
        wire.sent(10.0)
        change(wire)
        assert (wire.count, wire.waited_for) == (2, 0)
        change(wire)
        assert (wire.count, wire.waited_for) == (1, 0)


def test_what_is_taken_over_is_waited_for() -> None:
    wire = Unanswered()
    wire.take_over(2)
    assert (wire.count, wire.waited_for, wire.overdue_at) == (2, 2, math.inf)
