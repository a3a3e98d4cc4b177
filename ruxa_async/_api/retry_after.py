"""The seconds to wait that the headers of a reply name. `reply.retry_after_in_body` reads the body.

In order of precedence: ``retry-after-ms`` and ``x-ms-retry-after-ms``; ``Retry-After`` in seconds or as a
date (RFC 9110 section 10.2.3); ``RateLimit`` (IETF draft, parameter ``t``); ``RateLimit-Reset`` and
``X-RateLimit-Reset``. A date is compared with the service's clock: the reply's ``Date``, otherwise the last
one that the service sent (`ServiceClock`). Without either, it is compared with our clock, and ignored if that
gives more than two minutes. Headers come from outside and may be hostile, so malformed values are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz

__all__ = ("LONGEST", "ServiceClock", "from_reset", "number", "retry_after")

#: Seconds (30 years). Longer waits are cut to this, so that no number from outside overflows a clock.
LONGEST = 1e9

#: Seconds. A date further ahead of our clock more likely means that our clock is wrong.
_PLAUSIBLE = 120.0

_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{1,400})?", re.ASCII)
_RATELIMIT = re.compile(r"(?:;\s*r\s*=\s*(?P<r>[0-9]{1,18})[^,;]*)?;\s*t\s*=\s*(?P<t>[0-9]{1,400})", re.ASCII)
_RATELIMIT_RESET = re.compile(r"\breset\s*=\s*([0-9]{1,400})", re.ASCII)
#: A larger reset is an instant in milliseconds, or in seconds since the epoch; a smaller one is a delay.
_EPOCH_MS = 1e11
_EPOCH_S = 1e8


class ServiceClock:
    """The service's clock, as its last ``Date`` header shows it."""

    __slots__ = ("_came_at", "_date")

    def __init__(self) -> None:
        self._date = ""
        self._came_at = 0.0

    def read(self, headers: Mapping[str, str], wall_now: float) -> tuple[float, bool]:
        """Return the service's time in seconds since the epoch, and whether it is only our own *wall_now*.

        *headers* are those of a reply that arrives at *wall_now*, by a clock that is not set meanwhile.
        """
        date = headers.get("date")
        if date is not None:
            self._date, self._came_at = date, wall_now
            return wall_now, True  # not used: `retry_after` compares with the reply's own date
        sent = _date(self._date) if self._date else None
        return (wall_now, True) if sent is None else (sent + wall_now - self._came_at, False)


def retry_after(
    headers: Mapping[str, str], *, wall_now: float, estimated: bool = False, rate_limit_headers: bool = True
) -> float | None:
    """Return the seconds to wait that *headers* ask for, from 0 to `LONGEST`; None if they ask for none.

    *headers* are looked up by lower-case names. *wall_now* is the service's time in seconds since the epoch,
    for dates in a reply without ``Date``. With *estimated* it is our own time, which may be hours off: then a
    date counts only if it is at most two minutes ahead. *rate_limit_headers* says whether the ``RateLimit``
    fields count: some services send them with every reply, so they mean a wait only in a 429.
    """
    seconds = _retry_after(headers, wall_now, estimated=estimated)
    if seconds is None and rate_limit_headers:
        seconds = _rate_limit_headers(headers, wall_now, estimated=estimated)
    return None if seconds is None else min(max(seconds, 0.0), LONGEST)


def _retry_after(headers: Mapping[str, str], wall_now: float, *, estimated: bool) -> float | None:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (ms := number(headers.get(name))) is not None:
            return ms / 1000
    plain = headers.get("retry-after")
    if plain is not None:
        seconds = number(plain)
        if seconds is None:
            seconds = _until(_date(plain), headers, wall_now, estimated=estimated)
        return seconds
    return None


def _rate_limit_headers(headers: Mapping[str, str], wall_now: float, *, estimated: bool) -> float | None:
    field = headers.get("ratelimit")
    if field is not None and (seconds := _exhausted(field)) is not None:
        return seconds
    for name in ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"):
        reset = number(headers.get(name))
        if reset is not None:
            return from_reset(reset, headers, wall_now, estimated=estimated)
    return None


def _exhausted(field: str) -> float | None:
    """Return the seconds until the used-up limits of a ``RateLimit`` field reset (or all of them)."""
    members = [(match["r"], float(match["t"])) for match in _RATELIMIT.finditer(field)]
    used_up = [t for r, t in members if r is not None and int(r) == 0]
    if members:
        return max(used_up or [t for _, t in members])
    match = _RATELIMIT_RESET.search(field)
    return None if match is None else float(match[1])


def from_reset(
    reset: float, headers: Mapping[str, str], wall_now: float, *, estimated: bool = False
) -> float | None:
    """Return the seconds until *reset*, below 0 if it has passed.

    Some services send a delay in seconds, others an instant in seconds or milliseconds since the epoch.
    """
    if reset < _EPOCH_S:
        return reset
    return _until(reset / 1000 if reset >= _EPOCH_MS else reset, headers, wall_now, estimated=estimated)


def number(text: str | None) -> float | None:
    """Return the decimal number in *text*; None if it has a sign, exponent, separator or non-ASCII digit."""
    if text is None or not _NUMBER.fullmatch(text := text.strip()):
        return None
    return float(text)


def _date(text: str) -> float | None:
    """Return the HTTP date in *text* in seconds since the epoch, None if it is not one."""
    try:
        parsed = parsedate_tz(text)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _until(
    instant: float | None, headers: Mapping[str, str], wall_now: float, *, estimated: bool
) -> float | None:
    if instant is None:
        return None
    sent = _date(headers.get("date") or "")
    wait = instant - (wall_now if sent is None else sent)
    return None if estimated and sent is None and not 0 <= wait <= _PLAUSIBLE else wait
