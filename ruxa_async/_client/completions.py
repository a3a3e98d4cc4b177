"""`Completions`: the outcomes of many requests, as they finish.

It is separate from `Pipeline`, so that the batch stops when your last reference to the `Completions` is gone.
For the same reason no pipeline refers to a `Completions`; a stage keeps those before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import SubmissionHalted
from ruxa_async.results import Failed, Generation, JobRecord, Outcome, Succeeded, records_of

from .job import ClientJob
from .pipeline import Pipeline, PipelineOptions, PipelineState
from .stage import MakeRequest, Stage

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

    `then` makes the next stage of the successes. Its `Completions` gives the outcomes of the whole chain, and
    leaving it leaves all stages.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        generation: Callable[[ClientJob], Generation],
        options: Callable[[int | None, float | None], PipelineOptions],
        earlier: tuple[Completions, ...] = (),
    ) -> None:
        self._pipeline = pipeline
        self._generation = generation
        self._options = options
        self._earlier = earlier
        self._has_next = False

    def then(
        self,
        make_request: MakeRequest,
        *,
        name: str | None = None,
        window: int | None = None,
        task_timeout: float | None = None,
    ) -> Completions:
        """Add a stage: buy what *make_request* makes of each success, and give the outcomes of the chain.

        *make_request* is called with each `Succeeded` as soon as it is there, one at a time; it may be async.
        It returns a request, several (an iterable, which is read at once), or None to drop the row. `Failed`
        outcomes pass it by: they come out of the last stage with the `Failed.stage` in which they failed.
        Each outcome has the index of its row, and its key unless *make_request* gives another; several
        requests for the row ``"heron"`` have the keys ``"heron.1"``, ``"heron.2"`` and so on.

        No row waits for another one. At most *window* requests and failures are between *make_request* and
        the consumer, which may be the next stage (default: twice ``Limits.max_in_flight``); a full window
        holds the earlier stages back. *task_timeout* is that of ``as_completed``.

        If the first stage resumes the run ``"catalogue"``, this one resumes ``"catalogue/2"``, or
        ``"catalogue/film"`` with *name* ``"film"``, with the same options. Give every stage equal requests
        for equal rows then: another request with the key of a bought one is a `KeyConflictError`.

        Enter and iterate over the last stage only. Leaving it leaves all; `stages` lists what each left. What
        *make_request* raises is raised after the outcomes that are under way in this stage and later ones,
        an interrupt at once; the success that it was called with is *unfinished* in its stage. Raises
        ValueError for a name that is empty or in use, RuntimeError if these outcomes have a next stage.
        """
        if not callable(make_request):
            raise TypeError(f"then takes a function that makes requests, not {make_request!r}")
        chain = self._pipeline.chain
        number = len(chain) + 1
        name = str(number) if name is None else name
        if not name.strip() or name in [each.name for each in chain]:
            raise ValueError(f"name={name!r} is not valid: a text that no other stage has is needed")
        self._ensure_last()
        first_run = chain[0].previous_run
        stage = Stage(
            (),
            chain[0].driver,
            self._options(window, task_timeout),
            None if first_run is None else first_run.for_stage(name),
            number,
            name,
            previous=self._pipeline,
            make_request=make_request,
            succeeded=partial(_succeeded, generation=self._generation),
        )
        self._has_next = True
        return Completions(stage, self._generation, self._options, self.stages)

    @property
    def stages(self) -> tuple[Completions, ...]:
        """The stages up to this one, the first one first; ``stages[outcome.stage - 1]`` is an outcome's."""
        return (*self._earlier, self)

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
        """Return the next outcome. Raises RuntimeError if the outcomes go to a next stage.

        After the last one it raises what the source of the requests raised, or `SubmissionHalted` if the
        account could not go on. A KeyboardInterrupt or SystemExit of the source is raised at once. The same
        is raised again by every further call, in every task.
        """
        self._ensure_last()
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
        await pipeline.end()
        chain, stages = pipeline.chain, self.stages
        for each in chain:
            if each.source_error is not None:
                raise each.source_error
        for cause in (each.halt_cause for each in chain if each.halt_cause is not None):
            unfinished = tuple(job for stage in stages for job in stage.unfinished)
            unknown = tuple(job for stage in stages for job in stage.unknown)
            unsubmitted = tuple(job for stage in stages for job in stage.unsubmitted)
            raise SubmissionHalted(cause, unfinished, unknown, unsubmitted) from cause
        raise StopAsyncIteration

    def _ensure_last(self) -> None:
        """Raise RuntimeError if these outcomes go to a next stage."""
        if self._has_next:
            raise RuntimeError("these outcomes go to the stage that `then` made of them: iterate over that")

    def __del__(self) -> None:
        if self._pipeline.state is PipelineState.RUNNING:
            self._pipeline.leave_now()


def _outcome(job: ClientJob, generation: Callable[[ClientJob], Generation]) -> Outcome:
    if job.error is not None:
        assert job.index is not None
        assert job.request is not None
        return Failed(
            index=job.index,
            key=job.key,
            request=job.request,
            task_id=job.task_id,
            error=job.error,
            queries=job.queries,
            submitted_at=job.submitted_at,
            finished_at=job.finished_at,
            stage=_stage(job),
        )
    return _succeeded(job, generation)


def _succeeded(job: ClientJob, generation: Callable[[ClientJob], Generation]) -> Succeeded:
    assert job.index is not None
    assert job.request is not None
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
        stage=_stage(job),
    )


def _stage(job: ClientJob) -> int:
    assert isinstance(job.owner, Pipeline)
    return job.owner.stage
