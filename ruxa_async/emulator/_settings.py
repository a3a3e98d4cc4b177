"""What an emulated service is like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from attrs import field, frozen, validators

from ._callbacks import Callbacks
from ._dialects import DIALECTS, Dialect, dialect
from ._faults import Fault
from ._limits import Limit
from ._rate_limit_headers import (
    FALSE_RATE_LIMIT_HEADERS,
    RATE_LIMIT_HEADERS_FORMS,
    RETRY_AFTER_FORMS,
    FalseRateLimitHeaders,
    RateLimitHeadersForm,
    RetryAfterForm,
)

__all__ = ("DEFAULT_PRICES", "Durations", "EmulatorSettings")

#: Credits for one generation, as a user copied them from the dashboard in April 2026 (veo: both spellings).
DEFAULT_PRICES: Mapping[str, float] = {
    "google/nano-banana": 3,
    "google/nano-banana-edit": 3,
    "google/nano-banana-2": 4,
    "google/nano-banana-pro": 8,
    "nano-banana": 3,
    "nano-banana-edit": 3,
    "nano-banana-2": 4,
    "nano-banana-pro": 8,
    "gpt-image-1": 7,
    "gpt-image-1.5": 7.1,
    "gpt-4o-image": 10,
    "sora-2": 10,
    "sora-2-hd": 20,
    "veo3": 16,
    "veo-3": 16,
    "veo3.1": 18,
    "veo-3.1": 18,
}


@frozen
class Durations:
    """Durations of tasks: log-normal, *median* in seconds, *sigma* of the logarithm (0: all equal)."""

    median: float = field(validator=validators.gt(0))
    sigma: float = field(default=0.0, validator=validators.ge(0))


def _all(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(faults)


def _a_dialect(value: str | Dialect) -> Dialect:
    return dialect(value) if isinstance(value, str) else value


@frozen(kw_only=True)
class EmulatorSettings:
    """The settings of an emulator: by default endless credits, no limits, no faults, the documented dialect.

    - *key*: the only bearer key that is accepted. *credits*: the balance of the account (default: endless).
      *prices*: the cost of each model; *default_price*: that of any other (None: other models do not exist).
    - *image*, *video* and *durations* (by model): how long tasks take; *speed* divides all of them.
      *fail_share* of the tasks fail, with *fail_code* and *fail_message*. *outputs*: files a task.
    - *creates* and *queries*: limits, a `TokenBucket` or another shape; *creates* is for both if *shared*.
      *max_running*: tasks that may run at once. Refusals have the status *throttle_status* (429 or 503) and
      name a wait in the form *retry_after*, except those of *max_running*. Every reply states what is left in
      the form *rate_limit_headers*, or, with *false_rate_limit_headers*, something false.
    - *dialect*: a `Dialect` or the name of a preset. *faults*: what fails and when. *callbacks*: how ends of
      tasks are posted to callback addresses.
    - *seed* decides every random draw. *latency*: seconds before each reply. *task_ids* "awkward": ids with
      characters that a URL must escape. *public_url*: the start of output URLs (default: the emulator's
      address). *epoch*: the Unix time at which the service's clock reads 0.
    """

    key: str = field(default="sk-emulated", repr=False)
    credits: float = field(default=math.inf, validator=validators.ge(0))
    prices: Mapping[str, float] = DEFAULT_PRICES
    default_price: float | None = 5.0

    image: Durations = Durations(10.0, 0.4)
    video: Durations = Durations(120.0, 0.3)
    durations: Mapping[str, Durations] = field(factory=dict)
    speed: float = field(default=1.0, validator=validators.gt(0))
    fail_share: float = field(default=0.0, validator=[validators.ge(0), validators.le(1)])
    fail_code: str = "500"
    fail_message: str = "The model could not make this; try another prompt"
    outputs: int = field(default=1, validator=validators.ge(0))

    creates: Limit | None = None
    queries: Limit | None = None
    shared: bool = False
    max_running: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    throttle_status: Literal[429, 503] = field(default=429, validator=validators.in_((429, 503)))
    retry_after: RetryAfterForm = field(default="none", validator=validators.in_(RETRY_AFTER_FORMS))
    rate_limit_headers: RateLimitHeadersForm = field(
        default="none", validator=validators.in_(RATE_LIMIT_HEADERS_FORMS)
    )
    false_rate_limit_headers: FalseRateLimitHeaders = field(
        default="none", validator=validators.in_(FALSE_RATE_LIMIT_HEADERS)
    )

    dialect: Dialect = field(default=DIALECTS["documented"], converter=_a_dialect)
    faults: tuple[Fault, ...] = field(default=(), converter=_all)

    callbacks: Callbacks = field(factory=Callbacks)

    seed: int = 0
    latency: float = field(default=0.0, validator=validators.ge(0))
    task_ids: Literal["plain", "awkward"] = field(
        default="plain", validator=validators.in_(("plain", "awkward"))
    )
    public_url: str | None = None
    epoch: float | None = None

    def __attrs_post_init__(self) -> None:
        if self.shared and (self.creates is None or self.queries is not None):
            raise ValueError("shared=True is one limit for everything: give it as creates, and no queries")

    def price(self, model: str) -> float | None:
        """Return the credits that *model* costs, None if there is no such model."""
        return self.prices.get(model, self.default_price)

    def lasting(self, model: str) -> Durations:
        """Return how long tasks of *model* take, before *speed*."""
        return self.durations.get(model) or (self.video if is_video(model) else self.image)


def is_video(model: str) -> bool:
    """Tell whether *model* makes videos, by its name."""
    return any(
        name in model for name in ("sora", "veo", "video", "kling", "hailuo", "wan-", "seedance", "runway")
    )
