"""The pictures that a request started from, and the rows that differ only in model or parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._folder import Entry

__all__ = ("comparisons", "source_urls", "sources")

#: Fields of an input that name pictures, in the order of the page.
_FIELDS = ("image_input", "image_urls", "input_reference", "character_url")
#: The most pictures of one request on the page: the service takes eight.
_MOST = 8


def source_urls(entry: Entry) -> list[str]:
    """Return the addresses of the pictures that the request of *entry* names, at most eight."""
    return list(_named(entry.input))[:_MOST]


def _named(given: Mapping[str, Any]) -> Iterator[str]:
    for name in _FIELDS:
        value = given.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and each:
                yield each


def sources(entries: Sequence[Entry]) -> list[list[dict[str, Any]]]:
    """Return the source pictures of each of *entries*.

    One that is an output of the folder is given by the place of its entry and the number of the output, any
    other by its URL.
    """
    outputs = {
        url: {"place": place, "output": number}
        for place, entry in enumerate(entries)
        for number, (url, media) in enumerate(zip(entry.urls, entry.media, strict=False))
        if media.kind == "image" and len(entry.urls) == len(entry.media)
    }
    return [
        [outputs.get(url) or {"url": url[:2_000]} for url in source_urls(entry)] if entry.input else []
        for entry in entries
    ]


def comparisons(entries: Sequence[Entry], sources: Sequence[Sequence[object]]) -> list[list[int]]:
    """Return the places of *entries* that have equal prompts and source pictures, in the order of the first.

    A row alone is listed if it has source pictures: they are compared with the result.
    """
    groups: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        if entry.prompt:
            groups.setdefault(json.dumps([entry.prompt, source_urls(entry)]), []).append(place)
    return [group for group in groups.values() if len(group) > 1 or sources[group[0]]]
