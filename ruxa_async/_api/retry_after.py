"""How long the service asks us to wait, in every form that services say it.

In order of authority: ``retry-after-ms`` and ``x-ms-retry-after-ms``, ``Retry-After`` in seconds or as a date
(RFC 9110 section 10.2.3), the ``RateLimit`` field (IETF draft, ``t``) and its predecessors ``RateLimit-Reset`` and
``X-RateLimit-Reset``. A date is compared with the service's clock: the reply's own ``Date``, else the last one that it
sent (`ServiceClock`). Where it never sent one, only our clock is left, and a date far from it counts as not said.
Text that is none of these counts as not said: headers come from outside, and some are hostile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz

__all__ = ("LONGEST", "ServiceClock", "from_reset", "number", "retry_after")

#: Longer waits than 30 years are cut to this, so that no number from outside can overflow a clock.
LONGEST = 1e9

#: seconds; where only our own clock is left, a date further ahead tells more of that clock than of the service.
_PLAUSIBLE = 120.0

_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{1,400})?", re.ASCII)
_RATELIMIT = re.compile(r"(?:;\s*r\s*=\s*(?P<r>[0-9]{1,18})[^,;]*)?;\s*t\s*=\s*(?P<t>[0-9]{1,400})", re.ASCII)
_RATELIMIT_RESET = re.compile(r"\breset\s*=\s*([0-9]{1,400})", re.ASCII)
_EPOCH_MS = 1e11
_EPOCH_S = 1e8


class ServiceClock:
    """The service's clock, read off the last ``Date`` that it sent."""

    __slots__ = ("_came_at", "_date")

    def __init__(self) -> None:
        self._date = ""
        self._came_at = 0.0

    def read(self, headers: Mapping[str, str], wall_now: float) -> tuple[float, bool]:
        """Return the service's time in seconds since the epoch, and whether *wall_now* had to stand in for it.

        *headers* are those of a reply that arrives at *wall_now*, by a clock of ours that is never set.
        """
        date = headers.get("date")
        if date is not None:
            self._date, self._came_at = date, wall_now
            return wall_now, True  # its own date comes first, if it can be read
        sent = _date(self._date) if self._date else None
        return (wall_now, True) if sent is None else (sent + wall_now - self._came_at, False)


def retry_after(
    headers: Mapping[str, str], *, wall_now: float, estimated: bool = False, rate_limit_headers: bool = True
) -> float | None:
    """Return the seconds that *headers* ask to wait, None if they do not say.

    *headers* are looked up by lower-case names. *wall_now* is the service's time in seconds since the epoch, used for
    dates where the reply has no ``Date``. With *estimated* it is only the time here, which may be hours off: a date
    counts then if it is at most two minutes ahead. The ``RateLimit`` fields stand on every reply of some services,
    so they count only with *rate_limit_headers*: where the reply is a refusal for the rate. The answer is never
    negative, nor above `LONGEST`.
    """
    told = _told(headers, wall_now, estimated=estimated)
    if told is None and rate_limit_headers:
        told = _rate_limit_headers(headers, wall_now, estimated=estimated)
    return None if told is None else min(max(told, 0.0), LONGEST)


def _told(headers: Mapping[str, str], wall_now: float, *, estimated: bool) -> float | None:
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
    if field is not None and (told := _exhausted(field)) is not None:
        return told
    for name in ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"):
        reset = number(headers.get(name))
        if reset is not None:
            return from_reset(reset, headers, wall_now, estimated=estimated)
    return None


def _exhausted(field: str) -> float | None:
    """Return the seconds until the limits in a ``RateLimit`` field that are used up are not; of any, if none says so."""
    members = [(match["r"], float(match["t"])) for match in _RATELIMIT.finditer(field)]
    used_up = [t for r, t in members if r is not None and int(r) == 0]
    if members:
        return max(used_up or [t for _, t in members])
    match = _RATELIMIT_RESET.search(field)
    return None if match is None else float(match[1])


def from_reset(
    reset: float, headers: Mapping[str, str], wall_now: float, *, estimated: bool = False
) -> float | None:
    """Return the seconds in *reset*, below 0 if they are over, which some send as a delta and some as an instant in seconds or ms."""
    if reset < _EPOCH_S:
        return reset
    return _until(reset / 1000 if reset >= _EPOCH_MS else reset, headers, wall_now, estimated=estimated)


def number(text: str | None) -> float | None:
    """Return the plain decimal number in *text*: no sign, exponent, separator or foreign digit."""
    if text is None or not _NUMBER.fullmatch(text := text.strip()):
        return None
    return float(text)


def _date(text: str) -> float | None:
    """Return the instant that *text* names as an HTTP date."""
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
