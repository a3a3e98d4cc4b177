"""Range requests that resume a transfer if the file is unchanged (RFC 9110, 13.1.5 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import frozen

__all__ = ("Version", "length_of", "part_of", "version_of")

_STRONG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_PART: Final = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)
#: seconds that a file must be unchanged before its Last-Modified, in whole seconds, identifies the version
_SETTLED: Final = 60.0


@frozen
class Version:
    """A version of a file. *validator* is its strong ETag, else its Last-Modified, else ""."""

    validator: str = ""

    def headers(self, received: int) -> dict[str, str]:
        """Return the headers that request the bytes after *received*, none if resuming is not possible."""
        if not received or not self.validator:
            return {}
        return {"Range": f"bytes={received}-", "If-Range": self.validator}

    def continues(self, headers: Mapping[str, str], received: int, total: int | None) -> bool:
        """Return whether a 206 with *headers* continues this version after *received* of *total* bytes."""
        first, size = part_of(headers)
        same = self.validator in (headers.get("etag", "").strip(), headers.get("last-modified", "").strip())
        return bool(self.validator) and same and first == received and (total is None or total == size)


def version_of(headers: Mapping[str, str]) -> Version:
    """Return the version of the file that a response with *headers* carries."""
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
    """Return the first byte and the total size from Content-Range, each None if absent."""
    found = _PART.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None, None
    return int(found[1]), None if found[3] == "*" else int(found[3])


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return Content-Length in bytes, None if absent or invalid."""
    text = headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
