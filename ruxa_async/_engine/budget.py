"""The tasks and credits that are spent or reserved, and whether the budget allows one more task.

A create reserves its price before it is sent. It stays counted if it is accepted or of unknown outcome, and
is refunded only if it was certainly not charged.

A task counts at an estimate until the service reports its charge. The estimate is the configured price of its
model, or the highest charge reported so far if that is more: tasks of one model differ in price, and a low
estimate would let the last tasks exceed the budget.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from fractions import Fraction
from typing import Generic, TypeVar

from attrs import frozen

from ruxa_async.settings import Budget

from .job import Job

__all__ = ("BudgetLimit", "BudgetShortfall", "Spending")

_J = TypeVar("_J", bound=Job)


class BudgetLimit(enum.Enum):
    """Why the budget does not allow one more task."""

    TASKS = enum.auto()
    CREDITS = enum.auto()
    #: The price of its model is unknown.
    PRICE = enum.auto()
    #: The price of an earlier task is unknown.
    PAST_PRICE = enum.auto()


@frozen
class BudgetShortfall:
    """Why no task of *model* is created. *tasks* and *credits* are spent or reserved, *price* in credits."""

    lack: BudgetLimit
    model: str
    price: float | None
    tasks: int
    credits: float


class Spending(Generic[_J]):
    """The tasks and credits that one client spent. Sums are exact: ten tasks at 0.1 cost 1."""

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        self._most = None if budget.max_credits is None else _exact(budget.max_credits)
        self._prices = {model: _exact(price) for model, price in budget.prices.items()}
        self._reported = Fraction(0)
        #: For each model, the number of tasks that are counted at an estimate: no charge was reported yet.
        self._estimated: Counter[str] = Counter()
        #: Jobs whose charge may still be reported, and those whose create is on the wire.
        self._open: set[_J] = set()
        self._on_wire: set[_J] = set()
        self.tasks: int = 0

    @property
    def credits(self) -> float:
        """The credits spent or reserved; tasks of unknown price count as 0."""
        return float(self._credits())

    @property
    def known_credits(self) -> float | None:
        """The credits spent or reserved, None if the price of any task is unknown."""
        return None if self._unpriced_model() else self.credits

    def price(self, model: str) -> float | None:
        """Return the estimated price of a task of *model* in credits, None if unknown."""
        price = self._prices.get(model)
        return None if price is None else float(price)

    def _credits(self) -> Fraction:
        nothing = Fraction(0)
        return sum(
            (count * self._prices.get(model, nothing) for model, count in self._estimated.items()),
            start=self._reported,
        )

    # ---- before a create

    def must_wait(self, model: str) -> bool:
        """Tell whether a task of *model* fits only if a create on the wire turns out not to be charged."""
        return bool(self._on_wire) and self.shortfall(model) is not None

    def reserve(self, job: _J, model: str) -> BudgetShortfall | None:
        """Reserve the price of *job*, whose create is about to be sent; if it does not fit, return why."""
        shortfall = self.shortfall(model)
        if shortfall is None:
            self._spend(job, model)
            self._on_wire.add(job)
        return shortfall

    def shortfall(self, model: str) -> BudgetShortfall | None:
        """Return why the budget does not allow one more task of *model*, None if it does."""
        limit = self._exceeded(model)
        if limit is None:
            return None
        if limit is BudgetLimit.PAST_PRICE:
            model = self._unpriced_model() or model
        return BudgetShortfall(limit, model, self.price(model), self.tasks, self.credits)

    def _exceeded(self, model: str) -> BudgetLimit | None:
        if self.budget.max_tasks is not None and self.tasks >= self.budget.max_tasks:
            return BudgetLimit.TASKS
        if self._most is None:
            return None
        price = self._prices.get(model)
        if price is None:
            return BudgetLimit.PRICE
        if self._unpriced_model():
            return BudgetLimit.PAST_PRICE
        return BudgetLimit.CREDITS if self._credits() + price > self._most else None

    def _unpriced_model(self) -> str:
        """Return a model with tasks of unknown price, an empty string if there is none."""
        unpriced = (
            model for model, count in self._estimated.items() if count > 0 and model not in self._prices
        )
        return next(unpriced, "")

    def _spend(self, job: _J, model: str) -> None:
        """Count one more task for *job*. Its earlier attempts of unknown outcome stay counted."""
        self._open.add(job)
        self._estimated[model] += 1
        self.tasks += 1

    # ---- after a create

    def refund(self, job: _J, model: str) -> None:
        """Stop counting the create of *job*, which was certainly not charged."""
        self._open.discard(job)
        self._estimated[model] -= 1
        self.tasks -= 1

    def on_answer(self, job: _J) -> None:
        """Note that the outcome of the create of *job* is known; unless it is refunded, it stays counted."""
        self._on_wire.discard(job)

    def on_proven(self, job: _J, model: str) -> None:
        """Count *job*, which a callback proved accepted, if it was refunded before."""
        if job not in self._open:
            self._spend(job, model)

    # ---- earlier tasks and reported charges

    def count_recorded(
        self,
        model: str,
        *,
        tasks: int,
        unpriced: int,
        credits: float,  # noqa: A002 - the service's word
        highest_price: float | None,
    ) -> None:
        """Count *tasks* of *model* that the journal recorded.

        The service reported no charge for *unpriced* of them. The others cost *credits* in all, at most
        *highest_price* each.
        """
        self.tasks += tasks
        self._estimated[model] += unpriced
        self._reported += _exact(credits)
        self._learn(model, highest_price)

    def expect_charge(self, job: _J) -> None:
        """Expect the charge for the task of *job*, which `count_recorded` counted."""
        self._open.add(job)

    def on_end(self, job: _J, model: str | None, credits: float | None) -> None:  # noqa: A002
        """Replace the estimate for *job* by the charged *credits*; None keeps the estimate."""
        if job not in self._open:
            return  # another client created it
        self._open.discard(job)
        if model is not None and self._learn(model, credits):
            self._estimated[model] -= 1
            self._reported += _exact(credits or 0.0)

    def _learn(self, model: str, credits: float | None) -> bool:  # noqa: A002
        """Raise the estimate for *model* to a reported charge; return whether it is a valid one."""
        if credits is None or not 0 <= credits < math.inf:
            return False
        price = _exact(credits)
        self._prices[model] = max(price, self._prices.get(model, price))
        return True


def _exact(number: float) -> Fraction:
    """Return *number* as the decimal that it is written as, not its binary approximation."""
    return Fraction(str(number))
