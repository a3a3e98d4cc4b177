"""The type of a media file, and its width and height, read from the file itself.

A server's names and types may be wrong. No pixels are decoded, and no image library is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import IO, Final, TypeAlias

__all__ = ("HEAD", "NotMediaError", "content_type", "dimensions", "extension_of", "recognize")

#: Bytes at the start of a file that are enough to recognize it.
HEAD: Final = 512

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"II*\0", ".tiff"),
    (b"MM\0*", ".tiff"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", ".jxl"),
    (b"OggS", ".ogg"),
    (b"fLaC", ".flac"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
    (b"\xff\xf3", ".mp3"),
    (b"\xff\xf2", ".mp3"),
)
_RIFF: Final = {b"WEBP": ".webp", b"WAVE": ".wav", b"AVI ": ".avi"}
#: The first box of an old QuickTime file, which has no brand.
_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"pnot")
_AVIF: Final = {b"avif", b"avis"}
_HEIC: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz"}
#: The media type of each extension that `recognize` returns.
_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".jxl": "image/jxl",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
}
#: Types whose files `recognize` always recognizes: one that it does not recognize is of another type.
_KNOWN_TYPES: Final = frozenset(
    f"{major}/{minor}"
    for major, minors in {
        "image": "png jpeg jpg webp gif avif heic heif tiff bmp jxl",
        "video": "mp4 webm quicktime x-matroska",
        "audio": "mpeg mp3 wav x-wav ogg flac mp4",
    }.items()
    for minor in minors.split()
)
#: JPEG segments or MP4 boxes read per file, at most; an ordinary file has a few dozen.
_MOST_PARTS: Final = 1000
#: JPEG markers that begin a frame: SOF0 to SOF15 without DHT, JPG and DAC, which lie in the same range.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG markers without a length: TEM, RST0 to RST7 and SOI.
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

_Size: TypeAlias = tuple[int, int]


class NotMediaError(Exception):
    """A file is not a picture, video or sound; the message says what it is instead."""


def recognize(head: bytes) -> str | None:
    """Return the extension of the media file that begins with *head*, None for an unknown type."""
    for signature, extension in _SIGNATURES:
        if head.startswith(signature):
            return extension
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return ".bmp"
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ".webm" if b"webm" in head[:64] else ".mkv"
    if head[4:8] == b"ftyp":
        return _iso_extension(head)
    return ".mov" if head[4:8] in _QUICKTIME else None


def content_type(head: bytes) -> str | None:
    """Return the media type of a file that begins with *head*, such as ``image/png``, None if unknown."""
    return _TYPES.get(recognize(head) or "")


def _iso_extension(head: bytes) -> str:
    """Return the extension of an ISO base media file, by its major and then its compatible brands."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brand, others = head[8:12], {head[start : start + 4] for start in range(16, size, 4)}
    if brand == b"qt  ":
        return ".mov"
    if brand in _AVIF or (brand in _HEIC and others & _AVIF):
        return ".avif"
    if brand in _HEIC:
        return ".heic"
    return ".m4a" if brand == b"M4A " else ".mp4"


def extension_of(head: bytes, declared: str) -> str:
    """Return the extension for a file that begins with *head* and has the *declared* Content-Type.

    An unknown type gets ``.bin``, because it was paid for. Raises `NotMediaError` for text, compressed or
    empty files, and for a file of an unknown type that is declared as a known one.
    """
    if not head:
        raise NotMediaError("the file is empty")
    if extension := recognize(head):
        return extension
    for signature, packing in _PACKED.items():
        if head.startswith(signature):
            raise NotMediaError(f"came compressed ({packing}), which was not requested")
    declared = declared.partition(";")[0].strip().lower()
    if kind := _text_kind(head, declared):
        raise NotMediaError(f"{kind} came instead of a picture or video")
    if declared in _KNOWN_TYPES:
        raise NotMediaError(f"has the Content-Type {declared}, but its content is of another type")
    return ".bin"


def _text_kind(head: bytes, declared: str) -> str | None:
    """Return the kind of text that begins with *head*, such as "JSON", None if it is not text."""
    text = head.decode("utf-8-sig", "replace").strip().lower()
    if text.startswith("<!doctype html") or (text.startswith("<") and "<html" in text):
        return "an HTML page"
    json = declared == "application/json" or declared.endswith("+json")
    if not (_is_text(head) or json or declared.startswith("text/")):
        return None
    if json or text.startswith(("{", "[")):
        return "JSON"
    return "XML" if text.startswith("<") else "text"


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8-sig", "replace").rstrip("\ufffd")  # the head may end inside a character
    return (
        bool(text)
        and all(character.isprintable() or character.isspace() for character in text)
        and ("\ufffd" not in text)
    )


# ---- width and height


def dimensions(file: IO[bytes]) -> _Size | None:
    """Return width and height in pixels of the picture or video in the seekable *file*, None if unknown.

    They are unknown for other formats and for damaged files.
    """
    try:
        size = _read(file)
    except (struct.error, ValueError):  # the file ends within a header
        return None
    return size if size is not None and min(size) > 0 else None


def _read(file: IO[bytes]) -> _Size | None:
    file.seek(0)
    head = file.read(32)
    for signature, reader in _READERS:
        if head.startswith(signature):
            return reader(head, file)
    return _mp4(file) if head[4:8] == b"ftyp" else None


def _png(head: bytes, _file: IO[bytes]) -> _Size | None:
    width, height = struct.unpack_from(">II", head, 16)
    return (width, height) if head[12:16] == b"IHDR" else None


def _gif(head: bytes, _file: IO[bytes]) -> _Size:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _webp(head: bytes, _file: IO[bytes]) -> _Size | None:
    kind = head[8:16]
    if kind == b"WEBPVP8X":  # extended: 24 bits each, less one
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"WEBPVP8L" and head[20:21] == b"\x2f":  # lossless: 14 bits each, less one
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8 " and head[23:26] == b"\x9d\x01\x2a":  # lossy: 14 bits each, beside the scaling
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(_head: bytes, file: IO[bytes]) -> _Size | None:
    file.seek(2)
    for _ in range(_MOST_PARTS):
        (prefix, marker) = struct.unpack(">BB", file.read(2))
        while marker == 0xFF:  # any number of fill bytes may precede a marker
            (marker,) = struct.unpack(">B", file.read(1))
        if prefix != 0xFF or marker in (0xD9, 0xDA):  # end of image or scan data: no frame follows
            return None
        if marker in _JPEG_ALONE:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker in _JPEG_FRAMES:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, 1)
    return None


def _mp4(file: IO[bytes]) -> _Size | None:
    """Return the size of the first track that has one; audio tracks have none."""
    end = file.seek(0, 2)
    for start, stop in _boxes(file, b"moov", 0, end):
        for begin, finish in _boxes(file, b"trak", start, stop):
            for first, last in _boxes(file, b"tkhd", begin, finish):
                file.seek(max(first, last - 8))
                width, height = struct.unpack(">II", file.read(8))
                if width and height:
                    return width >> 16, height >> 16  # 16.16 fixed point
    return None


def _boxes(file: IO[bytes], wanted: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end offset of the content of each *wanted* box between *start* and *stop*."""
    for _ in range(_MOST_PARTS):
        if start + 8 > stop:
            return
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if size == 1:  # the size is the next 64 bits
            (size,) = struct.unpack(">Q", file.read(8))
            content += 8
        end = stop if size == 0 else start + size
        if not content <= end <= stop:
            return
        if kind == wanted:
            yield content, end
        start = end


_READERS: Final[tuple[tuple[bytes, Callable[[bytes, IO[bytes]], _Size | None]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"RIFF", _webp),
    (b"\xff\xd8\xff", _jpeg),
)
