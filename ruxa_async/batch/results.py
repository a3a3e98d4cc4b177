"""Outcomes to ``results.jsonl``, one line a row, durable soon after they are known; docs/results.md describes them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeAlias

import anyio
from anyio import to_thread
from attrs import asdict, define, field

from ruxa_async._files import sync_folder
from ruxa_async.errors import (
    APIError,
    DownloadError,
    PollingStoppedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
)
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Failed, JobRecord, Outcome

from .records import InputError

__all__ = ("RESULTS", "Result", "ResultsFile", "State")

#: What the file is called.
RESULTS = "results.jsonl"

State: TypeAlias = Literal["succeeded", "failed", "download_failed", "unfinished", "unknown", "invalid"]


@define(kw_only=True)
class Result:
    """One line of the file. *index* counts all rows from 0, *line* is where the row begins in the input, from 1."""

    v: int = 1
    index: int
    line: int
    key: str | None = None
    model: str | None = None
    prompt: str | None = None
    task_id: str | None = None
    state: State
    files: list[str] = field(factory=list)
    urls: list[str] = field(factory=list)
    error: dict[str, Any] | None = None
    credits: float | None = None
    duration: float | None = None
    queries: int = 0
    submitted_at: float | None = None
    finished_at: float | None = None

    @classmethod
    def of_outcome(cls, outcome: Outcome, *, index: int, line: int) -> Result:
        """Describe what became of a request; a success has no files yet."""
        result = cls(
            index=index,
            line=line,
            state="succeeded",
            task_id=outcome.task_id,
            queries=outcome.queries,
            submitted_at=_rounded(outcome.submitted_at),
            finished_at=_rounded(outcome.finished_at),
        )
        result.describe(outcome.request, outcome.key)
        if isinstance(outcome, Failed):
            result.state = _state_of(outcome.error)
            result.error = describe_error(outcome.error)
        else:
            result.urls = list(outcome.generation.urls)
            result.credits = outcome.generation.credits
            result.duration = outcome.generation.duration
        return result

    @classmethod
    def of_job(cls, job: JobRecord, state: State, *, index: int, line: int) -> Result:
        """Describe a purchase whose end was not seen."""
        result = cls(index=index, line=line, state=state, task_id=job.task_id, model=job.model)
        result.describe(job.request, job.key)
        result.error = None if job.error is None else describe_error(job.error)
        return result

    def describe(self, request: GenerationRequest | None, key: str | None = None) -> None:
        """Say what was asked for."""
        self.key = key
        if request is not None:
            prompt = request.input().get("prompt")
            self.key = key or request.key
            self.model = request.model
            self.prompt = prompt if isinstance(prompt, str) else None

    def encoded(self) -> bytes:
        """Return the line with its end."""
        return json.dumps(asdict(self), ensure_ascii=False, default=str).encode(errors="replace") + b"\n"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _state_of(error: Exception) -> State:
    if isinstance(error, SubmissionUnknownError):
        return "unknown"
    if isinstance(error, (PollingStoppedError, TaskTimeout)):
        return "unfinished"
    return "failed"


_DETAILS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (APIError, ("status", "code")),
    (TaskFailedError, ("fail_code", "fail_message")),
    (RequestValidationError, ("field",)),
    (DownloadError, ("url",)),
)


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return what a program may want to know of *error*."""
    described: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for kind, names in _DETAILS:
        if isinstance(error, kind):
            described |= {name: getattr(error, name) for name in names}
    if error.__cause__ is not None and str(error.__cause__) not in described["message"]:
        described["cause"] = f"{type(error.__cause__).__name__}: {error.__cause__}"
    return described


class ResultsFile:
    """The results of one run, in *folder*, which must not hold any yet.

    `add` only remembers; `flush` writes and syncs everything that was added by anybody, so that many outcomes at
    once cost one sync.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._pending: list[bytes] = []
        self._lock = anyio.Lock()
        self._file: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._file = await to_thread.run_sync(self._create)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self.flush()
            finally:
                assert self._file is not None
                await to_thread.run_sync(self._file.close)

    def add(self, result: Result) -> None:
        """Remember *result* for the next flush."""
        self._pending.append(result.encoded())

    async def flush(self) -> None:
        """Return when everything added so far is on the disk."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._pending:
                    lines = b"".join(self._pending)
                    self._pending.clear()
                    await to_thread.run_sync(self._append, lines)

    def _create(self) -> IO[bytes]:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = self.path.open("xb", buffering=0)
        except FileExistsError as error:
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder: give another --out") from error
            raise InputError(
                f"{self.path} is there already: a run never mixes with another, so give another --out "
                "(or move the folder away)"
            ) from error
        except OSError as error:
            raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from error
        sync_folder(folder)
        return file

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        view = memoryview(lines)
        while view:
            view = view[self._file.write(view) or 0 :]
        os.fsync(self._file.fileno())


def kind_of(described: Mapping[str, Any] | None, state: State) -> str:
    """Return a few words that sum up failures of one kind."""
    if state == "invalid":
        return "bad row"
    if state == "download_failed":
        return "not downloaded"
    if described is None:
        return state
    if described["type"] == "TaskFailedError":
        said = " ".join(part for part in (described["fail_code"], described["fail_message"]) if part)
        return f"generation failed: {said[:80]}" if said else "generation failed"
    if "status" in described:
        return f"refused: {described['message'][:80]}"
    words = {"unknown": "unknown, perhaps charged", "unfinished": "paid, end not seen"}
    return f"{words.get(state, state)}: {described['type']}"
