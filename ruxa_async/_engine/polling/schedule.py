"""When to ask a running task for its state.

Durations are learned for each model (`lognormal`), and the ages at which a task is asked follow from them and from the
price of a query (`checking`). While nothing is known of a model, a few scouts are asked often; the other tasks wait
for what these show.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from attrs import define, field

from ruxa_async.settings import Polling

from .duration_model import LogNormal, Prior, Span, fit, span
from .inspection import Plan, Shape

__all__ = ("PollingSchedule",)

# What one query is worth, in standard deviations of a duration, where no price was set. It makes five to six queries a
# task, and halving the lateness would take twice as many.
_AUTOMATIC = 0.035
# How much a query that went out late raises the price, and a punctual one lowers it: level where one in five is late.
_DEARER = 1.04
_CHEAPER = 1.01
_DEAREST = 30.0
# Where others wait for a task to be seen finished, its lateness may cost this part of the median: a query is worth what
# makes it so at a hazard of 1 / (median sigma), about what it is where most tasks end.
_HURRIED_LATENESS = 0.012
# The price at which plans are made is rounded to steps of this: looks are then at most 10 % too dense or too sparse,
# which costs less than 1 % of what they are about.
_PRICE_STEP = math.log(1.5)
# What the shape of a plan depends on is rounded to steps of this, so that most plans are there when they are wanted: a
# shape takes as long to find as three requests. No law is known as well as that.
_SHAPE_STEP = math.log(1.1)
_SHAPES_KEPT = 64
# Until something is known, this many tasks are asked at each age, and ages grow by this much.
_SCOUTS = 4
_GROWTH = 1.13
_AGE_STEP = math.log(_GROWTH)
# An observation counts less by this much with each that follows, so that the law rests on the last hundred or so.
_FADING = 1.0 - 1.0 / 64.0
_KEPT = 192  # an older one counts less than 5 %
_FADED = [_FADING**back for back in range(_KEPT)]
# The law is fitted anew when it rests on a third more than last time, as far as it goes.
_MORE = 1.0 / 3.0
# So many ends in a row, each so many standard deviations off, happen by chance once in 50 million: the law changed.
_ODD = 3
_FAR_OFF = 3.0
# From here on, tasks that still run say little that those which ended do not.
_SETTLED = 48.0
# Waiting queries are planned anew when the law moved by this many standard deviations, or its spread by this much.
_MOVED = 0.15
# How many tasks a law from an earlier run is worth.
_REMEMBERED = 8
# What is further from the median than this is as good as infinitely far.
_TINY, _HUGE = 1e-9, 1e9
# Standard deviations below which 90 and 99 in 100 lie, and the longest that a task waits unasked for its callback.
_NINE_IN_TEN = 1.2816
_NEARLY_ALL = 2.3263
_LONGEST_WAIT = 600.0
# The log of a duration in seconds is within this, or a file is damaged: from a millisecond to 30 years is -7 to 21.
_SENSIBLE = 25.0

_VIDEO = re.compile(
    r"(?<![a-z])(?:veo|sora|kling|wan|hailuo|runway|seedance|luma|pika|vidu|pixverse)(?![a-z])|video|[ti]2v"
)
_IMAGE = re.compile(
    r"(?<![a-z])(?:banana|flux|imagen|midjourney|seedream|ideogram|recraft|dall-e|sdxl)(?![a-z])|image|photo"
)
# Medians of 10 s and 2 minutes, right within a factor of e two times in three; else anything from 4 s to 4 minutes.
_IMAGE_PRIOR = Prior(math.log(10.0), 1.0)
_VIDEO_PRIOR = Prior(math.log(120.0), 1.0)
_WIDE_PRIOR = Prior(math.log(30.0), 2.0)


@define(eq=False)
class _Model:
    """What is known of the durations of one model."""

    prior: Prior
    seen: deque[Span] = field(factory=lambda: deque(maxlen=_KEPT))
    law: LogNormal | None = None
    #: How many tasks the law rests on, and how many ended since it was fitted.
    weight: float = 0.0
    fresh: int = 0
    #: How many ends in a row were far from what the law says.
    odd: int = 0
    #: How many tasks were sent to be asked at each step of age, while there is no law.
    scouts: dict[int, int] = field(factory=dict)
    #: A task of it has succeeded; until then the law rests on the tasks that failed.
    has_succeeded: bool = False
    #: Plans for that law, by the rounded price and whether they are urgent.
    plans: dict[tuple[int, bool], Plan] = field(factory=dict)


class PollingSchedule:
    """The ages at which tasks are asked, in seconds since their acceptance, by what was seen of their model."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._models: dict[str | None, _Model] = {}
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._factor = 1.0
        self._level = 0
        #: Others wait for a task to be seen finished, so that its lateness costs more; unless a price was set.
        self.urgent = False

    def first_poll(self, model: str | None, age: float) -> float:
        """Return the age at which to ask a task for the first time that is *age* old and was never asked."""
        return self._bounded(age, self._planned(model, 0.0))

    def next_poll(self, model: str | None, age: float, pending_at: float | None = None) -> float:
        """Return the age at which to ask a task next that is *age* old.

        *pending_at* is its age when it was last known to be pending, where that is not *age* itself.
        """
        return self._bounded(age, self._planned(model, age if pending_at is None else pending_at))

    def replanned_poll(self, model: str | None, pending_at: float) -> float:
        """Return the age at which to ask a waiting task, last seen pending at *pending_at*, 0 if it never was."""
        return self._bounded(pending_at, self._planned(model, pending_at))

    def ended(
        self,
        model: str | None,
        low: float,
        high: float,
        exact: float | None = None,
        running: Callable[[], Iterable[float]] | None = None,
        *,
        succeeded: bool = True,
    ) -> bool:
        """Learn from a task that was last pending at age *low* and first seen ended at *high*.

        *exact* is its duration by the service's own times. *running* is called when it matters: it returns the
        ages at which tasks of *model* that still run were last seen pending. The answer says whether what is known
        changed so much that waiting queries should be planned anew. Tasks that failed count until one *succeeded*.
        """
        learned = span(max(low, 0.0), high, exact)
        known = self._known(model)
        if learned is None or (known.has_succeeded and not succeeded):
            return False
        if succeeded and not known.has_succeeded:
            known.has_succeeded = True
            known.seen.clear()
            known.law = None
        known.seen.append(learned)
        known.fresh += 1
        if known.law is not None:
            known.odd = known.odd + 1 if _far_off(learned, known.law) else 0
            if known.odd >= _ODD:
                _forget(known)
            elif known.fresh < known.weight * _MORE:
                return False
        pending = running() if running is not None and known.weight < _SETTLED else ()
        return self._refit(known, pending)

    def on_poll(self, *, late: bool) -> None:
        """Note that a query left: *late*, because the budget of queries binds, or when it was due."""
        if late or self._factor > 1.0:
            factor = self._factor * _DEARER if late else self._factor / _CHEAPER
            self._factor = min(max(factor, 1.0), _DEAREST)
            self._level = round(math.log(self._factor) / _PRICE_STEP)

    @property
    def price(self) -> float:
        """How many times its base price a query costs at present: 1 to 30."""
        return self._factor

    def median(self, model: str | None) -> float | None:
        """Return the median duration of *model* in seconds, None while no task of it has ended."""
        known = self._models.get(model)
        return None if known is None or known.law is None else math.exp(known.law.mu)

    def latest_usual_age(self, model: str | None) -> float:
        """Return the age by which 99 in 100 tasks of *model* have ended, 9 in 10 by what is believed of it at first."""
        known = self._known(model)
        if known.law is None:
            prior = known.prior
            age = math.exp(prior.mu + _NINE_IN_TEN * math.hypot(prior.sigma, prior.doubt))
        else:
            age = math.exp(known.law.mu + _NEARLY_ALL * _spread(known, known.law))
        return min(age, _LONGEST_WAIT)

    def export(self) -> dict[str, dict[str, float]]:
        """Return what was learned, by model, for `load` in a later run."""
        return {
            name: {"mu": known.law.mu, "sigma": known.law.sigma}
            for name, known in self._models.items()
            if name is not None and known.law is not None
        }

    def load(self, laws: Mapping[str, Mapping[str, float]]) -> None:
        """Start from what an earlier run exported; it fades like anything that was seen."""
        for name, law in laws.items():
            known, mu, sigma = self._known(name), law["mu"], law["sigma"]
            sides = [Span(at, at) for at in (mu - sigma, mu + sigma) if abs(at) <= _SENSIBLE]
            if len(sides) == 2:
                known.has_succeeded = True
                known.seen.extendleft(sides * (_REMEMBERED // 2))
                self._refit(known, ())

    def _known(self, model: str | None) -> _Model:
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model(_prior(model))
        return known

    def _bounded(self, age: float, target: float) -> float:
        polling = self._polling
        earliest = age + polling.min_interval
        return earliest if target <= earliest else min(target, age + polling.max_interval)

    def _planned(self, model: str | None, pending_at: float) -> float:
        known = self._models.get(model)
        if known is None:
            known = self._known(model)
        if known.law is None:
            return self._scouted(known, max(pending_at, 0.0))
        kind = self._level, self.urgent
        plan = known.plans.get(kind)
        if plan is None:
            plan = known.plans[kind] = self._plan(known, known.law)
        return plan.next(pending_at)

    def _scouted(self, known: _Model, age: float) -> float:
        """Return the next age for a scout; a task is not one where enough were sent to the next step of age."""
        polling = self._polling
        target = max(age * _GROWTH, age + polling.min_interval)
        step = round(math.log(target) / _AGE_STEP) if target < math.inf else 0
        sent = known.scouts.get(step, 0)
        if sent >= _SCOUTS:
            return age + polling.max_interval
        known.scouts[step] = sent + 1
        return target

    def _plan(self, known: _Model, law: LogNormal) -> Plan:
        """Plan for the law with its own uncertainty: sigma sqrt(1 + 1/m), where it rests on m tasks."""
        polling = self._polling
        sigma = _spread(known, law)
        median = math.exp(law.mu)
        if polling.price is not None:
            price = polling.price / median
        else:
            price = _AUTOMATIC * sigma
            if self.urgent:
                price = min(price, 2.0 * _HURRIED_LATENESS**2 / sigma)
        price *= math.exp(self._level * _PRICE_STEP)
        bounds = polling.min_interval / median, polling.max_interval / median
        return Plan(law.mu, self._shape(tuple(map(_step, (sigma, price, *bounds)))))

    def _shape(self, steps: tuple[int, ...]) -> Shape:
        """Return the shape of the plans for what is rounded to so many *steps*: sigma, price and both bounds."""
        shape = self._shapes.get(steps)
        if shape is None:
            if len(self._shapes) >= _SHAPES_KEPT:
                del self._shapes[next(iter(self._shapes))]
            sigma, price, shortest, longest = (math.exp(step * _SHAPE_STEP) for step in steps)
            shape = self._shapes[steps] = Shape(sigma, price, shortest=shortest, longest=longest)
        return shape

    def _refit(self, known: _Model, pending: Iterable[float]) -> bool:
        """Fit the law of *known*; return whether waiting queries should be planned anew."""
        before, weights = known.law, _FADED[: len(known.seen)]
        spans = [Span(low, high, w) for (low, high, _), w in zip(reversed(known.seen), weights, strict=True)]
        known.law = fit([*spans, *_survivors(pending)], known.prior, before)
        known.weight = sum(weights) ** 2 / sum(weight * weight for weight in weights)
        known.fresh = known.odd = 0
        known.scouts.clear()
        known.plans.clear()
        return before is None or _moved(before, known.law)


def _spread(known: _Model, law: LogNormal) -> float:
    """Return the sigma of *law* with its own uncertainty, where it rests on so many tasks."""
    return law.sigma * math.sqrt(1.0 + 1.0 / (known.weight + known.prior.weight))


def _far_off(seen: Span, law: LogNormal) -> bool:
    reach = _FAR_OFF * law.sigma
    return seen.low > law.mu + reach or seen.high < law.mu - reach


def _forget(known: _Model) -> None:
    """Keep only what shows that the law changed."""
    for _ in range(len(known.seen) - _ODD):
        known.seen.popleft()
    known.weight = float(_ODD)


def _moved(one: LogNormal, two: LogNormal) -> bool:
    return abs(two.mu - one.mu) > _MOVED * one.sigma or abs(math.log(two.sigma / one.sigma)) > _MOVED


def _step(value: float) -> int:
    return round(math.log(min(max(value, _TINY), _HUGE)) / _SHAPE_STEP)


def _survivors(ages: Iterable[float]) -> list[Span]:
    """Return what still running says, as many tasks at once as have about the same age."""
    counts: dict[int, int] = {}
    for age in ages:
        if 0.0 < age < math.inf:
            step = math.floor(math.log(age) / _AGE_STEP)
            counts[step] = counts.get(step, 0) + 1
    return [Span((step + 0.5) * _AGE_STEP, math.inf, float(count)) for step, count in counts.items()]


def _prior(model: str | None) -> Prior:
    name = (model or "").lower()
    if _VIDEO.search(name):
        return _VIDEO_PRIOR
    return _IMAGE_PRIOR if _IMAGE.search(name) else _WIDE_PRIOR
