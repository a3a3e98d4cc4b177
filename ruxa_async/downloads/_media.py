"""What a file is by its first bytes: names and types from a server are claims. Pure."""

from __future__ import annotations

from typing import Final

from ._failures import PassingError

__all__ = ("HEAD", "NotMediaError", "content_type", "extension_of", "recognised")

#: How many of its first bytes tell what a file is.
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
#: The first box of a QuickTime film from before there were brands.
_QUICKTIME: Final = (b"moov", b"mdat", b"wide", b"pnot")
_AVIF: Final = {b"avif", b"avis"}
_HEIC: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz"}
#: The media type of each extension that `recognised` returns.
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
#: Types whose files are known here by their first bytes, so that others are not what they are said to be.
_KNOWN_TYPES: Final = frozenset(
    f"{major}/{minor}"
    for major, minors in {
        "image": "png jpeg jpg webp gif avif heic heif tiff bmp jxl",
        "video": "mp4 webm quicktime x-matroska",
        "audio": "mpeg mp3 wav x-wav ogg flac mp4",
    }.items()
    for minor in minors.split()
)


class NotMediaError(PassingError):
    """A file is no picture, video or sound; the message says what it is instead."""


def recognised(head: bytes) -> str | None:
    """Return the extension of the medium that begins with *head*, None if it is none that is known here."""
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
        return _of_brands(head)
    return ".mov" if head[4:8] in _QUICKTIME else None


def content_type(head: bytes) -> str | None:
    """Return the media type of what begins with *head*, such as ``image/png``; None if it is not known."""
    return _TYPES.get(recognised(head) or "")


def _of_brands(head: bytes) -> str:
    """Tell apart the kinds of ISO base media files: by the main brand, then by those it is compatible with."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brand, others = head[8:12], {head[start : start + 4] for start in range(16, size, 4)}
    if brand == b"qt  ":
        return ".mov"
    if brand in _AVIF or (brand in _HEIC and others & _AVIF):
        return ".avif"
    if brand in _HEIC:
        return ".heic"
    return ".m4a" if brand == b"M4A " else ".mp4"


def extension_of(head: bytes, told: str) -> str:
    """Return the extension for a file that begins with *head* and was *told* to be of a content type.

    A type that is not known here gets ``.bin``: it was paid for. Raise `NotMediaError` for what is certainly no
    medium, and for what is not of the type that it is told to be.
    """
    if not head:
        raise NotMediaError("nothing came: the file is empty")
    if extension := recognised(head):
        return extension
    for signature, packing in _PACKED.items():
        if head.startswith(signature):
            raise NotMediaError(f"came packed ({packing}), which was not asked for")
    told = told.partition(";")[0].strip().lower()
    if kind := _text_kind(head, told):
        raise NotMediaError(f"{kind} came instead of a picture or video")
    if told in _KNOWN_TYPES:
        raise NotMediaError(f"is told to be {told}, but its content is not")
    return ".bin"


def _text_kind(head: bytes, told: str) -> str | None:
    text = head.decode("utf-8-sig", "replace").strip().lower()
    if text.startswith("<!doctype html") or (text.startswith("<") and "<html" in text):
        return "an HTML page"
    json = told == "application/json" or told.endswith("+json")
    if not (_is_text(head) or json or told.startswith("text/")):
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
