"""The lines of ``results.jsonl``, one for the outcome of each row. docs/results.md describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from attrs import asdict, define, field

from ruxa_async._portable import describe_error as describe_whole
from ruxa_async.errors import APIError, DownloadError, RequestValidationError, TaskFailedError
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Failed, JobRecord, Outcome, Succeeded

__all__ = ("Result", "State", "describe_error", "kind_of")

#: What a line takes from `Succeeded.as_dict` and `Failed.as_dict` as it is.
_OF_OUTCOME = (
    *("key", "model", "prompt", "task_id", "state", "urls", "credits", "duration"),
    *("queries", "submitted_at", "finished_at", "input"),
)

State: TypeAlias = Literal["succeeded", "failed", "download_failed", "unfinished", "unknown", "invalid"]


@define(kw_only=True)
class Result:
    """One line of the file; docs/results.md says what each field means."""

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
    def of_outcome(cls, outcome: Outcome, *, index: int, line: int) -> Result:
        """Return the line of *outcome*; a success has no files yet."""
        known = outcome.as_dict()
        result = cls(index=index, line=line, **{name: known[name] for name in _OF_OUTCOME})
        if isinstance(outcome, Failed):
            result.error = describe_error(outcome.error)
        else:
            result.time(outcome)
        return result

    @classmethod
    def of_job(cls, job: JobRecord, state: State, *, index: int, line: int) -> Result:
        """Describe a purchase whose end was not seen."""
        result = cls(index=index, line=line, state=state, task_id=job.task_id, model=job.model)
        result.describe(job.request, job.key)
        result.error = None if job.error is None else describe_error(job.error)
        return result

    def time(self, outcome: Succeeded) -> None:
        """Say how late the end was seen, where the service tells its instants.

        Each clock only measures a span of its own, so it does not matter how far apart the two are.
        """
        from ruxa_async._api.task_status import instants  # noqa: PLC0415 - wrong usage should not wait for cattrs

        told = instants(outcome.generation.raw)
        if told is not None:
            created, ended = told
            self.completed_at = _rounded(ended)
            self.lag = _rounded(max(0.0, outcome.finished_at - outcome.submitted_at - (ended - created)))

    def describe(self, request: GenerationRequest | None, key: str | None = None) -> None:
        """Say what was asked for."""
        self.key = key
        if request is not None:
            self.input = request.input()
            prompt = self.input.get("prompt")
            self.key = key or request.key
            self.model = request.model
            self.prompt = prompt if isinstance(prompt, str) else None

    def encoded(self) -> bytes:
        """Return the line with its end."""
        return json.dumps(asdict(self), ensure_ascii=False, default=str).encode(errors="replace") + b"\n"


_LONGEST_KIND = 300


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


_DETAILS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (APIError, ("status", "code")),
    (TaskFailedError, ("fail_code", "fail_message")),
    (RequestValidationError, ("field",)),
    (DownloadError, ("url",)),
)


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return what a program may want to know of *error*."""
    known = describe_whole(error)
    names = [
        "type",
        "message",
        *(name for kind, names in _DETAILS if isinstance(error, kind) for name in names),
    ]
    described = {name: known[name] for name in names}
    if error.__cause__ is not None and str(error.__cause__) not in described["message"]:
        described["cause"] = f"{type(error.__cause__).__name__}: {error.__cause__}"
    return described


def _bounded(text: str) -> str:
    """Return *text* on one line; beyond 300 characters it ends after a whole word, with an ellipsis."""
    line = " ".join(text.split())
    return (
        line
        if len(line) <= _LONGEST_KIND
        else f"{line[:_LONGEST_KIND].rpartition(' ')[0] or line[:_LONGEST_KIND]} …"
    )


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
        return f"generation failed: {_bounded(said)}" if said else "generation failed"
    if "status" in described:
        return f"refused: {_bounded(described['message'])}"
    words = {"unknown": "unknown, perhaps charged", "unfinished": "paid, end not seen"}
    return f"{words.get(state, state)}: {described['type']}"
