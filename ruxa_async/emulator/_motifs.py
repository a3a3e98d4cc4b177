"""Landscapes and a still life in flat colours, drawn with Pillow. Words of the prompt choose the motif."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import TypeAlias

from PIL import Image, ImageDraw

__all__ = ("scenery",)

# Pictures are drawn at twice their size and then halved, because Pillow draws jagged edges.
_SCALE = 2

# Five colours from light to dark, and an accent.
_PALETTES = (
    "ffe8d6 f2b5a7 d97b72 8c4a5b 3d2a45 ffd166",
    "e3f2fd 90caf9 4a90c2 2a5d8f 14304f ffb74d",
    "f1f7e7 c5dca0 8fb573 4f8a5b 1f4d45 f4a259",
    "fdf0d5 f7c59f ef8354 bf5544 4f3550 2ec4b6",
    "ede7f6 c3b1e1 9575cd 5e4b8b 2e2350 ff8a80",
    "fff3e0 ffcc80 f9a03f d1662e 6b2d2d 5bc0be",
    "fce4ec f4a9c0 d96c98 97396f 4a1c4d ffd54f",
    "eaf4f4 b8d8d8 7a9e9f 4f6367 2a3439 fe5f55",
    "fff8e7 f3d9a4 d4a373 9c6b4f 4a3228 6a994e",
    "dff5ff 9ad9ea 57b0d1 3b6fa0 2b3467 eb455f",
)

_Colour: TypeAlias = tuple[int, int, int]


class _Canvas:
    """An image in the making: *colours* from light to dark, an *accent*, and whether it is *night*."""

    def __init__(self, chance: random.Random, width: int, height: int, *, night: bool) -> None:
        self.chance: random.Random = chance
        self.width: int = width * _SCALE
        self.height: int = height * _SCALE
        self.short: int = min(self.width, self.height)
        *self.colours, self.accent = map(_colour, chance.choice(_PALETTES).split())
        self.night: bool = chance.random() < 0.3 or night
        self.image: Image.Image = Image.new("RGB", (self.width, self.height), self.colours[0])
        self.pen: ImageDraw.ImageDraw = ImageDraw.Draw(self.image, "RGBA")

    def tone(self, depth: float) -> _Colour:
        """Return the colour at *depth*, from 0 (far, light) to 1 (near, dark); at night each is darker."""
        depth = 0.45 + 0.55 * depth if self.night else depth
        place = max(0.0, min(depth, 1.0)) * (len(self.colours) - 1)
        low = min(int(place), len(self.colours) - 2)
        return _mixed(self.colours[low], self.colours[low + 1], place - low)

    def sky(self, horizon: float) -> None:
        """Fill the image with a sky, darkest at the top and lightest at *horizon*, a share of the height."""
        top = self.colours[4 if self.night else 1]
        bottom = self.colours[2] if self.night else _mixed(self.colours[0], self.accent, 0.12)
        for y in range(self.height):
            colour = _mixed(top, bottom, min(1.0, y / (horizon * self.height)))
            self.pen.line((0, y, self.width, y), fill=colour)

    def sun(self, x: float, y: float, radius: float) -> None:
        """Draw the sun, or the moon at night, with a glow; all in pixels."""
        body = self.colours[0] if self.night else self.accent
        for ring in range(8, 0, -1):
            self.disc(x, y, radius * (1 + 0.16 * ring), (*body, 14))
        self.disc(x, y, radius, body)

    def sky_with_sun(self, horizon: float, height: float, radius: float) -> None:
        """Draw a sky, and a sun at a random place across; *height* and *radius* are shares of the image."""
        self.sky(horizon)
        across = self.chance.uniform(0.2, 0.8) * self.width
        self.sun(across, height * self.height, radius * self.short)

    def below(self, y: float, colour: _Colour, left: float = 0.0, right: float = math.inf) -> None:
        """Fill the area below *y*, between *left* and *right*."""
        if y < self.height:
            self.pen.rectangle((left, y, min(right, self.width), self.height), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
        """Draw a disc around *x*, *y*."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def ridge(self, base: float, rough: float, colour: _Colour) -> None:
        """Fill the area below mountains with heights within about *rough* of *base*, both shares."""
        waves = [
            (self.chance.uniform(1.2, 2.2) * 2**octave, self.chance.uniform(0, 6.28), 0.55**octave)
            for octave in range(5)
        ]
        line = []
        for x in range(0, self.width + 9, 8):
            turn = x / self.width * math.pi
            shape = sum(part * (1 - 2 * abs(math.sin(often * turn + phase))) for often, phase, part in waves)
            line.append((x, (base - rough * shape) * self.height))
        self.pen.polygon([(0, self.height), *line, (self.width + 8, self.height)], fill=colour)


_Motif: TypeAlias = Callable[[_Canvas], None]


def scenery(prompt: str, chance: random.Random, width: int, height: int) -> Image.Image:
    """Return a picture for *prompt* of *width* times *height* pixels."""
    words = {*re.findall(r"\w+", prompt[:2_000].lower())}
    canvas = _Canvas(chance, width, height, night=bool(words & _DARK))
    _motif(words, chance)(canvas)
    return canvas.image.reduce(_SCALE)


def _motif(words: set[str], chance: random.Random) -> _Motif:
    matching = [motif for motif, named in _NAMED.items() if words & named]
    return chance.choice(matching or [*_NAMED])


def _mountains(canvas: _Canvas) -> None:
    canvas.sky_with_sun(0.7, 0.24, 0.1)
    for layer in range(4):
        canvas.ridge(0.42 + 0.13 * layer, 0.13 - 0.02 * layer, canvas.tone(0.2 + 0.25 * layer))


def _sea(canvas: _Canvas) -> None:
    """Draw the sun or moon over water, its reflection, and a sail."""
    chance, width, height, unit = canvas.chance, canvas.width, canvas.height, canvas.short
    horizon = 0.52 * height
    canvas.sky(0.55)
    x = chance.uniform(0.3, 0.7) * width
    canvas.sun(x, horizon - 0.1 * unit, 0.13 * unit)
    steps = 24
    for step in range(steps):
        y = horizon + (height - horizon) * step / steps
        canvas.below(y, canvas.tone(0.35 + 0.6 * step / steps))
        half = unit * (0.14 - 0.004 * step) * chance.uniform(0.4, 1.0)
        light = canvas.colours[0] if canvas.night else canvas.accent
        canvas.pen.rectangle((x - half, y + 3, x + half, y + 8), fill=(*light, 160 - 5 * step))
    x, y, tall = chance.choice((0.2, 0.8)) * width, horizon + 0.09 * height, 0.13 * unit
    canvas.pen.polygon([(x, y - tall), (x, y - 5), (x + 0.55 * tall, y - 5)], fill=canvas.colours[0])
    canvas.pen.polygon(
        [(x - 6, y - 0.85 * tall), (x - 6, y - 5), (x - 0.4 * tall, y - 5)], fill=canvas.colours[0]
    )
    keel = y + 0.16 * tall
    hull = [(x - 0.5 * tall, y), (x + 0.6 * tall, y), (x + 0.4 * tall, keel), (x - 0.3 * tall, keel)]
    canvas.pen.polygon(hull, fill=canvas.colours[4])


def _city(canvas: _Canvas) -> None:
    """Draw three rows of houses with lit windows."""
    chance = canvas.chance
    canvas.sky_with_sun(0.8, 0.22, 0.1)
    for layer in range(3):
        x = -chance.uniform(0, 0.1) * canvas.width
        while x < canvas.width:
            right = x + chance.uniform(0.07, 0.15) * canvas.width
            top = canvas.height * (chance.uniform(0.3, 0.55) + 0.12 * layer)
            canvas.below(top, canvas.tone(0.4 + 0.28 * layer), x, right)
            _windows(canvas, top, x, right, share=0.1 + 0.2 * layer)
            x = right


def _windows(canvas: _Canvas, top: float, left: float, right: float, *, share: float) -> None:
    pane = 0.016 * canvas.short
    for row in range(int((canvas.height - top) / (3 * pane))):
        for column in range(max(0, int((right - left - 1.5 * pane) / (2.2 * pane)))):
            if canvas.chance.random() < share:
                x, y = left + (1.5 + 2.2 * column) * pane, top + (2 + 3 * row) * pane
                canvas.pen.rectangle((x, y, x + pane, y + 1.4 * pane), fill=canvas.accent)


def _forest(canvas: _Canvas) -> None:
    """Draw firs in four rows, the nearer the larger and darker."""
    chance = canvas.chance
    canvas.sky_with_sun(0.8, 0.24, 0.11)
    for layer in range(4):
        colour = canvas.tone(0.3 + 0.23 * layer)
        tall = canvas.short * (0.16 + 0.07 * layer)
        ground = canvas.height * (0.55 + 0.14 * layer)
        x = -tall * chance.random()
        while x < canvas.width + tall:
            _fir(canvas, x, ground + chance.uniform(0, 0.3) * tall, tall * chance.uniform(0.75, 1.2), colour)
            x += tall * chance.uniform(0.28, 0.6)
        canvas.below(ground + 0.25 * tall, colour)


def _fir(canvas: _Canvas, x: float, foot: float, tall: float, colour: _Colour) -> None:
    for storey in range(3):
        top, half = foot - tall * (1 - 0.25 * storey), tall * (0.13 + 0.06 * storey)
        bottom = top + 0.45 * tall
        canvas.pen.polygon([(x, top), (x + half, bottom), (x - half, bottom)], fill=colour)


def _vase(canvas: _Canvas) -> None:
    """Draw a still life: two fruits, and a vase with flowers, on a table."""
    chance, unit, dark = canvas.chance, canvas.short, canvas.tone(1.0)
    x, table = chance.uniform(0.36, 0.46) * canvas.width, 0.66 * canvas.height
    canvas.below(0, canvas.tone(0.12))
    canvas.disc(0.5 * canvas.width, 0.42 * canvas.height, 0.36 * unit, canvas.tone(0.3))
    canvas.below(table, canvas.tone(0.75))
    neck = table - 0.2 * unit
    for _ in range(9):
        angle, far = chance.uniform(-0.75, 0.75), chance.uniform(0.22, 0.42) * unit
        end = (x + far * math.sin(angle), neck - far * math.cos(angle))
        canvas.pen.line([(x, neck), end], fill=dark, width=5)
        canvas.disc(*end, 0.04 * unit, chance.choice((canvas.accent, canvas.tone(0.5))))
    canvas.pen.ellipse((x - 0.11 * unit, neck - 0.04 * unit, x + 0.11 * unit, neck + 0.23 * unit), fill=dark)
    canvas.pen.rectangle((x - 0.045 * unit, neck - 0.11 * unit, x + 0.045 * unit, neck), fill=dark)
    canvas.disc(x + 0.21 * unit, table - 0.04 * unit, 0.075 * unit, canvas.accent)
    canvas.disc(x + 0.34 * unit, table - 0.04 * unit, 0.075 * unit, canvas.tone(0.55))


_DARK = {*"night midnight dark lunar moon stars starry astronauts storm neon dusk nacht lamplight".split()}  # noqa: SIM905
_NAMED: dict[_Motif, frozenset[str]] = {
    motif: frozenset(words.split())
    for motif, words in {
        _sea: "sea bay boat ship harbour harbor lighthouse ocean lake river beach leuchtturm sail octopus",
        _mountains: "mountain mountains peak alps lunar crater arctic snow glacier volcano canyon "
        "hill hills field meadow desert landscape sunrise sunset sky valley snails crane map",
        _city: "city street town market tram train bakery neon club skyline tower village kitchen railway",
        _forest: "forest tree trees fox heron badgers bird woods owl dragon mice spider garden reeds",
        _vase: "still life flower flowers quinces jug vase fruit table portrait cat bowl glass clay linen",
    }.items()
}


def _colour(text: str) -> _Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _mixed(one: _Colour, other: _Colour, share: float) -> _Colour:
    """Return the colour at *share* of the way from *one* to *other*."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
