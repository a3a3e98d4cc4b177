"""Values that leave the process, by pickle or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ("jsonable", "portable", "shortened")

#: Levels of nesting that are converted one by one if the whole value is not JSON.
_DEPTH = 6


def portable(value: Any) -> Any:
    """Return *value* if it survives a pickle, otherwise an exception or a text that describes it."""
    if isinstance(value, str) or (isinstance(value, BaseException) and hasattr(value, "as_dict")):
        return value  # our errors convert their own parts; here each cause would be pickled twice
    import pickle  # noqa: PLC0415 - needed only here

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        if isinstance(value, BaseException):
            return Exception(f"{type(value).__name__}: {value}")
        return shortened(value)
    return value


def jsonable(value: Any, depth: int = _DEPTH) -> Any:
    """Return *value* as JSON values; a part that is not JSON is replaced by its repr."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return _parts(value, depth)


def _parts(value: Any, depth: int) -> Any:
    if depth and isinstance(value, Mapping):
        return {
            name if isinstance(name, str) else shortened(name): jsonable(part, depth - 1)
            for name, part in value.items()
        }
    if depth and isinstance(value, (list, tuple)):
        return [jsonable(part, depth - 1) for part in value]
    return shortened(value)


def shortened(value: object) -> str:
    """Return the repr of *value*, cut to 100 characters if it has more than 120."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - for example a number of 5,000 digits
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= 120 else f"{shown[:100]}… ({len(shown)} characters)"
