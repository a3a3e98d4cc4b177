"""The forms in which a refusal says when to come back; none of them is documented, all have been seen elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Literal, TypeAlias, get_args

__all__ = ("RETRY_AFTER_FORMS", "RetryAfterForm", "retry_hint")

#: ``Retry-After`` in whole seconds, as a decimal or as a date; two headers in milliseconds; the draft ``RateLimit``
#: field; ``X-RateLimit-Reset`` in seconds or as a Unix time; ``retry_after`` in the body; or no word.
RetryAfterForm: TypeAlias = Literal[
    "none", "seconds", "float", "ms", "x-ms", "date", "ratelimit", "x-ratelimit", "x-ratelimit-epoch", "body"
]
RETRY_AFTER_FORMS: tuple[str, ...] = get_args(RetryAfterForm)


def retry_hint(
    form: RetryAfterForm, wait: float, wall: float, allowance: int
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Return the headers and the body's fields that say: in *wait* seconds.

    *wall* is now since the epoch, *allowance* what a rested client may send at once. Every form rounds up, so that
    whoever obeys is not refused again.
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
        names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
        return dict(zip(names, (str(allowance), "0", str(reset)), strict=True)), {}
    return headers.get(form, {}), {"retry_after": thousandths / 1000} if form == "body" else {}


def _date(wall: int) -> str:
    return formatdate(wall, usegmt=True)
