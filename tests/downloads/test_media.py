"""The type of a file follows from its first bytes; a contradicting Content-Type is an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruxa_async.downloads import HEAD
from ruxa_async.downloads._media import NotMediaError, extension_of, recognize


def ftyp(brand: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x08free"


HEADS = [
    (b"\x89PNG\r\n\x1a\n....", ".png"),
    (b"\xff\xd8\xff\xe0....", ".jpg"),
    (b"GIF87a....", ".gif"),
    (b"GIF89a....", ".gif"),
    (b"RIFF....WEBPVP8 ", ".webp"),
    (b"RIFF....WAVEfmt ", ".wav"),
    (b"RIFF....AVI LIST", ".avi"),
    (ftyp(b"avif", b"mif1"), ".avif"),
    (ftyp(b"mif1", b"avif", b"miaf"), ".avif"),
    (ftyp(b"avis"), ".avif"),
    (ftyp(b"heic", b"mif1"), ".heic"),
    (ftyp(b"mif1", b"heic"), ".heic"),
    (ftyp(b"isom", b"iso2", b"avc1", b"mp41"), ".mp4"),
    (ftyp(b"mp42"), ".mp4"),
    (ftyp(b"M4A "), ".m4a"),
    (ftyp(b"qt  "), ".mov"),
    (b"\0\0\0\x08wide....mdat", ".mov"),
    (b"\0\0\1\0moov", ".mov"),
    (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", ".webm"),
    (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska", ".mkv"),
    (b"BM\x36\0\0\0\0\0\0\0", ".bmp"),
    (b"II*\0....", ".tiff"),
    (b"MM\0*....", ".tiff"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", ".jxl"),
    (b"OggS", ".ogg"),
    (b"fLaC", ".flac"),
    (b"ID3\4", ".mp3"),
    (b"\xff\xfb\x90", ".mp3"),
]


@pytest.mark.parametrize(("head", "extension"), HEADS)
@pytest.mark.parametrize("told", ["", "image/png", "text/html; charset=utf-8", "application/octet-stream"])
def test_known_media_are_recognized_with_any_declared_type(head: bytes, extension: str, told: str) -> None:
    assert extension_of(head, told) == extension


@pytest.mark.parametrize(
    ("head", "told", "said"),
    [
        (b"", "image/png", "the file is empty"),
        (b"<!DOCTYPE html><title>x", "image/png", "an HTML page came instead of a picture or video"),
        (b"\xef\xbb\xbf \n<!doctype HTML>", "", "an HTML page"),
        (b"<head>... <html lang=en>", "", "an HTML page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "", "XML came"),
        (b'{"code": 404, "message": "\xe4\xb8\x8d', "application/json", "JSON came"),
        (b" [1, 2]", "video/mp4", "JSON came"),
        (b"\0{not json \xff", "application/problem+json; x=y", "JSON came"),
        (b"Not found\r\n", "", "text came"),
        (b"\0\1\2\xff", "text/plain", "text came"),
        ("nicht gefunden, ä".encode()[:-1], "", "text came"),
        (b"\x1f\x8b\x08" + bytes(99), "image/png", r"compressed \(gzip\)"),
        (b"PK\x03\x04....", "application/zip", r"compressed \(zip\)"),
        (b"\0\1\2\xff", "image/PNG", "has the Content-Type image/png, but its content is of another type"),
        (b"\0\1\2\xff", "video/mp4;codecs=x", "has the Content-Type video/mp4"),
        (b"RIFF....XXXX\0\xff", "image/webp", "has the Content-Type image/webp"),
    ],
)
def test_a_file_that_is_not_media_is_named(head: bytes, told: str, said: str) -> None:
    with pytest.raises(NotMediaError, match=said):
        extension_of(head, told)


@pytest.mark.parametrize("told", ["", "application/octet-stream", "model/gltf-binary", "image/x-new"])
def test_a_file_of_an_unknown_type_is_kept(told: str) -> None:
    assert extension_of(b"glTF\2\0\0\0\xff\xfe", told) == ".bin"


@given(st.binary(max_size=HEAD), st.text(max_size=20))
def test_any_bytes_have_an_extension_or_an_error(head: bytes, told: str) -> None:
    try:
        extension = extension_of(head, told)
    except NotMediaError:
        assert recognize(head) is None
    else:
        assert extension == (recognize(head) or ".bin")
