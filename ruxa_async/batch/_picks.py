"""Read ``picks.jsonl``, which the report page saves: the picked rows of a batch, to be made again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from attrs import evolve

from ruxa_async.errors import RuxaError
from ruxa_async.requests import GenerationRequest, input_fields, request_class

from ._input_lines import InputError, Line, Lines
from ._input_rows import Row, Rows
from ._request_parser import RowError, build_request, json_row

__all__ = ("open_picks",)

#: Returns the fields that are changed, for a model.
_Changes: TypeAlias = Callable[[str], Mapping[str, Any]]


@contextmanager
def open_picks(
    source: Path, *, model: str | None = None, changes: _Changes = lambda _model: {}
) -> Generator[Rows]:
    """Open *source*, a ``picks.jsonl``, and yield its `Rows`, one for each picked row.

    Each has the input of the picked row, with the *changes* for its model: a value of None removes a field.
    *model* replaces the model of all. The key is that of the picked row, else its id, with ``-pick`` at the
    end: a run that is resumed finds it again, and it is never taken for the picked row. A row that is picked
    twice counts once.
    Raises `InputError` if *source* cannot be read or is empty.
    """
    try:
        stream = source.open("rb")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    with stream:
        rows = _rows(Lines(stream), model, changes)
        first = next(rows, None)
        if first is None:
            raise InputError(f"{source} holds no picks, so there is nothing to generate")
        yield Rows(format="jsonl", _rows=chain((first,), rows))


def _rows(lines: Iterator[Line], model: str | None, changes: _Changes) -> Iterator[Row]:
    seen: dict[str | None, GenerationRequest] = {}
    for line in lines:
        if line.error is None and not line.content.strip():
            continue
        try:
            if line.error is not None:
                raise RowError(line.error)
            request = _request(json_row(line.content), model, changes)
        except (RuxaError, ValueError) as error:
            yield Row(line.number, error=error)
            continue
        # Another request with this key is not left out: the run reports that the key is taken.
        if seen.setdefault(request.key, request) is request or seen[request.key] != request:
            yield Row(line.number, request)


def _request(pick: Mapping[str, Any], model: str | None, changes: _Changes) -> GenerationRequest:
    name, picked, given = pick.get("key") or pick.get("id"), pick.get("model"), pick.get("input")
    if not isinstance(name, str) or not isinstance(picked, str) or not isinstance(given, dict):
        raise RowError(
            "not a pick: key or id, model and input are needed; save picks.jsonl from a report page"
        )
    wanted = model or picked
    fields = {field: value for field, value in {**given, **changes(wanted)}.items() if value is not None}
    key = f"{name.removeprefix('#')}-pick"
    known = request_class(wanted)
    if known is None:
        return build_request(wanted, fields, key)
    # Fields that the class does not know were sent as `extra`. Another model may not have them.
    other = (
        {}
        if wanted != picked
        else {each: fields.pop(each) for each in set(given) & set(fields) - set(input_fields(known))}
    )
    try:
        request = build_request(wanted, fields, key)
    except RowError as error:
        raise RowError(f"{error}; --input FIELD=null takes a field out") from None
    return evolve(request, extra=other) if other else request
