"""A small picture of an output, for agents that can see. It needs Pillow (the extra ``emulator``)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

__all__ = ("MEDIA_TYPE", "thumbnail")

MEDIA_TYPE = "image/jpeg"
#: Pixels of the longer side: about 10 KB, and some hundred tokens of a model that looks at it.
_SIZE = 256


def thumbnail(path: Path) -> bytes | None:
    """Return a JPEG of the picture at *path*, None if it is none or Pillow is not installed. Blocking."""
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.thumbnail((_SIZE, _SIZE))
                small = io.BytesIO()
                picture.convert("RGB").save(small, "JPEG", quality=80)
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None  # a video, a file that is gone, or one that is too large to decode
    return small.getvalue()
