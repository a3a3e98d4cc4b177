"""Result lines have their fields, and are durable after a flush."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import anyio
import pytest

from ruxa_async import (
    DownloadError,
    Failed,
    InvalidRequestError,
    MaybeSentError,
    NanoBanana,
    PollingStoppedError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
)
from ruxa_async.batch import InputError, ResultsFile
from ruxa_async.batch._result_line import Result, State, describe_error, kind_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TaskFailedError("t", "1", "no"), "failed"),
        (InvalidRequestError(422, 422, "no"), "failed"),
        (SubmissionUnknownError("who knows"), "unknown"),
        (PollingStoppedError("t", "gave up"), "unfinished"),
        (TaskTimeout("t", 5), "unfinished"),
    ],
)
def test_state_follows_from_the_error(error: Exception, state: State) -> None:
    request = NanoBanana(prompt="p")
    outcome = Failed(
        index=0,
        key=None,
        request=request,
        task_id="t",
        error=error,
        queries=1,
        submitted_at=1.23456,
        finished_at=2,
    )
    result = Result.of_outcome(outcome, index=3, line=7)
    assert (result.state, result.index, result.line, result.submitted_at) == (state, 3, 7, 1.235)


def test_a_reason_is_not_cut_off_within_a_word() -> None:
    long = "this prompt breaks the rules of the service, which says so at some length, " * 3
    refused = {"type": "APIError", "status": 422, "code": 422, "message": long}
    assert kind_of(refused, "failed") == f"refused: {long.strip()}"
    cut = kind_of({**refused, "message": long * 9}, "failed")
    assert cut.endswith(" …")
    assert (" ".join((long * 9).split()) + " ").startswith(cut.removeprefix("refused: ").removesuffix("…"))
    failed = {"type": "TaskFailedError", "message": "", "fail_code": "500", "fail_message": "x" * 999}
    assert kind_of(failed, "failed") == "generation failed: 500 …"
    assert len(kind_of({**failed, "fail_code": ""}, "failed")) < 330


def test_errors_are_described_with_details_and_cause() -> None:
    error = SubmissionUnknownError("who knows")
    error.__cause__ = MaybeSentError("reset")
    assert describe_error(error)["cause"] == "MaybeSentError: reset"
    assert describe_error(DownloadError("http://h/a", "gone"))["url"] == "http://h/a"
    assert describe_error(InvalidRequestError(400, 422, "no"))["code"] == 422


async def test_lines_of_concurrent_writers_are_whole(tmp_path: Path) -> None:
    async with ResultsFile(tmp_path) as results:

        async def write(number: int) -> None:
            results.add(Result(index=number, line=number, state="failed", prompt="ü\n" * number))
            await results.flush()

        async with anyio.create_task_group() as tg:
            for number in range(50):
                tg.start_soon(write, number)
    written = [json.loads(line) for line in results.path.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["index"] for line in written) == list(range(50))
    assert all(line["prompt"] == "ü\n" * line["index"] for line in written)
    assert all(line["v"] == 1 for line in written)


async def test_lines_not_flushed_are_written_on_leaving_even_when_cancelled(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with ResultsFile(tmp_path) as results:
            results.add(Result(index=0, line=1, state="unfinished"))
            scope.cancel()
            await anyio.sleep(0)
    assert json.loads(results.path.read_text())["state"] == "unfinished"


async def test_a_file_in_place_of_the_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="out"):
        async with ResultsFile(tmp_path / "out"):
            pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
async def test_the_error_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    async with ResultsFile(tmp_path) as results:
        assert results._file is not None
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), results._file.fileno())
        results.add(Result(index=0, line=1, state="failed"))
        with pytest.raises(OSError, match=r"No space left.*results\.jsonl") as caught:
            await results.flush()
    assert caught.value.errno == errno.ENOSPC
