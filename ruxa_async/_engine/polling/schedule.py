"""When to poll each task.

The durations of each model are fitted with a log-normal distribution (`duration_model`). The poll times
follow from the fit and from the price of a query (`inspection`). Until a task of a model has ended, only a
few tasks are polled early, to find the first end (exploration polls).
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

# Price of a query in standard deviations of the log of the duration, times the median duration: the seconds
# of lateness that one query may cost. `Polling.price` overrides it. It leads to 5 to 6 queries a task
# (benchmarks/cadence.py); half the lateness would take twice as many.
_DEFAULT_PRICE = 0.035
# A query that the rate limit delayed multiplies the price by the first factor; one on time divides it by the
# second. They balance where one query in five is delayed (1.04 ~ 1.01 ** 4): then the rate limit is nearly
# used up, and seldom delays a query for long.
_PRICE_INCREASE = 1.04
_PRICE_DECREASE = 1.01
_MAX_PRICE_FACTOR = 30.0  # polls then are about sqrt(30) times as far apart
# Mean lateness, in medians of the duration, while creates wait for running tasks to end. The price is set so
# that it results at a hazard of 1 / (median sigma), which is about the hazard where most tasks end.
_URGENT_LATENESS = 0.012
# Plans are cached for prices that are rounded to powers of 1.5. Polls are then at most 10 % too dense or too
# sparse, which raises the expected cost by less than 1 %: it is flat around its minimum.
_PRICE_STEP = math.log(1.5)
# Shapes are cached for parameters that are rounded to powers of 1.1, since no distribution is known to 10 %
# and computing one takes as long as three requests. 64 shapes, of a few kB each, serve dozens of models.
_SHAPE_STEP = math.log(1.1)
_MAX_SHAPES = 64
# Exploration polls: four tasks are polled at each step of age, and each step is 13 % above the last one. So
# the first end is found when the task is at most 13 % older than it took.
_EXPLORATION_POLLS = 4
_EXPLORATION_GROWTH = 1.13
_AGE_STEP = math.log(_EXPLORATION_GROWTH)
# The weight of a sample shrinks by this factor with each newer one (exponential forgetting). The fit so
# follows a slow change of the service within about a hundred tasks.
_FORGETTING = 1.0 - 1.0 / 64.0
_MAX_SAMPLES = 192  # an older one weighs less than 5 %
_WEIGHTS = [_FORGETTING**back for back in range(_MAX_SAMPLES)]
# The distribution is fitted again when a third of the samples are new, so the number of fits grows with the
# logarithm of the number of tasks.
_REFIT_SHARE = 1.0 / 3.0
# Three samples in a row beyond three standard deviations show that the service changed: they replace all
# older ones. By chance that happens once in 50 million.
_MAX_OUTLIERS = 3
_OUTLIER = 3.0
# With this many samples, running tasks are left out of the fit: they would add little, and cost time.
_CENSORED_BELOW = 48.0
# Waiting queries are rescheduled when a fit moved mu by this many standard deviations, or sigma by 15 %.
_REPLAN_SHIFT = 0.15
# Samples that a distribution of an earlier run counts as: so few that ten tasks of a changed service outweigh
# it.
_LOADED_SAMPLES = 8
# Smallest and largest price and interval, in medians of the duration; others change no plan.
_MIN_RATIO, _MAX_RATIO = 1e-9, 1e9
# Quantiles of the standard normal distribution.
_Z90, _Z99 = 1.2816, 2.3263
# Most seconds without a query for a task whose callback is awaited: a lost callback delays its result no
# more.
_MAX_CALLBACK_WAIT = 600.0
# A loaded log of seconds beyond this means a damaged file: a millisecond to 30 years is -7 to 21.
_MAX_LOG = 25.0

# Words in the names of models that make videos and images, for the prior of the fit. Exploration polls do not
# depend on it.
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
    #: Effective number of samples in the fit (Kish), and the number of samples since.
    sample_size: float = 0.0
    new_samples: int = 0
    outliers_in_a_row: int = 0
    #: Exploration polls by step of age, until the first fit.
    explored: dict[int, int] = field(factory=dict)
    #: Whether a task has succeeded. Until then failed tasks are samples too.
    has_succeeded: bool = False
    #: Plans for the fit, by the level of the price and whether creates wait for tasks to end.
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
        #: Whether creates wait for running tasks to end: then tasks are polled more often, unless
        #: `Polling.price` is set.
        self.urgent: bool = False

    # ---- poll times

    def next_poll(self, model: str | None, age: float, pending_at: float | None = None) -> float:
        """Return the age at which to poll next a task that is *age* seconds old.

        *pending_at* is its age when it was last pending: *age* by default, 0 before the first poll.
        """
        return self._bounded(age, self._planned(model, age if pending_at is None else pending_at))

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
        """Return the age of the next exploration poll, a late one if four tasks are polled at that age."""
        target = max(age * _EXPLORATION_GROWTH, age + self._polling.min_interval)
        step = round(math.log(target) / _AGE_STEP) if target < math.inf else 0
        sent = durations.explored.get(step, 0)
        if sent >= _EXPLORATION_POLLS:
            return age + self._polling.max_interval
        durations.explored[step] = sent + 1
        return target

    def _plan(self, durations: _Durations, fitted: LogNormal) -> Plan:
        """Return the plan for the distribution *fitted*, with the sigma of a prediction from few samples."""
        polling, sigma, median = self._polling, durations.predictive_sigma, math.exp(fitted.mu)
        if polling.price is not None:
            price = polling.price / median
        else:
            price = _DEFAULT_PRICE * sigma
            if self.urgent:
                # Keller's interval sqrt(2 price / hazard), at a hazard of 1 / sigma, is twice the mean
                # lateness.
                price = min(price, 2.0 * _URGENT_LATENESS**2 / sigma)
        price *= math.exp(self._price_level * _PRICE_STEP)
        bounds = polling.min_interval / median, polling.max_interval / median
        return Plan(fitted.mu, self._shape(tuple(map(_shape_step, (sigma, price, *bounds)))))

    def _shape(self, steps: tuple[int, ...]) -> Shape:
        """Return the shape for sigma, price, shortest and longest interval, each as a power of 1.1."""
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
        """The factor on the price of a query, 1 to 30: more while the rate limit delays queries."""
        return self._price_factor

    def on_poll(self, *, late: bool) -> None:
        """Note that a query is sent: raise its price if the rate limit made it *late*, lower it otherwise."""
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
        """Learn the duration of an ended task; return whether to reschedule the waiting queries of its model.

        The task was pending at the age *low*, and had ended at the age *high*. *exact* is the duration that
        the service reports. *running* returns, for each task of *model* that has not ended, its age at the
        last query; it is called only for a fit that needs them. Once a task has *succeeded*, failed ones are
        ignored.
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
            durations.outliers_in_a_row = (
                durations.outliers_in_a_row + 1 if _is_outlier(sample, durations.fitted) else 0
            )
            if durations.outliers_in_a_row >= _MAX_OUTLIERS:
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
        """Return the age by which 99 % of the tasks of *model* end (90 % while none has), at most 600."""
        durations = self._durations(model)
        if durations.fitted is None:
            prior = durations.prior
            age = math.exp(prior.mu + _Z90 * math.hypot(prior.sigma, prior.mu_sigma))
        else:
            age = math.exp(durations.fitted.mu + _Z99 * durations.predictive_sigma)
        return min(age, _MAX_CALLBACK_WAIT)

    def export(self) -> dict[str, dict[str, float]]:
        """Return mu and sigma of each model's fitted distribution, for `load` in a later run."""
        return {
            name: {"mu": durations.fitted.mu, "sigma": durations.fitted.sigma}
            for name, durations in self._models.items()
            if name is not None and durations.fitted is not None
        }

    def load(self, exported: Mapping[str, Mapping[str, float]]) -> None:
        """Begin with the distributions that an earlier run exported, each as if fitted to eight samples."""
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
    """Fit the distribution again; return whether it moved enough to reschedule waiting queries.

    *pending* are the ages of the running tasks.
    """
    before, weights = durations.fitted, _WEIGHTS[: len(durations.samples)]
    newest_first = zip(reversed(durations.samples), weights, strict=True)
    spans = [Span(low, high, weight) for (low, high, _), weight in newest_first]
    durations.fitted = fit([*spans, *_censored(pending)], durations.prior, before)
    durations.sample_size = sum(weights) ** 2 / sum(weight * weight for weight in weights)  # Kish
    durations.new_samples = durations.outliers_in_a_row = 0
    durations.explored.clear()
    durations.plans.clear()
    return before is None or _has_moved(before, durations.fitted)


def _censored(ages: Iterable[float]) -> list[Span]:
    """Return running tasks of *ages* as right-censored samples: one for each step of age, with its count."""
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
    """Drop all samples but the last three, which are outliers: the distribution changed."""
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
