"""Read files of JSON lines (JSONL) that may be damaged or cut off. Blocking: for worker threads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

__all__ = ("JsonLine", "json_lines", "read_json_lines")


@frozen
class JsonLine:
    """One line: its offset in the file, its bytes, and its JSON object, None if it does not hold one."""

    start: int
    data: bytes
    values: dict[str, Any] | None

    @property
    def complete(self) -> bool:
        """Whether the line ends with a line feed; the last line does not if a kill cut it off."""
        return self.data.endswith(b"\n")

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.start + len(self.data)


def read_json_lines(path: Path, *, errors: Literal["strict", "replace"] = "strict") -> Iterator[JsonLine]:
    """Yield each line of the file at *path*. Raises OSError.

    A line that is not UTF-8 has no values, or with *errors* "replace" U+FFFD in place of invalid bytes.
    """
    with path.open("rb") as file:
        yield from json_lines(file, errors=errors)


def json_lines(
    file: Iterable[bytes], *, errors: Literal["strict", "replace"] = "strict"
) -> Iterator[JsonLine]:
    """Do the same for an open *file*, or the first of its lines."""
    start = 0
    for data in file:
        try:
            value = json.loads(data.decode("utf-8-sig", errors))
        except (ValueError, RecursionError):
            value = None
        yield JsonLine(start, data, value if isinstance(value, dict) else None)
        start += len(data)
