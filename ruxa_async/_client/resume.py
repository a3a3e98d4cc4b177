"""What to do about each request of a resumed run, by what the journal knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field

from ruxa_async._engine.job import Phase
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.journal import (
    JobState,
    JournalEntry,
    JournalPurchase,
    JournalRun,
    LastingJournal,
    Match,
    SavedFile,
)
from ruxa_async.requests import GenerationRequest
from ruxa_async.settings import Resume

from .job import ClientJob
from .outcomes import SETTLE
from .spending import RunSpending

__all__ = ("PreviousRun", "RecordedJob", "recorded_job")


@define(eq=False, kw_only=True)
class RecordedJob(ClientJob):
    """A job whose end the journal recorded, with the *files* that were saved. It never reaches the engine."""

    files: tuple[SavedFile, ...] = ()


def recorded_job(job: ClientJob, *, finished_at: float, **known: Any) -> RecordedJob:
    """Return *job* as ended at *finished_at*, in seconds since the epoch, with the fields in *known*."""
    recorded = RecordedJob(
        request=job.request,
        model=job.model,
        key=job.key,
        index=job.index,
        owner=job.owner,
        entry=job.entry,
        create_settled=True,
        finished_at=finished_at,
        **known,
    )
    recorded.phase = Phase.OVER
    return recorded


@define(eq=False)
class PreviousRun:
    """What the journal knows of a run, and what to do about each request.

    For one pass: open it, look up each request once, close it. For one request by key: `open_purchase`, then
    `apply`.

    *may_be_called_back* tells whether the callback of a create of unknown outcome may still come.
    """

    _journal: LastingJournal
    _resume: Resume
    _may_be_called_back: Callable[[JournalEntry], bool]
    _spending: RunSpending | None
    _run: JournalRun | None = field(default=None, init=False)

    def for_stage(self, name: str) -> PreviousRun:
        """Return that of the stage *name*, which is a run of its own beside this one."""
        resume = evolve(self._resume, name=f"{self._resume.name}/{name}")
        return PreviousRun(self._journal, resume, self._may_be_called_back, self._spending)

    async def open(self) -> None:
        """Begin a pass through the run. Raises `JournalError`."""
        self._run = await self._journal.open_run(self._resume.name)
        await self._load_spending()

    async def open_purchase(self, request: GenerationRequest) -> JournalPurchase:
        """Begin the purchase of *request* by key. Raises as `LastingJournal.open_purchase`."""
        purchase = await self._journal.open_purchase(self._resume.name, request)
        try:
            await self._load_spending()
        except BaseException:
            purchase.close()
            raise
        return purchase

    async def _load_spending(self) -> None:
        if self._spending is not None:
            await self._spending.load(self._journal, self._resume.name)

    def close(self) -> None:
        """End the pass, if one was begun, so that another may begin."""
        if self._run is not None:
            self._run.close()

    async def look_up(self, job: ClientJob) -> ClientJob:
        """Return *job* with what the journal knows of it, see `apply`.

        Raises `KeyConflictError`, `RequestValidationError`, `JournalError`.
        """
        assert self._run is not None
        assert job.request is not None
        assert job.index is not None
        match = await self._run.match(job.request)
        if self._resume.on_match is not None:
            self._resume.on_match(job.index, match)
        return self.apply(job, match)

    def apply(self, job: ClientJob, match: Match) -> ClientJob:
        """Return *job* with *match*, what the journal knows of it.

        If it ended, that is a `RecordedJob`. If it was accepted, it has its task id, to be followed. If it is
        unknown and its callback may still come, it has its callback id. Otherwise it is to be bought.
        """
        job.entry = match.entry
        return job if match.known is None else self._apply(job, match.known)

    def _apply(self, job: ClientJob, known: JournalEntry) -> ClientJob:
        match known.state:
            case JobState.ACCEPTED | JobState.ADOPTED:
                job.load_accepted(known.task_id, known.accepted_at)
                self._count_in_budget(job)
            case JobState.SUCCEEDED:
                return _ended(job, known, None)
            case JobState.FAILED if not self._resume.retry_failed:
                return _ended(job, known, known.failure)
            case JobState.UNKNOWN if not self._resume.resend_unknown:
                error = _unknown(known.error_message or "no reason is recorded")
                if not self._may_be_called_back(known):
                    return _ended(job, known, error)
                job.load_unknown(known.callback_id, known.intended_at, error)
                self._count_in_budget(job)
            case JobState.INTENDED:
                return _ended(job, known, _unknown("it is being sent just now, for an earlier pass"))
            case _:
                pass
        return job

    def _count_in_budget(self, job: ClientJob) -> None:
        if self._spending is not None:
            self._spending.spending.expect_charge(job)


def _ended(job: ClientJob, known: JournalEntry, error: Exception | None) -> RecordedJob:
    finished_at = known.finished_at if known.finished_at is not None else known.intended_at
    return recorded_job(
        job,
        finished_at=finished_at or 0.0,
        task_id=known.task_id,
        submitted_at=known.accepted_at,
        status=known.status,
        error=error,
        files=known.files,
    )


def _unknown(why: str) -> SubmissionUnknownError:
    return SubmissionUnknownError(
        f"the request was sent before and no reply shows its outcome ({why}): "
        "it may have been charged, so it is not sent again by itself. Look at your account. "
        f"{SETTLE}; in Python, call the journal's adopt() or forget()"
    )
