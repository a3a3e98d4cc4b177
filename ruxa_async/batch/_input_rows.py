"""Read the rows of an input lazily: JSON lines, CSV, TSV, plain text or parquet.

An error of one row is a value in its `Row`, and the other rows are read. `InputError` is raised only for the
input as a whole: it cannot be opened or read, is not text, or has no rows or no column of prompts.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

from attrs import field, frozen

from ruxa_async.errors import RuxaError
from ruxa_async.requests import GenerationRequest

from ._input_lines import InputError, Line, Lines, check_text
from ._input_parquet import MAGIC, open_parquet
from ._input_tables import Record, delimited
from ._request_parser import (
    RowError,
    from_cells,
    from_json,
    from_values,
    json_row,
    known_columns,
    model_warning,
)

__all__ = ("DEFAULT_MODEL", "Format", "InputError", "Row", "Rows", "open_rows")

Format: TypeAlias = Literal["jsonl", "csv", "tsv", "text", "parquet"]

#: The model of rows that name none.
DEFAULT_MODEL = "google/nano-banana"

#: Bytes at the start of an input by which `check_text` decides whether it is text.
_SAMPLE = 8192
#: The most unknown models that are reported; each row may name another one.
_MAX_WARNINGS = 20

_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".txt", ".text", ".md"), "text"),
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@frozen
class Row:
    """One row: its request, or the error why it has none. *line* is where it begins in the input, from 1.

    In parquet, which has no lines, *line* is the number of the row.
    """

    line: int
    request: GenerationRequest | None = None
    error: Exception | None = None


@frozen(kw_only=True)
class Rows:
    """The rows of an open input, in its order; iterate once.

    *format* is the format of the input. *interactive* is true for standard input, which may pause between
    rows: read one row at a time.
    """

    format: Format
    interactive: bool = False
    _rows: Iterator[Row] = field(alias="_rows", repr=False)

    def __iter__(self) -> Iterator[Row]:
        return self._rows


@contextmanager
def open_rows(
    source: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - the option's name
    prompt_column: str | None = None,
    model: str = DEFAULT_MODEL,
    notice: Callable[[str], object] = lambda _: None,
    warn: Callable[[str], object] = lambda _: None,
) -> Generator[Rows]:
    """Open *source*, a path or ``-`` for standard input, and yield its `Rows`, which are read on demand.

    *format* defaults to that of the extension, else of the first line. JSON is one object a line, or one
    array of objects; in a ``.json`` file objects may also span lines. *prompt_column* names the column of
    prompts of a table; the default is the column called prompt, in any case. *model* is the model of rows
    that name none. Paths of local files are relative to the folder of *source*. Parquet needs the extra
    ``arrow`` and a file that can be sought in; columns that are not request fields, such as pictures, are not
    read.

    *notice* is called with a sentence about ignored columns, *warn* with one about each unknown model. Raises
    `InputError`, `MissingExtraError`.
    """
    is_stdin = str(source) == "-"
    name = "standard input" if is_stdin else str(source)
    with _standard_input() if is_stdin else _opened(Path(source)) as stream:
        options = _Options(prompt_column, model, notice, warn, None if is_stdin else Path(source).parent)
        if _is_parquet(stream, Path(source), format):
            kind: Format = "parquet"
            rows = _parquet_rows(stream, name, options)
        else:
            kind, rows = _text_rows(stream, name, Path(source), format, options)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{name} holds no rows, so there is nothing to generate")
        yield Rows(format=kind, interactive=is_stdin, _rows=chain((first,), rows))


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _standard_input() -> Generator[BufferedReader]:
    """Yield standard input and leave it open: to close it would wait for a thread that still reads it.

    It is not ``sys.stdin.buffer``: at exit, the interpreter crashes if a thread waits in that one.
    """
    try:
        raw = io.FileIO(sys.stdin.fileno(), closefd=False)
    except (AttributeError, OSError, ValueError) as error:  # stdin is None, or closed
        raise InputError("there is no standard input to read from: name a file, or pipe one in") from error
    yield BufferedReader(raw)


@frozen
class _Options:
    prompt_column: str | None
    model: str
    notice: Callable[[str], object]
    warn: Callable[[str], object]
    #: Where relative paths of local files begin.
    folder: Path | None = None
    _warned: set[str] = field(factory=set, init=False)

    @property
    def column(self) -> str:
        """The name of the column of prompts."""
        return (self.prompt_column or "prompt").strip()

    def checked(self, request: GenerationRequest) -> GenerationRequest:
        """Return *request*; warn if its model is not known, once for each model."""
        warning = model_warning(request)
        if warning is not None and len(self._warned) < _MAX_WARNINGS and request.model not in self._warned:
            self._warned.add(request.model)
            self.warn(warning)
        return request


def _text_rows(
    stream: BufferedReader, name: str, source: Path, given: Format | None, options: _Options
) -> tuple[Format, Iterator[Row]]:
    """Return the format of a text, *given* or found, and its rows."""
    check_text(name, stream.peek(_SAMPLE)[:_SAMPLE])
    lines = Lines(stream)
    first_line = lines.first()
    kind = given or _format_of(source, first_line.decode(errors="replace"), options)
    is_document = kind == "jsonl" and _is_document(first_line, source)
    return kind, _rows_of(kind, lines, options, is_document=is_document)


# ---- the format


def _is_parquet(stream: BufferedReader, source: Path, given: Format | None) -> bool:
    """Tell whether *stream* is parquet: *given* as that, else by its extension, else by its first bytes."""
    known = given or _FORMATS.get(source.suffix.lower())
    return known == "parquet" if known else stream.peek(len(MAGIC)).startswith(MAGIC)


def _format_of(source: Path, first: str, options: _Options) -> Format:
    """Return the format of *source* by its extension, else by its *first* line.

    Excel also writes tab-separated values to .txt and .csv.
    """
    named = _FORMATS.get(source.suffix.lower())
    if named in ("text", "csv") and "\t" in first:
        if _has_column(first, "\t", options.column):
            return "tsv"
        if named == "text":
            options.notice(
                "the first line holds tabs, and each whole line is taken for a prompt; if this is a table, "
                "name the column that holds the prompts with --prompt-column"
            )
    if named is not None:
        return named
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    if _has_column(first, "\t", options.column):
        return "tsv"
    return "csv" if _has_column(first, ",", options.column) else "text"


def _has_column(header: str, delimiter: str, wanted: str) -> bool:
    return wanted.casefold() in (cell.strip().strip('"').casefold() for cell in header.split(delimiter))


def _is_document(begin: bytes, source: Path) -> bool:
    """Tell whether JSON that starts with *begin* is one document: an array, or an object in a .json file."""
    if begin.lstrip().startswith(b"[") or source.suffix.lower() != ".json":
        return begin.lstrip().startswith(b"[")
    try:
        json.loads(begin)
    except (ValueError, RecursionError):
        return True
    return False


# ---- the rows


def _rows_of(kind: Format, lines: Lines, options: _Options, *, is_document: bool) -> Iterator[Row]:
    """Return the rows of *lines*; if *is_document*, they hold one JSON document."""
    if kind in ("csv", "tsv"):
        return _table_rows(lines, "," if kind == "csv" else "\t", options)

    def build(text: str) -> GenerationRequest:
        row = {"prompt": text.strip()} if kind == "text" else json_row(text)
        return from_json(row, options.model, options.folder)

    parts = _document_lines(lines) if is_document else lines
    return (_row(part, options, build) for part in parts if part.error is not None or part.content.strip())


def _table_rows(lines: Lines, delimiter: str, options: _Options) -> Iterator[Row]:
    records = delimited(lines, delimiter)
    header = next(records, None)
    if header is None:
        return
    if header.error is not None:
        raise InputError(f"line {header.number}, the header: {header.error}")
    columns = _columns(header.content, options)
    for record in records:
        yield _row(record, options, lambda cells: from_cells(columns, cells, options.model, options.folder))


def _parquet_rows(stream: BufferedReader, name: str, options: _Options) -> Iterator[Row]:
    """Yield the rows of a parquet file. Only columns that are request fields are read from it."""
    if not stream.seekable():
        raise InputError(f"{name}: parquet is read from its end, so it must be a file: name one")
    table = open_parquet(stream, name)
    fields = {
        column: field
        for column, field in zip(table.columns, _columns(table.columns, options), strict=True)
        if field is not None
    }
    columns = tuple(fields.values())
    for number, values in enumerate(table.rows(tuple(fields)), 1):
        record = Record(number, values)
        yield _row(record, options, lambda given: from_values(columns, given, options.model, options.folder))


def _columns(names: tuple[str, ...], options: _Options) -> list[str | None]:
    """Return the request field of each column, None for a column that is ignored."""
    wanted = options.column
    cleaned = [name.strip() for name in names]
    matches = [i for i, name in enumerate(cleaned) if name == wanted] or [
        i for i, name in enumerate(cleaned) if name.casefold() == wanted.casefold()
    ]
    if len(matches) != 1:
        found = "no column is" if not matches else "several columns are"
        listed = ", ".join(map(repr, cleaned[:20]))
        raise InputError(f"{found} called {wanted!r}: name one with --prompt-column (there are {listed})")
    fields, ignored = known_columns(cleaned, matches[0])
    if ignored:
        hint = "" if "key" in fields else ". Call one 'key' to name the rows and their files by it"
        listed = ", ".join(map(repr, ignored))
        options.notice(f"columns that are not request fields are ignored: {listed}{hint}")
    return fields


def _row(source: Line | Record, options: _Options, build: Callable[[Any], GenerationRequest]) -> Row:
    """Return the row of *source*, with the request that *build* makes of its content."""
    if source.error is not None:
        return Row(source.number, error=RowError(source.error))
    try:
        return Row(source.number, options.checked(build(source.content)))
    except (RuxaError, ValueError) as error:
        return Row(source.number, error=error)


# ---- JSON documents that span lines

_BLANK = re.compile(r"[ \t\n\r]*")
#: Finds the end of a value. Numbers stay text, because Python does not convert very long ones.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)


def _document_lines(lines: Lines) -> list[Line]:
    """Return each element of a JSON array, or each of several JSON values, with the number of its first line.

    The whole document is read first, so that nothing is sent if its end is wrong. Raises `InputError`.
    """
    number, text = lines.rest()
    at = _after_blanks(text, 0)
    in_array = text.startswith("[", at)
    at = _after_blanks(text, at + in_array)
    found: list[Line] = []
    counted, more = 0, not text.startswith("]", at) or not in_array
    while more and at < len(text):
        number, counted = number + text.count("\n", counted, at), at
        end = _value_end(text, at, number)
        found.append(Line(number, text[at:end]))
        at = _after_blanks(text, end)
        more = not in_array or text.startswith(",", at)
        at = _after_blanks(text, at + (in_array and more))
    if in_array and (more or not text.startswith("]", at)):
        raise InputError(f"not JSON: the array is not closed after the value in line {number}")
    if in_array and _after_blanks(text, at + 1) < len(text):
        raise InputError("not JSON: text follows the array")
    return found


def _after_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _value_end(text: str, at: int, number: int) -> int:
    """Return the offset after the JSON value at *at*, which begins on line *number*."""
    try:
        return _SCANNER.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        line = number + text.count("\n", at, error.pos)
        raise InputError(f"not JSON: {error.msg} in line {line}") from None
    except RecursionError:
        raise InputError(f"not JSON that can be read: nested too deeply in line {number}") from None
