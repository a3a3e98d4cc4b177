"""Landscapes and patterns in flat colours, drawn with Pillow. Words of the prompt choose the motif."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import TypeAlias

from PIL import Image, ImageDraw

__all__ = ("scenery",)

# Drawn at twice the size and halved: Pillow's own edges are jagged.
_SCALE = 2

# Five colours from light to dark that belong together, and an accent.
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


class _Canvas:
    """An image in the making: *colours* from light to dark, and an *accent*; *night* is its mood."""

    def __init__(self, chance: random.Random, width: int, height: int) -> None:
        self.chance = chance
        self.width, self.height = width * _SCALE, height * _SCALE
        self.short = min(self.width, self.height)
        *self.colours, self.accent = map(_colour, chance.choice(_PALETTES).split())
        self.night = chance.random() < 0.3
        self.image = Image.new("RGB", (self.width, self.height), self.colours[0])
        self.pen = ImageDraw.Draw(self.image)

    def tone(self, depth: float) -> _Colour:
        """Return the colour at *depth*, from 0 (far, light) to 1 (near, dark); at night each is darker."""
        depth = 0.45 + 0.55 * depth if self.night else depth
        place = max(0.0, min(depth, 1.0)) * (len(self.colours) - 1)
        low = min(int(place), len(self.colours) - 2)
        return _mixed(self.colours[low], self.colours[low + 1], place - low)

    def sky(self, horizon: float) -> None:
        """Fill everything with a sky that is darkest at the top and lightest at *horizon*."""
        top = self.colours[4] if self.night else self.colours[1]
        bottom = self.colours[2] if self.night else _mixed(self.colours[0], self.accent, 0.12)
        size = self.width, max(1, round(horizon * self.height))
        ramp = Image.linear_gradient("L").resize((1, size[1]))
        column = Image.composite(_flat(bottom, ramp.size), _flat(top, ramp.size), ramp)
        self.image.paste(bottom, (0, 0, self.width, self.height))
        self.image.paste(column.resize(size, Image.Resampling.NEAREST), (0, 0))
        if self.night:
            self._stars(horizon)

    def _stars(self, horizon: float) -> None:
        for _ in range(60):
            x, y = self.chance.uniform(0, self.width), self.chance.uniform(0, 0.8 * horizon * self.height)
            self.disc(
                x, y, self.chance.choice((1.2, 1.2, 1.8, 2.6)), _mixed(self.colours[0], self.colours[2], 0.2)
            )

    def sun(self, x: float, y: float, radius: float) -> None:
        """Draw the sun, or the moon at night, with a glow."""
        body = self.colours[0] if self.night else self.accent
        reach = math.ceil(radius * (1 + 0.16 * 8)) + 1
        left, top = round(x) - reach, round(y) - reach
        glow = Image.new("L", (2 * reach, 2 * reach), 0)
        pen = ImageDraw.Draw(glow)
        for ring in range(8, 0, -1):
            far = radius * (1 + 0.16 * ring)
            across, down = x - left, y - top
            pen.ellipse((across - far, down - far, across + far, down + far), fill=11 * (9 - ring))
        self.image.paste(body, (left, top, left + 2 * reach, top + 2 * reach), glow)
        self.disc(x, y, radius, body)

    def below(self, y: float, colour: _Colour, left: float = 0.0, right: float = math.inf) -> None:
        """Fill what is below *y*, between *left* and *right*."""
        if y < self.height:
            self.pen.rectangle((left, y, min(right, self.width), self.height), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: _Colour) -> None:
        """Draw a disc."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def ridge(self, base: float, rough: float, colour: _Colour, *, peaked: bool = False) -> None:
        """Fill what is below a line of hills or peaks, whose height varies by *rough* around *base*."""
        waves = [
            (self.chance.uniform(1.2, 2.2) * 2**octave, self.chance.uniform(0, 6.28), 0.55**octave)
            for octave in range(5 if peaked else 2)
        ]
        line = []
        for x in range(0, self.width + 9, 8):
            turn = x / self.width * math.pi
            shape = sum(
                part
                * (1 - 2 * abs(math.sin(often * turn + phase)) if peaked else math.sin(often * turn + phase))
                for often, phase, part in waves
            )
            line.append((x, (base - rough * shape) * self.height))
        self.pen.polygon([(0, self.height), *line, (self.width + 8, self.height)], fill=colour)


_Motif: TypeAlias = Callable[[_Canvas], None]


def scenery(prompt: str, chance: random.Random, width: int, height: int) -> Image.Image:
    """Return a picture of *width* times *height* pixels that goes with *prompt*."""
    canvas = _Canvas(chance, width, height)
    words = {*re.findall(r"\w+", prompt[:2_000].lower())}
    canvas.night = canvas.night or bool(words & _DARK)
    _motif(words, chance)(canvas)
    return canvas.image.reduce(_SCALE)


def _motif(words: set[str], chance: random.Random) -> _Motif:
    fitting = [motif for motif, named in _NAMED.items() if words & named]
    return chance.choice(fitting or [*_NAMED, _tiles, _rays])


def _hills(canvas: _Canvas) -> None:
    chance = canvas.chance
    canvas.sky(0.75)
    canvas.sun(chance.uniform(0.2, 0.8) * canvas.width, 0.27 * canvas.height, 0.13 * canvas.short)
    for layer in range(5):
        canvas.ridge(0.42 + 0.11 * layer, 0.055, canvas.tone(0.25 + 0.18 * layer))


def _peaks(canvas: _Canvas) -> None:
    chance = canvas.chance
    canvas.sky(0.7)
    canvas.sun(
        chance.uniform(0.2, 0.8) * canvas.width, chance.uniform(0.18, 0.3) * canvas.height, 0.1 * canvas.short
    )
    for layer in range(4):
        canvas.ridge(0.42 + 0.13 * layer, 0.13 - 0.02 * layer, canvas.tone(0.2 + 0.25 * layer), peaked=True)


def _sea(canvas: _Canvas) -> None:
    """Draw the sun or moon over water, its path of light, an island, and a sail."""
    chance, width, height = canvas.chance, canvas.width, canvas.height
    horizon = 0.52 * height
    canvas.sky(0.55)
    x = chance.uniform(0.3, 0.7) * width
    canvas.sun(x, horizon - 0.1 * canvas.short, 0.13 * canvas.short)
    steps = 24
    for step in range(steps):
        y = horizon + (height - horizon) * step / steps
        colour = canvas.tone(0.35 + 0.6 * step / steps)
        canvas.below(y, colour)
        half = canvas.short * (0.14 - 0.004 * step) * chance.uniform(0.4, 1.0)
        light = _mixed(colour, canvas.colours[0] if canvas.night else canvas.accent, 0.65 - 0.02 * step)
        canvas.pen.rounded_rectangle((x - half, y + 3, x + half, y + 8), 3, fill=light)
    _sail(canvas, chance.choice((0.2, 0.8)) * width, horizon + 0.09 * height, 0.13 * canvas.short)


def _sail(canvas: _Canvas, x: float, y: float, tall: float) -> None:
    hull, cloth = canvas.colours[4], canvas.colours[0]
    canvas.pen.polygon([(x, y - tall), (x, y - 5), (x + 0.55 * tall, y - 5)], fill=cloth)
    canvas.pen.polygon([(x - 6, y - 0.85 * tall), (x - 6, y - 5), (x - 0.4 * tall, y - 5)], fill=cloth)
    sides = [
        (x - 0.5 * tall, y),
        (x + 0.6 * tall, y),
        (x + 0.4 * tall, y + 0.16 * tall),
        (x - 0.3 * tall, y + 0.16 * tall),
    ]
    canvas.pen.polygon(sides, fill=hull)


def _city(canvas: _Canvas) -> None:
    """Draw three rows of houses with lit windows."""
    chance = canvas.chance
    canvas.sky(0.8)
    canvas.sun(chance.uniform(0.15, 0.85) * canvas.width, 0.22 * canvas.height, 0.1 * canvas.short)
    for layer in range(3):
        x = -chance.uniform(0, 0.1) * canvas.width
        while x < canvas.width:
            wide = chance.uniform(0.07, 0.15) * canvas.width
            top = canvas.height * (chance.uniform(0.3, 0.55) + 0.12 * layer)
            _house(canvas, (x, top, x + wide), canvas.tone(0.4 + 0.28 * layer), lit=0.1 + 0.2 * layer)
            x += wide


def _house(canvas: _Canvas, box: tuple[float, float, float], colour: _Colour, *, lit: float) -> None:
    left, top, right = box
    canvas.below(top, colour, left, right)
    pane = 0.016 * canvas.short
    y = top + 2 * pane
    while y < canvas.height:
        x = left + 1.5 * pane
        while x + 1.5 * pane < right:
            if canvas.chance.random() < lit:
                canvas.pen.rectangle((x, y, x + pane, y + 1.4 * pane), fill=canvas.accent)
            x += 2.2 * pane
        y += 3 * pane


def _forest(canvas: _Canvas) -> None:
    """Draw firs in four rows, the nearer the larger and darker."""
    chance = canvas.chance
    canvas.sky(0.8)
    canvas.sun(chance.uniform(0.2, 0.8) * canvas.width, 0.24 * canvas.height, 0.11 * canvas.short)
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
        canvas.pen.polygon(
            [(x, top), (x + half, top + 0.45 * tall), (x - half, top + 0.45 * tall)], fill=colour
        )


def _vase(canvas: _Canvas) -> None:
    """Draw a still life: fruit and a vase with a branch on a table."""
    chance, width, height, unit = canvas.chance, canvas.width, canvas.height, canvas.short
    canvas.image.paste(canvas.tone(0.12), (0, 0, width, height))
    canvas.disc(0.5 * width, 0.42 * height, 0.36 * unit, canvas.tone(0.3))
    table = 0.66 * height
    canvas.below(table, canvas.tone(0.75))
    x = chance.uniform(0.36, 0.46) * width
    for _ in range(9):
        angle, far = chance.uniform(-0.75, 0.75), chance.uniform(0.22, 0.42) * unit
        end = (x + far * math.sin(angle), table - 0.2 * unit - far * math.cos(angle))
        canvas.pen.line([(x, table - 0.2 * unit), end], fill=canvas.tone(0.9), width=5)
        canvas.disc(
            *end, chance.uniform(0.025, 0.05) * unit, chance.choice((canvas.accent, canvas.tone(0.5)))
        )
    canvas.pen.ellipse(
        (x - 0.11 * unit, table - 0.24 * unit, x + 0.11 * unit, table + 0.03 * unit), fill=canvas.tone(1.0)
    )
    canvas.pen.rectangle(
        (x - 0.045 * unit, table - 0.31 * unit, x + 0.045 * unit, table - 0.2 * unit), fill=canvas.tone(1.0)
    )
    for fruit in range(chance.choice((2, 3))):
        across = x + (0.21 + 0.13 * fruit) * unit
        canvas.disc(
            across, table - 0.04 * unit, 0.075 * unit, canvas.accent if fruit % 2 == 0 else canvas.tone(0.55)
        )


def _tiles(canvas: _Canvas) -> None:
    chance, size = canvas.chance, (canvas.width, canvas.height)
    side = canvas.short // chance.randint(3, 5)
    for left in range(0, size[0], side):
        for top in range(0, size[1], side):
            ground, shape = chance.sample(canvas.colours, 2)
            if chance.random() < 0.15:
                shape = canvas.accent
            canvas.pen.rectangle((left, top, left + side, top + side), fill=ground)
            # A quarter of a disc around one corner of the tile, clockwise from the upper left.
            corner = chance.randrange(4)
            x, y = left + side * (corner in (1, 2)), top + side * (corner in (2, 3))
            canvas.pen.pieslice(
                (x - side, y - side, x + side, y + side), 90 * corner, 90 * corner + 90, fill=shape
            )


def _rays(canvas: _Canvas) -> None:
    chance, width, height = canvas.chance, canvas.width, canvas.height
    x, y = chance.uniform(0.3, 0.7) * width, chance.uniform(0.55, 0.7) * height
    far, count, turn = 2 * math.hypot(width, height), chance.choice((16, 20, 24)), chance.uniform(0, 360)
    step = 360 / count
    for ray in range(count):
        box = (x - far, y - far, x + far, y + far)
        colour = canvas.tone((0.1, 0.3)[ray % 2])
        canvas.pen.pieslice(box, turn + ray * step, turn + (ray + 1) * step, fill=colour)
    canvas.sun(x, y, 0.2 * canvas.short)
    for layer in range(2):
        canvas.ridge(0.72 + 0.12 * layer, 0.04, canvas.tone(0.6 + 0.3 * layer))


def _leaves(canvas: _Canvas) -> None:
    """Draw stems with leaves that rise from below, the nearer the darker."""
    chance = canvas.chance
    canvas.image.paste(canvas.tone(0.08), (0, 0, canvas.width, canvas.height))
    canvas.disc(0.5 * canvas.width, 0.4 * canvas.height, 0.3 * canvas.short, canvas.accent)
    for layer in range(3):
        for stem in range(4):
            x = canvas.width * (stem + chance.uniform(0.1, 0.9)) / 4
            _stem(
                canvas,
                x,
                canvas.height * chance.uniform(0.12, 0.4 + 0.1 * layer),
                canvas.tone(0.35 + 0.3 * layer),
            )


def _stem(canvas: _Canvas, x: float, top: float, colour: _Colour) -> None:
    lean = canvas.chance.uniform(-0.16, 0.16) * canvas.short
    count = 7
    for leaf in range(count):
        part = leaf / (count - 1)
        foot = (x + lean * part * part, canvas.height + (top - canvas.height) * part)
        long, angle = canvas.short * (0.17 - 0.1 * part), 0.5 + 0.35 * part
        for side in (-1, 1):
            tip = (foot[0] + side * long * math.cos(angle), foot[1] - long * math.sin(angle))
            middle = ((foot[0] + tip[0]) / 2, (foot[1] + tip[1]) / 2)
            bulge = 0.22 * long
            one = (middle[0] - bulge * math.sin(angle), middle[1] - side * bulge * math.cos(angle))
            other = (middle[0] + bulge * math.sin(angle), middle[1] + side * bulge * math.cos(angle))
            canvas.pen.polygon([foot, one, tip, other], fill=colour)
    canvas.pen.line([(x, canvas.height), (x + lean, top)], fill=colour, width=5)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DARK = _words(
    "night midnight dark lunar moon stars starry astronauts storm cellar neon dusk nacht lamplight"
)
_NAMED: dict[_Motif, frozenset[str]] = {
    _sea: _words(
        "sea bay boat ship harbour harbor lighthouse ocean lake river beach waves leuchtturm sail octopus"
    ),
    _peaks: _words("mountain mountains peak alps lunar crater arctic snow glacier volcano canyon"),
    _city: _words(
        "city street town market tram train bakery neon club skyline tower village kitchen railway astronauts"
    ),
    _forest: _words("forest tree trees fox heron badgers wolf bear deer bird woods owl dragon mice spider"),
    _hills: _words("hill hills field meadow desert landscape sunrise sunset sky valley snails crane map"),
    _vase: _words(
        "still life flower flowers quinces jug vase fruit table portrait cat bowl glass clay watchmaker linen"
    ),
    _leaves: _words("garden greenhouse botanical plant leaf leaves dewdrop wisteria reeds jungle"),
}


def _colour(text: str) -> _Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _mixed(one: _Colour, other: _Colour, share: float) -> _Colour:
    """Return the colour that lies *share* of the way from *one* to *other*."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _flat(colour: _Colour, size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, colour)
