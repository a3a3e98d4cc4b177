"""Split the bytes of an input into numbered lines: encodings, line ends, size limits.

Input that is not text as a whole raises `InputError`. A line that is not valid text or too long gets an
error, and reading continues after it.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO, Protocol

from attrs import frozen

from ruxa_async.errors import RuxaError

__all__ = ("MAX_LINE", "InputError", "Line", "Lines", "check_text")

#: Bytes of one line, and of one CSV or TSV record: a hundred times the longest prompt that the service
#: accepts.
MAX_LINE = 1 << 20
#: Bytes of a JSON document that spans lines: a hundred thousand long prompts.
_MAX_DOCUMENT = 256 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMPRESSED = "it is compressed: unpack it first"
_SHEET = "it is a spreadsheet or an archive: save the sheet as CSV or as Unicode text"
_PICTURE = "it is a picture: give a file of prompts"
#: The first bytes of files that are not text, with the advice to the user.
_SIGNATURES = {
    b"\x1f\x8b": _COMPRESSED,
    b"BZh": _COMPRESSED,
    b"\xfd7zXZ\0": _COMPRESSED,
    b"\x28\xb5\x2f\xfd": _COMPRESSED,
    b"PK\x03\x04": _SHEET,
    b"\xd0\xcf\x11\xe0": _SHEET,
    b"%PDF-": "it is a PDF: copy its text into a file",
    b"\x89PNG": _PICTURE,
    b"\xff\xd8\xff": _PICTURE,
    b"GIF8": _PICTURE,
}
#: Control characters that text does not contain. One in nine random bytes is one.
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})
#: Input is not text if both the share and the number of its control characters exceed these.
_MAX_CONTROL_SHARE = 0.05
_MAX_CONTROLS = 4


class InputError(RuxaError):
    """The input as a whole cannot be used; the message says why, and what to do."""


def check_text(name: str, sample: bytes) -> None:
    """Raise `InputError` if *sample*, the first bytes of the input called *name*, is not text."""
    for signature, advice in _SIGNATURES.items():
        if sample.startswith(signature):
            raise InputError(f"{name} is not text: {advice}")
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if not sample.startswith(_UTF_16) and controls > max(_MAX_CONTROLS, len(sample) * _MAX_CONTROL_SHARE):
        raise InputError(f"{name} is not text, or text in an unknown encoding: save it as UTF-8")


@frozen
class Line:
    """One line without its end.

    *error* says why *content* cannot be used. *skipped* is true if the line was too long to be read.
    """

    number: int
    content: str
    error: str | None = None
    skipped: bool = False


class Lines(Iterator[Line]):
    """The lines of *source*, numbered from 1, with lookahead."""

    def __init__(self, source: BinaryIO) -> None:
        self._raw = _RawLines(source)
        self._number = 0
        self._ahead: deque[Line] = deque()

    def __next__(self) -> Line:
        line = self._ahead.popleft() if self._ahead else self._read()
        if line is None:
            raise StopIteration
        return line

    def first(self) -> bytes:
        """Return the first line that is not blank, without consuming it; call this before other methods."""
        while (data := self._raw.peek(MAX_LINE + 1)) and not data.strip():
            self._raw.readline(MAX_LINE + 1)
            self._number += 1
        return data

    def rest(self) -> tuple[int, str]:
        """Return the number of the next line, and all lines from there as one text. Raises `InputError`."""
        data = self._raw.rest()
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InputError(_not_utf_8(data, error)) from error
        return self._number + 1, text.replace("\r\n", "\n").replace("\r", "\n")

    def ahead(self) -> Iterator[Line]:
        """Iterate over the next lines without consuming them."""
        for place in count():
            if place == len(self._ahead):
                line = self._read()
                if line is None:
                    return
                self._ahead.append(line)
            yield self._ahead[place]

    def _read(self) -> Line | None:
        data = self._raw.readline(MAX_LINE + 1)
        if not data:
            return None
        self._number += 1
        if len(data) > MAX_LINE:
            while data and not data.endswith((b"\n", b"\r")):
                data = self._raw.readline(MAX_LINE)
            return Line(self._number, "", f"longer than {MAX_LINE:,} bytes", skipped=True)
        try:
            text = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as exc:
            return Line(self._number, data.decode(errors="replace").rstrip("\r\n"), _not_utf_8(data, exc))
        error = None
        if "\0" in text:
            error = "holds a NUL: is this text?"
        elif self._raw.is_utf_16 and "\ufffd" in text:
            error = "holds what is not UTF-16"
        return Line(self._number, text, error)


def _not_utf_8(data: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte {data[error.start]:#04x} at position {error.start + 1})"


class _Readable(Protocol):
    def readline(self, limit: int, /) -> bytes: ...


class _RawLines:
    """The lines of *source* as UTF-8, with their line ends and without a byte order mark.

    Lines end with a line feed. If the first line ends with a lone carriage return, carriage returns end lines
    too.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source: _Readable = source
        self._chunk = b""
        self._at = 0
        self._begun = False
        self._ends_with_return = False
        self.is_utf_16 = False

    def peek(self, limit: int) -> bytes:
        """Return at most *limit* bytes of the next line without consuming them; b"" after the last line."""
        end = self._filled(limit)
        return self._chunk[self._at : min(end, self._at + limit)]

    def readline(self, limit: int) -> bytes:
        """Consume and return at most *limit* bytes of the next line; b"" after the last line."""
        line = self.peek(limit)
        self._at += len(line)
        return line

    def rest(self) -> bytes:
        """Consume and return all remaining bytes. Raises `InputError` beyond `_MAX_DOCUMENT` bytes."""
        parts = [self._chunk[self._at :]]
        size = len(parts[0])
        while part := self._source.readline(_MAX_DOCUMENT):
            parts.append(part)
            size += len(part)
            if size > _MAX_DOCUMENT:
                raise InputError(
                    f"one JSON document of more than {_MAX_DOCUMENT:,} bytes: write one object a line"
                )
        self._chunk, self._at = b"", 0
        return b"".join(parts)

    def _filled(self, limit: int) -> int:
        """Read until the chunk holds the next line or *limit* bytes of it; return the offset of its end."""
        if not self._begun:
            self._begin(limit)
        while not (end := self._end()):
            if len(self._chunk) - self._at >= limit or not (more := self._source.readline(limit)):
                return len(self._chunk)
            self._chunk, self._at = self._chunk[self._at :] + more, 0
        return end

    def _begin(self, limit: int) -> None:
        self._begun = True
        self._chunk = self._source.readline(limit)
        self.is_utf_16 = self._chunk.startswith(_UTF_16)
        if self.is_utf_16:
            self._source = _Utf16Lines(self._chunk, self._source)
            self._chunk = self._source.readline(limit)
        self._chunk = self._chunk.removeprefix(codecs.BOM_UTF8)
        at = self._chunk.find(b"\r")
        self._ends_with_return = at >= 0 and self._chunk[at + 1 : at + 2] != b"\n"

    def _end(self) -> int:
        """Return the offset after the next line, 0 if its end has not been read yet."""
        start = self._at
        if not self._ends_with_return:
            return self._chunk.find(b"\n", start) + 1
        at = self._chunk.find(b"\r", start)
        feed = self._chunk.find(b"\n", start, at if at >= 0 else len(self._chunk)) + 1
        if feed or at < 0:
            return feed
        if at + 1 == len(self._chunk):
            return 0  # a line feed may follow, and belongs to this line
        return at + 2 if self._chunk.startswith(b"\n", at + 1) else at + 1


class _Utf16Lines:
    """The lines of a UTF-16 *source* as UTF-8, *begun* being read already; invalid parts become U+FFFD."""

    def __init__(self, begun: bytes, source: _Readable) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._text = self._decoder.decode(begun)
        self._ended = False

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, or about *limit* bytes of it."""
        while "\n" not in self._text and len(self._text) < limit and not self._ended:
            data = self._source.readline(limit)
            self._ended = not data
            self._text += self._decoder.decode(data, final=self._ended)
        end = self._text.find("\n") + 1 or len(self._text)
        line, self._text = self._text[:end], self._text[end:]
        return line.encode()
