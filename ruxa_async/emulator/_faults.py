"""What goes wrong, and when: faults as values, and the plan that picks the next one.

Faults that strike before the service acts (`BEFORE`) count every request of their operation; the others count
the requests that succeed, so that a create struck by one of them is always charged.

Before:

- ``refused``: the connection is refused, no byte leaves (on a socket: it is reset)
- ``reset_before``: the connection is reset
- ``stall_before``: no answer until the client gives up
- ``error``: HTTP *status* (500), with a Retry-After of *hint* seconds if that is given
- ``html``: an HTML page with HTTP *status* (502)
- ``redirect``: HTTP *status* (307) that sends the client to where it just was
- ``slow``: the plain reply, *seconds* late

After, so that a create is charged:

- ``reset_after``: the connection is reset and the reply lost
- ``stall``: no answer until the client gives up
- ``cut``: the reply breaks off half-way
- ``drip``: the plain reply, whose body takes *seconds* to come, byte by byte
- ``error_after``: HTTP *status* (500), with *hint* as above
- ``garbage``: HTTP 200 with a body that is not JSON
- ``empty``: HTTP 200 without a body
- ``no_id``: HTTP 200 and an envelope that holds nothing
- ``wrong_types``: HTTP 200 and JSON whose values are of the wrong types
- ``truncated``: a whole HTTP reply around the first half of its body
- ``duplicate``: HTTP 200 and the plain JSON twice over, which is none
- ``duplicate_keys``: the plain JSON after an error under the same names, of which readers take the last
- ``oversized``: the plain reply padded to *size* bytes
- ``expired``: HTTP *status* (404) for a file that was there
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
    """One thing that goes wrong with an *operation*: create, query or file.

    *nth* names the requests it strikes, counted from 1; *every* strikes each n-th; *share* strikes that part
    of them at random. Give one of the three; none means every request. *during* is an outage: only requests
    that arrive between these seconds after the service's first request are struck, or counted. *status* is
    for the kinds that answer with one, *hint* in seconds for errors that say when to come back, *seconds* for
    slow and drip (default 5), *size* in bytes for oversized (default 32 MiB).
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
                f"the fault {self.kind!r} says more than one of nth, every and share: give one of them"
            )
        if self.kind == "expired" and self.operation != "file":
            raise ValueError('only files expire: say Fault("expired", "file")')

    def strikes(self, count: int, chance: float) -> bool:
        """Tell whether the request with this *count*, and this *chance* in [0, 1), is struck."""
        if self.nth:
            return count in self.nth
        if self.share:
            return chance < self.share
        return count % (self.every or 1) == 0


@define(eq=False)
class _Armed:
    """A fault and how many requests it has looked at."""

    fault: Fault
    random: random.Random
    seen: int = 0

    def look(self, age: float) -> bool:
        during = self.fault.during
        if during is not None and not during[0] <= age < during[1]:
            return False
        self.seen += 1
        return self.fault.strikes(self.seen, self.random.random())


class FaultPlan:
    """Which fault strikes next; the same every time for the same *seed* and order of requests."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        armed = [_Armed(fault, random.Random(f"{seed}/{place}")) for place, fault in enumerate(faults)]  # noqa: S311
        self._began: float | None = None
        self._before = _by_operation([each for each in armed if each.fault.kind in BEFORE])
        self._after = _by_operation([each for each in armed if each.fault.kind in AFTER])

    def before(self, operation: str, now: float) -> list[Fault]:
        """Return the faults of the next request of *operation*, which arrives at *now*, in seconds."""
        if self._began is None:
            self._began = now
        return [each.fault for each in self._before.get(operation, ()) if each.look(now - self._began)]

    def after(self, operation: str, now: float) -> Fault | None:
        """Return the first fault that the next good reply of *operation* meets, made at *now*."""
        age = 0.0 if self._began is None else now - self._began
        struck = [each.fault for each in self._after.get(operation, ()) if each.look(age)]
        return struck[0] if struck else None


def _by_operation(armed: list[_Armed]) -> dict[str, list[_Armed]]:
    return {name: [each for each in armed if each.fault.operation == name] for name in _OPERATIONS}


def parse_fault(text: str) -> Fault:
    """Read a fault from ``kind[:operation][:name=value]...``, as in ``error:query:nth=3,5:status=503``.

    Raises ValueError, saying what may stand where.
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
