"""What a run does about each request that its journal knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

from ruxa_async._engine.job import Phase
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.journal import JobState, JournalEntry, JournalRun, LastingJournal, SavedFile
from ruxa_async.settings import Resume

from .job import ClientJob
from .spending import Ledger

__all__ = ("PreviousRun", "ResumedJob", "remembered")


@define(eq=False, kw_only=True)
class ResumedJob(ClientJob):
    """A job that the driver never gets to see: its end is known already, and which *files* were saved."""

    files: tuple[SavedFile, ...] = ()


def remembered(job: ClientJob, *, finished_at: float, **known: Any) -> ResumedJob:
    """Return *job* as one that is over since *finished_at*, with what else is *known* of it."""
    over = ResumedJob(
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
    over.phase = Phase.OVER
    return over


class PreviousRun:
    """What the journal knows of one run. Open it, look each request up once, and close it."""

    def __init__(
        self,
        journal: LastingJournal,
        resume: Resume,
        may_settle: Callable[[JournalEntry], bool] = lambda _: False,
        ledger: Ledger | None = None,
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._resume = resume
        self._may_settle = may_settle
        self._run: JournalRun | None = None

    async def open(self) -> None:
        """Begin a pass through the run. Raises `JournalError`."""
        self._run = await self._journal.open_run(self._resume.name)
        if self._ledger is not None:
            await self._ledger.enter(self._journal, self._resume.name)

    def close(self) -> None:
        """End the pass, if one was begun: another may begin."""
        if self._run is not None:
            self._run.close()

    async def look_up(self, job: ClientJob) -> ClientJob:
        """Return *job* as it is to be treated: bought if it has no task id, picked up if it has one, or over.

        One in doubt whose callback may still come has a ``callback_id`` and waits for that.

        Raises `KeyConflictError`, `RequestValidationError`, `JournalError`.
        """
        assert self._run is not None
        assert job.request is not None
        assert job.index is not None
        match = await self._run.match(job.request)
        if self._resume.on_match is not None:
            self._resume.on_match(job.index, match)
        job.entry = match.entry
        return job if match.known is None else self._known(job, match.known)

    def _known(self, job: ClientJob, known: JournalEntry) -> ClientJob:
        match known.state:
            case JobState.ACCEPTED | JobState.ADOPTED:
                job.task_id = known.task_id
                job.submitted_at = known.accepted_at
                self._picked_up(job)
            case JobState.SUCCEEDED:
                return _ended(job, known, None)
            case JobState.FAILED if not self._resume.retry_failed:
                return _ended(job, known, known.failure)
            case JobState.UNKNOWN if not self._resume.resend_unknown and self._may_settle(known):
                job.callback_id = known.callback_id
                job.submitted_at = known.intended_at
                job.error = _unknown(known.error_message or "nobody knows why")
                self._picked_up(job)
            case JobState.UNKNOWN if not self._resume.resend_unknown:
                return _ended(job, known, _unknown(known.error_message or "nobody knows why"))
            case JobState.INTENDED:
                return _ended(job, known, _unknown("it is being sent just now, for an earlier pass"))
            case _:
                pass
        return job

    def _picked_up(self, job: ClientJob) -> None:
        if self._ledger is not None:
            self._ledger.spending.picked_up(job)


def _ended(job: ClientJob, known: JournalEntry, error: Exception | None) -> ResumedJob:
    finished_at = known.finished_at if known.finished_at is not None else known.intended_at
    return remembered(
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
        f"the request was sent before and no answer says what became of it ({why}): it may have been charged, so it is "
        "not sent again by itself. Look at the account, then say which it is: `ruxa-async journal`, or the journal's "
        "adopt() or forget()"
    )
