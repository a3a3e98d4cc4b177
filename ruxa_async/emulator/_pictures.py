"""The output files: pictures drawn with Pillow and labelled with their prompt, and one clip for all videos.

The same prompt gives the same bytes. Importing this module needs Pillow.
"""

from __future__ import annotations

import io
import random
import unicodedata
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from ._motifs import scenery
from ._outputs import Output

__all__ = ("clip", "dimensions", "draw", "wrap")

_LONG_SIDE = 512  # pixels
_LONGEST_TEXT = 320  # characters of the prompt on the label
# Heights of the label's text and caption in pixels; the opacity of its shade, of 255.
_TEXT, _CAPTION, _SHADE = 17, 11, 165
# Fonts with more than Latin letters, if the system has one. Pillow's own has only Latin ones.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "msyh.ttc",
)

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=128)
def draw(output: Output) -> bytes:
    """Return the file for *output*: a picture with a long side of 512 pixels, or the clip."""
    if output.format == "mp4":
        return clip()
    width, height = dimensions(output.ratio)
    chance = random.Random(f"{output.prompt}\n{output.index}")  # noqa: S311 - it decides colours
    image = scenery(output.prompt, chance, width, height)
    _write(image, output)
    file = io.BytesIO()
    if output.format == "jpeg":
        image.save(file, "JPEG", quality=88)
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@lru_cache(maxsize=1)
def clip() -> bytes:
    """Return the clip that all video tasks output: two seconds, H.264 in MP4."""
    return files(__package__).joinpath("clip.mp4").read_bytes()


def dimensions(ratio: str) -> tuple[int, int]:
    """Return width and height for *ratio* ("16:9", or pixels as "1280x720"); anything else is a square."""
    left, _, right = ratio.lower().replace("x", ":").partition(":")
    if not (left.isdecimal() and right.isdecimal() and int(left) and int(right)):
        return _LONG_SIDE, _LONG_SIDE
    across, down = int(left), int(right)
    scale = _LONG_SIDE / max(across, down)
    # At least 96 pixels, so that a word of the label fits.
    return max(96, round(across * scale)), max(96, round(down * scale))


def wrap(text: str, font: _Font, width: float) -> list[str]:
    """Break *text* into lines of at most *width* pixels, at spaces, or within a word wider than a line."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if font.getlength(joined) <= width:
            lines[-1:] = [joined]
            continue
        lines.extend(_pieces(word, font, width))
    return lines


def _pieces(word: str, font: _Font, width: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


@lru_cache(maxsize=1)
def _wide_font() -> str | None:
    """Return the first of `_WIDE_FONTS` that this system has."""
    for name in _WIDE_FONTS:
        with suppress(OSError):
            ImageFont.truetype(name, 12)
            return name
    return None


@lru_cache(maxsize=64)
def _font(size: int, *, wide: bool) -> _Font:
    name = _wide_font() if wide else None
    return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)


def _legible(text: str) -> str:
    """Return *text*, without accents if no font on this machine has them."""
    if text.isascii() or _wide_font():
        return text
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )


def _write(image: Image.Image, output: Output) -> None:
    """Write prompt, model and size on a label in the lowest quarter of the picture."""
    width, height = image.size
    text = _legible(output.prompt[: 2 * _LONGEST_TEXT].strip()) or "(no prompt)"
    small = _font(_CAPTION, wide=False)
    font = _font(_TEXT, wide=not text.isascii())
    pad, line = 10, round(_TEXT * 1.3)
    room = max(1, (height // 4 - 2 * pad - _CAPTION - 4) // line)
    lines = _shortened(wrap(text[:_LONGEST_TEXT], font, width - 2 * pad), room)
    caption = f"{output.model}  ·  {width}x{height}"
    top = height - 2 * pad - len(lines) * line - _CAPTION - 4
    pen = ImageDraw.Draw(image, "RGBA")
    pen.rectangle((0, top, width, height), fill=(12, 14, 24, _SHADE))
    for place, each in enumerate(lines):
        middle = top + pad + place * line + line / 2
        pen.text((pad, middle), each, fill=(255, 255, 255), font=font, anchor="lm")
    pen.text((pad, height - pad - _CAPTION / 2), caption, fill=(214, 214, 222), font=small, anchor="lm")


def _shortened(lines: list[str], most: int) -> list[str]:
    """Return at most *most* of the *lines*, with an ellipsis at the end if there are more."""
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
