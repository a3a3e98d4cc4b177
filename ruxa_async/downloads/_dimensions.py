"""Width and height of a picture or video, read from the headers of PNG, JPEG, WebP, GIF and MP4 files.

No pixels are decoded, and no image library is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import IO, Final

__all__ = ("dimensions",)

#: JPEG segments or MP4 boxes read per file, at most; an ordinary file has a few dozen.
_MOST_PARTS: Final = 1000
#: JPEG markers that begin a frame: SOF0 to SOF15 without DHT, JPG and DAC, which lie in the same range.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: JPEG markers without a length: TEM, RST0 to RST7 and SOI.
_JPEG_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

_Size = tuple[int, int]


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
