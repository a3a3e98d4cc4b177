"""`Completions`: the outcomes of many requests, as they finish.

It is the handle that a caller has on a `Pipeline`, apart from it so that a handle that was dropped without being left
can stop the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import SubmissionHalted
from ruxa_async.results import Failed, Generation, JobRecord, Outcome, Succeeded, records_of

from .job import ClientJob
from .pipeline import Pipeline, PipelineState

__all__ = ("Completions",)


class Completions:
    """The outcomes of ``as_completed``: an async context manager, and an async iterator over `Outcome`.

    Use it as ``async with ruxa.as_completed(requests) as outcomes: async for outcome in outcomes: ...``. Leaving
    the block early stops pulling and submitting, waits for creates on the wire (at most
    ``Timeouts.create_drain``), and fills *unfinished*, *unknown* and *unsubmitted*. A bare ``async for`` works
    too; left early, it stops when the iterator is dropped.

    Several tasks may take from one `Completions`: each outcome goes to one of them, and all of them end, with the same
    error if it ends with one. Leaving the block ends those that still wait.

    The source is iterated in a task that the client owns. Left early, an async generator is closed; anything else
    is only let go, so that what was not pulled still can be.
    """

    def __init__(self, run: Pipeline, generation: Callable[[ClientJob], Generation]) -> None:
        self._run = run
        self._generation = generation

    @property
    def unfinished(self) -> tuple[JobRecord, ...]:
        """The tasks that were accepted and whose end was not delivered, in the order of the requests."""
        return records_of(self._run.unfinished)

    @property
    def unknown(self) -> tuple[JobRecord, ...]:
        """The requests that may have been charged, in their order."""
        return records_of(self._run.unknown)

    @property
    def unsubmitted(self) -> tuple[JobRecord, ...]:
        """The requests that were pulled and never sent, in their order."""
        return records_of(self._run.unsubmitted)

    async def __aenter__(self) -> Self:
        self._run.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._run.leave(orphaned=exc is not None)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome.

        Raises `SubmissionHalted` after the last one if the account could not go on, and whatever the source of the
        requests raised after the last one if it did; a KeyboardInterrupt or SystemExit of the source comes out at
        once. After that, and in every other task that takes from this, the same is raised again.
        """
        run = self._run
        run.start()
        job = await run.next_job()
        if job is not None:
            failpoint("outcome yielded")
            return make_outcome(job, self._generation)
        run.finish()
        if run.source_error is not None:
            raise run.source_error
        if run.cause is not None:
            raise SubmissionHalted(run.cause, self.unfinished, self.unknown, self.unsubmitted) from run.cause
        raise StopAsyncIteration

    def __del__(self) -> None:
        if self._run.state is PipelineState.RUNNING:
            self._run.leave_now()


def make_outcome(job: ClientJob, generation: Callable[[ClientJob], Generation]) -> Outcome:
    """Return how *job*, which is over, ended."""
    assert job.index is not None
    assert job.request is not None
    if job.error is not None:
        return Failed(
            index=job.index,
            key=job.key,
            request=job.request,
            task_id=job.task_id,
            error=job.error,
            queries=job.queries,
            submitted_at=job.submitted_at,
            finished_at=job.finished_at,
        )
    assert job.submitted_at is not None
    return Succeeded(
        index=job.index,
        key=job.key,
        request=job.request,
        task_id=job.task_id,
        generation=generation(job),
        queries=job.queries,
        submitted_at=job.submitted_at,
        finished_at=job.finished_at,
    )
