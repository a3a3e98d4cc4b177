"""Each block of code in README.md and docs/ runs, against an emulator."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import pytest
from pages.blocks import PAGES, README, RUN, SHOWN, Blocks, languages, name_of
from PIL import Image
from s3 import s3_server

from ruxa_async.emulator import Emulator, EmulatorSettings

WITH_CODE = [page for page in PAGES if {*languages(page)} & {*RUN}]
PROMPTS = ("a heron in reeds", "a night market", "three quinces")
SKIPS = re.compile(r'^<!-- skip: (?:next|start) "(.+)" -->$', re.MULTILINE)
#: Skips of blocks that run where a package is installed.
MISSING = re.compile(r'^<!-- skip: next if\(.+, reason="(.+)"\) -->$', re.MULTILINE)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Give a service, and a folder that holds prompts.txt; set what a client reads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUXA_JOURNAL", raising=False)
    Path("prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS), encoding="utf-8")
    with Emulator(EmulatorSettings(speed=100)) as emulator:
        monkeypatch.setenv("RUXA_API_KEY", emulator.key)
        monkeypatch.setenv("RUXA_BASE_URL", emulator.url)
        level = logging.getLogger("ruxa_async").level
        yield emulator
        logging.getLogger("ruxa_async").setLevel(level)  # a block of the page on logging changes it


@pytest.fixture
def bucket(page: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve s3://bucket, and have the files that the page on object stores uploads."""
    if page.name != "object-stores.md":
        yield
        return
    for name in ("cat.png", "dog.png"):
        Image.new("RGB", (8, 8)).save(name)
    Path("edits.csv").write_text("prompt,model,image_urls\nsnow,google/nano-banana-edit,cat.png\n")
    with s3_server("bucket") as server:
        server.use(monkeypatch)
        yield


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks for a shell need bash")
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
@pytest.mark.usefixtures("bucket")
def test_the_blocks_of_a_page_run(page: Path, emulator: Emulator) -> None:
    with asyncio.Runner() as runner:
        for example in Blocks(runner).examples(page):
            example.namespace.setdefault("emulator", emulator)
            with suppress(SkipTest):
                example.evaluate()


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=name_of)
def test_every_block_names_its_language(page: Path) -> None:
    """README.md keeps commands for a shell without a language, and CI runs them."""
    assert {*languages(page)} <= {*RUN, *SHOWN}


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    reasons = [why for text in texts for why in SKIPS.findall(text)]
    assert 0 < len(reasons) <= 8
    assert all(len(why) > 20 for why in reasons)
    missing = [why for text in texts for why in MISSING.findall(text)]
    assert all(why.endswith("is not installed") for why in missing)
    everything = sum(len(re.findall("skip: (?:next|start)", text)) for text in texts)
    assert len(reasons) + len(missing) == everything
