"""Faults as values, and the plan of the requests that they strike.

A fault of `BEFORE` prevents what was asked: the service does nothing and charges nothing.

- ``refused``: the connection is refused before a byte leaves (on a socket: it is reset)
- ``reset_before``: the connection is reset
- ``stall_before``: no reply until the client closes the connection
- ``error``: HTTP *status* (500), with a Retry-After of *hint* seconds if that is set
- ``html``: an HTML page with HTTP *status* (502)
- ``redirect``: HTTP *status* (307) to the same path
- ``slow``: the normal reply, *seconds* late; also a create is charged

A fault of `AFTER` changes the reply to a request that succeeded; a create is charged.

- ``reset_after``: the connection is reset instead of a reply
- ``stall``: no reply until the client closes the connection
- ``cut``: the connection is closed in the middle of the body
- ``drip``: the body takes *seconds*
- ``error_after``: HTTP *status* (500), with a Retry-After of *hint* seconds if that is set
- ``garbage``: HTTP 200 with a body that is not JSON
- ``empty``: HTTP 200 without a body
- ``no_id``: HTTP 200 and an envelope without data
- ``wrong_types``: HTTP 200 and JSON with values of wrong types
- ``truncated``: HTTP 200 and the first half of the body, as a complete reply
- ``duplicate``: HTTP 200 and the JSON twice, which is not valid JSON
- ``duplicate_keys``: an error and the normal JSON in one object, under the same names, the normal ones last
- ``oversized``: the normal reply, padded to *size* bytes
- ``expired``: HTTP *status* (404) for a file that exists
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

from attrs import define, field, frozen, validators

__all__ = ("AFTER", "BEFORE", "Fault", "FaultKind", "FaultPlan", "Operation", "parse_fault")

Before: TypeAlias = Literal["refused", "reset_before", "stall_before", "error", "html", "redirect", "slow"]
After: TypeAlias = Literal[
    "reset_after",
    "stall",
    "cut",
    "drip",
    "error_after",
    "garbage",
    "empty",
    "no_id",
    "wrong_types",
    "truncated",
    "duplicate",
    "duplicate_keys",
    "oversized",
    "expired",
]
FaultKind: TypeAlias = Before | After
Operation: TypeAlias = Literal["create", "query", "file"]

BEFORE: tuple[str, ...] = get_args(Before)
AFTER: tuple[str, ...] = get_args(After)
_OPERATIONS: tuple[str, ...] = get_args(Operation)


@frozen
class Fault:
    """A failure of some of the requests of one *operation*: create (default), query or file.

    *kind* is one of `BEFORE`, in which case the service does not act on the request (except ``slow``), or of
    `AFTER`, in which case it has acted and a create is charged. Kinds of `BEFORE` count every request of
    their operation, the others only those that succeed.

    Give at most one of these; without them, the fault strikes every request:

    - *nth*: the numbers of the requests, counted from 1.
    - *every*: each request whose number is a multiple of this.
    - *share*: this share of the requests, from 0 to 1, at random.

    With *during*, only requests between these two times count, in seconds since the first request.

    - *status*: the HTTP status of error and error_after (default: 500), html (502), redirect (307) and
      expired (404).
    - *hint*: the seconds in the Retry-After header of error and error_after (default: no such header).
    - *seconds*: the delay of slow and the length of drip (default: 5).
    - *size*: the bytes of oversized (default: 32 MiB).

    Raises ValueError for an unknown kind, a value outside its range, or ``expired`` of anything but a file.
    """

    kind: FaultKind = field(validator=validators.in_(BEFORE + AFTER))
    operation: Operation = field(default="create", validator=validators.in_(_OPERATIONS))
    nth: tuple[int, ...] = field(default=(), kw_only=True)
    every: int = field(default=0, kw_only=True, validator=validators.ge(0))
    share: float = field(default=0.0, kw_only=True, validator=[validators.ge(0.0), validators.le(1.0)])
    during: tuple[float, float] | None = field(default=None, kw_only=True)
    status: int | None = field(default=None, kw_only=True)
    hint: float | None = field(default=None, kw_only=True, validator=validators.optional(validators.ge(0.0)))
    seconds: float = field(default=5.0, kw_only=True, validator=validators.ge(0.0))
    size: int = field(default=32 * 2**20, kw_only=True, validator=validators.gt(0))

    def __attrs_post_init__(self) -> None:
        if sum(map(bool, (self.nth, self.every, self.share))) > 1:
            raise ValueError(
                f"the fault {self.kind!r} has more than one of nth, every and share: give one of them"
            )
        if self.kind == "expired" and self.operation != "file":
            raise ValueError('only files expire: write Fault("expired", "file")')

    def strikes(self, count: int, chance: float) -> bool:
        """Return whether the fault strikes request number *count*; *chance* is a random number in [0, 1)."""
        if self.nth:
            return count in self.nth
        if self.share:
            return chance < self.share
        return count % (self.every or 1) == 0


@define(eq=False)
class _Armed:
    """A fault, and the number of requests that it has counted."""

    fault: Fault
    random: random.Random
    counted: int = 0

    def strikes(self, age: float) -> bool:
        """Count a request at *age*, in seconds since the first one; return whether the fault strikes it."""
        during = self.fault.during
        if during is not None and not during[0] <= age < during[1]:
            return False
        self.counted += 1
        return self.fault.strikes(self.counted, self.random.random())


class FaultPlan:
    """Chooses the faults of each request; the same ones for the same *seed* and order of requests."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        armed = [_Armed(fault, random.Random(f"{seed}/{place}")) for place, fault in enumerate(faults)]  # noqa: S311
        self._first_at: float | None = None
        self._before: dict[str, list[_Armed]] = _by_operation(
            [each for each in armed if each.fault.kind in BEFORE]
        )
        self._after: dict[str, list[_Armed]] = _by_operation(
            [each for each in armed if each.fault.kind in AFTER]
        )

    def before(self, operation: str, now: float) -> list[Fault]:
        """Return the faults of `BEFORE` for a request of *operation* that arrives at *now*, in seconds."""
        if self._first_at is None:
            self._first_at = now
        return [each.fault for each in self._before.get(operation, ()) if each.strikes(now - self._first_at)]

    def after(self, operation: str, now: float) -> Fault | None:
        """Return the first fault of `AFTER` for a request of *operation* that succeeded at *now*."""
        age = 0.0 if self._first_at is None else now - self._first_at
        struck = [each.fault for each in self._after.get(operation, ()) if each.strikes(age)]
        return struck[0] if struck else None


def _by_operation(armed: list[_Armed]) -> dict[str, list[_Armed]]:
    return {name: [each for each in armed if each.fault.operation == name] for name in _OPERATIONS}


def parse_fault(text: str) -> Fault:
    """Return the fault that *text* describes: ``kind[:operation][:name=value]...``.

    Names are those of `Fault`, as in ``error:query:nth=3,5:status=503`` and ``stall:during=10-20``. Raises
    ValueError with the words that are accepted.
    """
    kind, *rest = text.strip().split(":")
    words = [part for part in rest if "=" not in part]
    options: dict[str, Any] = {}
    for name, value in (part.split("=", 1) for part in rest if "=" in part):
        reader = _READERS.get(name)
        if reader is None:
            raise ValueError(f"{name!r} in the fault {text!r} is not known: use {', '.join(_READERS)}")
        options[name] = reader(value)
    if kind not in BEFORE + AFTER:
        raise ValueError(f"the fault {kind!r} is not known: use one of {', '.join(BEFORE + AFTER)}")
    if len(words) > 1 or not set(words) <= set(_OPERATIONS):
        raise ValueError(f"{':'.join(words)!r} in the fault {text!r} is not one of {', '.join(_OPERATIONS)}")
    default = "file" if kind == "expired" else "create"
    return Fault(kind, words[0] if words else default, **options)  # type: ignore[arg-type]  # both were checked above


_READERS: dict[str, Any] = {
    "nth": lambda text: tuple(int(part) for part in text.split(",")),
    "every": int,
    "share": float,
    "during": lambda text: tuple(float(part) for part in text.split("-")),
    "status": int,
    "hint": float,
    "seconds": float,
    "size": int,
}
