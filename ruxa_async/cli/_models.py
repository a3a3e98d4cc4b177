"""``ruxa-async models``: show the fields of every documented model, as its request class declares them."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs
from attrs import Attribute, frozen
from cyclopts import Parameter

from ruxa_async.batch import InputError, RowError
from ruxa_async.batch._request_parser import json_or_text, model_hint
from ruxa_async.requests import MODELS, FieldRule, GenerationRequest, input_fields, request_class

from ._options import Flag
from ._runtime import DONE
from ._stdout import print_text

__all__ = ("FieldInfo", "fields_of", "input_field", "models")

#: Descriptions that say no more than the type.
_OF_TYPE = ("a text", "True or False")
_TYPES = {str: "text", bool: "true or false", tuple: "list of texts"}


@frozen(kw_only=True)
class FieldInfo:
    """A field of the input of a model. *default* is None if the service chooses it."""

    name: str
    type: str
    required: bool
    default: Any
    allowed: tuple[str, ...]
    described: str

    def row(self) -> tuple[str, str, str]:
        """Return the name, the type and the valid values, as the table shows them."""
        described = "" if self.described in _OF_TYPE else self.described
        values = ", ".join(self.allowed) or described
        default = "" if self.default is None else f"default {self.default}"
        return (
            self.name,
            self.type,
            "; ".join(filter(None, ("required" if self.required else "", values, default))),
        )


def fields_of(cls: type[GenerationRequest]) -> tuple[FieldInfo, ...]:
    """Return the input fields of *cls*, required ones first."""
    hints, declared = get_type_hints(cls), attrs.fields_dict(cls)
    fields = [_described(declared[name], hints[name]) for name in input_fields(cls)]
    return tuple(sorted(fields, key=lambda each: not each.required))


def _described(attribute: Attribute[Any], hint: Any) -> FieldInfo:
    rule, default = attribute.validator, attribute.default
    assert isinstance(rule, FieldRule)
    return FieldInfo(
        name=attribute.name,
        type=_type_of(hint),
        required=default is attrs.NOTHING,
        default=None if default in (attrs.NOTHING, ()) else default,
        allowed=rule.allowed,
        described=rule.described,
    )


def _type_of(hint: Any) -> str:
    """Return the JSON type of values of *hint*, ignoring None."""
    if isinstance(hint, UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    return _TYPES[get_origin(hint) or hint]


def models(
    model: Annotated[
        str | None, Parameter(help="The id of one model.", completer=lambda _context: list(MODELS))
    ] = None,
    /,
    *,
    as_json: Annotated[Flag, Parameter(name="--json", help="Print one JSON object.")] = False,
) -> int:
    """Print the fields of every documented model, or of one, and return the exit code."""
    if model is None:
        classes = list(MODELS.values())
    elif model in MODELS:
        classes = [MODELS[model]]
    else:
        raise InputError(f"{model_hint(model)} 'generate --model' accepts any id, with fields in --input")
    if as_json:
        described = [_as_dict(cls) for cls in classes]
        print_text(json.dumps({"models": described} if model is None else described[0], indent=2) + "\n")
    else:
        width = shutil.get_terminal_size().columns
        print_text("\n".join("".join(f"{line}\n" for line in _as_text(cls, width)) for cls in classes))
    return DONE


def _as_text(cls: type[GenerationRequest], width: int) -> Iterator[str]:
    yield cls.model  # type: ignore[misc]
    for paragraph in _paragraphs(cls):
        yield from textwrap.wrap(paragraph, width, initial_indent="  ", subsequent_indent="  ")
    rows = [field.row() for field in fields_of(cls)]
    names, types = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, kind, values in rows:
        start = f"  {name:{names}}  {kind:{types}}  "
        yield from textwrap.wrap(
            values, max(width, len(start) + 20), initial_indent=start, subsequent_indent=" " * len(start)
        ) or [start.rstrip()]


def _paragraphs(cls: type[GenerationRequest]) -> list[str]:
    """Return the paragraphs of the docstring of *cls* without markup."""
    text = re.sub(r"[*`]+", "", inspect.getdoc(cls) or "")
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _as_dict(cls: type[GenerationRequest]) -> dict[str, Any]:
    return {
        "model": cls.model,
        "class": cls.__name__,
        "description": "\n\n".join(_paragraphs(cls)),
        "fields": [attrs.asdict(field) for field in fields_of(cls)],
    }


def input_field(model: str, text: str) -> tuple[str, Any]:
    """Return the field and the value of one ``--input`` for *model*. Its text fields take any text."""
    name, found, value = text.partition("=")
    name, cls = name.strip(), request_class(model)
    if not found or not name:
        raise InputError(f"--input {text!r} is not FIELD=VALUE, as in aspect_ratio=16:9")
    if cls is not None and name == "key":
        raise InputError("--input key: give --key instead")
    takes_text = cls is not None and any(each.name == name and each.type == "text" for each in fields_of(cls))
    try:
        read = json_or_text(value)
    except RowError as error:
        if takes_text:
            return name, value
        raise InputError(f"--input {name}: {error}; for text, put it in double quotes as JSON does") from None
    return name, value if takes_text and not isinstance(read, str) else read
