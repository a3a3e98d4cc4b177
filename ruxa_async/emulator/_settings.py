"""The settings of an emulated service, and their defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from attrs import Factory, field, frozen, validators

from ruxa_async._price_list import PriceList

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

__all__ = (
    "CALLBACK_STYLES",
    "DEFAULT_PRICES",
    "CallbackStyle",
    "Callbacks",
    "Durations",
    "EmulatorSettings",
    "is_video",
)

#: Credits for one generation, from the dashboard of the service in April 2026 (veo in both spellings).
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

#: The body of a callback. ``query``: the reply to a query in the service's dialect. ``sibling``: that in the
#: dialect of the sibling service, with code 501 for a failed task. ``flat`` and ``flat_id``: state and
#: ``resultUrls`` at the root, without and with the task id. ``snake``: flat, with names in snake case.
#: ``no_id``: an envelope without the id. ``id_only``: only the id. ``empty``: no body. ``mixed``: all of them
#: in turn. The service documents none; these follow samples, siblings and clients.
CallbackStyle: TypeAlias = Literal[
    "query", "sibling", "flat", "flat_id", "snake", "no_id", "id_only", "empty", "mixed"
]
CALLBACK_STYLES: tuple[CallbackStyle, ...] = get_args(CallbackStyle)


@frozen
class Durations:
    """Log-normal durations of tasks: *median* in seconds, *sigma* of the logarithm (default 0: all equal)."""

    median: float = field(validator=validators.gt(0))
    sigma: float = field(default=0.0, validator=validators.ge(0))


_IS_SHARE = validators.and_(validators.ge(0.0), validators.le(1.0))


@frozen(kw_only=True)
class Callbacks:
    """When and what the service posts to the callback address of a create; by default once, as the task ends.

    - *style*: the body, one of `CALLBACK_STYLES`. *signing_key*: sign each post with this key, as the sibling
      service (docs.kie.ai) does (None: no signature).
    - *delay*: seconds from the end of a task to its post; *spread*: up to this many seconds more at random,
      so that posts arrive out of order. *progress*: post the state at half of the duration too.
    - *lost*, *duplicated*: the shares of the tasks, from 0 to 1, that are not posted, and posted twice.
    - *forged*, *malformed*: the shares of the tasks for which a stranger posts while they run: a success to
      an address with a wrong token, and invalid JSON to the right address.
    - *attempts*: the most times that a post is sent, until a 2xx reply. *pause*: seconds before the second
      attempt, doubled before each further one.

    Raises ValueError for a value outside its range.
    """

    style: CallbackStyle = field(default="query", validator=validators.in_(CALLBACK_STYLES))
    delay: float = field(default=0.0, validator=validators.ge(0))
    spread: float = field(default=0.0, validator=validators.ge(0))
    lost: float = field(default=0.0, validator=_IS_SHARE)
    duplicated: float = field(default=0.0, validator=_IS_SHARE)
    forged: float = field(default=0.0, validator=_IS_SHARE)
    malformed: float = field(default=0.0, validator=_IS_SHARE)
    progress: bool = False
    signing_key: str | None = field(default=None, repr=False)
    attempts: int = field(default=1, validator=validators.ge(1))
    pause: float = field(default=1.0, validator=validators.gt(0))


def _as_tuple(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(faults)


def _as_dialect(value: str | Dialect) -> Dialect:
    return dialect(value) if isinstance(value, str) else value


@frozen(kw_only=True)
class EmulatorSettings:
    """The settings of an emulated service. By default: unlimited credits and rates, no faults, as documented.

    Account:

    - *key*: the only API key that is accepted (default: ``sk-emulated``). *credits*: its balance (infinite).
    - *prices*: credits for a generation of each model (real ones), with parameters as in
      `Budget.prices <ruxa_async.settings.Budget>`. *default_price*: those of any other model
      (5); None: other models do not exist.

    Tasks:

    - *image*, *video*: the `Durations` of tasks in seconds, by the kind of model (medians of 10 and 120 s);
      *durations*: those of single models. *speed* divides them all (1).
    - *fail_share*: the share of tasks that fail, from 0 to 1 (0), with *fail_code* and *fail_message*.
    - *outputs*: the number of files of a task (1).

    Limits:

    - *creates*, *queries*: limits of requests, such as `TokenBucket` (None: unlimited). *shared*: the limit
      of creates counts queries too (False).
    - *max_running*: the number of tasks that may run at once (None: unlimited).
    - *throttle_status*: the HTTP status of a rejection, 429 (default) or 503.
    - *retry_after*: the form in which a rejection names the wait (none); one for *max_running* never does.
    - *rate_limit_headers*: the form in which every reply states what remains (none).
    - *false_rate_limit_headers*: what these headers state instead of the truth (none: they are true).

    Replies and failures:

    - *dialect*: a `Dialect`, or the name of one in `DIALECTS` (documented).
    - *faults*: every `Fault` that may happen. *callbacks*: how the ends of tasks are posted.
    - *latency*: seconds before each reply (0). *seed*: decides every random draw (0).
    - *task_ids*: ``"awkward"`` for ids with characters that a URL must escape (plain).
    - *public_url*: the start of output URLs (the address of the `Emulator`; ``https://emulator.test`` for a
      `Service` alone).
    - *epoch*: the Unix time at which the service's clock reads 0 (`Emulator`: so that it shows the real time;
      `Service` alone: 1.7e9).

    Raises ValueError for a value outside its range, an unknown dialect, or *shared* without *creates* or
    with *queries*.
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

    dialect: Dialect = field(default=DIALECTS["documented"], converter=_as_dialect)
    faults: tuple[Fault, ...] = field(default=(), converter=_as_tuple)

    callbacks: Callbacks = field(factory=Callbacks)

    seed: int = 0
    latency: float = field(default=0.0, validator=validators.ge(0))
    task_ids: Literal["plain", "awkward"] = field(
        default="plain", validator=validators.in_(("plain", "awkward"))
    )
    public_url: str | None = None
    epoch: float | None = None
    _price_list: PriceList = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: PriceList(self.prices), takes_self=True),
    )

    def __attrs_post_init__(self) -> None:
        if self.shared and (self.creates is None or self.queries is not None):
            raise ValueError("shared=True is one limit for everything: give it as creates, and no queries")

    def price(self, model: str, given: Mapping[str, Any]) -> float | None:
        """Return the credits for a generation by *model* of the input *given*, None without that model."""
        price = self.prices.get(self._price_list.key_of(model, given))
        return self.default_price if price is None else price

    def durations_of(self, model: str) -> Durations:
        """Return the durations of tasks of *model*, not yet divided by *speed*."""
        return self.durations.get(model) or (self.video if is_video(model) else self.image)


_VIDEO_NAMES = ("sora", "veo", "video", "kling", "hailuo", "wan-", "seedance", "runway")


def is_video(model: str) -> bool:
    """Return whether *model* makes videos, by its name."""
    return any(name in model for name in _VIDEO_NAMES)
