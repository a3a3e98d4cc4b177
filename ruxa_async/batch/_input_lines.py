"""Bytes to lines: the encoding, the ends of lines, and whether a file is text at all."""

from __future__ import annotations

import codecs
from typing import BinaryIO, Protocol

from ruxa_async.errors import RuxaError

__all__ = ("InputError", "RawLines", "check_text")

#: Bytes of a document that is read as a whole: a hundred thousand long prompts.
_MAX_DOCUMENT = 256 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNPACK = "it is compressed: unpack it first"
_SHEET = "it is a spreadsheet or an archive: save the sheet as CSV or as Unicode text"
_PICTURE = "it is a picture: give a file of prompts"
_SIGNATURES = {
    b"\x1f\x8b": _UNPACK,
    b"BZh": _UNPACK,
    b"\xfd7zXZ\0": _UNPACK,
    b"\x28\xb5\x2f\xfd": _UNPACK,
    b"PK\x03\x04": _SHEET,
    b"\xd0\xcf\x11\xe0": _SHEET,
    b"%PDF-": "it is a PDF: copy its text into a file",
    b"\x89PNG": _PICTURE,
    b"\xff\xd8\xff": _PICTURE,
    b"GIF8": _PICTURE,
}
#: Bytes that no text holds, save for a stray one; of random bytes they are one in nine.
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\v\f\r\x1b"})
_MOST_CONTROLS = 0.05
_FEW_CONTROLS = 4  # spoil their rows, also of a short text


class InputError(RuxaError):
    """The input as a whole cannot be read; the message says why and what would help."""


def check_text(named: str, sample: bytes) -> None:
    """Raise `InputError` if *sample*, the first bytes of the input *named*, is not text."""
    for signature, advice in _SIGNATURES.items():
        if sample.startswith(signature):
            raise InputError(f"{named} is not text: {advice}")
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if not sample.startswith(_UTF_16) and controls > max(_FEW_CONTROLS, len(sample) * _MOST_CONTROLS):
        raise InputError(f"{named} is not text, or text in an encoding of its own: save it as UTF-8")


class _Readable(Protocol):
    def readline(self, limit: int, /) -> bytes: ...


class RawLines:
    """The lines of *source* in UTF-8, with their ends and without a byte order mark.

    Lines end with a line feed. Where the first one ends with a carriage return alone, that ends the others as
    well.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source: _Readable = source
        self._chunk = b""
        self._at = 0
        self._begun = False
        self._returns = False
        self.utf16 = False

    def peek(self, limit: int) -> bytes:
        """Return the next line, at most *limit* bytes of it, without taking it; nothing after the last."""
        end = self._filled(limit)
        return self._chunk[self._at : min(end, self._at + limit)]

    def readline(self, limit: int) -> bytes:
        """Take the next line, at most *limit* bytes of it, and return it; nothing after the last."""
        line = self.peek(limit)
        self._at += len(line)
        return line

    def rest(self) -> bytes:
        """Return everything that was not taken. Raises `InputError` if it is too large for that."""
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
        """Read until the next line is whole, or *limit* bytes of it are there; return where it ends."""
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
        self.utf16 = self._chunk.startswith(_UTF_16)
        if self.utf16:
            self._source = _FromUtf16(self._chunk, self._source)
            self._chunk = self._source.readline(limit)
        self._chunk = self._chunk.removeprefix(codecs.BOM_UTF8)
        at = self._chunk.find(b"\r")
        self._returns = at >= 0 and self._chunk[at + 1 : at + 2] != b"\n"

    def _end(self) -> int:
        """Return where the next line ends, 0 if that was not read yet."""
        start = self._at
        if not self._returns:
            return self._chunk.find(b"\n", start) + 1
        at = self._chunk.find(b"\r", start)
        feed = self._chunk.find(b"\n", start, at if at >= 0 else len(self._chunk)) + 1
        if feed or at < 0:
            return feed
        if at + 1 == len(self._chunk):
            return 0  # a line feed may follow, and belongs to it
        return at + 2 if self._chunk.startswith(b"\n", at + 1) else at + 1


class _FromUtf16:
    """The lines of *source*, of which *begun* was read, in UTF-8; what is not UTF-16 becomes U+FFFD."""

    def __init__(self, begun: bytes, source: _Readable) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        self._text = self._decoder.decode(begun)
        self._ended = False

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, or about its next *limit* bytes."""
        while "\n" not in self._text and len(self._text) < limit and not self._ended:
            data = self._source.readline(limit)
            self._ended = not data
            self._text += self._decoder.decode(data, final=self._ended)
        end = self._text.find("\n") + 1 or len(self._text)
        line, self._text = self._text[:end], self._text[end:]
        return line.encode()
