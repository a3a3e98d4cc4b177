"""Make the pictures of a single-file report: small copies as ``data:`` URLs. Needs Pillow."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ruxa_async.errors import MissingExtraError

from ._folder import Folder

__all__ = ("thumbnails",)

#: Bytes of one thumbnail: 24 of them are 1 MB in base64.
_MOST, _LEAST = 31_000, 4_000
#: Bytes of all thumbnails of a large batch, each of which has at least `_LEAST` bytes.
_TOTAL = 24_000_000
#: The longest side in pixels and the quality of WebP, tried in this order until the size fits.
_LEVELS = ((800, 82), (640, 74), (560, 68), (480, 60), (400, 54), (280, 50), (160, 40))

#: Pixels for each byte of the budget, beyond which a side is not tried; a photograph has about 8 in a byte.
_PIXELS = 21


def thumbnails(folder: Folder) -> Mapping[str, str]:
    """Return a ``data:`` URL for each picture of *folder* that Pillow can read, by its path.

    Raises `MissingExtraError` if Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise MissingExtraError("a report in a single file", "emulator") from None
    paths = sorted({media.path for media in folder.media if media.kind == "image" and media.size})
    budget = min(_MOST, max(_LEAST, _TOTAL // max(1, len(paths))))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow releases the GIL
        made = pool.map(lambda path: _thumbnail(folder.path / path, budget), paths)
        return {path: url for path, url in zip(paths, made, strict=True) if url}


def _thumbnail(path: Path, budget: int) -> str:
    """Return a picture of at most about *budget* bytes, "" if the file cannot be read as one."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    try:
        with Image.open(path) as opened:
            opened.draft("RGB", _LEVELS[0][:1] * 2)  # a JPEG is decoded at a fraction of its size
            picture = ImageOps.exif_transpose(opened)
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except Exception:  # noqa: BLE001 - decoders raise many errors, and the page names the file instead
        return ""
    data = b""
    # A side at which even a plain picture exceeds the budget is not tried: encoding takes most of the time.
    fitting = [level for level in _LEVELS if level[0] ** 2 <= budget * _PIXELS] or _LEVELS[-1:]
    for side, quality in fitting:
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        data = buffer.getvalue()
        if len(data) <= budget:
            break
    return f"data:image/webp;base64,{b64encode(data).decode()}"
