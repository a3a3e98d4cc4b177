"""Values that leave the process: what a pickle can carry, and what JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ("jsonable", "portable", "shortened")

#: Levels that are converted one by one where a value as a whole is not JSON.
_DEPTH = 6


def portable(value: Any) -> Any:
    """Return *value* if a pickle can carry it there and back, else a stand-in: an exception or a text with its words."""
    if isinstance(value, str) or (isinstance(value, BaseException) and hasattr(value, "as_dict")):
        return value  # an error of ours sees to its own parts; to try it here would pickle each cause twice as often
    import pickle  # noqa: PLC0415 - only what travels needs it

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301
    except Exception:  # noqa: BLE001 - whatever a foreign object raises, it cannot travel
        if isinstance(value, BaseException):
            return Exception(f"{type(value).__name__}: {value}")
        return shortened(value)
    return value


def jsonable(value: Any, depth: int = _DEPTH) -> Any:
    """Return *value* as JSON holds it; a part that is not JSON is replaced by its description."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return _parts(value, depth)


def _parts(value: Any, depth: int) -> Any:
    """Return *value*, a part of which is not JSON, with each of its parts as JSON."""
    if depth and isinstance(value, Mapping):
        return {
            name if isinstance(name, str) else shortened(name): jsonable(part, depth - 1)
            for name, part in value.items()
        }
    if depth and isinstance(value, (list, tuple)):
        return [jsonable(part, depth - 1) for part in value]
    return shortened(value)


def shortened(value: object) -> str:
    """Return the repr of *value*, or the beginning of a long one."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a number of 5,000 digits, a nesting too deep: the message matters more
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= 120 else f"{shown[:100]}… ({len(shown)} characters)"
