"""Rows of requests from a file, lazily: JSON lines, comma- or tab-separated values, plain text, standard input.

What is wrong with a row is a value, so that it can be reported with its line and the others go on. Only what is
wrong with the whole file raises `InputError`: it is not there, or it has no column of prompts.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

from attrs import field, frozen

from ruxa_async.errors import RuxaError
from ruxa_async.requests import GenerationRequest

from .records import InputError, Line, Lines, Record, delimited
from .requests import RowError, from_cells, from_json, from_prompt, json_row, known_columns

__all__ = ("Format", "InputError", "Row", "Rows", "open_rows")

Format: TypeAlias = Literal["jsonl", "csv", "tsv", "text"]

#: The model of rows that name none.
DEFAULT_MODEL = "google/nano-banana"

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
) -> Generator[Rows]:
    """Open *source*, a path or ``-`` for standard input, and read its rows as they are asked for.

    The format follows from the extension, else from the first line. *prompt_column* names the column of prompts
    (default: the one called prompt, in any case); *model* is for rows that name none. *notice* is told what is
    ignored. Raises `InputError`.
    """
    piped = str(source) == "-"
    with _standard_input() if piped else _opened(Path(source)) as stream:
        lines = Lines(stream)
        next(lines.ahead(), None)  # what is wrong from the first byte on is said before anything is submitted
        kind = format or _FORMATS.get(Path(source).suffix.lower()) or _sniffed(lines, prompt_column)
        rows = _READERS[kind](lines, _Plan(prompt_column, model, notice))
        yield Rows(format=kind, interactive=piped, _rows=rows)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def _standard_input() -> Generator[BinaryIO]:
    """Give standard input, and leave it open: closing it would wait for a thread that still reads from it.

    It is not ``sys.stdin.buffer``: a thread that waits in that one at exit crashes the interpreter.
    """
    try:
        yield io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
    except io.UnsupportedOperation:
        raise InputError("there is no standard input to read from") from None


@frozen
class _Plan:
    prompt_column: str | None
    model: str
    notice: Callable[[str], object]


def _sniffed(lines: Lines, prompt_column: str | None) -> Format:
    first = next((line.content for line in lines.ahead() if line.error is None and line.content.strip()), "")
    if first.lstrip().startswith(("{", "[")):
        return "jsonl"
    wanted = (prompt_column or "prompt").casefold()
    for kind, delimiter in (("tsv", "\t"), ("csv", ",")):
        if wanted in (cell.strip().strip('"').casefold() for cell in first.split(delimiter)):
            return "tsv" if kind == "tsv" else "csv"
    return "text"


def _json_rows(lines: Lines, plan: _Plan) -> Iterator[Row]:
    for line in lines:
        if line.error is not None or line.content.strip():
            yield _row(line, lambda text: from_json(json_row(text), plan.model))


def _text_rows(lines: Lines, plan: _Plan) -> Iterator[Row]:
    for line in lines:
        if line.error is not None or line.content.strip():
            yield _row(line, lambda text: from_prompt(text.strip(), plan.model))


def _row(source: Line | Record, build: Callable[[Any], GenerationRequest]) -> Row:
    if source.error is not None:
        return Row(source.number, error=RowError(source.error))
    try:
        return Row(source.number, build(source.content))
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
                yield _row(record, lambda cells: from_cells(columns, cells, plan.model))

        return rows()

    return read


def _columns(names: tuple[str, ...], plan: _Plan) -> list[str | None]:
    """Return the field that each column fills, None for those that fill none."""
    wanted = (plan.prompt_column or "prompt").strip()
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
