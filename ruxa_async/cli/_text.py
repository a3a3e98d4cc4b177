"""Numbers and prompts as the sentences of the command line show them."""

from __future__ import annotations

__all__ = ("counted", "number", "printable", "shortened")

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
