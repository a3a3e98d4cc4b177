"""What comes back: the state of a task, what it made, and the outcome of each request of a batch."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, final

from attrs import evolve, field, fields, frozen

from ._portable import jsonable, portable
from .errors import (
    ClientClosedError,
    KeyConflictError,
    PollingStoppedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskFailedError,
    TaskTimeout,
    describe_error,
)

if TYPE_CHECKING:
    from .requests import GenerationRequest

__all__ = (
    "Failed",
    "Generation",
    "JobRecord",
    "Outcome",
    "Stats",
    "Succeeded",
    "TaskState",
    "TaskStatus",
)


class TaskState(enum.Enum):
    """The state of a task, whatever spelling the service used."""

    #: Accepted, not begun.
    WAITING = "waiting"
    #: Being generated.
    RUNNING = "running"
    #: Done; the outputs can be fetched.
    SUCCESS = "success"
    #: Ended without a result.
    FAIL = "fail"
    #: A word that this version does not know; asked again.
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """Tell whether the task has ended."""
        return self is TaskState.SUCCESS or self is TaskState.FAIL


@frozen(kw_only=True)
class TaskStatus:
    """What one query saw.

    *task_id* is empty where a callback alone told of the task and did not name it. *raw_state* is the service's own word, *raw* its whole ``data`` object. *progress* is a percentage, *duration*
    seconds and *credits* what was charged, each None where the service does not say.
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
        """Return every field as JSON holds it."""
        return _described(self)

    def _repr_html_(self) -> str:
        from ._notebook import status_html  # noqa: PLC0415 - only notebooks ask

        return status_html(self)


class MediaSource(Protocol):
    """Where the outputs of a generation can be had; the open client is one."""

    @property
    def here(self) -> str:
        """The address of the service if that is on this very machine, else "": an emulator's, which a browser may be led to."""
        ...

    async def save(
        self, generation: Generation, folder: str | PathLike[str], *, name: str | None = None
    ) -> list[Path]:
        """Bring every output to *folder*."""
        ...

    async def read(self, generation: Generation) -> list[bytes]:
        """Bring every output to memory."""
        ...


@frozen(kw_only=True)
class Generation:
    """What a finished task made.

    *urls* are the outputs, one at least except for tasks whose result is no file (see *raw*). They expire: fetch
    them soon. *credits* is what was charged and *duration* the seconds it took, where the service says so.

    A copy downloads as this one does. One that comes out of a pickle has no client to download with.
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
        """Download every output into *folder* and return the paths, in the order of *urls*.

        Files appear whole or not at all and never replace a different file. *name* is a template such as
        ``"{key}-{n}"`` with the fields ``key`` (the request's, else the task id), ``model``, ``n`` (from 1; ``{n:03}`` for
        three digits), ``prompt``, ``slug`` (the prompt in small letters and hyphens) and ``task_id``;
        the default is the key, with a number where there are several outputs. The extension is that of the
        content. Where a link has expired, the service is asked once for fresh ones.
        One output that cannot be had keeps none of the others back. Raises `DownloadError`, and `ConfigurationError`
        for a template that does not work.
        """
        return await self._source().save(self, folder, name=name)

    async def read(self) -> list[bytes]:
        """Download every output into memory, in the order of *urls*. Raises `DownloadError`."""
        return await self._source().read(self)

    def as_dict(self) -> dict[str, Any]:
        """Return what was asked for and what came of it, as JSON holds it."""
        return {**_asked(self.request, model=self.model), **_described(self, "model", "request")}

    def _repr_html_(self) -> str:
        from ._notebook import generation_html  # noqa: PLC0415 - only notebooks ask

        return generation_html(self)

    def _source(self) -> MediaSource:
        if self._media is None:
            raise ClientClosedError(
                "this Generation came out of a pickle or was made by hand, so no client stands behind it. "
                + how_to_save(self.task_id, self.model)
            )
        return self._media

    def __copy__(self) -> Generation:
        return evolve(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Generation:
        return evolve(self, request=deepcopy(self.request, memo), raw=deepcopy(self.raw, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), _values(self, "_media"))


def how_to_save(task_id: str | None, model: str | None) -> str:
    """Return the sentence that says how to save the outputs of a task without the client that made it."""
    if not task_id:
        return "Download its urls yourself: the id of its task is not known"
    named = f"{task_id!r}" if model is None else f"{task_id!r}, model={model!r}"
    return (
        "Inside `async with RuxaClient() as ruxa:` call `ruxa.attach("
        f"{named})`, await its `result()` and save that: asking for a finished task costs nothing"
    )


@frozen(kw_only=True)
class JobRecord:
    """One request and what is known of its purchase.

    *task_id* is set once the service accepted it. *index* is its place in the batch, None outside of one.
    *error* is why its end is not known, where there is a reason. *entry* is what the journal calls it; it means
    something to that journal only. *callback_id* is what the callback of the last attempt is known by, if one was asked for.
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
        """Return what is known of the purchase, as JSON holds it; *entry* and *callback_id* mean something to a journal only."""
        return {
            "index": self.index,
            **_asked(self.request, self.key, self.model),
            "task_id": self.task_id,
            "error": None if self.error is None else describe_error(self.error),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        values = _values(self, "error", "entry")
        return _remade, (type(self), {**values, "error": portable(self.error), "entry": portable(self.entry)})


@final
@frozen(kw_only=True)
class Succeeded:
    """A request of a batch that ended well.

    *queries* is how often its state was asked, *submitted_at* when the service accepted it and *finished_at*
    when its end was seen, both in seconds since the epoch.
    """

    index: int
    key: str | None
    request: GenerationRequest
    task_id: str | None
    generation: Generation
    queries: int
    submitted_at: float
    finished_at: float
    ok: Literal[True] = field(default=True, init=False, repr=False)

    def unwrap(self) -> Generation:
        """Return the generation."""
        return self.generation

    def as_dict(self) -> dict[str, Any]:
        """Return what ``results.jsonl`` holds of it, and its *input*; a success has no files yet."""
        made = self.generation
        return _outcome_dict(
            self, state="succeeded", urls=list(made.urls), credits=made.credits, duration=made.duration
        )

    def _repr_html_(self) -> str:
        from ._notebook import succeeded_html  # noqa: PLC0415 - only notebooks ask

        return succeeded_html(self)


@final
@frozen(kw_only=True)
class Failed:
    """A request of a batch that did not. *task_id* and *submitted_at* are None if it was never accepted."""

    index: int
    key: str | None
    request: GenerationRequest
    task_id: str | None
    error: Exception
    queries: int
    submitted_at: float | None
    finished_at: float
    ok: Literal[False] = field(default=False, init=False, repr=False)

    def unwrap(self) -> Generation:
        """Raise the error."""
        raise self.error

    def as_dict(self) -> dict[str, Any]:
        """Return what ``results.jsonl`` holds of it, its *input*, and all that the error says."""
        charged = self.error.credits if isinstance(self.error, TaskFailedError) else None
        return _outcome_dict(
            self, state=_state_of(self.error), error=describe_error(self.error), credits=charged
        )

    def __reduce__(self) -> tuple[Any, ...]:
        values = _values(self, "error", "ok")
        return _remade, (type(self), {**values, "error": portable(self.error)})

    def _repr_html_(self) -> str:
        from ._notebook import failed_html  # noqa: PLC0415 - only notebooks ask

        return failed_html(self)


Outcome: TypeAlias = Succeeded | Failed


def _outcome_dict(
    outcome: Outcome,
    *,
    state: str,
    urls: Sequence[str] = (),
    error: dict[str, Any] | None = None,
    credits: float | None = None,  # noqa: A002 - the service's word
    duration: float | None = None,
) -> dict[str, Any]:
    return {
        "index": outcome.index,
        **_asked(outcome.request, outcome.key),
        "task_id": outcome.task_id,
        "state": state,
        "urls": [*urls],
        "error": error,
        "credits": credits,
        "duration": duration,
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


def _asked(
    request: GenerationRequest | None, key: str | None = None, model: str | None = None
) -> dict[str, Any]:
    """Return what was asked for; *prompt* is its text where there is one."""
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
    """Return the attributes of *value* by the names that its class takes."""
    names = (each.name for each in fields(type(value)))
    return {name: getattr(value, name) for name in names if name not in left_out}


def _described(value: Any, *left_out: str) -> dict[str, Any]:
    named = _values(value, "_media", *left_out)
    return {
        name: part.value if isinstance(part, enum.Enum) else jsonable(part) for name, part in named.items()
    }


def _remade(cls: type[Any], values: dict[str, Any]) -> Any:
    return cls(**values)


@frozen(kw_only=True)
class Stats:
    """A snapshot of one client's counts since it was entered.

    *in_flight* is the tasks running at the service as far as is known, *queued* the requests waiting to be sent,
    *throttled* the answers of 429 by scope. *rates* are the limits in use and *durations* the seconds that tasks
    of each model take: the median of the recent ones, else of what the journal knows of earlier runs. *spent_tasks* and
    *spent_credits* are what counts towards the client's budget, with what is on the wire and what may have been charged;
    None without a budget, the credits also where some task's price is not known. *is_circuit_open* says that the service
    is failing, so that creates wait; that happened *outages* times, for *outage_seconds* in all, the present one included.
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
