"""Read the folder of a batch into values.

Lines may be cut off by a kill, edited by hand, or written by a later version, so no content of a line raises:
a field of the wrong type counts as missing, an unknown field is ignored, and a line that is not JSON is
counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from attrs import field, frozen

from ruxa_async._internal.files import is_inside
from ruxa_async._internal.json_values import as_number as _number
from ruxa_async._internal.json_values import as_object as _object
from ruxa_async._internal.json_values import as_objects as _objects_in
from ruxa_async._internal.json_values import as_text as _text
from ruxa_async._internal.json_values import as_texts as _texts
from ruxa_async._internal.json_values import as_whole as _whole
from ruxa_async._internal.jsonl import read_json_lines
from ruxa_async._internal.media_kinds import MediaKind, kind_of
from ruxa_async._price_list import parse_price_key

__all__ = ("RESULTS", "RUNS", "Entry", "Error", "Folder", "Media", "MediaKind", "Run", "read_folder")

RESULTS = "results.jsonl"
RUNS = "runs.jsonl"

#: The URL of an output in an object store; its scheme has two letters at least, unlike a drive of Windows.
_STORED = re.compile(r"[a-z][a-z0-9]+://")


@frozen
class Media:
    """One output: its *path* relative to the folder, and its *size* in bytes, None if the file is missing.

    The *path* of an output in an object store is its URL, which a browser cannot show.

    *width* and *height* are in pixels, None if the line does not state them.
    """

    path: str
    size: int | None
    width: int | None = None
    height: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether an object store has it."""
        return _STORED.match(self.path) is not None

    @property
    def kind(self) -> MediaKind:
        """What a browser shows it as, by its extension; "other" if it can only be named."""
        return "other" if self.is_stored else kind_of(self.path)


@frozen(kw_only=True)
class Error:
    """The error of a line."""

    type: str = ""
    message: str = ""
    code: str = ""
    cause: str = ""


@frozen(kw_only=True)
class Entry:
    """One line of ``results.jsonl``. Times are seconds since the epoch, *duration* and *lag* are seconds."""

    state: str
    id: str | None = None
    index: int | None = None
    line: int | None = None
    key: str | None = None
    model: str | None = None
    prompt: str | None = None
    task_id: str | None = None
    media: tuple[Media, ...] = ()
    urls: tuple[str, ...] = ()
    error: Error | None = None
    credits: float | None = None
    duration: float | None = None
    lag: float | None = None
    queries: int = 0
    submitted_at: float | None = None
    finished_at: float | None = None
    input: Mapping[str, Any] = field(factory=dict)

    @property
    def parameters(self) -> dict[str, str]:
        """The input as text, without the prompt."""
        return {name: _parameter(value) for name, value in self.input.items() if name != "prompt"}

    @property
    def identity(self) -> tuple[object, ...]:
        """A value that is equal for all lines of one row, and differs between rows."""
        return (self.id,) if self.id else (self.index, self.line, self.key, self.model, self.prompt)

    @property
    def seconds(self) -> float | None:
        """The run time that the service reported, else the time from acceptance until its end was seen."""
        if self.duration is not None:
            return self.duration
        if self.submitted_at is None or self.finished_at is None or self.state != "succeeded":
            return None
        return max(0.0, self.finished_at - self.submitted_at)


@frozen(kw_only=True)
class Run:
    """One line of ``runs.jsonl``.

    *prices* are credits a task by model and parameters, given by the user. *throttled* counts rejections
    (429) by scope, in steps of *step* seconds from the start.
    """

    started_at: float
    ended_at: float | None = None
    source: str = ""
    ending: str = ""
    unsubmitted: int = 0
    step: float = 1.0
    throttled: Mapping[str, tuple[int, ...]] = field(factory=dict)
    prices: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class Folder:
    """A batch folder: all *lines*, the last one of each row in *entries*, the number of *broken* lines."""

    path: Path
    entries: tuple[Entry, ...]
    lines: tuple[Entry, ...]
    runs: tuple[Run, ...]
    broken: int = 0

    @property
    def media(self) -> Iterator[Media]:
        """All outputs of its entries."""
        return chain.from_iterable(entry.media for entry in self.entries)

    @property
    def seconds(self) -> float | None:
        """The seconds that all runs took; if none is recorded, from the first acceptance to the last end."""
        if self.runs:
            spans = [run.ended_at - run.started_at for run in self.runs if run.ended_at is not None]
            return sum(spans) if spans else None
        begins = [entry.submitted_at for entry in self.entries if entry.submitted_at is not None]
        ends = [entry.finished_at for entry in self.entries if entry.finished_at is not None]
        return max(ends) - min(begins) if begins and ends else None


def read_folder(path: Path) -> Folder:
    """Return the content of the folder *path*. Raises OSError if its results cannot be read."""
    results, broken = _objects(path / RESULTS)
    lines = tuple(_entry(values, path) for values in results)
    # A resumed run writes a row again. Its last line counts, at the position of the first.
    latest = {entry.identity: entry for entry in lines}
    try:
        runs = tuple(run for values in _objects(path / RUNS)[0] if (run := _run(values)) is not None)
    except FileNotFoundError:
        runs = ()
    ordered = sorted(latest.values(), key=lambda entry: (entry.index is None, entry.index or 0))
    return Folder(path=path, entries=tuple(ordered), lines=lines, runs=runs, broken=broken)


def _objects(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the objects in a file of JSON lines, and the number of damaged lines that are not cut off."""
    lines = list(read_json_lines(path, errors="replace"))
    broken = sum(line.values is None and line.complete and not line.data.isspace() for line in lines)
    return [line.values for line in lines if line.values is not None], broken


def _entry(values: Mapping[str, Any], folder: Path) -> Entry:
    plain: dict[str, Any] = {name: parse(values.get(name)) for name, parse in _PLAIN_FIELDS.items()}
    return Entry(
        state=_text(values.get("state")) or "unknown",
        media=tuple(_media(_texts(values.get("files")), _objects_in(values.get("outputs")), folder)),
        urls=tuple(_texts(values.get("urls"))),
        error=_error(values.get("error")),
        queries=_whole(values.get("queries")) or 0,
        input=_object(values.get("input")),
        **plain,
    )


def _media(names: Iterable[str], outputs: Iterable[Mapping[str, Any]], folder: Path) -> Iterator[Media]:
    for name, output in zip(names, chain(outputs, repeat({})), strict=False):
        if _STORED.match(name):
            yield Media(name, _whole(output.get("bytes")), *_pixels(output))
            continue
        if not is_inside(name):
            continue
        try:
            size = (folder / name).stat().st_size
        except (OSError, ValueError):
            size = None
        yield Media(name, size, *_pixels(output))


def _pixels(output: Mapping[str, Any]) -> tuple[int | None, int | None]:
    return _whole(output.get("width")), _whole(output.get("height"))


def _error(value: object) -> Error | None:
    if isinstance(value, str):
        return Error(message=value)
    if not isinstance(value, dict):
        return None
    codes = (value.get(name) for name in ("fail_code", "code", "status"))
    code = next((code for code in codes if code not in (None, "")), "")
    message = _text(value.get("fail_message")) or _text(value.get("message")) or ""
    url = _text(value.get("url"))
    return Error(
        type=_text(value.get("type")) or "",
        # Without the URL, which the page shows apart, equal reasons can be counted together.
        message=message.removeprefix(f"{url}: ") if url else message,
        code=str(code) if isinstance(code, (str, int)) else "",
        cause=_text(value.get("cause")) or "",
    )


def _run(values: Mapping[str, Any]) -> Run | None:
    started_at = _number(values.get("started_at"))
    if started_at is None:
        return None
    series = _object(values.get("throttled_over_time"))
    prices = _object(values.get("prices")).items()
    return Run(
        started_at=started_at,
        ended_at=_number(values.get("ended_at")),
        source=_text(values.get("source")) or "",
        ending=_text(values.get("ending")) or "",
        unsubmitted=_whole(values.get("unsubmitted")) or 0,
        prices={
            key: price
            for key, given in prices
            if _is_price_key(key) and (price := _number(given)) is not None
        },
        step=_number(series.get("step")) or 1.0,
        throttled={
            scope: tuple(_whole(count) or 0 for count in counts)
            for scope, counts in series.items()
            if isinstance(counts, list)
        },
    )


def _is_price_key(key: str) -> bool:
    try:
        parse_price_key(key)
    except ValueError:
        return False
    return True


def _parameter(value: object) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"


#: Fields that an `Entry` takes from its line, None if their type is wrong.
_PLAIN_FIELDS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(("id", "key", "model", "prompt", "task_id"), _text),
    **dict.fromkeys(("index", "line"), _whole),
    **dict.fromkeys(("credits", "duration", "lag", "submitted_at", "finished_at"), _number),
}
