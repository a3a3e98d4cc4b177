"""The file names of a generation's outputs, from a template. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from string import Formatter
from typing import Final, Self

from ruxa_async._internal.files import clean_name, clean_stem, plain_stem
from ruxa_async.errors import ConfigurationError
from ruxa_async.results import Generation

__all__ = ("BATCH_FIELDS", "FIELDS", "RowTemplate", "check_template", "names_of")

FIELDS: Final = ("key", "model", "n", "prompt", "slug", "task_id")
#: The fields of a batch, whose rows have an index.
BATCH_FIELDS: Final = (*FIELDS, "index")
_NUMBERS: Final = ("n", "index")
#: bytes of a slug, at most
_LONGEST_SLUG: Final = 60
#: The format of a number: none, a width, or a width with leading zeros.
_NUMBER: Final = re.compile(r"(?:0?[1-9])?")
_SEPARATORS: Final = re.compile(r"[/\\]+")
#: characters of a template, at most
_LONGEST_TEMPLATE: Final = 100


def check_template(template: str, fields: tuple[str, ...] = FIELDS) -> None:
    """Raise `ConfigurationError` if *template* is not valid or uses a field that is not in *fields*."""
    try:
        found = {field for _, field in _parts(template, fields)}
    except ValueError as error:
        raise _refused(template, str(error), fields) from None
    if not found - {""}:
        raise _refused(template, "it holds no field, so all files would get the same name", fields)


class RowTemplate(str):
    """A template for the outputs of one row of a batch; its ``{index}`` is *row*, counted from 0."""

    __slots__ = ("row",)
    row: int

    def __new__(cls, template: str, row: int) -> Self:
        """Return *template* for *row*."""
        made = super().__new__(cls, template)
        made.row = row
        return made


def names_of(generation: Generation, template: str | None = None) -> list[str]:
    """Return a file name without extension for each output of *generation*, valid on common file systems.

    The default *template* is ``{key}``: the request's key, else the task id. Several outputs get ``-1``,
    ``-2`` ... unless the template has ``{n}``. Raises `ConfigurationError` for an invalid template.
    """
    if template is None:
        template = "{key}"
    fields = BATCH_FIELDS if isinstance(template, RowTemplate) else FIELDS
    check_template(template, fields)
    parts = list(_parts(template, fields))
    if len(generation.urls) > 1 and not any(field.partition(":")[0] == "n" for _, field in parts):
        parts.append(("-", "n"))
    index = template.row if isinstance(template, RowTemplate) else 0
    values = _values(generation)
    return [
        _name(parts, values, {"n": number, "index": index}) for number in range(1, len(generation.urls) + 1)
    ]


def _values(generation: Generation) -> dict[str, str]:
    """Return the values of the text fields."""
    request = generation.request
    key = None if request is None else request.key
    asked = None if request is None else request.input().get("prompt")
    prompt = asked if isinstance(asked, str) else ""
    return {
        "key": clean_stem(key or generation.task_id or "output"),
        "model": _SEPARATORS.sub("-", generation.model or "model").casefold(),
        "task_id": clean_stem(generation.task_id or "output"),
        "prompt": plain_stem(prompt),
        "slug": _slug(prompt) or _slug(generation.model or "") or "output",
    }


def _name(parts: list[tuple[str, str]], values: dict[str, str], numbers: dict[str, int]) -> str:
    text = ""
    for literal, field in parts:
        name, _, form = field.partition(":")
        text += literal + (format(numbers[name], form) if name in numbers else values.get(name, ""))
    return clean_name(text)


def _slug(text: str) -> str:
    """Return the words of *text* in lower case, joined by hyphens, at most 60 bytes."""
    folded = unicodedata.normalize("NFC", text[: _LONGEST_SLUG * 4].lower())
    words = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in folded).split()
    slug = ""
    for word in words:
        longer = f"{slug}-{word}" if slug else word
        if len(longer.encode()) > _LONGEST_SLUG:
            break
        slug = longer
    return slug or "".join(words[:1]).encode()[:_LONGEST_SLUG].decode(errors="ignore")


def _parts(template: str, fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each literal text of *template* with the field that follows it. Raises ValueError if invalid."""
    if _SEPARATORS.search(template):
        raise ValueError("it holds a slash, but all files go into one folder")
    if len(template) > _LONGEST_TEMPLATE:
        raise ValueError(f"it is longer than {_LONGEST_TEMPLATE} characters")
    for literal, field, form, conversion in Formatter().parse(template):
        if field == "index" and field not in fields:
            raise ValueError("{index} is the index of a row, which only a batch has")
        if field is not None and field not in fields:
            raise ValueError(f"{{{field}}} is not a field")
        if conversion or (form and (field not in _NUMBERS or not _NUMBER.fullmatch(form))):
            raise ValueError("fields take no format except digits, as in {n:03}")
        yield literal, f"{field or ''}:{form}" if form else field or ""


def _refused(template: str, why: str, fields: tuple[str, ...]) -> ConfigurationError:
    return ConfigurationError(
        f"name={template!r} cannot name files: {why}. "
        f"Use {', '.join(f'{{{each}}}' for each in fields)}, as in '{{key}}-{{n}}'"
    )
