"""Width and height are read from the header of a file, with anything behind it."""

from __future__ import annotations

import io
import struct
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ruxa_async.downloads import content_type, dimensions
from ruxa_async.downloads._media import _SIGNATURES


def picture(form: str, size: tuple[int, int] = (37, 21), **options: object) -> bytes:
    """Return a small picture as Pillow writes it."""
    file = io.BytesIO()
    Image.new("RGB", size, (90, 140, 180)).save(file, form, **options)
    return file.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def track(width: int, height: int) -> bytes:
    return box(b"trak", box(b"tkhd", bytes(76) + struct.pack(">II", width << 16, height << 16)))


FILM = box(b"ftyp", b"isom\0\0\0\0") + box(b"mdat", bytes(500))


@pytest.mark.parametrize(
    "data",
    [
        picture("PNG"),
        picture("JPEG"),
        picture("JPEG", progressive=True),
        picture("JPEG", icc_profile=bytes(150_000), comment=b"x" * 60_000),
        picture("GIF"),
        picture("WEBP"),
        picture("WEBP", lossless=True),
        picture("WEBP", exif=b"Exif\0\0" + bytes(8)),
        FILM + box(b"moov", box(b"mvhd") + track(0, 0) + track(37, 21)),
        struct.pack(">I4s", 8, b"free").join((FILM, box(b"moov", track(37, 21)))),
        box(b"ftyp", b"isom\0\0\0\0")
        + struct.pack(">I4sQ", 1, b"mdat", 20)
        + b"1234"
        + box(b"moov", track(37, 21)),
        FILM + b"\0\0\0\0moov" + track(37, 21),
        b"\xff\xd8\xff\xff" + picture("JPEG")[3:],
        b"\xff\xd8\xff\x01" + picture("JPEG")[2:],
    ],
)
def test_width_and_height_are_read_from_the_header(data: bytes) -> None:
    assert dimensions(io.BytesIO(data)) == (37, 21)


def test_the_clip_of_the_emulator_has_a_size() -> None:
    with files("ruxa_async.emulator").joinpath("clip.mp4").open("rb") as file:
        size = dimensions(file)
    assert size is not None
    assert min(size) > 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        picture("PNG")[:20],
        picture("PNG").replace(b"IHDR", b"XXXX"),
        picture("PNG")[:16] + bytes(16),
        picture("JPEG")[:100],
        picture("JPEG")[:2] + b"\xff\xd9",
        b"\xff\xd8\xff\xda" + picture("JPEG"),
        b"\xff\xd8\xff\xe0\x00\x02junk",
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8" + b"\xff\x01" * 2_000 + picture("JPEG")[2:],
        picture("WEBP")[:16] + bytes(16),
        b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
        FILM,
        FILM + box(b"moov", track(0, 0)),
        FILM + box(b"moov", box(b"trak", struct.pack(">I4s", 900, b"tkhd"))),
        FILM + box(b"moov", box(b"trak", box(b"tkhd", b"123"))),
        box(b"ftyp") + box(b"free") * 2_000 + box(b"moov", track(37, 21)),
        b"BM" + bytes(60),
        b"<html>",
    ],
)
def test_a_file_without_a_size_has_none(data: bytes) -> None:
    assert dimensions(io.BytesIO(data)) is None


@given(
    st.sampled_from(
        [picture("PNG"), picture("JPEG"), picture("GIF"), picture("WEBP"), FILM + box(b"moov", track(3, 4))]
    ),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8),
    st.integers(0, 700),
)
def test_a_damaged_file_raises_nothing(data: bytes, changes: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    size = dimensions(io.BytesIO(bytes(damaged[:length])))
    assert size is None or min(size) > 0


def test_every_known_signature_has_a_media_type() -> None:
    for signature, _ in _SIGNATURES:
        assert content_type(signature), signature
    assert content_type(b"hello") is None
    assert content_type(Path(__file__).read_bytes()) is None
