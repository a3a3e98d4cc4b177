"""``batch --uploader``: the service downloads local files of rows from an S3 server, by signed URLs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from s3 import BUCKET, S3

from ruxa_async import NanoBananaEdit, ObjectStoreUploader, RuxaClient, Uploader
from ruxa_async.__main__ import main
from ruxa_async.batch import Row, folder_journal, open_rows, run_batch
from ruxa_async.emulator import EmulatorSettings, Service
from ruxa_async.requests import local_files
from ruxa_async.transports import MemoryTransport

PNG = b"\x89PNG\r\n\x1a\n"
UPLOADS = f"s3://{BUCKET}/uploads"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        assert response.headers["Content-Type"] == "image/png"
        return bytes(response.read())


async def test_a_signed_url_leads_to_the_file_until_it_is_deleted(s3: S3) -> None:
    uploader: Uploader = ObjectStoreUploader(UPLOADS, valid_for=7200)
    url = await uploader.upload(PNG, "a b#%20é.png")
    assert "X-Amz-Expires=7200" in url
    assert fetched(url) == PNG
    await uploader.delete(url)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(url)
    assert s3.objects("uploads") == {}


@pytest.mark.parametrize("seconds", [0, -1, 8 * 86_400])
def test_a_signature_is_valid_for_at_most_seven_days(seconds: float) -> None:
    with pytest.raises(ValueError, match="seven days"):
        ObjectStoreUploader(UPLOADS, valid_for=seconds)


class Downloading:
    """A service that downloads the pictures of each create, as the real one does."""

    def __init__(self) -> None:
        self.service = Service(EmulatorSettings(epoch=0.0, public_url="http://emulator", speed=100))
        self.pictures: list[bytes] = []

    def handle(self, request: Any, now: float) -> Any:
        if request.method == "POST":
            self.pictures += map(fetched, json.loads(request.body)["input"]["image_urls"])
        return self.service.handle(request, now)


async def test_a_batch_uploads_each_file_once_and_removes_it(tmp_path: Path, s3: S3) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    there = Downloading()
    for _ in range(2):
        rows = [
            Row(n, NanoBananaEdit(prompt=f"edit {n}", image_urls=[tmp_path / "a.png"], key=f"k{n}"))
            for n in range(5)
        ]
        async with RuxaClient(
            api_key=there.service.settings.key,
            base_url="https://emulator",
            transport=MemoryTransport(there),
            journal=folder_journal(tmp_path / "out"),
            uploader=ObjectStoreUploader(UPLOADS),
        ) as client:
            summary = await run_batch(client, rows, tmp_path / "out", resume=True)
        assert summary.states == {"succeeded": 5}
    assert there.pictures == [PNG] * 5
    assert s3.objects("uploads") == {}
    assert there.service.ledger.charged == 5


def test_paths_in_rows_are_relative_to_the_input_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    source = tmp_path / "in" / "rows.jsonl"
    row = {"model": "google/nano-banana-edit", "prompt": "x", "image_urls": ["a.png", "https://a/b"]}
    video = {"model": "sora-2", "prompt": "x", "input_reference": "./a.png"}
    missing = {**row, "image_urls": ["b.png"]}
    source.write_text("".join(f"{json.dumps(each)}\n" for each in (row, video, missing)))
    table = tmp_path / "in" / "rows.csv"
    table.write_text("prompt,model,image_urls\nx,google/nano-banana-edit,a.png https://a/b\n")
    found = []
    for path in (source, table):
        with open_rows(path) as rows:
            found += list(rows)
    for each in (found[0], found[1], found[3]):
        assert each.request is not None
        assert [file.source for file in local_files(each.request)] == [tmp_path / "in" / "a.png"]
    assert "nor a local file that can be read" in str(found[2].error)


def test_the_command_uploads_local_files_and_says_how_without_an_uploader(
    tmp_path: Path, s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    source = tmp_path / "rows.csv"
    source.write_text("prompt,model,image_urls\nx,google/nano-banana-edit,a.png\n")
    command = ["batch", str(source), "--emulator", "--speed", "500", "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "--uploader s3://bucket/prefix" in capsys.readouterr().err
    assert main([*command, "--uploader", UPLOADS]) == 0
    assert s3.objects("uploads") == {}
    (line,) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert line["state"] == "succeeded"
    assert line["input"]["image_urls"][0].startswith("sha256:")
    for url, message in (("ftp://host/x", "not a place"), ("s3://no-such-bucket/x", "cannot be written to")):
        capsys.readouterr()
        assert main([*command, "--uploader", url]) == 2
        assert message in capsys.readouterr().err
