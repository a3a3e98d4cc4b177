"""What a file of a task shows, and the smallest valid files, for tests without Pillow."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Literal

from attrs import frozen

__all__ = ("CONTENT_TYPES", "Output", "placeholder")

#: The content type of each suffix.
CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "mp4": "video/mp4"}
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWG"
    "kJ6jq62rZ4C8ybqmx5moq6T/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAA"
    "AAD/2gAIAQEAAD8AP//Z"
)
_MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x08moov"


@frozen(kw_only=True)
class Output:
    """One file to draw: the *prompt* and *model* of its task, its aspect *ratio*, and its *index* from 0."""

    prompt: str
    model: str
    ratio: str = "1:1"
    format: Literal["png", "jpeg", "mp4"] = "png"
    index: int = 0


def placeholder(suffix: str, text: str) -> bytes:
    """Return a small valid file for *suffix* (png, jpg, mp4) that holds *text*, so that each one differs."""
    comment = text.encode()[:1000]
    if suffix == "png":
        colour = struct.pack(">I", zlib.crc32(comment))[:3]
        header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
        pixels = zlib.compress((b"\0" + colour * 8) * 8)
        words = b"Comment\0" + comment.hex().encode()
        chunks = ((b"IHDR", header), (b"tEXt", words), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)
    if suffix == "jpg":
        segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
        return _JPEG[:2] + segment + _JPEG[2:]
    return _MP4 + struct.pack(">I", len(comment) + 8) + b"free" + comment


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
