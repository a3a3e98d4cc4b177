"""Outputs of a client's generations: file names, renewed links, and never two outputs in one file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from downloads.test_names import HOSTILE
from harness import client_of, service_of

from ruxa_async import ConfigurationError, Downloads, LinkExpiredError, NanoBanana, NotFoundError, Succeeded
from ruxa_async.batch import Row, Summary, run_batch
from ruxa_async.emulator import Durations, Service, parse_fault


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # files are written by threads


def service(*faults: str, **settings: Any) -> Service:
    settings.setdefault("image", Durations(0.05))
    return service_of(faults=[parse_fault(fault) for fault in faults], **settings)


def request(key: str = "cat") -> NanoBanana:
    return NanoBanana(prompt=f"prompt {key}", key=key)


async def test_files_are_named_by_a_template(tmp_path: Path) -> None:
    async with client_of(service(outputs=2)) as ruxa:
        made = await ruxa.generate(request())
        paths = await made.save(str(tmp_path), name="{model} {key}.{n:02}")
        assert [path.name for path in paths] == [
            "google-nano-banana cat.01.png",
            "google-nano-banana cat.02.png",
        ]
        with pytest.raises(ConfigurationError, match="slash"):
            await made.save(tmp_path, name="../{key}")
    assert len([*tmp_path.iterdir()]) == 2


async def test_a_batch_names_its_files_by_its_template(tmp_path: Path) -> None:
    async with client_of(service()) as ruxa:
        rows = [Row(1, request("a")), Row(2, request("b"))]
        summary: Summary = await run_batch(ruxa, rows, tmp_path, name="{key}-{n}")
    assert summary.states == {"succeeded": 2}
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a-1.png", "b-1.png"]
    async with client_of(service()) as ruxa:
        with pytest.raises(ConfigurationError):
            await run_batch(ruxa, rows, tmp_path / "new", name="{colour}")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("way", ["save", "read"])
async def test_expired_links_are_renewed_by_one_query(tmp_path: Path, way: str) -> None:
    there = service("expired:file:nth=2", outputs=3)
    async with client_of(there) as ruxa:
        made = await ruxa.generate(request())
        asked = there.counts.queries
        got = await (made.save(tmp_path) if way == "save" else made.read())
        assert there.counts.queries == asked + 1
    assert len(got) == 3
    # What came the first time was not fetched again.
    assert there.counts.files == 3 + 1


async def test_links_that_stay_expired_raise_after_one_query(tmp_path: Path) -> None:
    there = service("expired:file:status=410")
    async with client_of(there) as ruxa:
        made = await ruxa.generate(request())
        asked = there.counts.queries
        for work in (made.read, made.save):
            with pytest.raises(LinkExpiredError, match="HTTP 410"):
                await work()
        assert there.counts.queries == asked + 2


async def test_a_failed_query_for_fresh_links_is_the_cause_of_the_error() -> None:
    there = service("expired:file")
    async with client_of(there) as ruxa:
        made = await ruxa.generate(request())
        forgotten = attrs.evolve(made, task_id="never-was")
        with pytest.raises(LinkExpiredError) as caught:
            await forgotten.read()
        assert isinstance(caught.value.__cause__, NotFoundError)
        nameless = attrs.evolve(made, task_id=None)
        with pytest.raises(LinkExpiredError):
            await nameless.read()


async def test_other_failures_send_no_query() -> None:
    there = service("error:file:status=400")
    async with client_of(there) as ruxa:
        made = await ruxa.generate(request())
        asked = there.counts.queries
        with pytest.raises(Exception, match="HTTP 400"):
            await made.read()
        assert there.counts.queries == asked


async def test_twenty_outputs_with_one_name_make_twenty_files(tmp_path: Path) -> None:
    async with client_of(service(outputs=2), downloads=Downloads(max_concurrent=20)) as ruxa:
        async with ruxa.as_completed(request(f"k{n}") for n in range(10)) as outcomes:
            all_made = [each.generation async for each in outcomes if isinstance(each, Succeeded)]
        expected = {content for made in all_made for content in await made.read()}
        async with anyio.create_task_group() as tg:
            for made in all_made:
                tg.start_soon(partial(made.save, tmp_path, name="{model}"))
    files = [*tmp_path.iterdir()]
    assert len(expected) == 20
    assert {path.read_bytes() for path in files} == expected
    assert len(files) == 20


async def test_no_hostile_key_writes_outside_the_folder_or_over_another_file(tmp_path: Path) -> None:
    """On a disk that ignores case as well: no two names differ in that alone."""
    keys = [*HOSTILE, "cat", "a", "\N{LATIN SMALL LETTER E WITH ACUTE}", "output"]
    home = tmp_path / "inner" / "home"
    beside = tmp_path / "inner" / "a.png"
    beside.parent.mkdir()
    beside.write_bytes(b"mine")
    requests = (NanoBanana(prompt=f"prompt {n}", key=key) for n, key in enumerate(keys))
    async with client_of(service()) as ruxa:
        async with ruxa.as_completed(requests) as outcomes:
            all_made = [each.unwrap() async for each in outcomes]
        assert len(all_made) == len(keys) >= 44
        contents = [(await made.read())[0] for made in all_made]
        paths = [path for made in all_made for path in await made.save(home)]
    assert {path.parent for path in paths} == {home}
    assert len({path.name.casefold() for path in paths}) == len(keys)
    assert [path.read_bytes() for path in paths] == contents
    assert sorted(home.iterdir()) == sorted(paths)
    assert sorted(tmp_path.rglob("*.png")) == sorted([beside, *paths])
    assert beside.read_bytes() == b"mine"


class Place:
    """A path of somebody else's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("kind", [str, Path, anyio.Path, Place])
async def test_the_folder_may_be_any_path_like_object(
    kind: Callable[[Path], str | PathLike[str]], tmp_path: Path
) -> None:
    async with client_of(service()) as ruxa:
        made = await ruxa.generate(request())
        (path,) = await made.save(kind(tmp_path / "new"))
        assert path == tmp_path / "new" / "cat.png"
        assert path.read_bytes() == (await made.read())[0]
