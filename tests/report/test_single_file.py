"""A single-file report holds small copies of its pictures, and nothing else than it says."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report.rows import folder_of, png, row

from ruxa_async.report import SINGLE_FILE, write_report

_DATA = re.compile(r"data:image/webp;base64,([A-Za-z0-9+/=]+)")


def photograph(path: Path, side: int = 800, *, seed: int = 0) -> None:
    """Save a picture with as much detail as a photograph: noise at several scales."""
    draw = random.Random(seed)
    picture = Image.new("RGB", (side, side))
    for scale in (8, 32, 128, 256):
        noise = Image.frombytes("RGB", (scale, scale), draw.randbytes(scale * scale * 3))
        picture = Image.blend(picture, noise.resize((side, side), Image.Resampling.BICUBIC), 0.3)
    picture.save(path)


def made(folder: Path) -> str:
    assert write_report(folder, single_file=True) == folder / SINGLE_FILE
    return (folder / SINGLE_FILE).read_text(encoding="utf-8")


def items_of(text: str) -> list[dict[str, Any]]:
    data = text.partition('id="data">')[2].partition("</script>")[0]
    items: list[dict[str, Any]] = json.loads(data)["items"]
    return items


def pictures_in(text: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(found[1]))) for found in _DATA.finditer(text)]


def test_24_detailed_pictures_make_a_page_of_about_a_megabyte(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(n, files=[f"{n}.png"]) for n in range(24)])
    for n in range(24):
        photograph(folder / f"{n}.png", seed=n)
    text = made(folder)
    assert 500_000 < len(text) < 1_150_000
    pictures = pictures_in(text)
    assert len(pictures) == 24
    assert min(picture.width for picture in pictures) >= 280


def test_thumbnails_of_many_pictures_are_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ruxa_async.report._thumbnails._TOTAL", 40_000)
    folder = folder_of(tmp_path, [row(n, files=[f"{n}.png"]) for n in range(4)])
    for n in range(4):
        photograph(folder / f"{n}.png", seed=n)
    assert sum(len(found[1]) for found in _DATA.finditer(made(folder))) < 40_000 * 4 / 3


def test_only_pictures_are_in_the_page_and_the_others_are_named(tmp_path: Path) -> None:
    files = ["a.png", "film.mp4", "sound.mp3", "broken.png", "gone.png", "empty.png"]
    folder = folder_of(tmp_path, [row(0, files=files)])
    (folder / "broken.png").write_bytes(png()[:40])
    (folder / "empty.png").write_bytes(b"")
    (folder / "gone.png").unlink()
    (item,) = items_of(made(folder))
    assert [("src" in medium, medium["path"]) for medium in item["media"]] == [
        (name == "a.png", name) for name in files
    ]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "1", "CMYK"])
def test_every_kind_of_picture_has_a_thumbnail(tmp_path: Path, mode: str) -> None:
    folder = folder_of(tmp_path, [row(0, files=["a.tif"])])
    Image.new(mode, (40, 20)).save(folder / "a.tif")
    (folder / "a.tif").rename(folder / "a.png")
    (folder / "results.jsonl").write_text(json.dumps(row(0, files=["a.png"])) + "\n")
    (picture,) = pictures_in(made(folder))
    assert picture.size == (40, 20)


def test_a_thumbnail_is_upright_and_has_no_metadata(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(0, files=["a.jpg"])])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "where it was taken"
    Image.new("RGB", (1600, 800), "red").save(folder / "a.jpg", exif=exif)
    (picture,) = pictures_in(made(folder))
    assert picture.size == (400, 800)
    assert not picture.getexif()


def test_a_picture_of_absurd_size_is_named_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(0, files=["bomb.png"])])
    data = bytearray(png())
    data[16:24] = (60_000).to_bytes(4) * 2
    (folder / "bomb.png").write_bytes(data)
    assert "src" not in items_of(made(folder))[0]["media"][0]


def test_the_policy_permits_pictures_in_the_page_and_nothing_of_a_disk(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row(0, files=["a.png"])])
    (inside,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', made(folder))
    beside = re.findall(
        r'Content-Security-Policy" content="([^"]*)"', write_report(folder).read_text(encoding="utf-8")
    )[0]
    assert "img-src data:;" in inside
    assert "data:" not in beside
    assert inside.replace("img-src data:", "img-src 'self' file:; media-src 'self' file:") == beside


def test_a_page_that_needs_its_folder_is_not_written_elsewhere(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "out", [row(0)])
    with pytest.raises(ValueError, match="single_file=True"):
        write_report(folder, out=tmp_path / "x.html")
    target = write_report(folder, single_file=True, out=tmp_path / "x.html", title="  ")
    assert "<title>out</title>" in target.read_text(encoding="utf-8")
