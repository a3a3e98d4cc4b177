from __future__ import annotations

import io
import random

import pytest
from PIL import Image, ImageFont

from ruxa_async.emulator import Output
from ruxa_async.emulator._motifs import _NAMED, _motif, scenery
from ruxa_async.emulator._outputs import placeholder
from ruxa_async.emulator._pictures import clip, dimensions, draw, wrap


def _opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("1:1", (512, 512)),
        ("16:9", (512, 288)),
        ("9:16", (288, 512)),
        ("1280x720", (512, 288)),
        ("21:9", (512, 219)),
        ("100:1", (512, 96)),
        ("auto", (512, 512)),
        ("0:5", (512, 512)),
        ("", (512, 512)),
    ],
)
def test_a_picture_has_the_ratio_that_was_asked_for(ratio: str, size: tuple[int, int]) -> None:
    assert dimensions(ratio) == size
    assert _opened(draw(Output(prompt="a fox", model="m", ratio=ratio))).size == size


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_a_picture_has_the_format_that_was_asked_for(name: str) -> None:
    file = draw(Output(prompt="a fox", model="m", format=name))  # type: ignore[arg-type]
    assert _opened(file).format == name.upper()


@pytest.mark.parametrize(
    "prompt", ["", " ", "猫" * 400, "🚀 café שלום", "x" * 10_000, "a\nb\tc", "word " * 900, "\0"]
)
@pytest.mark.parametrize("ratio", ["1:1", "21:9", "9:16"])
def test_any_text_can_be_drawn(prompt: str, ratio: str) -> None:
    assert _opened(draw(Output(prompt=prompt, model="m" * 90, ratio=ratio))).format == "PNG"


def test_the_same_prompt_gives_the_same_picture_and_another_gives_another() -> None:
    first = draw(Output(prompt="a fox", model="m"))
    draw.cache_clear()
    assert first == draw(Output(prompt="a fox", model="m"))
    assert first != draw(Output(prompt="a fox", model="m", index=1))
    assert len({draw(Output(prompt=f"fox {place}", model="m")) for place in range(30)}) == 30


@pytest.mark.parametrize("prompt", ["a fox", "word " * 300])
@pytest.mark.parametrize("ratio", ["1:1", "16:9", "9:16"])
def test_the_label_covers_at_most_the_lowest_third(prompt: str, ratio: str) -> None:
    shown = _opened(draw(Output(prompt=prompt, model="m", ratio=ratio)))
    bare = scenery(prompt, random.Random(f"{prompt}\n0"), *shown.size)
    clear = (0, 0, shown.width, shown.height * 2 // 3)
    assert shown.crop(clear).tobytes() == bare.crop(clear).tobytes()
    assert shown.tobytes() != bare.tobytes()


def test_the_prompt_chooses_the_motif() -> None:
    for motif, words in _NAMED.items():
        others = {word for each, named in _NAMED.items() if each is not motif for word in named}
        for word in sorted(words - others):
            assert _motif({"a", word}, random.Random(0)) is motif
    assert len({_motif(set(), random.Random(seed)) for seed in range(200)}) == len(_NAMED)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [(512, 96), (96, 512), (512, 512)])
def test_every_motif_fits_every_shape(seed: int, size: tuple[int, int]) -> None:
    for words in ("", *(next(iter(named)) for named in _NAMED.values())):
        assert scenery(words, random.Random(seed), *size).size == size


def test_text_is_wrapped_at_spaces_and_long_words_are_broken() -> None:
    font = ImageFont.load_default(20)
    lines = wrap("a few words and " + "x" * 100, font, 150)
    assert all(font.getlength(line) <= 150 for line in lines)
    assert lines[0] == "a few words and"
    assert "".join(lines).replace(" ", "") == "afewwordsand" + "x" * 100
    assert wrap("  ", font, 150) == []


def test_a_video_is_the_clip() -> None:
    assert draw(Output(prompt="a fox", model="sora-2", format="mp4")) == clip()
    assert clip()[4:8] == b"ftyp"
    assert 1000 < len(clip()) < 10_000


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_placeholders_are_valid_pictures_that_differ(suffix: str) -> None:
    files = [placeholder(suffix, about) for about in ("a", "b", "猫" * 2000)]
    assert [_opened(file).format for file in files] == [{"png": "PNG", "jpg": "JPEG"}[suffix]] * 3
    assert len(set(files)) == 3


def test_placeholders_of_videos_differ() -> None:
    assert placeholder("mp4", "a") != placeholder("mp4", "b")
