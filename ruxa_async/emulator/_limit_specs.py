"""Limits as text, as ``ruxa-async emulate`` takes them: ``token:rate=2,burst=20``."""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import NOTHING, evolve, fields

from ._limits import Changing, FixedWindow, LeakyBucket, Shape, SlidingWindow, TokenBucket

__all__ = ("parse_limit",)

_Shape: TypeAlias = type[TokenBucket | LeakyBucket | SlidingWindow | FixedWindow]

_SHAPES: dict[str, _Shape] = {
    "token": TokenBucket,
    "leaky": LeakyBucket,
    "sliding": SlidingWindow,
    "fixed": FixedWindow,
}
_READERS: dict[str, type[int | float]] = {
    "rate": float,
    "burst": int,
    "count": int,
    "per": float,
    "phase": float,
}


def parse_limit(text: str, *, start: float = 0.0) -> Shape:
    """Read a limit from ``shape:name=value,...``, and changes of it from ``limit@seconds=limit...``.

    The seconds, and the phase of fixed windows, count from *start* on the service's clock. As in
    ``token:rate=50,burst=10@30=token:rate=25,burst=10``. Raises ValueError, saying what may stand where.
    """
    first, *changes = text.split("@")
    limit = _one(first, start)
    for change in changes:
        after, said, shape = change.partition("=")
        if not said:
            raise ValueError(
                f"{change!r} in the limit {text!r} is no change: say @seconds=shape:name=value,..."
            )
        seconds = _number(float, after, f"the seconds before the change in the limit {text!r}")
        limit = Changing(limit, _one(shape, start), start + seconds)
    return limit


def _one(text: str, start: float) -> Shape:
    name, _, rest = text.strip().partition(":")
    shape = _SHAPES.get(name)
    if shape is None:
        raise ValueError(f"the limit {name!r} is not known: use one of {', '.join(_SHAPES)}")
    limit = shape(**_values(shape, rest, text))
    return evolve(limit, phase=start + limit.phase) if isinstance(limit, FixedWindow) else limit


def _values(shape: _Shape, rest: str, text: str) -> dict[str, Any]:
    takes = {each.name: each.default is NOTHING for each in fields(shape)}
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in takes:
            raise ValueError(f"{name!r} in the limit {text!r} is not known: use {', '.join(takes)}")
        if name in values:
            raise ValueError(f"{name!r} stands twice in the limit {text!r}: say it once")
        values[name] = _number(_READERS[name], value, f"{name!r} in the limit {text!r}")
    missing = [name for name, needed in takes.items() if needed and name not in values]
    if missing:
        raise ValueError(f"the limit {text!r} does not say {' and '.join(missing)}")
    return values


def _number(reader: type[int | float], text: str, what: str) -> float:
    try:
        return reader(text)
    except ValueError:
        kind = "a whole number" if reader is int else "a number"
        raise ValueError(f"{what} must be {kind}, not {text!r}") from None
