"""``batch --store``: outputs go to an S3 server, over HTTP, through a proxy that loses requests and responses.

RUXA_LONG=1 saves a thousand outputs instead of a hundred; `--log-cli-level=INFO` shows the figures.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from s3 import BUCKET, S3, FaultyProxy

from ruxa_async import Generation, Limits, NanoBanana, RuxaClient, Timeouts
from ruxa_async.__main__ import main
from ruxa_async.batch import InputError, Row, Summary, folder_journal, run_batch
from ruxa_async.downloads import ObjectStore, OutputDownloader
from ruxa_async.emulator import Durations, EmulatorSettings, Service
from ruxa_async.report import write_report
from ruxa_async.transports import MemoryTransport

OUTPUTS = 1_000 if os.environ.get("RUXA_LONG") else 100
#: The share of the requests to the store that are spoilt.
SHARE = 0.3

logger = logging.getLogger(__name__)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def service_of(**settings: Any) -> Service:
    settings.setdefault("image", Durations(0.05))
    return Service(EmulatorSettings(epoch=0.0, public_url="http://emulator", **settings))


@asynccontextmanager
async def opened(out: Path, service: Service) -> AsyncIterator[RuxaClient]:
    async with RuxaClient(
        api_key=service.settings.key,
        base_url="https://emulator",
        transport=MemoryTransport(service),
        timeouts=Timeouts(create_drain=0.2),
        limits=Limits(max_in_flight=100),
        journal=folder_journal(out),
    ) as client:
        yield client


def rows(count: int) -> list[Row]:
    return [Row(n + 1, NanoBanana(prompt=f"prompt {n}", key=f"k{n}")) for n in range(count)]


async def run(out: Path, service: Service, count: int, store: str, **options: Any) -> Summary:
    async with opened(out, service) as client:
        return await run_batch(client, rows(count), out, resume=True, store=store, **options)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


async def originals(service: Service, written: list[dict[str, Any]]) -> dict[str, str]:
    """Return the SHA-256 of each output as the service serves it, by the URL of its object."""
    digests = {}
    async with OutputDownloader(
        transport=MemoryTransport(service), base_url="https://emulator"
    ) as downloader:
        for line in written:
            made = Generation(task_id=line["task_id"], model=None, urls=tuple(line["urls"]))
            contents = await downloader.read(made)
            for url, content in zip(line["files"], contents, strict=True):
                digests[url] = hashlib.sha256(content).hexdigest()
    return digests


async def check(out: Path, service: Service, server: S3, prefix: str, count: int) -> None:
    """Insist that each output is whole, once in the store, and named by its line and by the journal."""
    written = lines(out)
    assert [line["error"] for line in written if line["error"]] == []
    assert Counter(line["state"] for line in written) == {"succeeded": count}
    root = f"s3://{BUCKET}/{prefix}/"
    stored = server.objects(prefix)
    digests = {root + name: hashlib.sha256(content).hexdigest() for name, content in stored.items()}
    assert digests == await originals(service, written)
    assert sorted(digests) == sorted(root + f"k{n}.png" for n in range(count))
    described = {
        url: each for line in written for url, each in zip(line["files"], line["outputs"], strict=True)
    }
    assert {url: each["sha256"] for url, each in described.items()} == digests
    assert {url: each["bytes"] for url, each in described.items()} == {
        root + name: len(content) for name, content in stored.items()
    }
    assert all((each["type"], each["width"]) == ("image/png", 8) for each in described.values())
    with sqlite3.connect(out / "journal.sqlite") as journal:
        saved = dict(journal.execute("SELECT name, sha256 FROM files"))
    journal.close()
    assert saved == digests
    assert [path.name for path in out.iterdir() if path.suffix == ".png"] == []
    assert service.ledger.charged == count
    assert service.ledger.duplicates() == []


@pytest.mark.timeout(900)
async def test_outputs_are_whole_and_stored_once_under_resets_and_503s(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of()
    with FaultyProxy.before(s3, SHARE) as proxy:
        S3(proxy.url).use(monkeypatch)
        began = time.monotonic()
        summary = await run(tmp_path, service, OUTPUTS, f"s3://{BUCKET}/faults")
        seconds = time.monotonic() - began
        faults, created = proxy.faults.copy(), proxy.created.copy()
    assert (summary.files, summary.failed) == (OUTPUTS, 0)
    await check(tmp_path, service, s3, "faults", OUTPUTS)
    made = {path: count for path, count in created.items() if ".ruxa-" not in path}
    assert len(made) == OUTPUTS
    assert set(made.values()) == {1}
    assert all(faults[name] > OUTPUTS / 50 for name in ("reset before", "reset after", "cut", "503"))
    logger.info("%d outputs in %.1f s, faults: %s", OUTPUTS, seconds, dict(faults))


async def test_an_interrupted_run_is_resumed_and_stores_nothing_twice(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of()
    store = f"s3://{BUCKET}/resumed"
    with FaultyProxy.before(s3, SHARE) as proxy:
        S3(proxy.url).use(monkeypatch)
        for _ in range(4):
            with anyio.move_on_after(1.0):
                await run(tmp_path, service, 40, store)
        await run(tmp_path, service, 40, store)
        created = proxy.created.copy()
    await check(tmp_path, service, s3, "resumed", 40)
    assert {count for path, count in created.items() if ".ruxa-" not in path} == {1}
    before = (tmp_path / "results.jsonl").read_bytes()
    with FaultyProxy.before(s3, 0.0) as proxy:
        S3(proxy.url).use(monkeypatch)
        summary = await run(tmp_path, service, 40, store)
        assert [path for path in proxy.created if ".ruxa-" not in path] == []
    assert (summary.resumed.finished, summary.resumed.fetched) == (40, 0)
    assert (tmp_path / "results.jsonl").read_bytes() == before


async def test_a_removed_object_is_stored_again_and_a_different_one_stays(tmp_path: Path, s3: S3) -> None:
    import obstore
    from obstore.store import from_url

    service = service_of()
    url = f"s3://{BUCKET}/changed"
    store = from_url(url)
    obstore.put(store, "k0.png", b"yours")
    await run(tmp_path, service, 3, url)
    assert s3.objects("changed")["k0.png"] == b"yours"
    (other,) = (name for name in s3.objects("changed") if name.startswith("k0~"))
    obstore.delete(store, "k1.png")
    (tmp_path / "results.jsonl").unlink()
    summary = await run(tmp_path, service, 3, url)
    assert summary.resumed.fetched == 1
    assert sorted(s3.objects("changed")) == ["k0.png", other, "k1.png", "k2.png"]
    assert {file for line in lines(tmp_path) for file in line["files"]} == {
        f"{url}/{name}" for name in (other, "k1.png", "k2.png")
    }
    # What was kept is described as before, from the object itself.
    assert {(each["type"], each["width"]) for line in lines(tmp_path) for each in line["outputs"]} == {
        ("image/png", 8)
    }


async def test_the_report_names_the_places(tmp_path: Path, s3: S3) -> None:
    await run(tmp_path, service_of(), 2, f"s3://{BUCKET}/report")
    page = write_report(tmp_path).read_text()
    items = json.loads(
        page.partition('type="application/json"')[2].partition(">")[2].partition("</script>")[0]
    )["items"]
    assert sorted(item["media"][0]["path"] for item in items) == [
        f"s3://{BUCKET}/report/k{n}.png" for n in range(2)
    ]
    assert all({"kind": "other"}.items() <= item["media"][0].items() for item in items)
    assert all("src" not in item["media"][0] and item["media"][0]["size"] for item in items)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x cannot be written to: .*404"),
        ("ftp://host/x", "not a place for outputs"),
        ("out", "is a folder"),
    ],
)
async def test_a_store_that_cannot_be_used_ends_the_run_before_anything_is_bought(
    tmp_path: Path, s3: S3, store: str, message: str
) -> None:
    service = service_of()
    with pytest.raises(InputError, match=message):
        await run(tmp_path / "new", service, 2, store)
    assert service.ledger.charged == 0
    assert not (tmp_path / "new" / "results.jsonl").exists()


def test_the_command_prints_the_places_and_keeps_everything_else_in_the_folder(
    tmp_path: Path, s3: S3, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out, url = tmp_path / "out", f"s3://{BUCKET}/command"
    (tmp_path / "in.csv").write_text("prompt,key\na fox,fox\na cat,cat\n")
    command = ["batch", str(tmp_path / "in.csv"), "--emulator", "--speed", "500", "--paths"]
    assert main([*command, "--out", str(out), "--store", url]) == 0
    said = capfdbinary.readouterr()
    assert sorted(said.out.decode().split()) == [f"{url}/cat.png", f"{url}/fox.png"]
    assert f"2 files in {url}" in said.err.decode()
    assert sorted(s3.objects("command")) == ["cat.png", "fox.png"]
    assert sorted(path.name for path in out.iterdir() if path.suffix in (".png", ".jsonl", ".html")) == [
        "emulator.jsonl",
        "report.html",
        "results.jsonl",
        "runs.jsonl",
    ]


def test_the_command_refuses_a_store_that_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("a fox\n")
    command = ["batch", str(tmp_path / "in.txt"), "--emulator", "--out", str(tmp_path / "out")]
    assert main([*command, "--store", "ftp://host/x"]) == 2
    assert "not a place for outputs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


async def test_an_interrupted_look_at_the_store_keeps_the_lines_of_earlier_runs(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = service_of(), f"s3://{BUCKET}/looked"
    await run(tmp_path, service, 3, url)
    before = lines(tmp_path)

    async def stalled(*_: object) -> dict[int, Path]:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(ObjectStore, "kept", stalled)
    with anyio.move_on_after(1.0):
        await run(tmp_path, service, 3, url)
    assert lines(tmp_path) == before
    (tmp_path / "results.jsonl").unlink()
    with anyio.move_on_after(1.0):
        await run(tmp_path, service, 3, url)
    assert [line["state"] for line in lines(tmp_path)] == ["download_failed"] * 3
    monkeypatch.undo()
    s3.use(monkeypatch)
    await run(tmp_path, service, 3, url)
    assert sorted(line["files"] for line in lines(tmp_path)) == sorted(line["files"] for line in before)
