"""The smallest valid files of each kind, for the face that cannot draw; made with the standard library."""

from __future__ import annotations

import base64
import struct
import zlib

__all__ = ("CONTENT_TYPES", "placeholder")

CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "mp4": "video/mp4"}
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWG"
    "kJ6jq62rZ4C8ybqmx5moq6T/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAA"
    "AAD/2gAIAQEAAD8AP//Z"
)
_MP4 = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x08moov"


def placeholder(suffix: str, about: str) -> bytes:
    """Return a file of the kind *suffix* (png, jpg, mp4) whose bytes are different for each *about*."""
    text = about.encode()[:1000]
    if suffix == "png":
        colour = struct.pack(">I", zlib.crc32(text))[:3]
        header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
        pixels = zlib.compress((b"\0" + colour * 8) * 8)
        said = b"Comment\0" + text.hex().encode()
        chunks = ((b"IHDR", header), (b"tEXt", said), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)
    if suffix == "jpg":
        comment = b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text
        return _JPEG[:2] + comment + _JPEG[2:]
    return _MP4 + struct.pack(">I", len(text) + 8) + b"free" + text


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
