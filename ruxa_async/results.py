"""What comes back: the state of a task, what it made, and the outcome of each request of a batch."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from attrs import field, frozen

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

    def _repr_html_(self) -> str:
        from ._notebook import generation_html  # noqa: PLC0415 - only notebooks ask

        return generation_html(self)

    def _source(self) -> MediaSource:
        if self._media is None:
            raise RuntimeError("this Generation was not made by a client, so it has nothing to download with")
        return self._media


@frozen(kw_only=True)
class JobRecord:
    """One request and what is known of its purchase.

    *task_id* is set once the service accepted it. *index* is its place in the batch, None outside of one.
    *error* is why its end is not known, where there is a reason. *entry* is what the journal calls it; it means
    something to that journal only. *call* is what the callback of the last attempt is known by, if one was asked for.
    """

    request: GenerationRequest | None
    key: str | None = None
    index: int | None = None
    task_id: str | None = None
    model: str | None = None
    error: BaseException | None = None
    entry: object = field(default=None, repr=False)
    call: bytes | None = field(default=None, repr=False)


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

    def _repr_html_(self) -> str:
        from ._notebook import succeeded_html  # noqa: PLC0415 - only notebooks ask

        return succeeded_html(self)


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

    def _repr_html_(self) -> str:
        from ._notebook import failed_html  # noqa: PLC0415 - only notebooks ask

        return failed_html(self)


Outcome: TypeAlias = Succeeded | Failed


@frozen(kw_only=True)
class Stats:
    """A snapshot of one client's counts since it was entered.

    *in_flight* is the tasks running at the service as far as is known, *queued* the requests waiting to be sent,
    *throttled* the answers of 429 by scope. *rates* are the limits in use and *durations* the seconds that tasks
    of each model take: the median of the recent ones, else of what the journal knows of earlier runs. *spent_tasks* and
    *spent_credits* are what counts towards the client's budget, with what is on the wire and what may have been charged;
    None without a budget, the credits also where some task's price is not known.
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


def records_of(jobs: Sequence[JobRecord]) -> tuple[JobRecord, ...]:
    """Return *jobs* in the order of their index."""
    return tuple(sorted(jobs, key=lambda job: (job.index is None, job.index or 0)))
