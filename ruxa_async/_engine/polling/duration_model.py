"""How long tasks of one model take: a log-normal law, learned from what was seen of them.

What is seen of a duration is an interval: the age at which the task was last pending, and the age at which it was first
known to have ended. The law is the most likely one for such intervals (maximum likelihood for grouped and censored data
by EM: Dempster, Laird and Rubin, J. R. Stat. Soc. B 39, 1977), sped up by the extrapolation SQUAREM (Varadhan and
Roland, Scand. J. Stat. 35, 2008). Learning from the moment of detection instead drifts: late looks, longer
durations, later looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from math import erfc, exp
from typing import NamedTuple

from attrs import frozen

__all__ = ("LogNormal", "Prior", "Span", "fit", "moments", "span")

# What goes into the logarithm, in seconds: from a clock's tick to 30 years.
_LEAST = 1e-3
_MOST = 1e9
# Bounds of sigma. Below, the law would be surer than round trips allow; above, it says nothing.
_NARROWEST = 0.02
_WIDEST = 3.0
_ROUNDS = 12
_CLOSE = 0.01  # of a standard deviation; the law itself is never known as well as that
_NARROW = 0.05  # standard deviations over which a density is as good as even
_FAR = 30.0  # standard deviations beyond which erfc underflows and the asymptote is exact to a thousandth
_ROOT_HALF_PI = math.sqrt(0.5 * math.pi)
_ROOT_HALF = math.sqrt(0.5)


class Span(NamedTuple):
    """The logarithm of a duration in seconds lies from *low* to *high*; *weight* counts like so many tasks."""

    low: float
    high: float
    weight: float = 1.0


@frozen
class Prior:
    """What is believed of a model before anything was seen of it.

    *sigma* is the spread of the log of the durations, believed as if *seen* tasks had shown it; *doubt* is the
    standard deviation of the belief in *mu*.
    """

    mu: float
    doubt: float
    sigma: float = 0.4
    seen: float = 2.0

    @property
    def weight(self) -> float:
        """How many tasks the belief in *mu* is worth."""
        return (self.sigma / self.doubt) ** 2


@frozen
class LogNormal:
    """The log of a duration in seconds is normal about *mu* with *sigma*."""

    mu: float
    sigma: float


def span(low: float, high: float, exact: float | None = None) -> Span | None:
    """Return the span of a duration between *low* and *high* seconds, None if that says nothing.

    *exact* is believed where it lies between them: outside, one of the two clocks is wrong.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    high = max(low, high)
    if exact is not None and low <= exact <= high:
        low = high = exact
    return Span(_log(low) if low > 0.0 else -math.inf, _log(high))


def fit(spans: Iterable[Span], prior: Prior, start: LogNormal | None = None) -> LogNormal:
    """Return the most likely law; *start* is a guess at it, by default what the prior says."""
    seen = list(spans)
    at = start or LogNormal(prior.mu, prior.sigma)
    for _ in range(_ROUNDS):
        one = _improved(seen, prior, at)
        two = _improved(seen, prior, one)
        if abs(two.mu - one.mu) + abs(two.sigma - one.sigma) < _CLOSE * two.sigma:
            return two
        at = _improved(seen, prior, _extrapolated(at, one, two))
    return at


def _improved(spans: list[Span], prior: Prior, law: LogNormal) -> LogNormal:
    """Return what one step of EM makes of *law*."""
    mu, sigma = law.mu, law.sigma
    total = first = second = 0.0  # the moments in standard deviations
    for low, high, weight in spans:
        mean, square = moments((low - mu) / sigma, (high - mu) / sigma)
        total += weight
        first += weight * mean
        second += weight * square
    total += prior.weight
    shift = (first * sigma + prior.weight * (prior.mu - mu)) / total
    squares = second * sigma * sigma + prior.weight * (prior.mu - mu) ** 2
    squares += prior.seen * prior.sigma**2 - total * shift * shift
    freedom = prior.seen + max(total - prior.weight - 1.0, 0.0)
    return _law(mu + shift, math.sqrt(max(squares / freedom, 0.0)))


def _extrapolated(zero: LogNormal, one: LogNormal, two: LogNormal) -> LogNormal:
    """Return where the steps from *zero* over *one* to *two* lead (SQUAREM, scheme S3), on mu and log sigma."""
    r = (one.mu - zero.mu, math.log(one.sigma / zero.sigma))
    v = (two.mu - one.mu - r[0], math.log(two.sigma / one.sigma) - r[1])
    length = math.hypot(*v)
    if length == 0.0:
        return two
    step = min(max(math.hypot(*r) / length, 1.0), 20.0)
    mu = zero.mu + 2.0 * step * r[0] + step * step * v[0]
    log_sigma = math.log(zero.sigma) + 2.0 * step * r[1] + step * step * v[1]
    return _law(mu, math.exp(min(log_sigma, 2.0)))


def _law(mu: float, sigma: float) -> LogNormal:
    return LogNormal(min(max(mu, math.log(_LEAST)), math.log(_MOST)), min(max(sigma, _NARROWEST), _WIDEST))


def moments(low: float, high: float) -> tuple[float, float]:
    """Return mean and mean square of a standard normal variable known to lie from *low* to *high*."""
    if low + high < 0.0:  # work in the upper tail, where differences keep their digits
        mean, square = moments(-high, -low)
        return -mean, square
    width = high - low
    if width < _NARROW:
        mean = low + 0.5 * width
        return mean, mean * mean + width * width / 12.0
    if low > _FAR:  # all but exponential, with rate low
        mean = low + min(1.0 / low, 0.5 * width)
        return mean, mean * mean
    # Written out, for this is called for each span at each step of a fit.
    mass = _ROOT_HALF_PI * (erfc(low * _ROOT_HALF) - erfc(high * _ROOT_HALF))
    at_low, at_high = exp(-0.5 * low * low), exp(-0.5 * high * high)
    rest = (low * at_low if at_low else 0.0) - (high * at_high if at_high else 0.0)
    return (at_low - at_high) / mass, 1.0 + rest / mass


def _log(seconds: float) -> float:
    return math.log(min(max(seconds, _LEAST), _MOST))
