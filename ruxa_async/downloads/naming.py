"""What the files of a generation are called. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Final

from ruxa_async._files import clean_name, clean_stem
from ruxa_async.errors import ConfigurationError
from ruxa_async.results import Generation

__all__ = ("check_template", "names_of")

_FIELDS: Final = ("key", "model", "n", "task_id")
_NUMBER: Final = re.compile(r"(?:0?[1-9])?")
_SEPARATORS: Final = re.compile(r"[/\\]+")
_LONGEST: Final = 100


def check_template(template: str) -> None:
    """Raise `ConfigurationError` if files cannot be named by *template*; it says what may stand there."""
    try:
        fields = {field for _, field in _parts(template)}
    except ValueError as error:
        raise _refused(template, str(error)) from None
    if not fields - {""}:
        raise _refused(template, "it holds no field, and every file needs its own name")


def names_of(generation: Generation, template: str | None = None) -> list[str]:
    """Return a name without extension for each output of *generation*: one plain name, inside any folder, on any disk.

    Without a *template* that is the request's key, else the task id, and ``-1``, ``-2`` ... where there are several.
    Raise `ConfigurationError` for one that does not work.
    """
    if template is None:
        template = "{key}"
    check_template(template)
    parts = list(_parts(template))
    if len(generation.urls) > 1 and not any(field.startswith("n") for _, field in parts):
        parts.append(("-", "n"))
    return [_name(parts, generation, number) for number in range(1, len(generation.urls) + 1)]


def _name(parts: list[tuple[str, str]], generation: Generation, number: int) -> str:
    key = None if generation.request is None else generation.request.key
    values = {
        "key": clean_stem(key or generation.task_id or "output"),
        "model": _SEPARATORS.sub("-", generation.model or "model").casefold(),
        "task_id": clean_stem(generation.task_id or "output"),
    }
    text = ""
    for literal, field in parts:
        name, _, form = field.partition(":")
        text += literal + (format(number, form) if name == "n" else values.get(name, ""))
    return clean_name(text)


def _parts(template: str) -> Iterator[tuple[str, str]]:
    """Split *template* into texts and the fields that follow them; raise ValueError for what it may not hold."""
    if _SEPARATORS.search(template):
        raise ValueError("it holds a slash, and all files go into one folder")
    if len(template) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    for literal, field, form, conversion in Formatter().parse(template):
        if field is not None and field not in _FIELDS:
            raise ValueError(f"{{{field}}} is no field")
        if conversion or (form and (field != "n" or not _NUMBER.fullmatch(form))):
            raise ValueError("fields take no format, but for digits as in {n:03}")
        yield literal, f"{field or ''}:{form}" if form else field or ""


def _refused(template: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"name={template!r} cannot name files: {why}. Use {', '.join(f'{{{each}}}' for each in _FIELDS)}, as in '{{key}}-{{n}}'"
    )
