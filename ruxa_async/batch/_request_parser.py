"""Make a request of the values of one row. A row that is not a valid request raises `RowError`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from ruxa_async.errors import RuxaError
from ruxa_async.requests import MODELS, CustomRequest, GenerationRequest, is_path, request_class

__all__ = (
    "RowError",
    "build_request",
    "from_cells",
    "from_json",
    "from_values",
    "json_or_text",
    "json_row",
    "known_columns",
    "model_hint",
    "model_warning",
)

_LIST_FIELDS = ("image_input", "image_urls")
_FILE_FIELDS = ("input_reference", "character_url")
_FLAG_FIELDS = ("watermark", "private", "character_create")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
#: Levels of nesting in a request. Parsers give up at some hundreds; if the service's does, the create has an
#: unknown outcome.
_MAX_DEPTH = 100


class RowError(RuxaError):
    """A row is not a valid request; the message says why."""


# ---- JSON


def json_row(text: str) -> dict[str, Any]:
    """Return the JSON object in *text*. Repeated names, NaN and lone surrogates raise `RowError`."""
    row = _loads(text)
    if not isinstance(row, dict):
        hint = "; write one object a line, not one array" if isinstance(row, list) else ""
        raise RowError(f"a JSON object is needed, not {_kind(row)}{hint}")
    _check_value(text, row)
    return row


def json_or_text(text: str) -> Any:
    """Return the JSON value in *text*, or *text* itself if it is not JSON.

    Text that begins like an object or an array and is not JSON raises `RowError`: it may be a typing error.
    """
    try:
        value = _loads(text)
    except RowError:
        if text.lstrip().startswith(("{", "[")):
            raise
        return text
    _check_value(text, value)
    return value


def _check_value(text: str, value: Any) -> None:
    if text.count("[") + text.count("{") > _MAX_DEPTH and _too_deep(value):
        raise RowError(f"nested too deeply: more than {_MAX_DEPTH} levels")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RowError("half of a surrogate pair stands alone, which no text may hold") from None


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise RowError("not JSON that can be read: nested too deeply") from None
    except ValueError:
        raise RowError("not JSON that can be read: a number has thousands of digits") from None


def _reject_constant(constant: str) -> Any:
    raise RowError(f"not JSON: {constant} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return *pairs* as a dictionary. Raises `RowError` if a name stands twice."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(f"{twice!r} stands twice in one object")
    return row


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [
            each
            for outer in level
            if isinstance(outer, (dict, list))
            for each in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _kind(value: object) -> str:
    """Return the JSON type of *value* in words, for an error message."""
    words = {str: "text", int: "a number", float: "a number", bool: "true or false"}
    return {**words, list: "an array", dict: "an object"}.get(type(value), "null")


# ---- requests


def model_warning(request: GenerationRequest) -> str | None:
    """Return a sentence about the model of *request*, None if this version knows the model."""
    if request_class(request.model) is not None:
        return None
    return f"{model_hint(request.model)} It is sent as it is"


def model_hint(model: str) -> str:
    """Return a sentence about *model*, which this version does not know, and a known one."""
    close = get_close_matches(model[:100].lower(), MODELS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(MODELS)}."
    return f"model {model[:100]!r} is not known here; {hint}"


def from_json(row: Mapping[str, Any], model: str, folder: Path | None = None) -> GenerationRequest:
    """Return the request of *row*: fields of a request class, or the service's ``{"model", "input": {...}}``.

    *model* is used if the row names none. Fields that are None count as absent. Paths of local files are
    relative to *folder*.
    """
    fields = {name: value for name, value in row.items() if value is not None}
    key = fields.pop("key", fields.pop("id", None))
    named = fields.pop("model", model)
    if not isinstance(named, str) or not named.strip():
        raise RowError(f"model: a model's id is needed, not {_kind(named)}")
    if "input" in fields:
        extra = fields.pop("extra", {})
        fields = {**_service_fields(fields), **({"extra": extra} if extra else {})}
    if folder is not None and request_class(named) is not None:
        for name in (*_LIST_FIELDS, *_FILE_FIELDS):
            if name in fields:
                fields[name] = _beside(folder, fields[name])
    return build_request(named, fields, _key(key))


def _beside(folder: Path, value: Any) -> Any:
    """Return *value*, or each element of a list, as a path in *folder* if it is a path."""
    if isinstance(value, list):
        return [_beside(folder, each) for each in value]
    return str(folder / value) if isinstance(value, str) and is_path(value) else value


def _service_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the input of a row in the service's shape, without its callback URL, which the client sets."""
    given = fields.pop("input")
    for name in ("callback_url", "callBackUrl"):
        fields.pop(name, None)
    if fields:
        raise RowError(f"{_quoted(fields)} beside input: put fields of the request into input")
    if not isinstance(given, dict):
        raise RowError(f"input: an object is needed, not {_kind(given)}")
    return given


def _key(key: object) -> str | None:
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise RowError(f"key: text is needed, not {_kind(key)}")
    return str(key).strip() or None


def build_request(model: str, fields: dict[str, Any], key: str | None) -> GenerationRequest:
    """Return the request of *fields* for *model*, a `CustomRequest` without a class for it."""
    cls = request_class(model)
    if cls is None:
        extra = fields.pop("extra", {})
        return CustomRequest(model=model, input=fields, key=key, extra=extra)
    unknown = [name for name in fields if name not in _fields_of(cls)]
    if unknown:
        allowed = ", ".join(name for name in _fields_of(cls) if name != "key")
        raise RowError(
            f"{_quoted(unknown)}: {model} has no such field (it has {allowed}; extra takes others)"
        )
    required = (each.name for each in attrs.fields(cls) if each.default is attrs.NOTHING)
    missing = [name for name in required if name not in fields]
    if missing:
        raise RowError(f"{_quoted(missing)} is missing")
    return cls(key=key, **fields)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _fields_of(cls: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in attrs.fields(cls))


# ---- tables


@cache
def _column_names() -> frozenset[str]:
    """Return the names of all request fields, which columns may have."""
    return frozenset({"model", *(name for cls in MODELS.values() for name in _fields_of(cls))})


def known_columns(names: Sequence[str], prompt: int) -> tuple[list[str | None], list[str]]:
    """Return the request field of each column, and the names of ignored columns, whose field is None.

    *prompt* is the position of the column of prompts.
    """
    fields: list[str | None] = []
    ignored = []
    for place, name in enumerate(names):
        plain = re.sub(r"[\s-]+", "_", name.casefold())
        wanted = "key" if plain == "id" else plain
        if place == prompt:
            fields.append("prompt")
        elif wanted in _column_names() and wanted != "prompt" and wanted not in fields:
            fields.append(wanted)
        else:
            fields.append(None)
            ignored.append(name)
    return fields, ignored


def from_cells(
    columns: Sequence[str | None], cells: Sequence[str], model: str, folder: Path | None = None
) -> GenerationRequest:
    """Return the request of one row of a table; *columns* are the fields. Empty cells count as absent."""
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise RowError(
            f"{len(cells)} cells under {len(columns)} columns: quote a cell that holds the delimiter"
        )
    row = {
        name: _value(name, cell)
        for name, cell in zip(columns, cells, strict=False)
        if name is not None and (cell.strip() or name == "prompt")
    }
    return from_json(row, model, folder)


def from_values(
    columns: Sequence[str], values: Sequence[Any], model: str, folder: Path | None = None
) -> GenerationRequest:
    """Return the request of one row of a typed table; *columns* are the fields.

    Text is read as in a cell of `from_cells`. Other values are taken as JSON would hold them; None counts as
    absent.
    """
    row = {}
    for name, value in zip(columns, values, strict=True):
        if isinstance(value, str):
            if value.strip() or name == "prompt":
                row[name] = _value(name, value)
        elif value is not None:
            row[name] = _json_value(name, value)
    return from_json(row, model, folder)


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, dict):  # a struct has the same members in every row
        value = {member: given for member, given in value.items() if given is not None}
    try:
        return _loads_for(name, json.dumps(value))
    except TypeError:
        raise RowError(f"{name}: JSON holds no {type(value).__name__}: convert the column to text") from None


def _value(name: str, cell: str) -> Any:
    """Return the value of the field *name* that *cell* holds: a list, a flag, an object or text."""
    text = cell.strip()
    if name in _LIST_FIELDS:
        if text.startswith("["):
            return _loads_for(name, text)
        return [url for url in re.split(r"[\s,]+", text) if url]
    if name in _FLAG_FIELDS:
        return _FLAGS.get(text.casefold(), text)
    if name == "extra":
        return json_row(text)
    return cell if name == "prompt" else text


def _loads_for(name: str, text: str) -> Any:
    try:
        return _loads(text)
    except RowError as error:
        raise RowError(f"{name}: {error}") from None
