"""Read the quota that the headers of a reply describe, in every form that services use.

The IETF fields ``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers, 8 and later:
``"name";r=50;t=30`` and ``"name";q=100;w=60``; before: ``limit=100, remaining=50, reset=30`` and
``100;w=60``; still before: ``RateLimit-Limit``, ``-Remaining``, ``-Reset``), and ``X-RateLimit-Limit``,
``-Remaining``, ``-Reset``. Of several quotas, the one with the least remaining counts, with the policy of the
shortest window, because that one sets the pace. A policy that does not count requests
(``qu="content-bytes"``) is ignored. Headers come from outside and may be hostile, so malformed values are
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from attrs import frozen

from .retry_after import LONGEST, from_reset, number

__all__ = ("Quota", "read_quota")

#: Characters; longer header fields are cut, so that a hostile one costs no time.
_LONGEST_FIELD = 1000
#: Larger counts of requests are cut to this; longer windows, in seconds, are ignored.
_LARGEST_COUNT = 1_000_000_000
_LONGEST_WINDOW = 31 * 86_400.0

_MEMBER = re.compile(r'(?:"[^"]*"|[^,"])+')
_NAMED = re.compile(r'\s*(?:"([^"]*)"|([^;\s]*))(.*)', re.DOTALL)
_PARAMETER = re.compile(r'([a-z]+)\s*=\s*(?:"([^"]*)"|([^;,"\s]+))')
_OLDER = re.compile(r"\s*(?:limit|remaining|reset)\s*=")
_COUNT = re.compile(r"\s*([0-9]{1,10})(?![\w.])", re.ASCII)
_NUMBERS = tuple(
    (f"{prefix}-limit", f"{prefix}-remaining", f"{prefix}-reset")
    for prefix in ("x-ratelimit", "ratelimit", "x-rate-limit")
)


@frozen
class Quota:
    """*limit* requests in *per* seconds, at most *burst* at once.

    *remaining* requests may be sent in the next *reset* seconds. Services round *reset*, so it may be *rough*
    seconds too long. *name* is the service's name for the quota. What the headers do not name is None.
    """

    name: str = ""
    limit: int | None = None
    per: float | None = None
    burst: int | None = None
    remaining: int | None = None
    reset: float | None = None
    rough: float = 1.0


def read_quota(headers: Mapping[str, str], *, wall_now: float, estimated: bool = False) -> Quota | None:
    """Return the quota that *headers* describe, None if they describe none.

    They are looked up by lower-case names. *wall_now* is in seconds since the epoch, for a reset that is an
    instant in a reply without ``Date``.
    """
    # Nearly all replies have none, so each form costs one lookup.
    if "ratelimit" in headers or "ratelimit-policy" in headers:
        return _structured(headers.get("ratelimit", ""), headers.get("ratelimit-policy", ""))
    for names in _NUMBERS:
        if names[0] in headers or names[1] in headers:
            return _plain(headers, wall_now, *names, estimated=estimated)
    return None


# ---- RateLimit and RateLimit-Policy


def _structured(field: str, policies: str) -> Quota | None:
    if _OLDER.match(field):
        return _older(field, policies)
    counted, others = _policies(policies)
    left = [
        (remaining, -(reset or 0.0), name, reset)
        for name, parameters in _members(field)
        if name not in others and (remaining := _count(parameters.get("r"))) is not None
        for reset in (_wait(number(parameters.get("t"))),)
    ]
    policy = min(counted, key=lambda each: each.per or 0.0, default=Quota())
    if not left:
        return policy if policy.limit is not None else None
    remaining, _, name, reset = min(left, key=lambda each: each[:3])  # not the reset, which may be None
    if policy.limit is None:
        return Quota(name=name, remaining=remaining, reset=reset)
    return Quota(policy.name, policy.limit, policy.per, policy.burst, remaining, reset)


def _older(field: str, policies: str) -> Quota | None:
    parameters = {name: a or b for name, a, b in _PARAMETER.findall(field[:_LONGEST_FIELD])}
    limit, reset = parameters.get("limit", ""), number(parameters.get("reset"))
    return _one(limit, policies, parameters.get("remaining"), reset)


def _policies(text: str) -> tuple[list[Quota], set[str]]:
    """Return the policies that count requests, and the names of those that count something else."""
    counted: list[Quota] = []
    others: set[str] = set()
    for name, parameters in _members(text):
        if parameters.get("qu", "requests") != "requests":
            others.add(name)
            continue
        limit, per = _count(parameters.get("q") or name), _window(parameters.get("w"))
        if limit and per is not None:
            burst = _count(parameters.get("burst"))
            counted.append(
                Quota(name if "q" in parameters else "", limit, per, min(burst, limit) if burst else None)
            )
    return counted, others


def _members(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the parameters of each member of a list."""
    for member in _MEMBER.findall(text[:_LONGEST_FIELD]):
        named = _NAMED.fullmatch(member)
        assert named is not None  # the pattern matches any text
        quoted, plain, rest = named.groups("")
        yield quoted or plain, {key: a or b for key, a, b in _PARAMETER.findall(rest)}


# ---- a header for each number


def _plain(
    headers: Mapping[str, str],
    wall_now: float,
    limit_name: str,
    remaining_name: str,
    reset_name: str,
    *,
    estimated: bool,
) -> Quota | None:
    limit = headers.get(limit_name, "")
    reset = number(headers.get(reset_name))
    seconds = None if reset is None else from_reset(reset, headers, wall_now, estimated=estimated)
    # An instant and the date it is compared with are both rounded to whole seconds.
    rough = 1.0 if seconds == reset else 2.0
    return _one(limit, limit.partition(",")[2], headers.get(remaining_name), seconds, rough)


def _one(
    limit: str, policies: str, remaining: str | None, reset: float | None, rough: float = 1.0
) -> Quota | None:
    """Return the quota of an older form: *limit* is its first number, and *policies* may follow it."""
    count, left = _count(limit) or None, _count(remaining)
    if count is None and left is None:
        return None
    counted, _ = _policies(policies)
    policy = min(counted, key=lambda each: each.per or 0.0, default=Quota(limit=count))
    return Quota("", policy.limit, policy.per, policy.burst, left, _wait(reset), rough)


def _count(text: str | None) -> int | None:
    match = None if text is None else _COUNT.match(text)
    return None if match is None else min(int(match[1]), _LARGEST_COUNT)


def _window(text: str | None) -> float | None:
    seconds = number(text)
    return seconds if seconds is not None and 0 < seconds <= _LONGEST_WINDOW else None


def _wait(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), LONGEST)
