"""Read the records of CSV and TSV input, which may span lines.

A record that cannot be read gets an error. Reading continues after it, except after an unclosed quote.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from attrs import frozen

from ._input_lines import MAX_LINE, Line, Lines

__all__ = ("Record", "delimited")


@frozen
class Record:
    """One record: its cells, or the error. *number* is the line on which it begins, in parquet its row."""

    number: int
    content: tuple[Any, ...] = ()
    error: str | None = None


_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')


class _OpenQuoteError(Exception):
    """A quoted cell does not end in this text."""


class _StrayQuoteError(Exception):
    """Text follows the closing quote of a cell."""


def delimited(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Yield the records of *lines*, the header included; blank lines are skipped.

    With commas, RFC 4180 applies, and a record that violates it gets an error. With tabs, quotes are read as
    in RFC 4180 only where the record then has as many cells as the header; otherwise they are part of the
    text, because prompts often begin with a quotation mark.
    """
    width = 0
    for line in lines:
        if line.error is None and not line.content.strip():
            continue
        record = _tabbed(line, lines, width) if delimiter == "\t" else _separated(line, lines, delimiter)
        width = width or len(record.content)
        yield record


def _separated(first: Line, lines: Lines, delimiter: str) -> Record:
    """Read one record by RFC 4180. An unclosed quote consumes all lines, so that none becomes a row."""
    parts: list[str] = []
    size = 0
    error: str | None = None
    for line in chain((first,), lines):
        parts.append(line.content)
        size += len(line.content)
        error = error or line.error
        if line.skipped or size > MAX_LINE:
            deque(lines, maxlen=0)
            reason = line.error or f"a quote is opened here and not closed within {MAX_LINE:,} bytes"
            return Record(first.number, error=f"{reason}; nothing after it was read")
        if len(parts) > 1 and line.content.count('"') % 2 == 0:
            continue  # it cannot close the open cell; to parse after every line would be quadratic
        try:
            return Record(first.number, _cells("\n".join(parts), delimiter), error)
        except _StrayQuoteError as stray:
            return Record(first.number, error=str(stray))
        except _OpenQuoteError:
            continue
    return Record(first.number, error="a quote is opened here and never closed; nothing after it was read")


def _tabbed(line: Line, lines: Lines, width: int) -> Record:
    """Read one record of tab-separated cells; *width* is the number of cells in the header."""
    if line.error is not None:
        return Record(line.number, error=line.error)
    plain = Record(line.number, tuple(map(_unquoted, line.content.split("\t"))))
    try:
        cells = _cells(line.content, "\t")
    except _StrayQuoteError:
        return plain
    except _OpenQuoteError:
        return _spanning(line, lines, width) or plain
    return Record(line.number, cells) if len(cells) == width else plain


def _spanning(first: Line, lines: Lines, width: int) -> Record | None:
    """Return the record that spans *first* and later lines, if any; a line with all cells is never merged."""
    text = first.content
    short = text.count("\t") + 1 < width
    for used, line in enumerate(lines.ahead(), 1):
        text += f"\n{line.content}"
        complete = line.content.count("\t") + 1 >= width
        if line.error is not None or len(text) > MAX_LINE or (complete and not short):
            return None
        try:
            cells = _cells(text, "\t")
        except _OpenQuoteError:
            if complete:
                return None
            continue
        except _StrayQuoteError:
            return None
        if len(cells) != width:
            return None
        deque(islice(lines, used), maxlen=0)
        return Record(first.number, cells)
    return None


def _cells(text: str, delimiter: str) -> tuple[str, ...]:
    """Split one record by RFC 4180."""
    cells = []
    at = 0
    while True:
        if text.startswith('"', at):
            quoted = _QUOTED.match(text, at)
            if quoted is None:
                raise _OpenQuoteError
            cells.append(quoted[1].replace('""', '"'))
            at = quoted.end()
            if at < len(text) and text[at] != delimiter:
                raise _StrayQuoteError(
                    f"column {len(cells)}: text follows the closing quote; write a quote inside as two"
                )
        else:
            end = text.find(delimiter, at)
            cells.append(text[at : end if end >= 0 else len(text)])
            at = end if end >= 0 else len(text)
        if at >= len(text):
            return tuple(cells)
        at += 1


def _unquoted(cell: str) -> str:
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].replace('""', '"') if quoted else cell
