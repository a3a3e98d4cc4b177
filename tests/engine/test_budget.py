"""The books: what counts, for how much, and that no create leaves which would pass the limit."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ruxa_async import Budget, Limits, Polling, Retries
from ruxa_async._engine.budget import BudgetLimit, Spending
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import Job

A, B = "model-a", "model-b"


def books(**budget: Any) -> Spending[Job]:
    return Spending(Budget(**budget))


def buy(spending: Spending[Job], model: str = A) -> Job:
    """Buy one task: its create was accepted, or is of unknown outcome."""
    job = Job(model=model)
    assert spending.reserve(job, model) is None
    spending.answered(job)
    return job


def lack(spending: Spending[Job], model: str = A) -> BudgetLimit | None:
    shortfall = spending.shortfall(model)
    return None if shortfall is None else shortfall.lack


def test_tasks_are_bought_up_to_the_number_and_not_beyond() -> None:
    spending = books(max_tasks=2)
    buy(spending)
    buy(spending)
    shortfall = spending.reserve(Job(), A)
    assert shortfall is not None
    assert (shortfall.lack, shortfall.model, shortfall.price, shortfall.tasks) == (
        BudgetLimit.TASKS,
        A,
        None,
        2,
    )
    assert spending.tasks == 2


def test_a_budget_of_nothing_buys_nothing() -> None:
    assert lack(books(max_tasks=0)) is BudgetLimit.TASKS
    assert lack(books(max_credits=0, prices={A: 0.01})) is BudgetLimit.CREDITS
    assert lack(books(max_credits=0, prices={A: 0})) is None


def test_sums_are_exact_in_decimal() -> None:
    spending = books(max_credits=0.3, prices={A: 0.1})
    for _ in range(3):
        buy(spending)
    assert spending.credits == 0.3
    assert lack(spending) is BudgetLimit.CREDITS


def test_what_was_certainly_not_bought_is_given_back_and_bought_once_by_the_next_attempt() -> None:
    spending = books(max_tasks=1)
    job = Job()
    for _ in range(3):
        assert spending.reserve(job, A) is None
        assert lack(spending) is BudgetLimit.TASKS
        spending.refund(job, A)
        spending.answered(job)
        assert spending.tasks == 0
    buy(spending)
    assert spending.tasks == 1


def test_an_attempt_of_unknown_outcome_stays_spent_beside_the_next() -> None:
    spending = books(max_credits=7, prices={A: 3})
    job = buy(spending)
    assert spending.reserve(job, A) is None
    spending.answered(job)
    assert (spending.tasks, spending.credits) == (2, 6.0)
    spending.ended(job, A, 3.0)
    assert (spending.tasks, spending.credits) == (2, 6.0)


def test_one_waits_while_a_create_on_the_wire_may_turn_out_unbought() -> None:
    spending = books(max_tasks=1)
    first = Job()
    assert not spending.must_wait(A)
    assert spending.reserve(first, A) is None
    assert spending.must_wait(A)
    spending.answered(first)
    assert not spending.must_wait(A)
    assert lack(spending) is BudgetLimit.TASKS


@pytest.mark.parametrize(("said", "counts"), [(2.0, 2.0), (5.0, 5.0), (0.0, 0.0), (None, 3.0), (-1.0, 3.0)])
def test_what_the_service_reports_takes_the_place_of_the_estimate(said: float | None, counts: float) -> None:
    spending = books(max_credits=100, prices={A: 3})
    job = buy(spending)
    spending.ended(job, A, said)
    spending.ended(job, A, 50.0)  # once is enough
    assert (spending.tasks, spending.credits) == (1, counts)


def test_a_report_above_the_price_raises_what_the_others_count_for_and_one_below_does_not_lower_it() -> None:
    spending = books(max_credits=100, prices={A: 3})
    first, second, _ = buy(spending), buy(spending), buy(spending)
    spending.ended(first, A, 1.0)
    assert spending.credits == 1 + 3 + 3
    spending.ended(second, A, 5.0)
    assert spending.credits == 1 + 5 + 5
    assert spending.price(A) == 5.0


def test_without_a_price_no_credits_are_risked() -> None:
    spending = books(max_credits=100, prices={B: 1})
    shortfall = spending.reserve(Job(), A)
    assert shortfall is not None
    assert (shortfall.lack, shortfall.model, shortfall.price, shortfall.tasks) == (
        BudgetLimit.PRICE,
        A,
        None,
        0,
    )
    assert spending.price(A) is None


def test_a_price_that_was_reported_stands_in_for_one_that_nobody_said() -> None:
    spending = books(max_credits=10)
    spending.earlier(A, tasks=2, untold=1, credits=4.0, dearest=4.0)
    assert (spending.tasks, spending.credits) == (2, 8.0)
    assert lack(spending) is BudgetLimit.CREDITS
    assert lack(spending, B) is BudgetLimit.PRICE


def test_earlier_tasks_of_which_nobody_knows_the_price_stop_everything_that_is_counted_in_credits() -> None:
    spending = books(max_credits=10, prices={A: 1})
    spending.earlier(B, tasks=1, untold=1, credits=0.0, dearest=None)
    shortfall = spending.shortfall(A)
    assert shortfall is not None
    assert (shortfall.lack, shortfall.model) == (BudgetLimit.PAST_PRICE, B)
    assert spending.known_credits is None
    tasks_only = books(max_tasks=2)
    tasks_only.earlier(B, tasks=1, untold=1, credits=0.0, dearest=None)
    assert tasks_only.known_credits is None
    assert lack(tasks_only) is None
    assert books(max_tasks=2).known_credits == 0.0


def test_a_task_that_was_picked_up_settles_what_was_counted_for_it() -> None:
    spending = books(max_credits=10, prices={A: 3})
    spending.earlier(A, tasks=1, untold=1, credits=0.0, dearest=None)
    job = Job()
    spending.picked_up(job)
    spending.ended(job, A, 2.0)
    assert (spending.tasks, spending.credits) == (1, 2.0)


def test_a_task_that_was_bought_elsewhere_counts_for_nothing() -> None:
    spending = books(max_credits=10, prices={A: 3})
    spending.ended(Job(), A, 5.0)
    job = buy(spending)
    spending.ended(job, None, 5.0)
    assert (spending.tasks, spending.credits) == (1, 3.0)


def test_what_a_callback_proves_bought_counts_once() -> None:
    spending = books(max_tasks=10)
    refused, lost = Job(), buy(spending)
    assert spending.reserve(refused, A) is None
    spending.refund(refused, A)
    for job in (refused, lost):
        spending.proven(job, A)
    assert spending.tasks == 2


def test_the_engine_holds_a_create_back_while_the_money_for_it_is_tied_up() -> None:
    engine: Engine[Job] = Engine(Limits(), Polling(), Retries(), Budget(max_tasks=1))
    spending = engine.spending
    assert spending is not None
    first, second = Job(model=A), Job(model=A)
    engine.submit(first, 0.0)
    engine.submit(second, 0.0)
    assert engine.take_create(0.0) is first
    assert spending.reserve(first, A) is None
    assert engine.take_create(0.0) is None
    spending.answered(first)
    assert engine.take_create(0.0) is second  # to be told that there is no room


PRICES = st.sampled_from([0, 0.1, 1, 2.5, 7])


class Shop(RuleBasedStateMachine):
    """Any sequence of what can happen to creates and tasks, beside a plain account of the same."""

    @initialize(
        tasks=st.none() | st.integers(0, 6), most=st.none() | st.sampled_from([0, 0.3, 5, 12]), price=PRICES
    )
    def open(self, tasks: int | None, most: float | None, price: float) -> None:
        tasks = 5 if tasks is None and most is None else tasks
        self.budget = Budget(max_tasks=tasks, max_credits=most, prices={A: price})
        self.spending: Spending[Job] = Spending(self.budget)
        self.wire: list[Job] = []
        self.held: list[Job] = []
        self.bought = 0

    @rule(model=st.sampled_from([A, B]))
    def send(self, model: str) -> None:
        job = Job(model=model)
        if self.spending.reserve(job, model) is None:
            self.wire.append(job)
            self.bought += 1
            spent = Fraction(str(self.spending.credits))
            assert self.budget.max_tasks is None or self.spending.tasks <= self.budget.max_tasks
            assert self.budget.max_credits is None or spent <= Fraction(str(self.budget.max_credits))

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), bought=st.booleans())
    def answer(self, data: st.DataObject, bought: bool) -> None:
        job = self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))
        assert job.model is not None
        if bought:
            self.held.append(job)
        else:
            self.spending.refund(job, job.model)
            self.bought -= 1
        self.spending.answered(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), said=st.none() | PRICES)
    def end(self, data: st.DataObject, said: float | None) -> None:
        job = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.spending.ended(job, job.model, said)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """What was of unknown outcome is sent again, by the person's word: both attempts count."""
        job = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        assert job.model is not None
        if job not in self.wire and self.spending.reserve(job, job.model) is None:
            self.spending.answered(job)
            self.bought += 1

    @invariant()
    def every_purchase_counts(self) -> None:
        if hasattr(self, "spending"):
            assert self.spending.tasks == self.bought
            assert self.spending.credits >= 0


TestShop = Shop.TestCase
TestShop.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(PRICES, max_size=30), st.sampled_from([0, 1, 10, 40.5]))
def test_reports_at_or_below_the_price_never_pass_the_limit(reports: list[float], most: float) -> None:
    spending = books(max_credits=most, prices={A: 7})
    for said, _ in zip(reports, itertools.count(), strict=False):
        job = Job()
        if spending.reserve(job, A) is None:
            spending.answered(job)
            spending.ended(job, A, said)
        assert spending.credits <= most
