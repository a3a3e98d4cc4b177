"""Numbers, durations and prompts as the sentences of the command line show them."""

from __future__ import annotations

import math

__all__ = ("counted", "number", "printable", "shortened", "spelled_seconds")

#: Not printable, yet harmless on a terminal: line breaks, and the joiners within letters and emoji.
_HARMLESS = frozenset("\n\u200c\u200d")


def printable(text: str) -> str:
    """Return *text* with every control character replaced: prompts and messages come from outside."""
    return "".join(each if each.isprintable() or each in _HARMLESS else "\ufffd" for each in text)


def shortened(text: str, limit: int = 60) -> str:
    """Return *text* on one line of at most *limit* characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def counted(count: int, noun: str) -> str:
    """Return *count* with *noun*, which gets an s for any count but 1."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def number(value: float) -> str:
    """Return *value* with thousands separators and without trailing zeros."""
    return f"{value:,.10g}"


def spelled_seconds(seconds: float) -> str:
    """Return *seconds* in the two largest units that fit: ``59 s``, ``1 min 40 s``, ``2 h 03 min``."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
