"""The type of a file by its first bytes, since a server's names and types may be wrong. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ("HEAD", "NotMediaError", "content_type", "extension_of", "recognize")

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
#: Types that `recognize` covers: a file with such a Content-Type that it does not recognize is not of that
#: type.
_KNOWN_TYPES: Final = frozenset(
    f"{major}/{minor}"
    for major, minors in {
        "image": "png jpeg jpg webp gif avif heic heif tiff bmp jxl",
        "video": "mp4 webm quicktime x-matroska",
        "audio": "mpeg mp3 wav x-wav ogg flac mp4",
    }.items()
    for minor in minors.split()
)


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
    empty files, and for files that are not of a declared type that `recognize` covers.
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
