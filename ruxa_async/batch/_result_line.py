"""One line of ``results.jsonl``: the outcome of one row. docs/results.md describes its fields."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from attrs import asdict, define, field

from ruxa_async._portable import describe_error as describe_all
from ruxa_async.downloads import HEAD, content_type, dimensions
from ruxa_async.errors import APIError, DownloadError, RequestValidationError, TaskFailedError
from ruxa_async.journal import SavedFile
from ruxa_async.results import Failed, JobRecord, Outcome, Succeeded

__all__ = ("Result", "State", "describe_content", "describe_error", "describe_files", "kind_of")

#: Fields that are copied from `JobRecord.as_dict`, and from ``as_dict`` of an outcome.
_JOB_FIELDS = ("key", "model", "prompt", "task_id", "input")
_OUTCOME_FIELDS = (
    *_JOB_FIELDS,
    *("state", "urls", "credits", "duration", "queries", "submitted_at", "finished_at"),
)
#: Attributes of an error that its description has besides ``type`` and ``message``.
_DETAILS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (APIError, ("status", "code")),
    (TaskFailedError, ("fail_code", "fail_message")),
    (RequestValidationError, ("field",)),
    (DownloadError, ("url",)),
)
#: Characters of the service's message in the description of a kind of failure.
_MAX_KIND = 300

State: TypeAlias = Literal["succeeded", "failed", "download_failed", "unfinished", "unknown", "invalid"]


@define(kw_only=True)
class Result:
    """One line of ``results.jsonl``; docs/results.md says what each field means."""

    v: int = 1
    index: int
    line: int
    key: str | None = None
    id: str | None = None
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
    completed_at: float | None = None
    lag: float | None = None
    input: dict[str, Any] | None = None
    outputs: list[dict[str, Any]] = field(factory=list)

    @classmethod
    def of_outcome(cls, outcome: Outcome, *, index: int, line: int, id: str | None = None) -> Result:  # noqa: A002 - the field
        """Return the line of *outcome*; that of a success has no files yet."""
        values = outcome.as_dict()
        result = cls(index=index, line=line, id=id, **{name: values[name] for name in _OUTCOME_FIELDS})
        if isinstance(outcome, Failed):
            result.error = describe_error(outcome.error)
        else:
            result._set_lag(outcome)
        return result

    @classmethod
    def of_job(
        cls,
        job: JobRecord,
        state: State,
        *,
        index: int,
        line: int,
        id: str | None = None,  # noqa: A002 - the field
    ) -> Result:
        """Return the line of a purchase that is unfinished or of unknown outcome when the run ends."""
        values = job.as_dict()
        error = None if job.error is None else describe_error(job.error)
        return cls(
            index=index,
            line=line,
            id=id,
            state=state,
            error=error,
            **{name: values[name] for name in _JOB_FIELDS},
        )

    def _set_lag(self, outcome: Succeeded) -> None:
        """Set *completed_at* and *lag* if the service reports when the task was created and when it ended.

        The lag is the client's time from acceptance to the end, less the service's time from creation to the
        end. Each time is measured by one clock, so the two clocks need not agree.
        """
        from ruxa_async._api.task_status import instants  # noqa: PLC0415 - wrong usage should not wait for cattrs

        reported = instants(outcome.generation.raw)
        if reported is not None:
            created, ended = reported
            self.completed_at = round(ended, 3)
            self.lag = round(max(0.0, outcome.finished_at - outcome.submitted_at - (ended - created)), 3)

    def encoded(self) -> bytes:
        """Return the line with its line feed."""
        return json.dumps(asdict(self), ensure_ascii=False, default=str).encode(errors="replace") + b"\n"


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return the ``error`` of a line: type, message, details and the cause."""
    attributes = describe_all(error)
    details = (name for kind, names in _DETAILS if isinstance(error, kind) for name in names)
    described = {name: attributes[name] for name in ("type", "message", *details)}
    if error.__cause__ is not None and str(error.__cause__) not in described["message"]:
        described["cause"] = f"{type(error.__cause__).__name__}: {error.__cause__}"
    return described


def describe_files(paths: Iterable[Path], saved: Iterable[SavedFile] = ()) -> list[dict[str, Any]]:
    """Return the ``outputs`` of a line: one description for each of *paths*. Blocking: for worker threads.

    A file that is listed in *saved* with the same size is not hashed again.
    """
    digests = {(file.name, file.size): file.sha256 for file in saved}
    return [_describe_file(path, digests) for path in paths]


def _describe_file(path: Path, digests: dict[tuple[str, int], str]) -> dict[str, Any]:
    with (
        suppress(OSError),
        path.open("rb") as file,
    ):  # removed or unreadable: the outcome does not depend on it
        return describe_content(file, digests.get((path.name, path.stat().st_size)))
    return {"bytes": None, "sha256": None, "type": None, "width": None, "height": None}


def describe_content(file: IO[bytes], digest: str | None = None) -> dict[str, Any]:
    """Return the description of the seekable *file*, whose SHA-256 is *digest* if that is known. Blocking."""
    width, height = dimensions(file) or (None, None)
    file.seek(0)
    kind = content_type(file.read(HEAD))
    if digest is None:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # IO lacks a mixin
    size = file.seek(0, os.SEEK_END)
    return {"bytes": size, "sha256": digest, "type": kind, "width": width, "height": height}


def kind_of(error: Mapping[str, Any] | None, state: State) -> str:
    """Return a few words by which failures of the same kind are counted together."""
    if state == "invalid":
        return "bad row"
    if state == "download_failed":
        return "not downloaded"
    if error is None:
        return state
    if error["type"] == "TaskFailedError":
        reason = " ".join(part for part in (error["fail_code"], error["fail_message"]) if part)
        return f"generation failed: {_bounded(reason)}" if reason else "generation failed"
    if "status" in error:
        return f"refused: {_bounded(error['message'])}"
    words = {"unknown": "unknown, perhaps charged", "unfinished": "paid, end not seen"}
    return f"{words.get(state, state)}: {error['type']}"


def _bounded(text: str) -> str:
    """Return *text* on one line, cut after a whole word and with an ellipsis if it exceeds 300 characters."""
    line = " ".join(text.split())
    if len(line) <= _MAX_KIND:
        return line
    return f"{line[:_MAX_KIND].rpartition(' ')[0] or line[:_MAX_KIND]} …"
