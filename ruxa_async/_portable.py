"""Conversion of values for pickle and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ("describe_error", "jsonable", "portable", "shortened")

#: levels of nesting whose parts are converted one by one, if the whole value is not JSON
_DEPTH = 6
#: causes of an error that are described, at most
_MAX_CAUSES = 8


def portable(value: Any) -> Any:
    """Return *value* if it can be pickled and unpickled, else its text, or an exception with its text."""
    if isinstance(value, str) or (isinstance(value, BaseException) and hasattr(value, "as_dict")):
        return value  # our errors convert their own parts; trying here would pickle each cause twice
    import pickle  # noqa: PLC0415 - rarely needed

    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301
    except Exception:  # noqa: BLE001 - a foreign object may raise any error
        if isinstance(value, BaseException):
            return Exception(f"{type(value).__name__}: {value}")
        return shortened(value)
    return value


def jsonable(value: Any, depth: int = _DEPTH) -> Any:
    """Return *value* as JSON values; parts that are not JSON are replaced by their repr."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return _parts(value, depth)


def describe_error(error: BaseException, causes: int = _MAX_CAUSES) -> dict[str, Any]:
    """Return the dictionary of `RuxaError.as_dict` for any exception."""
    described: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    fields = vars(error) if hasattr(error, "as_dict") else {}
    for name, value in fields.items():
        if name not in described and not name.startswith("_"):
            is_error = isinstance(value, BaseException)
            described[name] = describe_error(value, causes - 1) if is_error else jsonable(value)
    if error.__cause__ is not None and causes:
        described["cause"] = describe_error(error.__cause__, causes - 1)
    return described


def _parts(value: Any, depth: int) -> Any:
    """Return *value* with each of its parts converted."""
    if depth and isinstance(value, Mapping):
        return {
            name if isinstance(name, str) else shortened(name): jsonable(part, depth - 1)
            for name, part in value.items()
        }
    if depth and isinstance(value, (list, tuple)):
        return [jsonable(part, depth - 1) for part in value]
    return shortened(value)


def shortened(value: object) -> str:
    """Return the repr of *value*, cut after 100 characters if it is longer than 120."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - such as an int of 5,000 digits or deep nesting
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= 120 else f"{shown[:100]}… ({len(shown)} characters)"
