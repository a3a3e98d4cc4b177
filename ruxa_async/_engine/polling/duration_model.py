"""The log-normal distribution of a model's durations, fitted to interval-censored samples.

Polls show an interval, not a duration: a task was pending at one age and had ended at a later one. The fit is
maximum a posteriori for intervals and right-censored samples, by EM (Dempster, Laird and Rubin, J. R. Stat.
Soc. B 39, 1977), accelerated by SQUAREM (Varadhan and Roland, Scand. J. Stat. 35, 2008).

A fit of the ages at which ends are detected would drift: later polls, longer durations, still later polls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from math import erfc, exp
from typing import NamedTuple

from attrs import frozen

__all__ = ("LogNormal", "Prior", "Span", "fit", "moments", "span")

# Durations are clipped to these seconds before the logarithm: the tick of a clock, and 30 years.
_SHORTEST = 1e-3
_LONGEST = 1e9
# Bounds of sigma. Round-trip times alone spread durations by 2 %. At 3, durations two standard deviations
# apart differ by a factor of 400.
_MIN_SIGMA = 0.02
_MAX_SIGMA = 3.0
_MAX_ROUNDS = 12  # of three EM steps each; bounds the cost of a fit
_TOLERANCE = 0.01  # standard deviations at which the fit stops; the sampling error is larger
_NARROW = 0.05  # standard deviations of width below which the density within an interval counts as uniform
_FAR = 30.0  # standard deviations beyond which erfc underflows; the asymptote is then exact to a thousandth
_ROOT_HALF_PI = math.sqrt(0.5 * math.pi)
_ROOT_HALF = math.sqrt(0.5)


class Span(NamedTuple):
    """*weight* tasks, each with a log of its duration in seconds between *low* and *high*."""

    low: float
    high: float
    weight: float = 1.0


@frozen
class Prior:
    """The prior for a model without samples.

    *mu* and *sigma* are the mean and the standard deviation of the log of the duration. *mu_sigma* is the
    standard deviation of *mu* itself. *sigma* weighs as much as *samples* tasks.
    """

    mu: float
    mu_sigma: float
    sigma: float = 0.4
    samples: float = 2.0

    @property
    def weight(self) -> float:
        """The number of tasks that *mu* weighs as much as."""
        return (self.sigma / self.mu_sigma) ** 2


@frozen
class LogNormal:
    """The log of a duration in seconds is normal, with mean *mu* and standard deviation *sigma*."""

    mu: float
    sigma: float


def span(low: float, high: float, exact: float | None = None) -> Span | None:
    """Return the sample for a duration between *low* and *high* seconds, None if one of them is not finite.

    *exact* is the duration that the service reports. It is used if it lies between them; outside, one of the
    two clocks is wrong.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    high = max(low, high)
    if exact is not None and low <= exact <= high:
        low = high = exact
    return Span(_log(low) if low > 0.0 else -math.inf, _log(high))


def fit(spans: Iterable[Span], prior: Prior, start: LogNormal | None = None) -> LogNormal:
    """Return the distribution of the highest posterior probability; the iteration begins at *start*."""
    samples = list(spans)
    at = start or LogNormal(prior.mu, prior.sigma)
    for _ in range(_MAX_ROUNDS):
        one = _em_step(samples, prior, at)
        two = _em_step(samples, prior, one)
        if abs(two.mu - one.mu) + abs(two.sigma - one.sigma) < _TOLERANCE * two.sigma:
            return two
        at = _em_step(samples, prior, _extrapolated(at, one, two))
    return at


def _em_step(samples: list[Span], prior: Prior, current: LogNormal) -> LogNormal:
    """Return *current* after one EM step: expected moments (E), then the mode of the posterior (M)."""
    mu, sigma = current.mu, current.sigma
    total = first = second = 0.0  # the moments in standard deviations
    for low, high, weight in samples:
        mean, square = moments((low - mu) / sigma, (high - mu) / sigma)
        total += weight
        first += weight * mean
        second += weight * square
    total += prior.weight
    shift = (first * sigma + prior.weight * (prior.mu - mu)) / total
    squares = second * sigma * sigma + prior.weight * (prior.mu - mu) ** 2
    squares += prior.samples * prior.sigma**2 - total * shift * shift
    freedom = prior.samples + max(total - prior.weight - 1.0, 0.0)
    return _clipped(mu + shift, math.sqrt(max(squares / freedom, 0.0)))


def _extrapolated(zero: LogNormal, one: LogNormal, two: LogNormal) -> LogNormal:
    """Return the SQUAREM extrapolation (scheme S3) of two EM steps, on mu and log sigma."""
    r = (one.mu - zero.mu, math.log(one.sigma / zero.sigma))
    v = (two.mu - one.mu - r[0], math.log(two.sigma / one.sigma) - r[1])
    length = math.hypot(*v)
    if length == 0.0:
        return two
    step = min(max(math.hypot(*r) / length, 1.0), 20.0)
    mu = zero.mu + 2.0 * step * r[0] + step * step * v[0]
    log_sigma = math.log(zero.sigma) + 2.0 * step * r[1] + step * step * v[1]
    return _clipped(mu, math.exp(min(log_sigma, 2.0)))


def _clipped(mu: float, sigma: float) -> LogNormal:
    return LogNormal(
        min(max(mu, math.log(_SHORTEST)), math.log(_LONGEST)), min(max(sigma, _MIN_SIGMA), _MAX_SIGMA)
    )


def moments(low: float, high: float) -> tuple[float, float]:
    """Return the mean and mean square of a standard normal variable that is truncated to *low* to *high*."""
    if low + high < 0.0:  # work in the upper tail, where differences keep their digits
        mean, square = moments(-high, -low)
        return -mean, square
    width = high - low
    if width < _NARROW:
        mean = low + 0.5 * width
        return mean, mean * mean + width * width / 12.0
    if low > _FAR:  # nearly exponential, with rate *low*
        mean = low + min(1.0 / low, 0.5 * width)
        return mean, mean * mean
    # Inlined: this runs for each sample in each EM step.
    mass = _ROOT_HALF_PI * (erfc(low * _ROOT_HALF) - erfc(high * _ROOT_HALF))
    at_low, at_high = exp(-0.5 * low * low), exp(-0.5 * high * high)
    rest = (low * at_low if at_low else 0.0) - (high * at_high if at_high else 0.0)
    return (at_low - at_high) / mass, 1.0 + rest / mass


def _log(seconds: float) -> float:
    return math.log(min(max(seconds, _SHORTEST), _LONGEST))
