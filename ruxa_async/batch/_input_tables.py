"""Bytes to records: lines, and the delimited rows that may span several of them.

Nothing here raises for what a file holds. A line that is not UTF-8 or too long, a quote that never closes:
each becomes a `Record` with an error, which names its line, and reading goes on where that is safe.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, count, islice
from typing import BinaryIO

from attrs import frozen

from ._input_lines import InputError, RawLines

__all__ = ("MAX_LINE", "InputError", "Line", "Lines", "Record", "delimited")

#: Bytes in one line, and in one delimited record: a hundred times the longest prompt the service takes.
MAX_LINE = 1 << 20


@frozen
class Line:
    """One line without its end.

    *error* says why *content* cannot be used, *lost* that it was not even read.
    """

    number: int
    content: str
    error: str | None = None
    lost: bool = False


@frozen
class Record:
    """One row of a delimited file; *number* is the line it begins on."""

    number: int
    content: tuple[str, ...] = ()
    error: str | None = None


class Lines(Iterator[Line]):
    """The lines of *source*, with the means to look ahead."""

    def __init__(self, source: BinaryIO) -> None:
        self._raw = RawLines(source)
        self._number = 0
        self._ahead: deque[Line] = deque()

    def __next__(self) -> Line:
        line = self._ahead.popleft() if self._ahead else self._read()
        if line is None:
            raise StopIteration
        return line

    def first(self) -> bytes:
        """Return the first line that is not blank without taking it; call this before anything is taken."""
        while (data := self._raw.peek(MAX_LINE + 1)) and not data.strip():
            self._raw.readline(MAX_LINE + 1)
            self._number += 1
        return data

    def rest(self) -> tuple[int, str]:
        """Return the number of the next line, and all lines from there as one text. Raises `InputError`."""
        data = self._raw.rest()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"not UTF-8 (byte {data[error.start]:#04x} at position {error.start + 1})"
            ) from error
        return self._number + 1, text.replace("\r\n", "\n").replace("\r", "\n")

    def ahead(self) -> Iterator[Line]:
        """Iterate over the lines to come without taking them."""
        for place in count():
            if place == len(self._ahead):
                line = self._read()
                if line is None:
                    return
                self._ahead.append(line)
            yield self._ahead[place]

    def _read(self) -> Line | None:
        data = self._raw.readline(MAX_LINE + 1)
        if not data:
            return None
        self._number += 1
        if len(data) > MAX_LINE:
            return self._skipped(data)
        if b"\0" in data:
            return Line(
                self._number, data.decode(errors="replace").rstrip("\r\n"), "holds a NUL: is this text?"
            )
        try:
            text = data.decode().removesuffix("\n").removesuffix("\r")
            strange = self._raw.utf16 and "\ufffd" in text
            return Line(self._number, text, "holds what is not UTF-16" if strange else None)
        except UnicodeDecodeError as error:
            said = f"not UTF-8 (byte {data[error.start]:#04x} at position {error.start + 1})"
            return Line(self._number, data.decode(errors="replace").rstrip("\r\n"), said)

    def _skipped(self, data: bytes) -> Line:
        while data and not data.endswith((b"\n", b"\r")):
            data = self._raw.readline(MAX_LINE)
        return Line(self._number, "", f"longer than {MAX_LINE:,} bytes", lost=True)


_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"')


class _OpenQuoteError(Exception):
    """A quoted cell does not end in this text."""


class _StrayQuoteError(Exception):
    """Something follows the closing quote of a cell."""


def delimited(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Read the records of a file of comma- or tab-separated values; blank lines are skipped.

    Commas: RFC 4180, and what breaks its rules is an error. Tabs: prompts begin with a quotation mark more
    often than they are quoted, so quotes count only where they make a row as wide as the header.
    """
    width = 0
    for line in lines:
        if line.error is None and not line.content.strip():
            continue
        record = _tabbed(line, lines, width) if delimiter == "\t" else _separated(line, lines, delimiter)
        width = width or len(record.content)
        yield record


def _separated(first: Line, lines: Lines, delimiter: str) -> Record:
    """Read one record by RFC 4180; one without an end takes the rest, so that none of it is read as rows."""
    parts: list[str] = []
    size = 0
    error: str | None = None
    for line in chain((first,), lines):
        parts.append(line.content)
        size += len(line.content)
        error = error or line.error
        if line.lost or size > MAX_LINE:
            deque(lines, maxlen=0)
            lost = line.error or f"a quote is opened here and not closed within {MAX_LINE:,} bytes"
            return Record(first.number, error=f"{lost}; nothing after it was read")
        if len(parts) > 1 and line.content.count('"') % 2 == 0:
            continue  # it cannot close the cell that is open, and parsing at every line would be quadratic
        try:
            return Record(first.number, _cells("\n".join(parts), delimiter), error)
        except _StrayQuoteError as stray:
            return Record(first.number, error=str(stray))
        except _OpenQuoteError:
            continue
    return Record(first.number, error="a quote is opened here and never closed; nothing after it was read")


def _tabbed(line: Line, lines: Lines, width: int) -> Record:
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
    """Return the row from *first* to a later line, or None: complete rows are never merged."""
    text = first.content
    short = text.count("\t") + 1 < width
    for taken, line in enumerate(lines.ahead(), 1):
        text += f"\n{line.content}"
        whole = line.content.count("\t") + 1 >= width
        if line.error is not None or len(text) > MAX_LINE or (whole and not short):
            return None
        try:
            cells = _cells(text, "\t")
        except _OpenQuoteError:
            if whole:
                return None
            continue
        except _StrayQuoteError:
            return None
        if len(cells) != width:
            return None
        deque(islice(lines, taken), maxlen=0)
        return Record(first.number, cells)
    return None


def _cells(text: str, delimiter: str) -> tuple[str, ...]:
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
                column = len(cells)
                raise _StrayQuoteError(
                    f"column {column}: text follows the closing quote; write a quote inside as two"
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
