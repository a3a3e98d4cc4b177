"""Durations as sentences show them."""

from __future__ import annotations

import math

__all__ = ("spelled_seconds",)


def spelled_seconds(seconds: float) -> str:
    """Return *seconds* in the two largest units that fit: ``59 s``, ``1 min 40 s``, ``2 h 03 min``."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
