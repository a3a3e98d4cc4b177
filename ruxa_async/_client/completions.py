"""`Completions`: the outcomes of many requests, as they finish.

It is separate from `Pipeline`, so that the batch stops when your last reference to the `Completions` is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import SubmissionHalted
from ruxa_async.results import Failed, Generation, JobRecord, Outcome, Succeeded, records_of

from .job import ClientJob
from .pipeline import Pipeline, PipelineState

__all__ = ("Completions",)


class Completions:
    """The outcomes of ``as_completed``: an async context manager, and an async iterator over `Outcome`.

    Use it as ``async with ruxa.as_completed(requests) as outcomes: async for outcome in outcomes: ...``.
    Leaving the block early stops pulling and submitting, waits for creates on the wire (at most
    ``Timeouts.create_drain``), and fills *unfinished*, *unknown* and *unsubmitted*. A bare ``async for``
    works too; left early, it stops when the iterator is dropped.

    Several tasks may iterate over one `Completions`. Each outcome goes to one of them, and all of them end
    together, with the same error if there is one. Leaving the block ends those that still wait.

    The source is iterated in a task of the client. If you leave early, an async generator is closed; any
    other iterator is kept open, so that you can pull the remaining requests yourself.
    """

    def __init__(self, pipeline: Pipeline, generation: Callable[[ClientJob], Generation]) -> None:
        self._pipeline = pipeline
        self._generation = generation

    @property
    def unfinished(self) -> tuple[JobRecord, ...]:
        """The accepted tasks whose end was not delivered, in the order of the requests."""
        return records_of(self._pipeline.unfinished)

    @property
    def unknown(self) -> tuple[JobRecord, ...]:
        """The requests that may have been charged, in the order of the requests."""
        return records_of(self._pipeline.unknown)

    @property
    def unsubmitted(self) -> tuple[JobRecord, ...]:
        """The requests that were pulled and never sent, in the order of the requests."""
        return records_of(self._pipeline.unsubmitted)

    async def __aenter__(self) -> Self:
        self._pipeline.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pipeline.leave(orphaned=exc is not None)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome.

        After the last one it raises what the source of the requests raised, or `SubmissionHalted` if the
        account could not go on. A KeyboardInterrupt or SystemExit of the source is raised at once. The same
        is raised again by every further call, in every task.
        """
        return (await self._next_delivery())[1]

    if not TYPE_CHECKING:  # type checkers report it by themselves

        def __iter__(self) -> NoReturn:
            raise TypeError(
                "outcomes of an async client: write `async for outcome in ruxa.as_completed(...)`, or, in "
                "code without async, use `from ruxa_async.sync import RuxaClient`"
            )

    async def _next_delivery(self) -> tuple[ClientJob, Outcome]:
        """Return the next job that has ended, and its outcome. A cancellation loses neither."""
        pipeline = self._pipeline
        pipeline.start()
        job = await pipeline.next_job()
        if job is not None:
            failpoint("outcome yielded")
            return job, _outcome(job, self._generation)
        pipeline.finish()
        if pipeline.source_error is not None:
            raise pipeline.source_error
        if (cause := pipeline.halt_cause) is not None:
            raise SubmissionHalted(cause, self.unfinished, self.unknown, self.unsubmitted) from cause
        raise StopAsyncIteration

    def __del__(self) -> None:
        if self._pipeline.state is PipelineState.RUNNING:
            self._pipeline.leave_now()


def _outcome(job: ClientJob, generation: Callable[[ClientJob], Generation]) -> Outcome:
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
