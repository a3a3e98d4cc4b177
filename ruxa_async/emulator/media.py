"""The emulated outputs: pictures drawn with Pillow that show their prompt, and one clip for every video.

What a picture looks like follows from its prompt, so the same prompt gives the same bytes and a contact sheet of
different ones is easy to tell apart. Importing this module needs Pillow.
"""

from __future__ import annotations

import io
import math
import random
import unicodedata
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from .messages import Output

__all__ = ("clip", "dimensions", "draw", "wrap")

_LONG_SIDE = 512
_LONGEST_TEXT = 320
_SIZES = (44, 38, 33, 28, 24, 21, 18, 15)
# Shapes are drawn at twice the size and halved: Pillow's own edges are jagged.
_SCALE = 2
# Fonts that cover more than Latin, where the system has one; Pillow's own is Latin only.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "msyh.ttc",
)

# Five colours from light to dark, and an accent.
_PALETTES = (
    "ffe8d6 f2b5a7 d97b72 8c4a5b 3d2a45 ffd166",
    "e3f2fd 90caf9 4a90c2 2a5d8f 14304f ffb74d",
    "f1f7e7 c5dca0 8fb573 4f8a5b 1f4d45 f4a259",
    "fdf0d5 f7c59f ef8354 bf5544 4f3550 2ec4b6",
    "ede7f6 c3b1e1 9575cd 5e4b8b 2e2350 ff8a80",
    "e0f7f4 9fded3 55b3a8 2b7a78 17404a ff9f6b",
    "fff3e0 ffcc80 f9a03f d1662e 6b2d2d 5bc0be",
    "fce4ec f4a9c0 d96c98 97396f 4a1c4d ffd54f",
    "f5f5f0 cfd2cd 9aa5a0 5c6f73 2b3a42 e4572e",
    "eaf4f4 b8d8d8 7a9e9f 4f6367 2a3439 fe5f55",
    "fff8e7 f3d9a4 d4a373 9c6b4f 4a3228 6a994e",
    "e8eaf6 a9b4e6 6c7ed6 3f4ea8 1d2560 f78fb3",
    "dff5ff 9ad9ea 57b0d1 3b6fa0 2b3467 eb455f",
    "f9f1f0 fadcd9 f8afa6 b9606b 5d3a4e 79cbb8",
)

_Colour: TypeAlias = tuple[int, int, int]
_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=128)
def draw(output: Output) -> bytes:
    """Return the bytes of the file that shows *output*: a picture, 512 pixels on its long side, or the clip."""
    if output.format == "mp4":
        return clip()
    width, height = dimensions(output.ratio)
    chance = random.Random(f"{output.prompt}\n{output.index}")  # noqa: S311 - it decides colours
    image = _scenery(chance, width, height)
    _write(image, output)
    file = io.BytesIO()
    if output.format == "jpeg":
        image.save(file, "JPEG", quality=88)
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@lru_cache(maxsize=1)
def clip() -> bytes:
    """Return the video that stands for every video: two seconds, H.264 in MP4."""
    return files(__package__).joinpath("clip.mp4").read_bytes()


def dimensions(ratio: str) -> tuple[int, int]:
    """Return width and height for *ratio* ("16:9", or pixels as "1280x720"); anything else is a square."""
    left, _, right = ratio.lower().replace("x", ":").partition(":")
    if not (left.isdecimal() and right.isdecimal() and int(left) and int(right)):
        return _LONG_SIDE, _LONG_SIDE
    across, down = int(left), int(right)
    scale = _LONG_SIDE / max(across, down)
    # An extreme ratio would leave no room for a word.
    return max(96, round(across * scale)), max(96, round(down * scale))


def wrap(text: str, font: _Font, width: float) -> list[str]:
    """Break *text* into lines of at most *width* pixels: at spaces, and within a word that is wider than a line."""
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
    """Return the first of the wide fonts that this system has."""
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
    """Return *text* without accents where no font here could show them; other scripts then show as boxes."""
    if text.isascii() or _wide_font():
        return text
    return "".join(
        letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter)
    )


def _fit(text: str, width: float, height: float) -> tuple[_Font, list[str], int]:
    """Return the largest font in which *text* fits, its lines, and the height of one."""
    wide = not text.isascii()
    for size in _SIZES:
        font, line = _font(size, wide=wide), round(size * 1.28)
        lines = wrap(text, font, width)
        if len(lines) * line <= height and (size == _SIZES[-1] or len(lines) <= 6):
            return font, lines, line
    room = max(1, int(height // line))
    kept = lines[:room]
    return font, [*kept[:-1], kept[-1][:-1] + "…"] if len(lines) > room else kept, line


def _write(image: Image.Image, output: Output) -> None:
    """Write the prompt in a panel in the middle, and model and size in its foot."""
    width, height = image.size
    text = _legible(output.prompt[: 2 * _LONGEST_TEXT].strip()) or "(no prompt)"
    if len(text) > _LONGEST_TEXT:
        text = text[: _LONGEST_TEXT - 1] + "…"
    caption = f"{output.model}  ·  {width}x{height}"
    small = _font(13, wide=False)
    margin, pad = max(12, width // 16), 16
    font, lines, line = _fit(text, width - 2 * (margin + pad), height - 2 * margin - 2 * pad - 26)
    tall = len(lines) * line + 26 + 2 * pad
    top = (height - tall) // 2
    box = (margin, top, width - margin, top + tall)
    _panel(image, box)
    pen = ImageDraw.Draw(image)
    for place, each in enumerate(lines):
        pen.text(
            (width / 2, top + pad + place * line + line / 2),
            each,
            fill=(255, 255, 255),
            font=font,
            anchor="mm",
        )
    while small.getlength(caption) > width - 2 * margin - 12 and len(caption) > 4:
        caption = caption[:-2] + "…"
    pen.text((width / 2, top + tall - pad - 2), caption, fill=(226, 226, 232), font=small, anchor="mm")


def _panel(image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Darken a rounded *box* so that white text on it is readable on any background."""
    size = (box[2] - box[0], box[3] - box[1])
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=18, fill=150)
    image.paste((14, 16, 28), box, mask)


def _scenery(chance: random.Random, width: int, height: int) -> Image.Image:
    palette = _palette(chance)
    image = Image.new("RGB", (width * _SCALE, height * _SCALE), palette[0])
    pen = ImageDraw.Draw(image)
    chance.choice((_hills, _rings, _bands, _circles, _tiles, _rays))(pen, chance, palette, image.size)
    return image.reduce(_SCALE)


def _palette(chance: random.Random) -> list[_Colour]:
    """Return seven colours: five that belong together, from light to dark or back, a sixth between, an accent."""
    *colours, accent = map(_colour, chance.choice(_PALETTES).split())
    if chance.random() < 0.35:
        colours.reverse()
    between = (
        (colours[1][0] + colours[3][0]) // 2,
        (colours[1][1] + colours[3][1]) // 2,
        (colours[1][2] + colours[3][2]) // 2,
    )
    return [*colours, between, accent]


def _colour(text: str) -> _Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


_Size: TypeAlias = tuple[int, int]


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: _Colour) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _hills(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    width, height = size
    _disc(pen, chance.uniform(0.2, 0.8) * width, 0.28 * height, 0.17 * min(size), palette[6])
    for layer in range(1, 6):
        base, wave = height * (0.25 + 0.135 * layer), height * chance.uniform(0.03, 0.09)
        length, phase = width * chance.uniform(0.09, 0.2), chance.uniform(0, 6.28)
        ridge = [(x, base + wave * math.sin(x / length + phase)) for x in range(0, width + 17, 16)]
        pen.polygon([(0, height), *ridge, (width + 16, height)], fill=palette[layer])


def _rings(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    x, y = chance.uniform(0.1, 0.9) * size[0], chance.uniform(0.1, 0.9) * size[1]
    widest, count = math.hypot(*size) * 0.9, chance.randint(9, 14)
    for ring in range(count):
        colour = palette[6] if ring == count - 1 else palette[1 + ring % 5]
        _disc(pen, x, y, widest * (1 - ring / count), colour)


def _bands(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    width, height = size
    slant, count = chance.uniform(-0.9, 0.9) * height, chance.randint(7, 12)
    edges = [
        (place + chance.uniform(-0.3, 0.3)) * 1.6 * width / count - 0.3 * width for place in range(count)
    ]
    for place, edge in enumerate(edges):
        colour = palette[6] if place == count // 2 else palette[place % 6]
        pen.polygon([(edge, 0), (2.5 * width, 0), (2.5 * width, height), (edge + slant, height)], fill=colour)


def _circles(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    for place in range(26):
        radius = min(size) * (0.34 - 0.011 * place) * chance.uniform(0.6, 1.1)
        x, y = chance.uniform(0, size[0]), chance.uniform(0, size[1])
        _disc(pen, x, y, radius, palette[6] if place % 9 == 4 else chance.choice(palette[:6]))


def _tiles(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    side = min(size) // chance.randint(3, 5)
    for left in range(0, size[0], side):
        for top in range(0, size[1], side):
            ground, shape = chance.sample(palette[:6], 2)
            if chance.random() < 0.12:
                shape = palette[6]
            pen.rectangle((left, top, left + side, top + side), fill=ground)
            # A quarter of a disc around one corner of the tile, clockwise from the upper left.
            corner = chance.randrange(4)
            x, y = left + side * (corner in (1, 2)), top + side * (corner in (2, 3))
            pen.pieslice((x - side, y - side, x + side, y + side), 90 * corner, 90 * corner + 90, fill=shape)


def _rays(pen: ImageDraw.ImageDraw, chance: random.Random, palette: list[_Colour], size: _Size) -> None:
    x, y = chance.uniform(0.2, 0.8) * size[0], chance.uniform(0.55, 1.0) * size[1]
    far, count, turn = 2 * math.hypot(*size), chance.choice((12, 16, 20)), chance.uniform(0, 360)
    step = 360 / count
    for ray in range(count):
        colour = palette[(1, 3, 2, 4)[ray % 4]]
        pen.pieslice(
            (x - far, y - far, x + far, y + far), turn + ray * step, turn + (ray + 1) * step, fill=colour
        )
    _disc(pen, x, y, 0.2 * min(size), palette[5])
    _disc(pen, x, y, 0.16 * min(size), palette[6])
