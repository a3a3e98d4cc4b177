"""The tasks and credits that are spent or reserved, and whether the budget allows one more task.

A create reserves its price before it is sent. It stays counted if it is accepted or of unknown outcome, and
is refunded only if it was certainly not charged.

A task counts at an estimate until the service reports its charge. The estimate is the configured price of its
model and parameters, or the highest charge reported so far for that price if that is more: tasks of one price
differ in their charge, and a low estimate would let the last tasks exceed the budget.

Estimates are kept by price key, see `PriceList`.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from fractions import Fraction
from typing import Generic, TypeVar

from attrs import frozen

from ruxa_async._price_list import PriceList
from ruxa_async.settings import Budget

from .job import Job

__all__ = ("BudgetLimit", "BudgetShortfall", "Spending")

_J = TypeVar("_J", bound=Job)


class BudgetLimit(enum.Enum):
    """Why the budget does not allow one more task."""

    TASKS = enum.auto()
    CREDITS = enum.auto()
    #: Its price is unknown.
    PRICE = enum.auto()
    #: The price of an earlier task is unknown.
    PAST_PRICE = enum.auto()


@frozen
class BudgetShortfall:
    """Why no task of *price_key* is created, for a *price* in credits.

    *tasks* and *credits* are spent or reserved.
    """

    lack: BudgetLimit
    price_key: str
    price: float | None
    tasks: int
    credits: float


class Spending(Generic[_J]):
    """The tasks and credits that one client spent. Sums are exact: ten tasks at 0.1 cost 1."""

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        self._most = None if budget.max_credits is None else _exact(budget.max_credits)
        self.price_list: PriceList = PriceList(budget.prices)
        self._prices = {key: _exact(price) for key, price in budget.prices.items()}
        self._reported = Fraction(0)
        #: For each price key, the tasks that are counted at an estimate: no charge was reported yet.
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
        return None if self._unpriced() else self.credits

    def price_key(self, job: _J) -> str:
        """Return the key that the price of *job* is kept under."""
        assert job.model is not None
        given = job.input() if self.price_list.has_parameters(job.model) else {}
        return self.price_list.key_of(job.model, given)

    def price(self, key: str) -> float | None:
        """Return the estimated price of a task of the price *key* in credits, None if unknown."""
        price = self._prices.get(key)
        return None if price is None else float(price)

    def _credits(self) -> Fraction:
        nothing = Fraction(0)
        return sum(
            (count * self._prices.get(key, nothing) for key, count in self._estimated.items()),
            start=self._reported,
        )

    # ---- before a create

    def must_wait(self, job: _J) -> bool:
        """Tell whether *job* fits only if a create on the wire turns out not to be charged."""
        return bool(self._on_wire) and self.shortfall(job) is not None

    def reserve(self, job: _J) -> BudgetShortfall | None:
        """Reserve the price of *job*, whose create is about to be sent; if it does not fit, return why."""
        shortfall = self.shortfall(job)
        if shortfall is None:
            self._spend(job)
            self._on_wire.add(job)
        return shortfall

    def shortfall(self, job: _J) -> BudgetShortfall | None:
        """Return why the budget does not allow the task of *job*, None if it does."""
        key = self.price_key(job)
        limit = self._exceeded(key)
        if limit is None:
            return None
        if limit is BudgetLimit.PAST_PRICE:
            key = self._unpriced() or key
        return BudgetShortfall(limit, key, self.price(key), self.tasks, self.credits)

    def _exceeded(self, key: str) -> BudgetLimit | None:
        if self.budget.max_tasks is not None and self.tasks >= self.budget.max_tasks:
            return BudgetLimit.TASKS
        if self._most is None:
            return None
        price = self._prices.get(key)
        if price is None:
            return BudgetLimit.PRICE
        if self._unpriced():
            return BudgetLimit.PAST_PRICE
        return BudgetLimit.CREDITS if self._credits() + price > self._most else None

    def _unpriced(self) -> str:
        """Return a price key with tasks of unknown price, an empty string if there is none."""
        unpriced = (key for key, count in self._estimated.items() if count > 0 and key not in self._prices)
        return next(unpriced, "")

    def _spend(self, job: _J) -> None:
        """Count one more task for *job*. Its earlier attempts of unknown outcome stay counted."""
        self._open.add(job)
        self._estimated[self.price_key(job)] += 1
        self.tasks += 1

    # ---- after a create

    def refund(self, job: _J) -> None:
        """Stop counting the create of *job*, which was certainly not charged."""
        self._open.discard(job)
        self._estimated[self.price_key(job)] -= 1
        self.tasks -= 1

    def on_answer(self, job: _J) -> None:
        """Note that the outcome of the create of *job* is known; unless it is refunded, it stays counted."""
        self._on_wire.discard(job)

    def on_proven(self, job: _J) -> None:
        """Count *job*, which a callback proved accepted, if it was refunded before."""
        if job not in self._open:
            self._spend(job)

    # ---- earlier tasks and reported charges

    def count_recorded(
        self,
        key: str,
        *,
        tasks: int,
        unpriced: int,
        credits: float,  # noqa: A002 - the service's word
        highest_price: float | None,
    ) -> None:
        """Count *tasks* of the price *key* that the journal recorded.

        The service reported no charge for *unpriced* of them. The others cost *credits* in all, at most
        *highest_price* each.
        """
        self.tasks += tasks
        self._estimated[key] += unpriced
        self._reported += _exact(credits)
        self._learn(key, highest_price)

    def expect_charge(self, job: _J) -> None:
        """Expect the charge for the task of *job*, which `count_recorded` counted."""
        self._open.add(job)

    def on_end(self, job: _J, credits: float | None) -> None:  # noqa: A002 - the service's word
        """Replace the estimate for *job* by the charged *credits*; None keeps the estimate."""
        if job not in self._open:
            return  # another client created it
        self._open.discard(job)
        key = self.price_key(job)
        if self._learn(key, credits):
            self._estimated[key] -= 1
            self._reported += _exact(credits or 0.0)

    def _learn(self, key: str, credits: float | None) -> bool:  # noqa: A002
        """Raise the estimate for *key* to a reported charge; return whether it is a valid one."""
        if credits is None or not 0 <= credits < math.inf:
            return False
        price = _exact(credits)
        self._prices[key] = max(price, self._prices.get(key, price))
        return True


def _exact(number: float) -> Fraction:
    """Return *number* as the decimal that it is written as, not its binary approximation."""
    return Fraction(str(number))
