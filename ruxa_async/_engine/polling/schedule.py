"""When to poll each task.

The durations of each model are learned as a log-normal distribution (`duration_model`). The poll times follow
from it and from the price of a query, by optimal inspection (`inspection`). While no task of a model has
ended, a few exploration polls search for the first end; the other tasks wait for it.
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

# Price of a query in standard deviations of lateness, unless `Polling.price` is set. It leads to 5 to 6
# queries a task (benchmarks/cadence.py); half the lateness would take twice as many.
_DEFAULT_PRICE = 0.035
# Factors on the price for a query that was sent late and for one that was on time. They balance where one
# query in five is late (1.04 ~ 1.01 ** 4), so the query limit is nearly used up, but seldom delays a query
# for long.
_PRICE_INCREASE = 1.04
_PRICE_DECREASE = 1.01
_MAX_PRICE_FACTOR = 30.0  # bounds the thinning of polls to a factor of about sqrt(30)
# Lateness in medians that a task may cost while a concurrency limit makes others wait for its end. The price
# that leads to it is that at a hazard of 1 / (median sigma), which holds about where most tasks end.
_URGENT_LATENESS = 0.012
# Plans are cached for prices rounded to this factor (log). Polls are at most 10 % too dense or too sparse for
# it, which costs less than 1 % of the expected cost, because the cost is flat around its minimum.
_PRICE_STEP = math.log(1.5)
# Shapes are cached for parameters rounded to this factor (log). Computing one takes as long as three
# requests, and no distribution is known to 10 %. 64 shapes serve dozens of models, at a few kB each.
_SHAPE_STEP = math.log(1.1)
_MAX_SHAPES = 64
# Exploration: this many tasks are polled at each step of age, and the steps grow by this factor. So the first
# end is detected at most 13 % late, for four queries a step.
_EXPLORATION_POLLS = 4
_EXPLORATION_GROWTH = 1.13
_AGE_STEP = math.log(_EXPLORATION_GROWTH)
# The weight of a sample shrinks by this factor with each newer one (exponential forgetting). About a hundred
# samples count, so the fit follows a slow change of the service within a hundred tasks.
_FORGETTING = 1.0 - 1.0 / 64.0
_MAX_SAMPLES = 192  # an older one weighs less than 5 %
_WEIGHTS = [_FORGETTING**back for back in range(_MAX_SAMPLES)]
# The distribution is fitted again after this share of new samples, so the fits take a number of steps that
# grows with the logarithm of the number of samples.
_REFIT_SHARE = 1.0 / 3.0
# Outliers in a row that prove a change, and the standard deviations that make one: by chance it happens once
# in 50 million.
_MAX_OUTLIERS = 3
_OUTLIER = 3.0
# Samples from which running tasks are left out of the fit: they add little to what ended tasks show, but cost
# time.
_CENSORED_BELOW = 48.0
# Waiting queries are rescheduled when mu moved by this many standard deviations, or sigma by this factor
# (log).
_REPLAN_SHIFT = 0.15
# Samples that a distribution from an earlier run counts as: few, so a changed service outweighs them within
# ten tasks.
_LOADED_SAMPLES = 8
# Bounds of ratios to the median; beyond, a bound has no effect.
_MIN_RATIO, _MAX_RATIO = 1e-9, 1e9
# Quantiles of the standard normal distribution.
_Z90, _Z99 = 1.2816, 2.3263
# Seconds that a task at most waits for its callback without a query; users see a lost callback no later.
_MAX_CALLBACK_WAIT = 600.0
# Bound of a loaded log(seconds); a millisecond to 30 years is -7 to 21, so a larger one means a damaged file.
_MAX_LOG = 25.0

# Model names that tell videos and images apart, for the prior of a fit. Without callbacks the first polls of
# a model without durations do not depend on it: see `PollingSchedule._explore`.
_VIDEO = re.compile(
    r"(?<![a-z])(?:veo|sora|kling|wan|hailuo|runway|seedance|luma|pika|vidu|pixverse)(?![a-z])|video|[ti]2v"
)
_IMAGE = re.compile(
    r"(?<![a-z])(?:banana|flux|imagen|midjourney|seedream|ideogram|recraft|dall-e|sdxl)(?![a-z])|image|photo"
)
# Medians of 10 s for images and 120 s for videos, with a standard deviation of a factor e. A name that says
# neither gets 30 s with a factor e^2: 4 s to 4 minutes.
_IMAGE_PRIOR = Prior(math.log(10.0), 1.0)
_VIDEO_PRIOR = Prior(math.log(120.0), 1.0)
_WIDE_PRIOR = Prior(math.log(30.0), 2.0)


@define(eq=False)
class _Durations:
    """The learned durations of one model."""

    prior: Prior
    samples: deque[Span] = field(factory=lambda: deque(maxlen=_MAX_SAMPLES))
    fitted: LogNormal | None = None
    #: Effective number of samples behind the fit, and samples since the fit.
    sample_size: float = 0.0
    new_samples: int = 0
    #: Outliers in a row.
    outliers: int = 0
    #: Exploration polls sent at each step of age, while nothing is fitted.
    explored: dict[int, int] = field(factory=dict)
    #: A task has succeeded. Until then failed tasks are samples too.
    has_succeeded: bool = False
    #: Plans for the fit, by the level of the price and urgency.
    plans: dict[tuple[int, bool], Plan] = field(factory=dict)

    @property
    def predictive_sigma(self) -> float:
        """The sigma of the next duration, with the uncertainty of mu: sigma sqrt(1 + 1/n)."""
        assert self.fitted is not None
        return self.fitted.sigma * math.sqrt(1.0 + 1.0 / (self.sample_size + self.prior.weight))


class PollingSchedule:
    """The ages at which tasks are polled, in seconds since they were accepted."""

    def __init__(self, polling: Polling) -> None:
        self._polling = polling
        self._models: dict[str | None, _Durations] = {}
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._price_factor = 1.0
        self._price_level = 0
        #: Creates wait for tasks to end, so lateness costs more, unless `Polling.price` is set.
        self.urgent = False

    # ---- poll times

    def first_poll(self, model: str | None, age: float) -> float:
        """Return the age at which to poll first a task that is *age* seconds old."""
        return self._bounded(age, self._planned(model, 0.0))

    def next_poll(self, model: str | None, age: float, pending_at: float | None = None) -> float:
        """Return the age at which to poll next a task that is *age* seconds old.

        *pending_at* is its age when it was last pending, *age* by default.
        """
        return self._bounded(age, self._planned(model, age if pending_at is None else pending_at))

    def replanned_poll(self, model: str | None, pending_at: float) -> float:
        """Return the age at which to poll a task that was last pending at *pending_at*, 0 if never."""
        return self._bounded(pending_at, self._planned(model, pending_at))

    def _bounded(self, age: float, target: float) -> float:
        """Return *target* within `Polling.min_interval` and `Polling.max_interval` from *age*."""
        earliest = age + self._polling.min_interval
        return earliest if target <= earliest else min(target, age + self._polling.max_interval)

    def _planned(self, model: str | None, pending_at: float) -> float:
        durations = self._models.get(model)
        if durations is None:
            durations = self._durations(model)
        if durations.fitted is None:
            return self._explore(durations, max(pending_at, 0.0))
        kind = self._price_level, self.urgent
        plan = durations.plans.get(kind)
        if plan is None:
            plan = durations.plans[kind] = self._plan(durations, durations.fitted)
        return plan.next_poll(pending_at)

    def _explore(self, durations: _Durations, age: float) -> float:
        """Return the age of the next exploration poll, or a late one if enough explore that age."""
        target = max(age * _EXPLORATION_GROWTH, age + self._polling.min_interval)
        step = round(math.log(target) / _AGE_STEP) if target < math.inf else 0
        sent = durations.explored.get(step, 0)
        if sent >= _EXPLORATION_POLLS:
            return age + self._polling.max_interval
        durations.explored[step] = sent + 1
        return target

    def _plan(self, durations: _Durations, fitted: LogNormal) -> Plan:
        """Return the optimal inspection plan for *fitted*, widened by its own uncertainty."""
        polling, sigma, median = self._polling, durations.predictive_sigma, math.exp(fitted.mu)
        if polling.price is not None:
            price = polling.price / median
        else:
            price = _DEFAULT_PRICE * sigma
            if self.urgent:
                # Keller's gap sqrt(2 price / hazard), at a hazard of 1 / sigma, is twice the mean lateness.
                price = min(price, 2.0 * _URGENT_LATENESS**2 / sigma)
        price *= math.exp(self._price_level * _PRICE_STEP)
        bounds = polling.min_interval / median, polling.max_interval / median
        return Plan(fitted.mu, self._shape(tuple(map(_shape_step, (sigma, price, *bounds)))))

    def _shape(self, steps: tuple[int, ...]) -> Shape:
        """Return the cached shape for the rounded sigma, price and bounds of the intervals."""
        shape = self._shapes.get(steps)
        if shape is None:
            if len(self._shapes) >= _MAX_SHAPES:
                del self._shapes[next(iter(self._shapes))]
            sigma, price, shortest, longest = (math.exp(step * _SHAPE_STEP) for step in steps)
            shape = self._shapes[steps] = Shape(sigma, price, shortest=shortest, longest=longest)
        return shape

    # ---- the price of a query

    @property
    def price(self) -> float:
        """The factor on the base price of a query, 1 to 30."""
        return self._price_factor

    def on_poll(self, *, late: bool) -> None:
        """Adapt the price to a query that is sent: raise it if the query is *late*, lower it otherwise."""
        if late or self._price_factor > 1.0:
            factor = self._price_factor * _PRICE_INCREASE if late else self._price_factor / _PRICE_DECREASE
            self._price_factor = min(max(factor, 1.0), _MAX_PRICE_FACTOR)
            self._price_level = round(math.log(self._price_factor) / _PRICE_STEP)

    # ---- durations

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
        """Learn from an ended task; return whether waiting queries of its model should be rescheduled.

        The task was last pending at age *low* and first seen ended at age *high*. *exact* is the duration
        that the service reports. *running* returns the ages at which the running tasks of *model* were last
        pending; it is called only for a fit that needs them. A failed task counts until one has *succeeded*.
        """
        sample = span(max(low, 0.0), high, exact)
        durations = self._durations(model)
        if sample is None or (durations.has_succeeded and not succeeded):
            return False
        if succeeded and not durations.has_succeeded:
            durations.has_succeeded = True
            durations.samples.clear()
            durations.fitted = None
        durations.samples.append(sample)
        durations.new_samples += 1
        if durations.fitted is not None:
            durations.outliers = durations.outliers + 1 if _is_outlier(sample, durations.fitted) else 0
            if durations.outliers >= _MAX_OUTLIERS:
                _keep_outliers(durations)
            elif durations.new_samples < durations.sample_size * _REFIT_SHARE:
                return False
        pending = running() if running is not None and durations.sample_size < _CENSORED_BELOW else ()
        return _refit(durations, pending)

    def median(self, model: str | None) -> float | None:
        """Return the median duration of *model* in seconds, None while no task of it has ended."""
        durations = self._models.get(model)
        return None if durations is None or durations.fitted is None else math.exp(durations.fitted.mu)

    def latest_usual_age(self, model: str | None) -> float:
        """Return the age by which 99 % of the tasks of *model* end (90 % by the prior), at most 600."""
        durations = self._durations(model)
        if durations.fitted is None:
            prior = durations.prior
            age = math.exp(prior.mu + _Z90 * math.hypot(prior.sigma, prior.mu_sigma))
        else:
            age = math.exp(durations.fitted.mu + _Z99 * durations.predictive_sigma)
        return min(age, _MAX_CALLBACK_WAIT)

    def export(self) -> dict[str, dict[str, float]]:
        """Return the fitted distributions by model, for `load` in a later run."""
        return {
            name: {"mu": durations.fitted.mu, "sigma": durations.fitted.sigma}
            for name, durations in self._models.items()
            if name is not None and durations.fitted is not None
        }

    def load(self, exported: Mapping[str, Mapping[str, float]]) -> None:
        """Start from the distributions that an earlier run exported, as if from a few samples."""
        for name, found in exported.items():
            durations, mu, sigma = self._durations(name), found["mu"], found["sigma"]
            # Pairs of samples at one standard deviation on either side have this mu and sigma.
            sides = [Span(at, at) for at in (mu - sigma, mu + sigma) if abs(at) <= _MAX_LOG]
            if len(sides) == 2:
                durations.has_succeeded = True
                durations.samples.extendleft(sides * (_LOADED_SAMPLES // 2))
                _refit(durations, ())

    def _durations(self, model: str | None) -> _Durations:
        durations = self._models.get(model)
        if durations is None:
            durations = self._models[model] = _Durations(_prior(model))
        return durations


def _refit(durations: _Durations, pending: Iterable[float]) -> bool:
    """Fit the distribution again; return whether waiting queries should be rescheduled."""
    before, weights = durations.fitted, _WEIGHTS[: len(durations.samples)]
    newest_first = zip(reversed(durations.samples), weights, strict=True)
    spans = [Span(low, high, weight) for (low, high, _), weight in newest_first]
    durations.fitted = fit([*spans, *_censored(pending)], durations.prior, before)
    durations.sample_size = sum(weights) ** 2 / sum(weight * weight for weight in weights)  # Kish
    durations.new_samples = durations.outliers = 0
    durations.explored.clear()
    durations.plans.clear()
    return before is None or _has_moved(before, durations.fitted)


def _censored(ages: Iterable[float]) -> list[Span]:
    """Return running tasks as right-censored samples, grouped by steps of age."""
    counts: dict[int, int] = {}
    for age in ages:
        if 0.0 < age < math.inf:
            step = math.floor(math.log(age) / _AGE_STEP)
            counts[step] = counts.get(step, 0) + 1
    return [Span((step + 0.5) * _AGE_STEP, math.inf, float(count)) for step, count in counts.items()]


def _is_outlier(sample: Span, fitted: LogNormal) -> bool:
    reach = _OUTLIER * fitted.sigma
    return sample.low > fitted.mu + reach or sample.high < fitted.mu - reach


def _keep_outliers(durations: _Durations) -> None:
    """Drop all samples but the last ones, which show that the distribution changed."""
    for _ in range(len(durations.samples) - _MAX_OUTLIERS):
        durations.samples.popleft()
    durations.sample_size = float(_MAX_OUTLIERS)


def _has_moved(one: LogNormal, two: LogNormal) -> bool:
    shift = _REPLAN_SHIFT
    return abs(two.mu - one.mu) > shift * one.sigma or abs(math.log(two.sigma / one.sigma)) > shift


def _shape_step(value: float) -> int:
    return round(math.log(min(max(value, _MIN_RATIO), _MAX_RATIO)) / _SHAPE_STEP)


def _prior(model: str | None) -> Prior:
    name = (model or "").lower()
    if _VIDEO.search(name):
        return _VIDEO_PRIOR
    return _IMAGE_PRIOR if _IMAGE.search(name) else _WIDE_PRIOR
