"""Local files of requests are uploaded once, before the request is queued, and removed when its task has ended."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import client_of, service_of, sync_client_of

from ruxa_async import (
    ClientClosedError,
    CustomRequest,
    Failed,
    InsufficientCreditsError,
    LocalFile,
    NanoBanana,
    NanoBananaEdit,
    RequestValidationError,
    SqliteJournal,
    SubmissionUnknownError,
    Succeeded,
    TaskFailedError,
    UploadError,
)
from ruxa_async.emulator import Service, parse_fault

PNG = b"\x89PNG\r\n\x1a\n"


class Files:
    """An uploader that keeps what it holds, and what it was asked to do."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.held: dict[str, bytes] = {}
        self.uploads: list[bytes] = []
        self.seconds = seconds
        self.error = error

    async def upload(self, content: bytes, name: str) -> str:
        self.uploads.append(content)
        await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        url = f"https://files.example/{name}?signature=secret"
        self.held[url] = content
        return url

    async def delete(self, url: str) -> None:
        del self.held[url]


class Watched:
    """A service in memory whose creates are kept, with the files that were there when each was sent."""

    def __init__(self, files: Files, **settings: Any) -> None:
        self.service: Service = service_of(**settings)
        self.creates: list[dict[str, Any]] = []
        self._files = files

    def handle(self, request: Any, now: float) -> Any:
        if request.method == "POST":
            given = json.loads(request.body)["input"]
            self.creates.append(given)
            links = [*given.get("image_urls", []), *given.get("image_input", [])]
            assert all(link in self._files.held for link in links if "files.example" in link)
        return self.service.handle(request, now)


def edit(*images: Any, prompt: str = "edit it", **fields: Any) -> NanoBananaEdit:
    return NanoBananaEdit(prompt=prompt, image_urls=images, **fields)


async def test_a_local_file_is_sent_as_a_url_and_removed_when_its_task_has_ended(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    files = Files()
    there = Watched(files)
    async with client_of(there, uploader=files) as ruxa:
        made = await ruxa.generate(
            edit(str(tmp_path / "a.png"), tmp_path / "a.png", PNG + b"!", "https://a/b")
        )
        assert isinstance(made.request, NanoBananaEdit)
        assert isinstance(made.request.image_urls[0], LocalFile)
        await anyio.sleep(0.1)
        assert files.held == {}
    (sent,) = there.creates
    first, same, other, url = sent["image_urls"]
    assert first == same != other
    assert first.startswith("https://files.example/")
    assert first.partition("?")[0].endswith(".png")
    assert url == "https://a/b"
    assert files.uploads == [PNG, PNG + b"!"]


async def test_requests_that_run_at_once_share_an_upload_and_retries_reuse_it() -> None:
    files = Files(seconds=1.0)
    there = Watched(files, faults=[parse_fault("refused:create:nth=2"), parse_fault("refused:create:nth=3")])
    async with client_of(there, uploader=files) as ruxa:
        requests = [edit(PNG, prompt=f"edit {n}") for n in range(5)]
        async with ruxa.as_completed(requests) as outcomes:
            assert all([outcome.ok async for outcome in outcomes])
        await anyio.sleep(0.1)
    assert files.uploads == [PNG]
    assert files.held == {}
    assert len(there.creates) == 7


async def test_an_upload_delays_no_other_create_and_holds_no_slot() -> None:
    files = Files(seconds=100.0)
    there = Watched(files)
    async with client_of(there, uploader=files) as ruxa:
        requests = [edit(PNG), *(NanoBanana(prompt=f"{n}") for n in range(3))]
        order = []
        async with ruxa.as_completed(requests) as outcomes:
            began = anyio.current_time()
            async for outcome in outcomes:
                order.append((outcome.index, anyio.current_time() - began))
                assert ruxa.stats().in_flight <= 3
    assert [index for index, _ in order][-1] == 0
    assert [seconds < 50 for _, seconds in order] == [True, True, True, False]


async def test_without_an_uploader_the_error_names_it_and_nothing_is_recorded_or_sent(tmp_path: Path) -> None:
    there = Watched(Files())
    async with client_of(there, journal=SqliteJournal(tmp_path / "journal")) as ruxa:
        with pytest.raises(RequestValidationError, match=r"uploader=ObjectStoreUploader"):
            await ruxa.submit(edit(PNG))
        async with ruxa.as_completed([edit(PNG), NanoBanana(prompt="x")], resume="run") as outcomes:
            ended = {outcome.index: outcome async for outcome in outcomes}
    assert isinstance(ended[0], Failed)
    assert isinstance(ended[0].error, RequestValidationError)
    assert isinstance(ended[1], Succeeded)
    async with SqliteJournal(tmp_path / "journal") as journal:
        assert (await journal.counts()).total == 1
    assert there.service.ledger.charged == len(there.creates) == 1


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("a bug")])
async def test_a_failed_upload_buys_nothing_and_the_next_try_uploads_again(error: Exception) -> None:
    files = Files(error=error)
    there = Watched(files)
    async with client_of(there, uploader=files) as ruxa:
        with pytest.raises(UploadError, match=f"nothing was bought: {error}"):
            await ruxa.generate(edit(PNG))
        assert there.creates == []
        files.error = None
        await ruxa.generate(edit(PNG))
    assert files.uploads == [PNG, PNG]
    assert files.held == {}


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"", b'{"token": "secret"}'])
async def test_only_pictures_videos_and_sounds_are_uploaded(content: bytes) -> None:
    files = Files()
    async with client_of(Watched(files), uploader=files) as ruxa:
        with pytest.raises(UploadError, match="not a picture"):
            await ruxa.generate(edit(content))
    assert files.uploads == []


async def test_a_resumed_run_uploads_and_buys_nothing_again_by_whatever_path(tmp_path: Path) -> None:
    files = Files()
    there = Watched(files)
    for name in ("a.png", "moved.png"):
        path = tmp_path / name
        path.write_bytes(PNG)
        journal = SqliteJournal(tmp_path / "journal")
        async with (
            client_of(there, uploader=files, journal=journal) as ruxa,
            ruxa.as_completed([edit(path)], resume="run") as outcomes,
        ):
            assert [outcome.ok async for outcome in outcomes] == [True]
        path.unlink()
    assert files.uploads == [PNG]
    assert there.service.ledger.charged == 1
    recorded = (tmp_path / "journal").read_bytes()
    assert f'["{LocalFile(PNG)}"]'.encode() in recorded
    assert b"files.example" not in recorded


async def test_a_caller_that_leaves_during_the_upload_buys_nothing_and_its_file_is_removed() -> None:
    files = Files(seconds=5.0)
    there = Watched(files)
    async with client_of(there, uploader=files) as ruxa:
        with anyio.move_on_after(1.0):
            await ruxa.submit(edit(PNG))
        async with ruxa.as_completed([edit(PNG + b"!")]) as outcomes:
            await anyio.sleep(1.0)
        assert len(outcomes.unsubmitted) == 1
        await anyio.sleep(20.0)
        assert files.held == {}
    assert there.creates == []
    assert len(files.uploads) == 2


async def test_a_client_that_closes_during_the_upload_buys_nothing() -> None:
    files = Files(seconds=5.0)
    there = Watched(files)
    errors: list[Exception] = []

    async def buy() -> None:
        try:
            await ruxa.submit(edit(PNG))
        except ClientClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as tg, client_of(there, uploader=files) as ruxa:
        tg.start_soon(buy)
        await anyio.sleep(1.0)
    assert len(errors) == 1
    assert there.creates == []
    assert files.held == {}


async def test_the_file_of_a_task_that_may_still_run_stays() -> None:
    files = Files()
    there = Watched(files, faults=[parse_fault("reset_after:create:nth=1")])
    async with client_of(there, uploader=files) as ruxa:
        with pytest.raises(SubmissionUnknownError):
            await ruxa.generate(edit(PNG))
        with anyio.move_on_after(5.0):
            await ruxa.generate(edit(PNG + b"!"))
        assert len(ruxa.orphans) == 1
    assert sorted(files.held.values()) == [PNG, PNG + b"!"]


async def test_the_file_of_a_failed_or_refused_task_is_removed() -> None:
    files = Files()
    there = Watched(files, fail_share=1.0)
    async with client_of(there, uploader=files) as ruxa:
        with pytest.raises(TaskFailedError):
            await ruxa.generate(edit(PNG))
    assert files.held == {}
    there = Watched(files, credits=0)
    async with client_of(there, uploader=files) as ruxa:
        with pytest.raises(InsufficientCreditsError):
            await ruxa.generate(edit(PNG))
    assert files.held == {}


async def test_a_file_that_cannot_be_removed_is_logged_without_its_signature(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(Files):
        async def delete(self, url: str) -> None:
            raise OSError("denied")

    files = Stubborn()
    with caplog.at_level(logging.WARNING, "ruxa_async"):
        async with client_of(Watched(files), uploader=files) as ruxa:
            await ruxa.generate(edit(PNG))
    assert "an uploaded file stays at https://files.example/" in caplog.text
    assert "denied" in caplog.text
    assert "secret" not in caplog.text


async def test_a_custom_request_takes_local_files_too() -> None:
    files = Files()
    there = Watched(files)
    async with client_of(there, uploader=files) as ruxa:
        given = {"prompt": "x", "mask": LocalFile(PNG)}
        await ruxa.generate(CustomRequest(model="some/model", input=given))
    assert there.creates[0]["mask"].startswith("https://files.example/")


def test_the_client_without_async_uploads_too() -> None:
    files = Files()
    there = Watched(files)
    with sync_client_of(there, uploader=files) as ruxa:
        task = ruxa.submit(edit(PNG))
        assert len(files.held) == 1
        assert task.task_id
    assert there.creates[0]["image_urls"][0].startswith("https://files.example/")
