"""Read requests lazily from JSON lines, CSV, TSV or plain text, in a file or standard input.

What is wrong with a row is a value, so that it can be reported with its line and the others go on. Only what
is wrong with the whole file raises `InputError`: it is not there, is not text, has no rows or no column of
prompts.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from attrs import field, frozen

from ruxa_async.errors import RuxaError
from ruxa_async.requests import GenerationRequest

from ._input_lines import InputError, check_text
from ._input_tables import Line, Lines, Record, delimited
from ._request_parser import (
    RowError,
    from_cells,
    from_json,
    from_prompt,
    json_elements,
    json_row,
    known_columns,
    model_warning,
)

__all__ = ("Format", "InputError", "Row", "Rows", "open_rows")

Format: TypeAlias = Literal["jsonl", "csv", "tsv", "text"]

#: The model of rows that name none.
DEFAULT_MODEL = "google/nano-banana"

#: Bytes that show whether the input is text.
_SAMPLE = 8192
#: Models that are warned about, of an input that may name another one in each row.
_MAX_WARNINGS = 20

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}


@frozen
class Row:
    """One row: the request made from it, or the error that says why there is none. *line* counts from 1."""

    line: int
    request: GenerationRequest | None = None
    error: Exception | None = None


@frozen(kw_only=True)
class Rows:
    """The rows of an open input, in its order; iterate once.

    *format* is what it was taken for; *interactive* input may pause, so rows of it are wanted one by one.
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
    """Open *source*, a path or ``-`` for standard input, and read its rows as they are asked for.

    The format follows from the extension, else from the first line. JSON may be one object a line, or one
    array of them; in a ``.json`` file also objects that span lines. *prompt_column* names the column of
    prompts (default: the one called prompt, in any case); *model* is for rows that name none. *notice* is
    called with what is ignored, *warn* with models that are not known. Raises `InputError`, also if the input
    is not text or has no rows.
    """
    piped = str(source) == "-"
    named = "standard input" if piped else str(source)
    with _standard_input() if piped else _opened(Path(source)) as stream:
        check_text(named, stream.peek(_SAMPLE)[:_SAMPLE])
        lines = Lines(stream)
        begin = lines.first()
        plan = _Plan(prompt_column, model, notice, warn)
        kind = format or _format_of(Path(source), begin.decode(errors="replace"), plan)
        whole_file = kind == "jsonl" and _is_document(begin, Path(source))
        rows = _document_rows(lines, plan) if whole_file else _READERS[kind](lines, plan)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{named} holds no rows, so there is nothing to generate")
        yield Rows(format=kind, interactive=piped, _rows=chain((first,), rows))


def _opened(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _standard_input() -> Generator[BufferedReader]:
    """Give standard input, and leave it open: closing it would wait for a thread that still reads from it.

    It is not ``sys.stdin.buffer``: a thread that waits in that one at exit crashes the interpreter.
    """
    try:
        # None where the process was started without one.
        opened = None if sys.stdin is None else io.FileIO(sys.stdin.fileno(), closefd=False)
    except (OSError, ValueError):
        opened = None
    if opened is None:
        raise InputError("there is no standard input to read from: name a file, or pipe one in")
    yield BufferedReader(opened)


@frozen
class _Plan:
    prompt_column: str | None
    model: str
    notice: Callable[[str], object]
    warn: Callable[[str], object]
    _warned: set[str] = field(factory=set, init=False)

    @property
    def wanted(self) -> str:
        """The name of the column of prompts."""
        return (self.prompt_column or "prompt").strip()

    def checked(self, request: GenerationRequest) -> GenerationRequest:
        """Return *request*; warn the first time that its model is not known."""
        warning = model_warning(request)
        if warning is not None and len(self._warned) < _MAX_WARNINGS and request.model not in self._warned:
            self._warned.add(request.model)
            self.warn(warning)
        return request


def _format_of(source: Path, first: str, plan: _Plan) -> Format:
    """Return what *source* holds: by its extension, else by its first line.

    Excel also writes tabs to .txt and .csv.
    """
    named = _FORMATS.get(source.suffix.lower())
    if named in ("text", "csv") and "\t" in first:
        if _has_column(first, "\t", plan.wanted):
            return "tsv"
        if named == "text":
            plan.notice(
                "the first line holds tabs, and each whole line is taken for a prompt; if this is a table, "
                "name the column that holds the prompts with --prompt-column"
            )
    return named or _sniffed(first, plan.wanted)


def _sniffed(first: str, wanted: str) -> Format:
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    if _has_column(first, "\t", wanted):
        return "tsv"
    return "csv" if _has_column(first, ",", wanted) else "text"


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


def _document_rows(lines: Lines, plan: _Plan) -> Iterator[Row]:
    first, text = lines.rest()
    elements = json_elements(text, first)  # all of it, so that nothing is sent if its end is wrong

    def rows() -> Iterator[Row]:
        for number, element in elements:
            yield _row(Line(number, element), plan, lambda text: from_json(json_row(text), plan.model))

    return rows()


def _json_rows(lines: Lines, plan: _Plan) -> Iterator[Row]:
    for line in lines:
        if line.error is not None or line.content.strip():
            yield _row(line, plan, lambda text: from_json(json_row(text), plan.model))


def _text_rows(lines: Lines, plan: _Plan) -> Iterator[Row]:
    for line in lines:
        if line.error is not None or line.content.strip():
            yield _row(line, plan, lambda text: from_prompt(text.strip(), plan.model))


def _row(source: Line | Record, plan: _Plan, build: Callable[[Any], GenerationRequest]) -> Row:
    if source.error is not None:
        return Row(source.number, error=RowError(source.error))
    try:
        return Row(source.number, plan.checked(build(source.content)))
    except (RuxaError, ValueError) as error:
        return Row(source.number, error=error)


def _table_rows(delimiter: str) -> Callable[[Lines, _Plan], Iterator[Row]]:
    def read(lines: Lines, plan: _Plan) -> Iterator[Row]:
        records = delimited(lines, delimiter)
        header = next(records, None)
        if header is None:
            return iter(())
        if header.error is not None:
            raise InputError(f"line {header.number}, the header: {header.error}")
        columns = _columns(header.content, plan)

        def rows() -> Iterator[Row]:
            for record in records:
                yield _row(record, plan, lambda cells: from_cells(columns, cells, plan.model))

        return rows()

    return read


def _columns(names: tuple[str, ...], plan: _Plan) -> list[str | None]:
    """Return the field that each column fills, None for those that fill none."""
    wanted = plan.wanted
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
        plan.notice(f"columns that are no request fields are ignored: {', '.join(map(repr, ignored))}")
    return fields


_READERS: dict[Format, Callable[[Lines, _Plan], Iterator[Row]]] = {
    "jsonl": _json_rows,
    "csv": _table_rows(","),
    "tsv": _table_rows("\t"),
    "text": _text_rows,
}
assert set(_READERS) == set(get_args(Format))
