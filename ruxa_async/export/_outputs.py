"""Read the outputs of a batch folder, one at a time, from the last line of each row.

The memory in use is about 250 bytes a row: where its last line begins.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from attrs import field, frozen

from ruxa_async._internal.files import is_inside
from ruxa_async._internal.json_values import as_number, as_object, as_objects, as_text, as_texts, as_whole
from ruxa_async._internal.jsonl import json_lines
from ruxa_async._internal.media_kinds import MediaKind, kind_of

from ._target import ExportError

__all__ = ("COLUMNS", "Output", "Outputs", "open_outputs")

_RESULTS = "results.jsonl"

#: An instant is a datetime in UTC, to the millisecond.
ColumnType: TypeAlias = Literal["text", "whole", "number", "instant"]

#: The columns of every export, in their order. docs/export.md says what each means.
COLUMNS: dict[str, ColumnType] = {
    "file_name": "text",
    "key": "text",
    "id": "text",
    "index": "whole",
    "output": "whole",
    "model": "text",
    "prompt": "text",
    "input": "text",
    "task_id": "text",
    "state": "text",
    "error_type": "text",
    "error": "text",
    "credits": "number",
    "duration": "number",
    "submitted_at": "instant",
    "finished_at": "instant",
    "media_type": "text",
    "bytes": "whole",
    "width": "whole",
    "height": "whole",
    "sha256": "text",
}
#: Fields of a line whose names and meaning are those of the columns.
_LINE_FIELDS = (
    *("key", "id", "index", "model", "prompt", "task_id", "state"),
    *("credits", "duration", "submitted_at", "finished_at"),
)
_OUTPUT_FIELDS = ("bytes", "width", "height", "sha256")


@frozen
class Output:
    """One output, or one row without an output: then *path* and the column ``file_name`` are None.

    *values* holds each of `COLUMNS`.
    """

    values: Mapping[str, Any]
    path: Path | None = None

    @property
    def is_missing(self) -> bool:
        """Whether its file is not on disk, although the line names it."""
        return self.path is not None and not self.path.is_file()

    @property
    def kind(self) -> MediaKind:
        """What its file is; "other" without a file."""
        return "other" if self.path is None else kind_of(self.path.name)


@frozen
class Outputs:
    """The outputs of *folder*, in the order of the input; *kinds* are those of their files."""

    folder: Path
    kinds: frozenset[MediaKind]
    _file: BinaryIO = field(repr=False)
    _starts: list[int] = field(repr=False)

    def __iter__(self) -> Iterator[Output]:
        for start in self._starts:
            self._file.seek(start)
            for line in json_lines((self._file.readline(),), errors="replace"):
                yield from _outputs_of(line.values or {}, self.folder)


@contextmanager
def open_outputs(folder: Path) -> Generator[Outputs]:
    """Open the results in *folder*. Lines that are added later do not count. Raises `ExportError`."""
    try:
        file = (folder / _RESULTS).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise ExportError(f"{folder} holds no {_RESULTS}: give the --out folder of a batch") from None
    with file:
        places: dict[str, tuple[float, int]] = {}
        kinds: set[MediaKind] = set()
        for line in json_lines(file, errors="replace"):
            if line.values is not None:
                index = as_whole(line.values.get("index"))
                place = float("inf") if index is None else index
                places[_identity(line.values)] = (place, line.start)
                kinds.update(kind_of(name) for name, _ in _files_of(line.values))
        starts = [start for _, start in sorted(places.values())]
        yield Outputs(folder, frozenset(kinds), file, starts)


def _identity(values: Mapping[str, Any]) -> str:
    """Return a text that is equal for all lines of one row, and differs between rows."""
    row_id = as_text(values.get("id"))
    if row_id:
        return f"id {row_id}"
    # The line of a row that is not valid has no id.
    numbers = [as_whole(values.get(name)) for name in ("index", "line")]
    return repr((numbers, [as_text(values.get(name)) for name in ("key", "model", "prompt")]))


def _files_of(values: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the name and the description of each file of a line."""
    described = chain(as_objects(values.get("outputs")), repeat({}))
    files = zip(as_texts(values.get("files")), described, strict=False)
    return [(name, output) for name, output in files if is_inside(name)]


def _outputs_of(line: Mapping[str, Any], folder: Path) -> Iterator[Output]:
    error = line.get("error")
    described = {"message": error} if isinstance(error, str) else as_object(error)
    row = dict.fromkeys(COLUMNS) | {name: _typed(name, line.get(name)) for name in _LINE_FIELDS}
    row["input"] = _json(line.get("input"))
    row["error_type"] = _typed("error_type", described.get("type"))
    row["error"] = _typed("error", described.get("fail_message") or described.get("message"))
    files = _files_of(line)
    if not files:
        yield Output(row)
    for number, (name, output) in enumerate(files, 1):
        about = {column: _typed(column, output.get(column)) for column in _OUTPUT_FIELDS}
        media_type = _typed("media_type", output.get("type"))
        yield Output(
            row | about | {"file_name": name, "output": number, "media_type": media_type}, folder / name
        )


def _typed(column: str, value: object) -> Any:
    """Return *value* as the type of *column*, None if it has another one."""
    match COLUMNS[column]:
        case "text":
            text = as_text(value)
            # A lone surrogate, which JSON may spell, cannot be encoded in UTF-8.
            return None if text is None else text.encode(errors="replace").decode()
        case "whole":
            return as_whole(value)
        case "number":
            return as_number(value)
        case "instant":
            seconds = as_number(value)
            return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


def _json(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    try:
        return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()
    except RecursionError:
        return None
