"""Read a JSON value as a type. What has another type counts as missing, so that no file raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ("as_number", "as_object", "as_objects", "as_text", "as_texts", "as_whole")


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def as_texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def as_object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[Mapping[str, Any]]:
    return [as_object(item) for item in value] if isinstance(value, list) else []


def as_number(value: object) -> float | None:
    """Return *value* if it is a number from 0 to 100 billion: greater times would overflow a date."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and 0 <= number < 1e11 else None


def as_whole(value: object) -> int | None:
    number = as_number(value)
    return None if number is None else int(number)
