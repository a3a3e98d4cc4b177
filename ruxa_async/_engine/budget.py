"""What has been spent, and whether one more task may be bought.

What counts is everything that was bought or may have been: a create on the wire holds its price, an accepted one keeps
it, one of unknown outcome too, and only what certainly bought nothing gives it back. The price of a task is an estimate
until the service reports what it charged. That figure then takes its place, be it higher or lower. Every other task of
its model counts at what the person said or at the most that was reported, whichever is more: tasks of one model differ
in price, and an estimate that is too low would let the last ones pass the limit.
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
    """What keeps one more task from being bought."""

    TASKS = enum.auto()
    CREDITS = enum.auto()
    #: Nobody said what a task of its model costs.
    PRICE = enum.auto()
    #: Nobody said what a task costs that was bought earlier.
    PAST_PRICE = enum.auto()


@frozen
class BudgetShortfall:
    """Why a task of *model* is not bought: *price* is what it counts for, *tasks* and *credits* what is spent or held."""

    lack: BudgetLimit
    model: str
    price: float | None
    tasks: int
    credits: float


class Spending(Generic[_J]):
    """The books of one client under one budget. Sums are exact: ten tasks at 0.1 cost 1."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._most = None if budget.max_credits is None else _exact(budget.max_credits)
        self._prices = {model: _exact(price) for model, price in budget.prices.items()}
        self._reported = Fraction(0)
        #: Tasks that count at an estimate, by model.
        self._estimated: Counter[str] = Counter()
        #: Jobs whose end may still tell what they cost, and those of them whose create is being sent.
        self._open: set[_J] = set()
        self._on_wire: set[_J] = set()
        self.tasks = 0

    @property
    def credits(self) -> float:
        """What is spent or held, at the best that is known; tasks without a price count for nothing."""
        return float(self._credits())

    @property
    def known_credits(self) -> float | None:
        """The same, None if it is not known what some of the tasks cost."""
        return None if self._unpriced_model() else self.credits

    def price(self, model: str) -> float | None:
        """Return what a task of *model* counts for until the service reports it, None if nobody knows."""
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
        """Tell whether a task of *model* does not fit now and may fit once a create that is on the wire is answered."""
        return bool(self._on_wire) and self.shortfall(model) is not None

    def reserve(self, job: _J, model: str) -> BudgetShortfall | None:
        """Hold the price of *job*, whose create is about to be sent; return why not if it does not fit."""
        shortfall = self.shortfall(model)
        if shortfall is None:
            self._spend(job, model)
            self._on_wire.add(job)
        return shortfall

    def shortfall(self, model: str) -> BudgetShortfall | None:
        """Return what keeps one more task of *model* from being bought, None if nothing does."""
        lack = self._lack(model)
        if lack is None:
            return None
        if lack is BudgetLimit.PAST_PRICE:
            model = self._unpriced_model() or model
        return BudgetShortfall(lack, model, self.price(model), self.tasks, self.credits)

    def _lack(self, model: str) -> BudgetLimit | None:
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
        """Return a model of which tasks count and nobody knows their price, an empty text if there is none."""
        unpriced = (
            model for model, count in self._estimated.items() if count > 0 and model not in self._prices
        )
        return next(unpriced, "")

    def _spend(self, job: _J, model: str) -> None:
        """Count a task. An earlier attempt of *job* that was of unknown outcome stays counted beside it."""
        self._open.add(job)
        self._estimated[model] += 1
        self.tasks += 1

    # ---- after a create

    def refund(self, job: _J, model: str) -> None:
        """Note that the attempt of *job* certainly bought nothing."""
        self._open.discard(job)
        self._estimated[model] -= 1
        self.tasks -= 1

    def answered(self, job: _J) -> None:
        """Note that the create of *job* is on the wire no longer; what was not given back stays spent."""
        self._on_wire.discard(job)

    def proven(self, job: _J, model: str) -> None:
        """Note that *job* was bought, although its reply may have said that it was not."""
        if job not in self._open:
            self._spend(job, model)

    # ---- what was bought before, and what the service reports

    def earlier(
        self,
        model: str,
        *,
        tasks: int,
        untold: int,
        credits: float,  # noqa: A002 - the service's word
        dearest: float | None,
    ) -> None:
        """Count *tasks* of *model* that an earlier run bought or may have bought.

        For *untold* of them the service reported nothing; the others came to *credits*, the *dearest* to so many.
        """
        self.tasks += tasks
        self._estimated[model] += untold
        self._reported += _exact(credits)
        self._learn(model, dearest)

    def picked_up(self, job: _J) -> None:
        """Note that *job* is one of those that `earlier` counted, and may still tell what it cost."""
        self._open.add(job)

    def ended(self, job: _J, model: str | None, credits: float | None) -> None:  # noqa: A002
        """Note that *job* is over, and what the service says that it charged; None leaves the estimate."""
        if job not in self._open:
            return  # it was bought elsewhere, and is only being followed here
        self._open.discard(job)
        if model is not None and self._learn(model, credits):
            self._estimated[model] -= 1
            self._reported += _exact(credits or 0.0)

    def _learn(self, model: str, credits: float | None) -> bool:  # noqa: A002
        """Take a price that was reported into account; return whether it is one."""
        if credits is None or not 0 <= credits < math.inf:
            return False
        price = _exact(credits)
        self._prices[model] = max(price, self._prices.get(model, price))
        return True


def _exact(number: float) -> Fraction:
    """Return the decimal that people read in *number*, not the binary one beside it."""
    return Fraction(str(number))
