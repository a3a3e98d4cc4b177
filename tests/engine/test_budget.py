"""The budget: which tasks count, at which price, and that no create exceeds it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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
    """Create one task, which is accepted or of unknown outcome."""
    job = Job(model=model)
    assert spending.reserve(job) is None
    spending.on_answer(job)
    return job


def lack(spending: Spending[Job], model: str = A) -> BudgetLimit | None:
    shortfall = spending.shortfall(Job(model=model))
    return None if shortfall is None else shortfall.lack


def test_tasks_are_created_up_to_max_tasks() -> None:
    spending = books(max_tasks=2)
    buy(spending)
    buy(spending)
    shortfall = spending.reserve(Job(model=A))
    assert shortfall is not None
    assert (shortfall.lack, shortfall.price_key, shortfall.price, shortfall.tasks) == (
        BudgetLimit.TASKS,
        A,
        None,
        2,
    )
    assert spending.tasks == 2


def test_a_budget_of_zero_allows_no_task() -> None:
    assert lack(books(max_tasks=0)) is BudgetLimit.TASKS
    assert lack(books(max_credits=0, prices={A: 0.01})) is BudgetLimit.CREDITS
    assert lack(books(max_credits=0, prices={A: 0})) is None


def test_sums_are_exact_in_decimal() -> None:
    spending = books(max_credits=0.3, prices={A: 0.1})
    for _ in range(3):
        buy(spending)
    assert spending.credits == 0.3
    assert lack(spending) is BudgetLimit.CREDITS


def test_an_uncharged_create_is_refunded_and_the_next_attempt_counts_once() -> None:
    spending = books(max_tasks=1)
    job = Job(model=A)
    for _ in range(3):
        assert spending.reserve(job) is None
        assert lack(spending) is BudgetLimit.TASKS
        spending.refund(job)
        spending.on_answer(job)
        assert spending.tasks == 0
    buy(spending)
    assert spending.tasks == 1


def test_an_attempt_of_unknown_outcome_counts_in_addition_to_the_next() -> None:
    spending = books(max_credits=7, prices={A: 3})
    job = buy(spending)
    assert spending.reserve(job) is None
    spending.on_answer(job)
    assert (spending.tasks, spending.credits) == (2, 6.0)
    spending.on_end(job, 3.0)
    assert (spending.tasks, spending.credits) == (2, 6.0)


def test_a_create_waits_while_one_on_the_wire_may_be_refunded() -> None:
    spending = books(max_tasks=1)
    first = Job(model=A)
    assert not spending.must_wait(Job(model=A))
    assert spending.reserve(first) is None
    assert spending.must_wait(Job(model=A))
    spending.on_answer(first)
    assert not spending.must_wait(Job(model=A))
    assert lack(spending) is BudgetLimit.TASKS


@pytest.mark.parametrize(("said", "counts"), [(2.0, 2.0), (5.0, 5.0), (0.0, 0.0), (None, 3.0), (-1.0, 3.0)])
def test_a_reported_charge_replaces_the_estimate(said: float | None, counts: float) -> None:
    spending = books(max_credits=100, prices={A: 3})
    job = buy(spending)
    spending.on_end(job, said)
    spending.on_end(job, 50.0)  # counted already
    assert (spending.tasks, spending.credits) == (1, counts)


def test_a_charge_above_the_price_raises_the_estimate_and_one_below_does_not_lower_it() -> None:
    spending = books(max_credits=100, prices={A: 3})
    first, second, _ = buy(spending), buy(spending), buy(spending)
    spending.on_end(first, 1.0)
    assert spending.credits == 1 + 3 + 3
    spending.on_end(second, 5.0)
    assert spending.credits == 1 + 5 + 5
    assert spending.price(A) == 5.0


def test_without_a_price_no_credits_are_risked() -> None:
    spending = books(max_credits=100, prices={B: 1})
    shortfall = spending.reserve(Job(model=A))
    assert shortfall is not None
    assert (shortfall.lack, shortfall.price_key, shortfall.price, shortfall.tasks) == (
        BudgetLimit.PRICE,
        A,
        None,
        0,
    )
    assert spending.price(A) is None


def test_a_reported_charge_serves_as_the_missing_price() -> None:
    spending = books(max_credits=10)
    spending.count_recorded(A, tasks=2, unpriced=1, credits=4.0, highest_price=4.0)
    assert (spending.tasks, spending.credits) == (2, 8.0)
    assert lack(spending) is BudgetLimit.CREDITS
    assert lack(spending, B) is BudgetLimit.PRICE


def test_earlier_tasks_of_unknown_price_stop_creates_under_max_credits() -> None:
    spending = books(max_credits=10, prices={A: 1})
    spending.count_recorded(B, tasks=1, unpriced=1, credits=0.0, highest_price=None)
    shortfall = spending.shortfall(Job(model=A))
    assert shortfall is not None
    assert (shortfall.lack, shortfall.price_key) == (BudgetLimit.PAST_PRICE, B)
    assert spending.known_credits is None
    tasks_only = books(max_tasks=2)
    tasks_only.count_recorded(B, tasks=1, unpriced=1, credits=0.0, highest_price=None)
    assert tasks_only.known_credits is None
    assert lack(tasks_only) is None
    assert books(max_tasks=2).known_credits == 0.0


def test_a_recovered_task_replaces_its_earlier_estimate() -> None:
    spending = books(max_credits=10, prices={A: 3})
    spending.count_recorded(A, tasks=1, unpriced=1, credits=0.0, highest_price=None)
    job = Job(model=A)
    spending.expect_charge(job)
    spending.on_end(job, 2.0)
    assert (spending.tasks, spending.credits) == (1, 2.0)


def test_a_task_of_another_client_does_not_count() -> None:
    spending = books(max_credits=10, prices={A: 3})
    spending.on_end(Job(), 5.0)
    assert (spending.tasks, spending.credits, spending.price(A)) == (0, 0.0, 3.0)


# ---- prices of parameters


class Order(Job):
    """A job with an input."""

    def __init__(self, **given: Any) -> None:
        super().__init__(model=A)
        self.given = given

    def input(self) -> Mapping[str, Any]:
        return self.given


def place(spending: Spending[Job], **given: Any) -> Order:
    """Create one task of model A with an input, which is accepted or of unknown outcome."""
    order = Order(**given)
    assert spending.reserve(order) is None
    spending.on_answer(order)
    return order


def test_a_task_counts_at_the_price_of_its_parameters() -> None:
    spending = books(max_credits=40, prices={A: 3, f"{A}[size=4k]": 24})
    place(spending, size="1k")
    assert spending.credits == 3
    place(spending, size="4k")
    assert spending.credits == 27
    shortfall = spending.reserve(Order(size="4k"))
    assert shortfall is not None
    assert (shortfall.lack, shortfall.price_key, shortfall.price) == (
        BudgetLimit.CREDITS,
        f"{A}[size=4k]",
        24.0,
    )
    place(spending, size="2k")
    assert spending.credits == 30


def test_a_charge_raises_the_price_that_the_task_was_counted_at_and_no_other() -> None:
    spending = books(max_credits=200, prices={A: 3, f"{A}[size=4k]": 24})
    dear = place(spending, size="4k")
    spending.on_end(dear, 30.0)
    assert (spending.price(f"{A}[size=4k]"), spending.price(A)) == (30.0, 3.0)
    usual = place(spending, size="2k")
    spending.on_end(usual, 7.0)
    place(spending, size="1k")  # the price of A is for it too
    assert spending.credits == 30 + 7 + 7


def test_a_charge_without_a_price_is_learned_for_tasks_with_the_same_parameters() -> None:
    spending = books(max_credits=100, prices={f"{A}[size=4k]": 24})
    spending.count_recorded(f"{A}[size=1k]", tasks=1, unpriced=0, credits=8.0, highest_price=8.0)
    place(spending, size="1k")
    place(spending, size="4k")
    assert spending.credits == 8 + 8 + 24
    for order in (Order(size="2k"), Order()):
        shortfall = spending.shortfall(order)
        assert shortfall is not None
        assert shortfall.lack is BudgetLimit.PRICE


def test_a_task_whose_input_is_not_known_counts_at_the_price_of_its_model() -> None:
    spending = books(max_credits=100, prices={A: 3, f"{A}[size=4k]": 24})
    buy(spending)
    assert spending.credits == 3


def test_a_refund_returns_the_price_of_the_parameters() -> None:
    spending = books(max_credits=27, prices={A: 3, f"{A}[size=4k]": 24})
    order = Order(size="4k")
    assert spending.reserve(order) is None
    assert spending.must_wait(Order(size="4k"))
    assert not spending.must_wait(Order(size="1k"))
    spending.refund(order)
    spending.on_answer(order)
    assert spending.credits == 0


def test_a_task_that_a_callback_proved_accepted_counts_once() -> None:
    spending = books(max_tasks=10)
    refused, lost = Job(model=A), buy(spending)
    assert spending.reserve(refused) is None
    spending.refund(refused)
    for job in (refused, lost):
        spending.on_proven(job)
    assert spending.tasks == 2


def test_the_engine_delays_a_create_while_the_budget_is_held_by_others() -> None:
    engine: Engine[Job] = Engine(Limits(), Polling(), Retries(), Budget(max_tasks=1))
    spending = engine.spending
    assert spending is not None
    first, second = Job(model=A), Job(model=A)
    engine.creates.submit(first, 0.0)
    engine.creates.submit(second, 0.0)
    assert engine.take_create(0.0) is first
    assert spending.reserve(first) is None
    assert engine.take_create(0.0) is None
    spending.on_answer(first)
    assert engine.take_create(0.0) is second  # its shortfall is then reported


PRICES = st.sampled_from([0, 0.1, 1, 2.5, 7])


class Shop(RuleBasedStateMachine):
    """Random sequences of events of creates and tasks, compared with a simple model."""

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
        if self.spending.reserve(job) is None:
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
            self.spending.refund(job)
            self.bought -= 1
        self.spending.on_answer(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), said=st.none() | PRICES)
    def end(self, data: st.DataObject, said: float | None) -> None:
        job = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.spending.on_end(job, said)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A create of unknown outcome is sent again, by `resend_unknown`: both attempts count."""
        job = self.held[data.draw(st.integers(0, len(self.held) - 1))]
        assert job.model is not None
        if job not in self.wire and self.spending.reserve(job) is None:
            self.spending.on_answer(job)
            self.bought += 1

    @invariant()
    def every_purchase_counts(self) -> None:
        if hasattr(self, "spending"):
            assert self.spending.tasks == self.bought
            assert self.spending.credits >= 0


TestShop = Shop.TestCase
TestShop.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(PRICES, max_size=30), st.sampled_from([0, 1, 10, 40.5]))
def test_charges_up_to_the_price_never_exceed_the_budget(reports: list[float], most: float) -> None:
    spending = books(max_credits=most, prices={A: 7})
    for said, _ in zip(reports, itertools.count(), strict=False):
        job = Job(model=A)
        if spending.reserve(job) is None:
            spending.on_answer(job)
            spending.on_end(job, said)
        assert spending.credits <= most


class Parametric(RuleBasedStateMachine):
    """A service that charges at most the listed price of each task: the budget is never exceeded.

    A model of the purchases, each with its own listed price or reported charge, gives the expected sum.
    """

    @initialize(
        prices=st.fixed_dictionaries(
            {A: PRICES},
            optional={
                f"{A}[{text}]": PRICES for text in ("size=4k", "size=2k", "seconds=10", "size=4k,seconds=10")
            },
        ),
        most=st.sampled_from([0, 0.3, 12, 30]),
    )
    def open(self, prices: dict[str, float], most: float) -> None:
        self.prices, self.most = prices, Fraction(str(most))
        self.spending = books(max_credits=most, prices=prices)
        self.running: list[Order] = []
        self.counted: dict[Order, Fraction] = {}

    def listed(self, given: Mapping[str, Any]) -> float:
        """Return the price of the most parameters that all agree with *given*, among equals the highest."""
        matching = [
            (key.count("="), price)
            for key, price in self.prices.items()
            if all(
                str(given.get(name)) == value
                for name, _, value in (
                    pair.partition("=") for pair in key[len(A) + 1 : -1].split(",") if pair
                )
            )
        ]
        return max(matching)[1]

    @rule(size=st.sampled_from([None, "1k", "2k", "4k"]), seconds=st.sampled_from([None, "10", 10, 15]))
    def buy(self, size: str | None, seconds: str | int | None) -> None:
        order = Order(size=size, seconds=seconds, prompt="x")
        price = Fraction(str(self.listed(order.given)))
        fits = sum(self.counted.values()) + price <= self.most
        assert (self.spending.reserve(order) is None) == fits
        self.spending.on_answer(order)
        if fits:
            self.running.append(order)
            self.counted[order] = price

    @precondition(lambda self: self.running)
    @rule(data=st.data(), share=st.sampled_from([0, 0.5, 1]))
    def end(self, data: st.DataObject, share: float) -> None:
        order = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        charge = self.listed(order.given) * share
        self.spending.on_end(order, charge)
        self.counted[order] = Fraction(str(charge))

    @invariant()
    def the_budget_is_kept(self) -> None:
        if hasattr(self, "spending"):
            assert self.spending.credits == float(sum(self.counted.values()))
            assert sum(self.counted.values()) <= self.most


TestParametric = Parametric.TestCase
TestParametric.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
