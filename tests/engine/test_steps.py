"""Running at a gap between requests that is found by halving."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from ruxa_async._engine.steps import Steps


class Gap:
    """A limit that refuses whatever comes sooner than *gap* seconds after the last one it let through."""

    def __init__(self, gap: float, steps: Steps, *, passed_at: float) -> None:
        self.gap, self.steps, self.last = gap, steps, passed_at
        self.now = passed_at
        self.refused = 0

    def run(self, count: int) -> list[float]:
        """Return the gaps before the next *count* requests."""
        gaps = []
        for _ in range(count):
            sent_at = self.steps.ready_at(self.now)
            gaps.append(sent_at - self.last)
            self.now = sent_at + 0.001
            self.steps.sent(sent_at)
            if gaps[-1] >= self.gap:
                self.steps.passed(self.now, sent_at)
                self.last = sent_at
            else:
                self.steps.refused(self.now, None, sent_at)
                self.refused += 1
        return gaps


def test_the_gap_is_quartered_until_it_is_too_short_and_halved_then() -> None:
    limit = Gap(0.1, Steps(0.0, 1.0, passed_at=0.0), passed_at=0.0)
    gaps = limit.run(5)
    assert gaps[0] == 0.25
    assert gaps[1] == 1.003  # planned before the trial was answered
    assert gaps[2] == 0.0625
    limit.run(60)
    assert limit.steps.rate == pytest.approx(1 / 0.1, rel=0.02)
    assert limit.refused <= 6


def test_the_rate_is_what_is_let_through_for_sure() -> None:
    assert Steps(0.1, 0.2, passed_at=0.0).rate == 5.0


def test_what_took_more_than_a_minute_was_no_gap() -> None:
    steps = Steps(2000.0, 9000.0, passed_at=0.0)
    assert steps.rate == 1 / 60
    assert steps.ready_at(0.0) == 15.0


def test_one_trial_at_a_time() -> None:
    steps = Steps(1.0, 2.0, passed_at=0.0)
    assert steps.ready_at(0.0) == 1.5
    steps.sent(1.5)
    assert steps.ready_at(1.5) == pytest.approx(1.5 + 2.006)  # as it was, until the trial is answered
    steps.passed(1.6, 1.5)
    steps.sent(3.506)
    assert steps.ready_at(3.506) == pytest.approx(3.506 + 1.25)


def test_a_refused_trial_is_too_short() -> None:
    steps = Steps(1.0, 2.0, passed_at=0.0)
    steps.sent(1.5)
    steps.refused(1.6, None, 1.5)
    assert steps.ready_at(1.6) == pytest.approx(2.02)  # by then enough has passed since the last
    steps.sent(2.02)
    assert steps.ready_at(2.02) == pytest.approx(2.02 + 1.75)


def test_refusals_of_what_left_before_the_last_no_was_known_are_no_news() -> None:
    steps = Steps(1.0, 2.0, passed_at=0.0)
    steps.refused(1.6, None, 1.5)
    ready = steps.ready_at(1.6)
    steps.refused(3.0, None, 1.6)
    assert steps.ready_at(3.0) == ready


def test_what_is_enough_no_more_grows_twice_as_much_each_time() -> None:
    steps = Steps(0.99, 1.0, passed_at=0.0)
    enough = []
    for index in range(1, 10):
        steps.refused(float(index), None, 1.0 if index == 1 else 1 / steps.rate)
        enough.append(1 / steps.rate)
        steps._known = -math.inf
    factors = [after / before for before, after in pairwise([1.0, *enough])]
    assert factors == pytest.approx([1.02, 1.04, 1.08, 1.16, 1.32, 1.64, 2.28, 2.28, 2.28])


def test_one_that_passes_after_about_enough_ends_that_growth() -> None:
    steps = Steps(0.99, 1.0, passed_at=0.0)
    steps.refused(1.1, None, 1.0)
    steps.passed(2.1, 1.02)
    steps.refused(3.0, None, 1.02 + 1.02)
    steps._known = -math.inf
    assert 1 / steps.rate == pytest.approx(1.02 * 1.02)


@pytest.mark.parametrize(("after", "refused"), [(0.2, 12), (0.05, 16)])
def test_a_gap_that_changes_is_found_again(after: float, refused: int) -> None:
    limit = Gap(0.1, Steps(0.05, 0.1, passed_at=0.0), passed_at=0.0)
    limit.run(100)
    limit.gap, limit.refused = after, 0
    limit.run(400)
    assert limit.steps.rate == pytest.approx(1 / after, rel=0.03)
    assert limit.refused <= refused


def test_a_shorter_gap_is_tried_again_after_180_without_a_no_and_bolder_each_time() -> None:
    limit = Gap(0.5, Steps(0.49, 0.5, passed_at=0.0), passed_at=0.0)
    assert limit.run(1)[0] < 0.5  # the trial that was under way
    assert min(limit.run(181)) > 0.5
    limit.gap = 0.0
    gaps = [gap for gap in limit.run(12) if gap < 0.5]
    assert gaps[0] == pytest.approx(0.5 * 0.9825, rel=0.01)
    steps = [before - after for before, after in pairwise(gaps)]
    assert max(steps) > 3 * (0.5 - gaps[0])


def test_answers_may_come_in_any_order() -> None:
    steps = Steps(0.9, 1.0, passed_at=0.0)
    steps.passed(5.0, 3.0)
    steps.passed(5.1, 2.0)
    steps.passed(5.2, 3.0)
    assert steps.rate == 1.0


def test_what_was_enough_and_is_not_time_and_again_can_be_no_gap() -> None:
    """Five pass at what was enough, and then one does not, eight times over."""
    steps = Steps(0.099, 0.1, passed_at=0.0)
    now = 0.0
    for turn in range(8):
        assert not steps.refuted, turn
        for _ in range(5):
            now = steps.ready_at(now)
            steps.sent(now)
            steps.passed(now + 0.001, now)
        now = steps.ready_at(now)
        steps.sent(now)
        steps.refused(now + 0.001, None, now)
    assert steps.refuted
    assert steps.in_a_row == 5


def test_what_was_too_short_while_something_else_refused_is_tried_once_more() -> None:
    limit = Gap(0.01, Steps(0.8, 3.2, passed_at=0.0), passed_at=0.0)
    gaps = limit.run(30)
    assert sum(gaps) < 13.0
    assert gaps[-1] < 0.02


def test_what_was_too_short_and_is_is_tried_once_more_only() -> None:
    limit = Gap(0.9, Steps(0.8, 3.2, passed_at=0.0), passed_at=0.0)
    gaps = limit.run(60)
    assert gaps[-1] == pytest.approx(0.9, rel=0.03)
    assert sum(gap < 0.8 for gap in gaps) <= 1


@pytest.mark.parametrize(("refused_at", "tried"), [(0.5, 2.4), (0.9, 2.05)])
def test_only_a_no_after_what_was_too_short_proves_that_it_was(refused_at: float, tried: float) -> None:
    """What is refused sooner would be refused in any case, so that half of what is enough is tried all the same."""
    steps = Steps(0.8, 3.2, passed_at=0.0)
    steps.refused(refused_at + 0.1, None, refused_at)
    for at in (4.0, 8.0, 12.0):
        steps.passed(at + 0.1, at)
    steps.sent(16.0)
    assert steps.ready_at(16.0) - 16.0 == pytest.approx(tried)
