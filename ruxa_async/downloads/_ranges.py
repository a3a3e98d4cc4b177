"""Going on where a transfer was cut off, and only if the file is still the same (RFC 9110, 13.1.5 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

__all__ = ("Version", "length_of", "part_of", "version_of")

_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_PART: Final = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)
#: A time in whole seconds tells two versions apart only if the file was not touched just now.
_SETTLED: Final = 60.0


@frozen
class Version:
    """What names one state of a file: a strong ETag, else the time of its last change; "" where it has neither."""

    validator: str = ""

    def headers(self, received: int) -> dict[str, str]:
        """Return the headers that ask for what comes after *received* bytes of this version, if that can be asked for."""
        if not received or not self.validator:
            return {}
        return {"Range": f"bytes={received}-", "If-Range": self.validator}

    def continues(self, headers: Mapping[str, str], received: int, total: int | None) -> bool:
        """Tell whether a reply of 206 is the rest of this version after *received* bytes of *total*."""
        first, size = part_of(headers)
        same = self.validator in (headers.get("etag", "").strip(), headers.get("last-modified", "").strip())
        return bool(self.validator) and same and first == received and (total is None or total == size)


def version_of(headers: Mapping[str, str]) -> Version:
    """Return the version of the file that comes with *headers*."""
    etag = headers.get("etag", "").strip()
    if _STRONG.fullmatch(etag):
        return Version(etag)
    changed = headers.get("last-modified", "").strip()
    try:
        age = parsedate_to_datetime(headers.get("date", "")) - parsedate_to_datetime(changed)
    except (TypeError, ValueError, OverflowError):  # not dates, or only one of them has a time zone
        return Version()
    return Version(changed) if changed.isascii() and age.total_seconds() >= _SETTLED else Version()


def part_of(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the first byte of a part and the size of the whole, each None if it is not told."""
    found = _PART.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None, None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return the number of bytes that a reply promises, None if it promises none."""
    text = headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
