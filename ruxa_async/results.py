"""Results: the state of a task, its outputs, and the outcome of each request of a batch."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, final

from attrs import evolve, field, fields, frozen

from ._portable import describe_error, jsonable, portable
from .errors import (
    ClientClosedError,
    KeyConflictError,
    PollingStoppedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
)

if TYPE_CHECKING:
    from .requests import GenerationRequest

__all__ = ("Failed", "Generation", "JobRecord", "Outcome", "Stats", "Succeeded", "TaskState", "TaskStatus")


class TaskState(enum.Enum):
    """The state of a task, normalized from the service's various spellings."""

    #: Accepted, not started.
    WAITING = "waiting"
    #: Running.
    RUNNING = "running"
    #: Finished; the outputs can be downloaded.
    SUCCESS = "success"
    #: Ended without outputs.
    FAIL = "fail"
    #: A state that this version does not know; the task is polled again.
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self is TaskState.SUCCESS or self is TaskState.FAIL


@frozen(kw_only=True)
class TaskStatus:
    """The status of a task, as one query or callback reported it.

    *raw_state* is the service's own word for *state*, *raw* its whole ``data`` object. *progress* is in
    percent, *duration* in seconds, and *credits* is what was charged, each None if the service does not say.
    *task_id* is empty if only a callback without an id reported the task.
    """

    task_id: str
    state: TaskState
    raw_state: str = ""
    progress: float | None = None
    urls: tuple[str, ...] = ()
    fail_code: str = ""
    fail_message: str = ""
    credits: float | None = None
    duration: float | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """Return every field as a dictionary of JSON values."""
        return _described(self)

    def _repr_html_(self) -> str:
        from ._notebook import status_html  # noqa: PLC0415 - only notebooks ask

        return status_html(self)


class MediaSource(Protocol):
    """Downloads the outputs of a generation, as an open client does."""

    @property
    def here(self) -> str:
        """The base URL of the service if it runs on this machine, such as an emulator, else ""."""
        ...

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Download every output into *folder*."""
        ...

    async def read(self, generation: Generation) -> list[bytes]:
        """Download every output into memory."""
        ...


@frozen(kw_only=True)
class Generation:
    """The result of a finished task.

    *urls* are its outputs, at least one, except for tasks whose result is not a file (see *raw*). URLs
    expire: download them soon. *credits* is what was charged and *duration* the run time in seconds, each
    None if the service does not say.

    A copy can download the outputs too. An unpickled generation has no client and cannot.
    """

    task_id: str | None
    model: str | None
    urls: tuple[str, ...]
    request: GenerationRequest | None = field(default=None, repr=False)
    credits: float | None = None
    duration: float | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
    _media: MediaSource | None = field(default=None, alias="_media", eq=False, repr=False)

    async def save(self, folder: str | PathLike[str] = ".", *, name: str | None = None) -> list[Path]:
        """Download every output into *folder* and return the paths in the order of *urls*.

        Files appear whole or not at all, and never replace a different file. *folder* may be the URL of an
        object store, such as ``s3://bucket/prefix`` (extra ``cloud``); then the paths are those of objects,
        see `ruxa_async.downloads.StoredPath`.

        *name* is a template such as ``"{key}-{n}"`` with the fields ``key`` (the request's, else the task
        id), ``model``, ``n`` (from 1; ``{n:03}`` for three digits), ``prompt``, ``slug`` (the prompt in lower
        case with hyphens) and ``task_id``. The default is the key, with a number if there are several
        outputs. The extension follows from the content. If a link has expired, the service is queried once
        for new ones. A failed output does not stop the others. Raises `DownloadError`, and
        `ConfigurationError` for an invalid template or URL.
        """
        return await self._source().save(self, folder, name=name)

    async def read(self) -> list[bytes]:
        """Download every output into memory; return them in the order of *urls*. Raises `DownloadError`."""
        return await self._source().read(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the request and its result as a dictionary of JSON values."""
        return {**_request_dict(self.request, model=self.model), **_described(self, "model", "request")}

    def _repr_html_(self) -> str:
        from ._notebook import generation_html  # noqa: PLC0415 - only notebooks ask

        return generation_html(self)

    def _source(self) -> MediaSource:
        if self._media is None:
            raise ClientClosedError(
                "this Generation was unpickled or made by hand, so it has no client to download with. "
                + how_to_save(self.task_id, self.model)
            )
        return self._media

    def __copy__(self) -> Generation:
        return evolve(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Generation:
        return evolve(self, request=deepcopy(self.request, memo), raw=deepcopy(self.raw, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), _values(self, "_media"))


# Python warns with these names that a coroutine was never awaited.
Generation.save.__qualname__ = "await generation.save, or of ruxa_async.sync: ruxa.save"
Generation.read.__qualname__ = "await generation.read, or of ruxa_async.sync: ruxa.read"


def how_to_save(task_id: str | None, model: str | None) -> str:
    """Return a sentence that says how to save the outputs of a task with another client."""
    if not task_id:
        return "Download its urls yourself: its task id is not known"
    named = f"{task_id!r}" if model is None else f"{task_id!r}, model={model!r}"
    return (
        "Inside `async with RuxaClient() as ruxa:` call `ruxa.attach("
        f"{named})`, await its `result()` and save that: a query costs nothing"
    )


@frozen(kw_only=True)
class JobRecord:
    """One request and what is known of its purchase.

    *index* is its position in the batch, None outside of a batch. *task_id* is set once the service accepted
    it. *error* is the reason why its outcome is not known, if there is one. *entry* identifies it in the
    journal that returned it, *callback_id* the callback of the last attempt, if one was requested.
    """

    request: GenerationRequest | None
    key: str | None = None
    index: int | None = None
    task_id: str | None = None
    model: str | None = None
    error: BaseException | None = None
    entry: object = field(default=None, repr=False)
    callback_id: bytes | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary of JSON values, without *entry* and *callback_id*."""
        return {
            "index": self.index,
            **_request_dict(self.request, self.key, self.model),
            "task_id": self.task_id,
            "error": None if self.error is None else describe_error(self.error),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        values = _values(self, "error", "entry")
        return _remade, (type(self), {**values, "error": portable(self.error), "entry": portable(self.entry)})


@final
@frozen(kw_only=True)
class Succeeded:
    """A request of a batch that succeeded.

    *index* and *key* say which row it belongs to. *queries* is the number of queries for its task.
    *submitted_at* is when the service accepted it and *finished_at* when the client saw its end, in seconds
    since the epoch. *stage* is 1, or more with `Completions.then`.
    """

    index: int
    key: str | None
    request: GenerationRequest
    task_id: str | None
    generation: Generation
    queries: int
    submitted_at: float
    finished_at: float
    stage: int = 1
    ok: Literal[True] = field(default=True, init=False, repr=False)

    def unwrap(self) -> Generation:
        """Return the generation."""
        return self.generation

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of its line in ``results.jsonl``, except those about files."""
        made = self.generation
        urls = list(made.urls)
        return _outcome_dict(self, "succeeded", urls=urls, credits=made.credits, duration=made.duration)

    def _repr_html_(self) -> str:
        from ._notebook import succeeded_html  # noqa: PLC0415 - only notebooks ask

        return succeeded_html(self)


@final
@frozen(kw_only=True)
class Failed:
    """A request of a batch that failed. *task_id* and *submitted_at* are None if it was never accepted.

    *stage* says which stage failed, from 1; it is always 1 without `Completions.then`.
    """

    index: int
    key: str | None
    request: GenerationRequest
    task_id: str | None
    error: Exception
    queries: int
    submitted_at: float | None
    finished_at: float
    stage: int = 1
    ok: Literal[False] = field(default=False, init=False, repr=False)

    def unwrap(self) -> Generation:
        """Raise the error."""
        raise self.error

    def as_dict(self) -> dict[str, Any]:
        """Return the fields of its line in ``results.jsonl``, with all attributes of the error."""
        charged = self.error.credits if isinstance(self.error, TaskFailedError) else None
        error = describe_error(self.error)
        return _outcome_dict(self, _state_of(self.error), error=error, credits=charged)

    def __reduce__(self) -> tuple[Any, ...]:
        values = _values(self, "error", "ok")
        return _remade, (type(self), {**values, "error": portable(self.error)})

    def _repr_html_(self) -> str:
        from ._notebook import failed_html  # noqa: PLC0415 - only notebooks ask

        return failed_html(self)


Outcome: TypeAlias = Succeeded | Failed


def _outcome_dict(outcome: Outcome, state: str, **values: Any) -> dict[str, Any]:
    return {
        "index": outcome.index,
        **_request_dict(outcome.request, outcome.key),
        "task_id": outcome.task_id,
        "state": state,
        "urls": [],
        "error": None,
        "credits": None,
        "duration": None,
        **values,
        "queries": outcome.queries,
        "submitted_at": _rounded(outcome.submitted_at),
        "finished_at": _rounded(outcome.finished_at),
    }


def _state_of(error: Exception) -> str:
    if isinstance(error, SubmissionUnknownError):
        return "unknown"
    if isinstance(error, (PollingStoppedError, TaskTimeout)):
        return "unfinished"
    if isinstance(error, (KeyConflictError, RequestValidationError)):
        return "invalid"
    return "failed"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _request_dict(
    request: GenerationRequest | None, key: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """Return key, model, prompt and input of *request*, as JSON values."""
    if request is None:
        return {"key": key, "model": model, "prompt": None, "input": None}
    sent = request.input()
    prompt = sent.get("prompt")
    return {
        "key": key or request.key,
        "model": request.model,
        "prompt": prompt if isinstance(prompt, str) else None,
        "input": jsonable(sent),
    }


def _values(value: Any, *left_out: str) -> dict[str, Any]:
    """Return the attributes of *value* by name, without those in *left_out*."""
    names = (each.name for each in fields(type(value)))
    return {name: getattr(value, name) for name in names if name not in left_out}


def _described(value: Any, *left_out: str) -> dict[str, Any]:
    """Return the attributes of *value* as JSON values, without those in *left_out*."""
    named = _values(value, "_media", *left_out)
    return {
        name: part.value if isinstance(part, enum.Enum) else jsonable(part) for name, part in named.items()
    }


def _remade(cls: type[Any], values: dict[str, Any]) -> Any:
    return cls(**values)


@frozen(kw_only=True)
class Stats:
    """A snapshot of the counters of one client since it was entered.

    *in_flight* counts tasks that run at the service, *queued* requests that wait to be sent, and *throttled*
    rejections (429) by scope. *rates* are the limits in use, in requests a second. *durations* are the median
    run times in seconds by model, of recent tasks, else of earlier runs in the journal. *spent_tasks* and
    *spent_credits* are what counts against the budget, requests on the wire and unknown creates included;
    None without a budget, and *spent_credits* also if the price of a task is not known. *is_circuit_open* is
    true while creates wait because the service is failing; this happened *outages* times, for
    *outage_seconds* in total.
    """

    in_flight: int
    queued: int
    creates_on_wire: int
    queries_on_wire: int
    creates_sent: int
    accepted: int
    refused: int
    unknown: int
    withdrawn: int
    succeeded: int
    failed: int
    stopped: int
    orphaned: int
    queries_sent: int
    throttled: Mapping[str, int]
    rates: Mapping[str, float | None]
    durations: Mapping[str, float]
    spent_tasks: int | None = None
    spent_credits: float | None = None
    is_circuit_open: bool = False
    outages: int = 0
    outage_seconds: float = 0.0


def records_of(jobs: Sequence[JobRecord]) -> tuple[JobRecord, ...]:
    """Return *jobs* in the order of their index."""
    return tuple(sorted(jobs, key=lambda job: (job.index is None, job.index or 0)))
