"""Headers that state a wait, or what remains of a quota. The service documents none of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Literal, TypeAlias, get_args

from attrs import evolve

from ._limit_state import QuotaStatus

__all__ = (
    "FALSE_RATE_LIMIT_HEADERS",
    "RATE_LIMIT_HEADERS_FORMS",
    "RETRY_AFTER_FORMS",
    "FalseRateLimitHeaders",
    "RateLimitHeadersForm",
    "RetryAfterForm",
    "rate_limit_headers",
    "retry_hint",
)

#: The form in which a rejection names the wait. ``seconds``, ``float``, ``date``: ``Retry-After`` in whole
#: seconds, as a decimal number or as a date. ``ms``: ``retry-after-ms``. ``x-ms``: ``x-ms-retry-after-ms``.
#: ``ratelimit``: the ``RateLimit`` header. ``x-ratelimit``, ``x-ratelimit-epoch``: ``X-RateLimit-Reset`` in
#: seconds or as a Unix time. ``body``: ``retry_after`` in the body, in seconds. ``none``: not at all.
RetryAfterForm: TypeAlias = Literal[
    "none", "seconds", "float", "ms", "x-ms", "date", "ratelimit", "x-ratelimit", "x-ratelimit-epoch", "body"
]
RETRY_AFTER_FORMS: tuple[str, ...] = get_args(RetryAfterForm)

#: The form in which every reply states what remains. ``ratelimit``, ``draft7``, ``draft3``: ``RateLimit`` and
#: ``RateLimit-Policy`` as in drafts 10, 7 and 3 of the IETF. ``x-ratelimit``: three ``X-RateLimit-*`` headers
#: with the reset in seconds; ``-epoch``, ``-ms``: as a Unix time in seconds or milliseconds.
RateLimitHeadersForm: TypeAlias = Literal[
    "none", "ratelimit", "draft7", "draft3", "x-ratelimit", "x-ratelimit-epoch", "x-ratelimit-ms"
]
RATE_LIMIT_HEADERS_FORMS: tuple[str, ...] = get_args(RateLimitHeadersForm)

#: What these headers state instead of the truth. ``empty``: nothing remains for an hour. ``plenty``: all
#: requests remain. ``high``: ten times the limit. ``low``: one request a minute, and nothing remains.
FalseRateLimitHeaders: TypeAlias = Literal["none", "empty", "plenty", "high", "low"]
FALSE_RATE_LIMIT_HEADERS: tuple[str, ...] = get_args(FalseRateLimitHeaders)


def rate_limit_headers(
    form: RateLimitHeadersForm, quota: QuotaStatus, wall: float, false: FalseRateLimitHeaders = "none"
) -> Mapping[str, str]:
    """Return the headers that state *quota*, or something *false*. *wall* is the current Unix time."""
    if form == "none":
        return {}
    quota = _falsified(quota, false)
    limit, left, reset = str(quota.limit), str(quota.remaining), str(math.ceil(quota.reset_in))
    window = "" if quota.per is None else f";w={quota.per}"
    if quota.burst is not None:
        window += f";burst={quota.burst}"
    if form == "ratelimit":
        policy = f'"default";q={limit}{window}'
        return {"ratelimit-policy": policy, "ratelimit": f'"default";r={left};t={reset}'}
    if form == "draft7":
        policy = f"{limit}{window}"
        return {"ratelimit-policy": policy, "ratelimit": f"limit={limit}, remaining={left}, reset={reset}"}
    if form == "draft3":
        return _three("ratelimit", f"{limit}, {limit}{window}" if window else limit, left, reset)
    if form == "x-ratelimit-epoch":
        reset = str(math.ceil(wall + quota.reset_in))
    elif form == "x-ratelimit-ms":
        reset = str(math.ceil(1000 * (wall + quota.reset_in)))
    limit = str(quota.burst or quota.limit)  # without a window, the limit is what may come at once
    return {**_three("x-ratelimit", limit, left, reset), "date": _date(math.floor(wall))}


def _three(prefix: str, *values: str) -> dict[str, str]:
    return dict(zip((f"{prefix}-limit", f"{prefix}-remaining", f"{prefix}-reset"), values, strict=True))


def _falsified(quota: QuotaStatus, false: FalseRateLimitHeaders) -> QuotaStatus:
    if false == "empty":
        return evolve(quota, remaining=0, reset_in=3600.0)
    if false == "plenty":
        return evolve(quota, remaining=quota.limit)
    if false == "high":
        return evolve(quota, limit=10 * quota.limit, remaining=9 * quota.limit + quota.remaining)
    if false == "low":
        return QuotaStatus(limit=1, per=60, remaining=0, reset_in=60.0)
    return quota


def retry_hint(
    form: RetryAfterForm, wait: float, wall: float, allowance: int
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return the headers and the fields of the body that name a wait of *wait* seconds.

    *wall* is the current Unix time, *allowance* the number of requests that are accepted at once after a
    rest. Every form rounds up, so that a client that obeys is not rejected again.
    """
    whole = max(1, math.ceil(wait))
    thousandths = max(1, math.ceil(wait * 1000))
    reset = whole if form == "x-ratelimit" else math.ceil(wall + wait)
    headers: dict[str, Mapping[str, str]] = {
        "seconds": {"retry-after": str(whole)},
        "float": {"retry-after": f"{thousandths / 1000:.3f}"},
        "ms": {"retry-after-ms": str(thousandths)},
        "x-ms": {"x-ms-retry-after-ms": str(thousandths)},
        "date": {"retry-after": _date(math.ceil(wall + wait)), "date": _date(math.floor(wall))},
        "ratelimit": {"ratelimit": f'"default";r=0;t={whole}'},
    }
    if form.startswith("x-ratelimit"):
        return _three("x-ratelimit", str(allowance), "0", str(reset)), {}
    return headers.get(form, {}), {"retry_after": thousandths / 1000} if form == "body" else {}


def _date(wall: int) -> str:
    return formatdate(wall, usegmt=True)
