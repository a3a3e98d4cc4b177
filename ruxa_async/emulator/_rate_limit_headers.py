"""Headers that name a wait or what is left of a quota. None is documented; other services send them all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Literal, TypeAlias, get_args

from attrs import evolve

from ._limiters import Standing

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

#: ``Retry-After`` in whole seconds, as a decimal or as a date; two headers in milliseconds; the draft
#: ``RateLimit`` field; ``X-RateLimit-Reset`` in seconds or as a Unix time; ``retry_after`` in the body; or no
#: word.
RetryAfterForm: TypeAlias = Literal[
    "none", "seconds", "float", "ms", "x-ms", "date", "ratelimit", "x-ratelimit", "x-ratelimit-epoch", "body"
]
RETRY_AFTER_FORMS: tuple[str, ...] = get_args(RetryAfterForm)

#: ``RateLimit`` and ``RateLimit-Policy`` as in the IETF's draft 10, in its seventh and in its third; three
#: numbers in ``X-RateLimit``, the reset in seconds, or as a Unix time in seconds or milliseconds; or no word.
RateLimitHeadersForm: TypeAlias = Literal[
    "none", "ratelimit", "draft7", "draft3", "x-ratelimit", "x-ratelimit-epoch", "x-ratelimit-ms"
]
RATE_LIMIT_HEADERS_FORMS: tuple[str, ...] = get_args(RateLimitHeadersForm)

#: What such fields may say instead of the truth: never anything left, always everything, ten times the limit,
#: or one request a minute.
FalseRateLimitHeaders: TypeAlias = Literal["none", "empty", "plenty", "high", "low"]
FALSE_RATE_LIMIT_HEADERS: tuple[str, ...] = get_args(FalseRateLimitHeaders)


def rate_limit_headers(
    form: RateLimitHeadersForm, standing: Standing, wall: float, lie: FalseRateLimitHeaders = "none"
) -> Mapping[str, str]:
    """Return the headers that say how a client stands. *wall* is now since the epoch."""
    if form == "none":
        return {}
    standing = _lied(standing, lie)
    limit, left, reset = str(standing.limit), str(standing.left), str(math.ceil(standing.more_in))
    window = "" if standing.per is None else f";w={standing.per}"
    if standing.burst is not None:
        window += f";burst={standing.burst}"
    if form == "ratelimit":
        policy = f'"default";q={limit}{window}'
        return {"ratelimit-policy": policy, "ratelimit": f'"default";r={left};t={reset}'}
    if form == "draft7":
        policy = f"{limit}{window}"
        return {"ratelimit-policy": policy, "ratelimit": f"limit={limit}, remaining={left}, reset={reset}"}
    if form == "draft3":
        return _three("ratelimit", f"{limit}, {limit}{window}" if window else limit, left, reset)
    if form == "x-ratelimit-epoch":
        reset = str(math.ceil(wall + standing.more_in))
    elif form == "x-ratelimit-ms":
        reset = str(math.ceil(1000 * (wall + standing.more_in)))
    limit = str(standing.burst or standing.limit)  # who says no window says what may come at once
    return {**_three("x-ratelimit", limit, left, reset), "date": _date(math.floor(wall))}


def _three(prefix: str, *values: str) -> dict[str, str]:
    return dict(zip((f"{prefix}-limit", f"{prefix}-remaining", f"{prefix}-reset"), values, strict=True))


def _lied(standing: Standing, lie: FalseRateLimitHeaders) -> Standing:
    if lie == "empty":
        return evolve(standing, left=0, more_in=3600.0)
    if lie == "plenty":
        return evolve(standing, left=standing.limit)
    if lie == "high":
        return evolve(standing, limit=10 * standing.limit, left=9 * standing.limit + standing.left)
    if lie == "low":
        return Standing(limit=1, per=60, left=0, more_in=60.0)
    return standing


def retry_hint(
    form: RetryAfterForm, wait: float, wall: float, allowance: int
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return the headers and the body's fields that say: in *wait* seconds.

    *wall* is now since the epoch, *allowance* what a rested client may send at once. Every form rounds up, so
    that a client that waits is not refused again.
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
