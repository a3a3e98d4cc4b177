"""A run writes a line for each row, a file for each output, and a line for each purchase."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from ruxa_async import Limits, NanoBanana, RequestValidationError, RuxaClient, Timeouts
from ruxa_async.batch import InputError, Row, Summary, run_batch
from ruxa_async.emulator import Durations, EmulatorSettings, Service, parse_fault
from ruxa_async.transports import MemoryTransport

BAD = RequestValidationError("prompt", "", "a text that is not empty is needed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(
    limits: Limits | None = None, *, seconds: float = 2.0, **settings: Any
) -> AsyncIterator[tuple[RuxaClient, Service]]:
    quick = EmulatorSettings(
        speed=50, image=Durations(seconds), epoch=0.0, public_url="http://emulator", **settings
    )
    service = Service(quick)
    async with RuxaClient(
        api_key=quick.key,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        limits=limits or Limits(),
        timeouts=Timeouts(create_drain=0.2),
    ) as client:
        yield client, service


def rows(number: int) -> list[Row]:
    return [Row(n + 2, NanoBanana(prompt=f"prompt {n}", key=f"k{n}")) for n in range(number)]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


async def test_every_row_gets_its_line_and_picture(tmp_path: Path) -> None:
    async with opened() as (client, service):
        summary = await run_batch(client, rows(30), tmp_path / "out")
    written = lines(tmp_path / "out")
    assert (summary.done, summary.failed, summary.files) == (30, 0, 30)
    assert sorted(line["index"] for line in written) == list(range(30))
    for line in written:
        assert (line["line"], line["key"]) == (line["index"] + 2, f"k{line['index']}")
        assert line["prompt"] == f"prompt {line['index']}"
        assert line["state"] == "succeeded"
        assert line["model"] == "google/nano-banana"
        assert line["queries"] >= 1
        assert line["files"] == [f"k{line['index']}.png"]
        assert (tmp_path / "out" / line["files"][0]).read_bytes()[:4] == b"\x89PNG"
    assert service.ledger.charged == 30
    assert service.ledger.duplicates() == []
    assert len(list((tmp_path / "out").iterdir())) == 31


async def test_a_line_holds_the_input_and_describes_each_file(tmp_path: Path) -> None:
    request = NanoBanana(prompt="a cat", aspect_ratio="16:9", key="cat", extra={"mood": "calm"})
    async with opened(outputs=2) as (client, _):
        await run_batch(client, [Row(1, request)], tmp_path)
    (line,) = lines(tmp_path)
    assert line["input"] == request.input() == {"prompt": "a cat", "aspect_ratio": "16:9", "mood": "calm"}
    assert line["files"] == ["cat-1.png", "cat-2.png"]
    for name, output in zip(line["files"], line["outputs"], strict=True):
        content = (tmp_path / name).read_bytes()
        assert output == {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "type": "image/png",
            "width": 8,
            "height": 8,
        }


async def test_files_without_a_key_are_named_by_their_row_and_prompt(tmp_path: Path) -> None:
    prompts = ["A cat", "../../up\0", "A cat", "猫"]
    source = [Row(place, NanoBanana(prompt=prompt)) for place, prompt in enumerate(prompts, 1)]
    async with opened() as (client, _):
        await run_batch(client, [Row(0, error=BAD), *source, *rows(1)], tmp_path)
    named = {name for line in lines(tmp_path) for name in line["files"]}
    assert named == {"0001-a-cat.png", "0002-up.png", "0003-a-cat.png", "0004-猫.png", "k0.png"}
    assert named < {path.name for path in tmp_path.iterdir()}


async def test_a_batch_names_its_files_by_a_template_with_the_row(tmp_path: Path) -> None:
    async with opened(outputs=2) as (client, _):
        await run_batch(client, rows(2), tmp_path, name="{n}-{index:02}")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        f"{n}-0{row}.png" for n in (1, 2) for row in (0, 1)
    ]


async def test_a_bad_row_gets_a_line_and_the_others_are_submitted(tmp_path: Path) -> None:
    source = [*rows(2), Row(9, error=BAD), *rows(1)]
    async with opened() as (client, _):
        summary = await run_batch(client, source, tmp_path)
    assert summary.states == Counter(succeeded=3, invalid=1)
    (bad,) = [line for line in lines(tmp_path) if line["state"] == "invalid"]
    assert (bad["index"], bad["line"], bad["task_id"]) == (2, 9, None)
    assert bad["error"] == {"type": "RequestValidationError", "message": str(BAD), "field": "prompt"}


async def test_strict_submits_nothing_from_the_first_bad_row_on(tmp_path: Path) -> None:
    source = [*rows(2), Row(4, error=BAD), Row(5, error=BAD), *rows(5)]
    async with opened() as (client, service):
        summary = await run_batch(client, source, tmp_path, strict=True)
    assert summary.refused == Row(4, error=BAD)
    assert summary.states == Counter(succeeded=2, invalid=1)
    assert service.ledger.charged == 2


async def test_folder_with_results_is_refused_before_anything_is_bought(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("mine")
    async with opened() as (client, service):
        with pytest.raises(InputError, match="is there already"):
            await run_batch(client, rows(1), tmp_path)
    assert service.ledger.charged == 0
    assert (tmp_path / "results.jsonl").read_text() == "mine"


async def test_failed_generations_say_why(tmp_path: Path) -> None:
    async with opened(fail_share=1.0, fail_code="422", fail_message="no") as (client, _):
        summary = await run_batch(client, rows(2), tmp_path)
    assert {line["state"] for line in lines(tmp_path)} == {"failed"}
    error = lines(tmp_path)[0]["error"]
    assert (error["type"], error["fail_code"], error["fail_message"]) == ("TaskFailedError", "422", "no")
    assert summary.kinds == {"generation failed: 422 no": 2}


async def test_a_failed_download_keeps_its_url(tmp_path: Path) -> None:
    async with opened(faults=[parse_fault("error:file:status=400:nth=1")]) as (client, _):
        summary = await run_batch(client, rows(3), tmp_path)
    assert summary.states == Counter(succeeded=2, download_failed=1)
    (lost,) = [line for line in lines(tmp_path) if line["state"] == "download_failed"]
    assert lost["error"]["type"] == "DownloadError"
    assert lost["task_id"]
    assert lost["urls"][0].startswith("http")


async def test_create_of_unknown_outcome_is_called_unknown(tmp_path: Path) -> None:
    async with opened(faults=[parse_fault("reset_after:create:nth=2")]) as (client, service):
        summary = await run_batch(client, rows(4), tmp_path)
    assert summary.states == Counter(succeeded=3, unknown=1)
    assert service.ledger.charged == 4


async def test_an_empty_account_halts_the_run_and_running_tasks_are_delivered(tmp_path: Path) -> None:
    async with opened(Limits(max_in_flight=4), credits=9, seconds=5.0) as (client, service):
        summary = await run_batch(client, rows(50), tmp_path)
    assert summary.halted is not None
    assert summary.states["succeeded"] == 3
    assert summary.states["failed"] >= 1
    assert service.ledger.charged == 3
    assert summary.files == 3


@pytest.mark.parametrize("turns", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15])
async def test_a_cancelled_run_writes_a_line_for_each_purchase(tmp_path: Path, turns: float) -> None:
    summary = Summary(folder=tmp_path)
    async with opened(Limits(max_in_flight=8), latency=0.5) as (client, service):
        with anyio.move_on_after(turns) as scope:
            await run_batch(client, rows(200), tmp_path, summary=summary)
        assert scope.cancelled_caught
    written = lines(tmp_path) if (tmp_path / "results.jsonl").exists() else []
    unseen = service.ledger.missing(line["task_id"] for line in written)
    unknown = {line["prompt"] for line in written if line["state"] == "unknown"}
    assert {purchase.input["prompt"] for purchase in unseen} <= unknown
    assert len({line["index"] for line in written}) == len(written) == summary.done
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


async def test_endless_input_is_read_only_as_far_as_the_window(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[Row]:
        nonlocal read
        for read in count(1):
            yield Row(read, NanoBanana(prompt="again and again", key=f"k{read}"))

    summary = Summary(folder=tmp_path)

    async with opened(Limits(max_in_flight=5)) as (client, _), anyio.create_task_group() as tg:
        tg.start_soon(lambda: run_batch(client, endless(), tmp_path, pulled=1, summary=summary))
        while summary.done < 30:
            await anyio.sleep(0.01)
        assert read <= summary.done + 2 * 5 + 8 + 2
        tg.cancel_scope.cancel()


async def test_an_error_of_the_input_ends_the_run_and_is_raised(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield from rows(2)
        raise InputError("the disk is gone")

    async with opened() as (client, service):
        with pytest.raises(InputError, match="the disk is gone"):
            await run_batch(client, broken(), tmp_path)
        assert service.ledger.charged <= 2


async def test_input_that_never_delivers_does_not_delay_a_cancellation(tmp_path: Path) -> None:
    import threading

    never = threading.Event()

    def silent() -> Iterator[Row]:
        yield from rows(1)
        never.wait()

    summary = Summary(folder=tmp_path)
    async with opened() as (client, _), anyio.create_task_group() as tg:
        tg.start_soon(lambda: run_batch(client, silent(), tmp_path, pulled=1, summary=summary))
        while not summary.done:
            await anyio.sleep(0.01)
        tg.cancel_scope.cancel()  # the thread still waits for the second row
    never.set()
    assert [line["state"] for line in lines(tmp_path)] == ["succeeded"]
