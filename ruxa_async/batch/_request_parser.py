"""One row's values to one request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

import attrs

from ruxa_async.errors import RuxaError
from ruxa_async.requests import CustomRequest, GenerationRequest, request_class

from ._input_lines import InputError

__all__ = (
    "RowError",
    "from_cells",
    "from_json",
    "from_prompt",
    "json_elements",
    "json_row",
    "known_columns",
    "model_warning",
)

_MODELS = ("google/nano-banana", "google/nano-banana-edit", "google/nano-banana-pro", "sora-2", "sora-2-hd")
_COMMON = ("prompt", "model", "key", "extra")
_LISTS = ("image_input", "image_urls")
_FLAGS = ("watermark", "private", "character_create")
_ENDLESS = "a number has thousands of digits"
#: Levels of a request; services and parsers give up at some hundreds, and then nobody knows whether it was
#: bought.
_MAX_DEPTH = 100
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class RowError(RuxaError):
    """A row holds no request; the message says why."""


def json_row(text: str) -> dict[str, Any]:
    """Read one JSON object."""
    try:
        row = json.loads(text, parse_constant=_not_json, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise RowError("not JSON that can be read: nested too deeply") from None
    except ValueError:
        raise RowError(f"not JSON that can be read: {_ENDLESS}") from None
    if not isinstance(row, dict):
        hint = "; write one object a line, not one array" if isinstance(row, list) else ""
        raise RowError(f"a JSON object is needed, not {_kind(row)}{hint}")
    if text.count("[") + text.count("{") > _MAX_DEPTH and _too_deep(row):
        raise RowError(f"nested too deeply: more than {_MAX_DEPTH} levels")
    if "\\u" in text:
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RowError("half of a surrogate pair stands alone, which no text may hold") from None
    return row


_BLANK = re.compile(r"[ \t\n\r]*")
_LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)  # it only finds where a value ends


def json_elements(text: str, line: int) -> list[tuple[int, str]]:
    """Return each element of the array that *text* holds, or each of its values, as JSON text with its line.

    *line* is the number of the first line of *text*. Raises `InputError` if the text is not JSON as a whole.
    """
    at = _after_blanks(text, 0)
    in_array = text.startswith("[", at)
    at = _after_blanks(text, at + in_array)
    found: list[tuple[int, str]] = []
    counted, more = 0, not text.startswith("]", at) or not in_array
    while more and at < len(text):
        end = _value_end(text, at, line + text.count("\n", counted, at))
        line, counted = line + text.count("\n", counted, at), at
        found.append((line, text[at:end]))
        at = _after_blanks(text, end)
        more = not in_array or text.startswith(",", at)
        at = _after_blanks(text, at + (in_array and more))
    if in_array and (more or not text.startswith("]", at)):
        raise InputError(f"not JSON: the array is not closed after the value in line {line}")
    if in_array and _after_blanks(text, at + 1) < len(text):
        raise InputError("not JSON: text follows the array")
    return found


def _after_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _value_end(text: str, at: int, line: int) -> int:
    try:
        return _LENIENT.raw_decode(text, at)[1]
    except json.JSONDecodeError as error:
        raise InputError(
            f"not JSON: {error.msg} in line {line + text.count(chr(10), at, error.pos)}"
        ) from None
    except RecursionError:
        raise InputError(f"not JSON that can be read: nested too deeply in line {line}") from None


def model_warning(request: GenerationRequest) -> str | None:
    """Return a sentence about the model of *request* if it is not one that this version knows, else None."""
    model = request.model
    if request_class(model) is not None:
        return None
    close = get_close_matches(model[:100].lower(), _MODELS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_MODELS)}."
    return f"model {model[:100]!r} is not known here; {hint} It is sent as it is"


def _not_json(constant: str) -> Any:
    raise RowError(f"not JSON: {constant} is not a JSON number")


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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(f"{twice!r} stands twice in one object")
    return row


def _kind(value: object) -> str:
    return {
        str: "text",
        int: "a number",
        float: "a number",
        bool: "true or false",
        list: "an array",
        dict: "an object",
    }.get(type(value), "null")


def from_prompt(prompt: str, model: str) -> GenerationRequest:
    """Make a request that is nothing but a prompt."""
    return _built(model, {"prompt": prompt}, None)


def from_json(row: Mapping[str, Any], model: str) -> GenerationRequest:
    """Make a request from our fields, or from the service's ``{"model", "input": {...}}``."""
    fields = {name: value for name, value in row.items() if value is not None}
    key = fields.pop("key", fields.pop("id", None))
    named = fields.pop("model", model)
    if not isinstance(named, str) or not named.strip():
        raise RowError(f"model: a model's id is needed, not {_kind(named)}")
    if "input" in fields:
        extra = fields.pop("extra", {})
        fields = {**_service_fields(fields), **({"extra": extra} if extra else {})}
    return _built(named, fields, _key(key))


def _service_fields(fields: dict[str, Any]) -> dict[str, Any]:
    given = fields.pop("input")
    for name in ("callback_url", "callBackUrl"):
        fields.pop(name, None)  # where answers go is the client's affair, not the row's
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


def _built(model: str, fields: dict[str, Any], key: str | None) -> GenerationRequest:
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
    missing = [name for name in _required(cls) if name not in fields]
    if missing:
        raise RowError(f"{_quoted(missing)} is missing")
    return cls(key=key, **fields)


def _quoted(names: Any) -> str:
    return ", ".join(map(repr, names))


def _fields_of(cls: type[Any]) -> tuple[str, ...]:
    return tuple(a.name for a in attrs.fields(cls))


def _required(cls: type[Any]) -> tuple[str, ...]:
    return tuple(a.name for a in attrs.fields(cls) if a.default is attrs.NOTHING)


@cache
def _column_names() -> frozenset[str]:
    classes = [cls for model in _MODELS if (cls := request_class(model)) is not None]
    return frozenset({*_COMMON, *(name for cls in classes for name in _fields_of(cls))})


def known_columns(names: Sequence[str], prompt: int) -> tuple[list[str | None], list[str]]:
    """Return the field that each column fills (None: none) and the names of the columns that fill none."""
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


def from_cells(columns: Sequence[str | None], cells: Sequence[str], model: str) -> GenerationRequest:
    """Make a request from one row of a table; empty cells count as absent."""
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        raise RowError(
            f"{len(cells)} cells under {len(columns)} columns: quote a cell that holds the delimiter"
        )
    row = {
        name: _value(name, cell)
        for name, cell in zip(columns, cells, strict=False)
        if name is not None and (cell.strip() or name == "prompt")
    }
    return from_json(row, model)


def _value(name: str, cell: str) -> Any:
    text = cell.strip()
    if name in _LISTS:
        return _listed(name, text)
    if name in _FLAGS:
        return _TRUTHS.get(text.casefold(), text)
    if name == "extra":
        return json_row(text)
    return cell if name == "prompt" else text


def _listed(name: str, text: str) -> list[Any]:
    if not text.startswith("["):
        return [url for url in re.split(r"[\s,]+", text) if url]
    try:
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(f"{name}: not a JSON list: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise RowError(f"{name}: not a list that can be read: nested too deeply") from None
    except ValueError:
        raise RowError(f"{name}: not a list that can be read: {_ENDLESS}") from None
    assert isinstance(listed, list)
    return listed
