"""One batch: pulls requests from the source, keeps the window, collects outcomes.

A background task of the client iterates over the source, and `Completions` only reads from the pipeline. So
no task group spans a ``yield`` (PEP 789).
"""

from __future__ import annotations

import enum
import inspect
import math
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import lowlevel
from attrs import define, field, frozen

from ruxa_async._engine.halt import HaltPolicy
from ruxa_async._engine.job import Phase
from ruxa_async._logging import logger
from ruxa_async.errors import (
    KeyConflictError,
    PollingStoppedError,
    RequestValidationError,
    SubmissionUnknownError,
)
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import JobRecord

from .job import ClientJob
from .resume import PreviousRun, RecordedJob, recorded_job

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ("Pipeline", "PipelineOptions", "PipelineState")

#: Requests pulled, or outcomes taken, between two checkpoints of anyio; one for each would double the cost.
_CHECKPOINT_EVERY = 32


class PipelineState(enum.Enum):
    NEW = enum.auto()
    RUNNING = enum.auto()
    LEFT = enum.auto()


@frozen(kw_only=True)
class PipelineOptions:
    """At most *window* requests are between pulled and consumed; times are in seconds."""

    window: int
    task_timeout: float | None
    drain: float


@define(eq=False)
class Pipeline:
    """One batch."""

    _requests: Iterable[GenerationRequest] | AsyncIterable[GenerationRequest]
    driver: Driver
    _options: PipelineOptions
    previous_run: PreviousRun | None = None
    #: Its place among the stages that `Completions.then` made, from 1.
    stage: int = 1
    name: str = "1"
    _pulled: int = field(default=0, init=False)
    _consumed: int = field(default=0, init=False)
    _halt: HaltPolicy = field(factory=HaltPolicy, init=False)
    _puller: anyio.CancelScope | None = field(default=None, init=False)
    _changed: anyio.Event = field(factory=anyio.Event, init=False)
    _room: anyio.Event = field(factory=anyio.Event, init=False)
    _pulled_all: anyio.Event = field(factory=anyio.Event, init=False)
    _pulling: bool = field(default=True, init=False)
    _open: set[ClientJob] = field(factory=set, init=False)
    _ready: deque[ClientJob] = field(factory=deque, init=False)
    #: A KeyboardInterrupt or SystemExit of the source; the iteration raises it at once.
    _interrupt: BaseException | None = field(default=None, init=False)
    state: PipelineState = field(default=PipelineState.NEW, init=False)
    #: What the source raised; the iteration raises it after the last outcome.
    source_error: BaseException | None = field(default=None, init=False)
    #: Why the batch was halted.
    halt_cause: Exception | None = field(default=None, init=False)
    unfinished: list[JobRecord] = field(factory=list, init=False)
    unknown: list[JobRecord] = field(factory=list, init=False)
    unsubmitted: list[JobRecord] = field(factory=list, init=False)

    @property
    def chain(self) -> tuple[Pipeline, ...]:
        """The stages up to this one, the first one first."""
        return (self,)

    # ---- pulling

    def start(self) -> None:
        if self.state is PipelineState.NEW:
            self.driver.ensure_open()
            self.state = PipelineState.RUNNING
            self.driver.owners.add(self)
            self._puller = self.driver.start_background(self._pull, "puller")

    async def _pull(self) -> None:
        try:
            with self._catch_source_errors():
                await self._pull_all()
        finally:
            self._pulling = False
            # Close an async generator that was left early: the garbage collector would do it at any time.
            if inspect.isasyncgen(self._requests):
                with anyio.move_on_after(self._options.drain, shield=True), self._catch_source_errors():
                    await self._requests.aclose()
            self._changed.set()
            self._pulled_all.set()

    async def _pull_all(self) -> None:
        if self.previous_run is not None:
            await self.previous_run.open()
        await self._pull_source()

    async def _pull_source(self) -> None:
        if isinstance(self._requests, AsyncIterable):
            async for request in self._requests:
                if not await self._enqueue(self._new_job(request, self._pulled)):
                    return
        else:
            for request in self._requests:
                if not await self._enqueue(self._new_job(request, self._pulled)):
                    return

    @contextmanager
    def _catch_source_errors(self) -> Iterator[None]:
        """Keep every exception of the source, for the iteration to raise; let only our own cancellation pass.

        The source runs in a task of the client. A CancelledError or GeneratorExit of its own would end that
        task, and the client with it.
        """
        try:
            yield
        except BaseException as exc:
            cancelled = anyio.current_effective_deadline() == -math.inf
            if cancelled and isinstance(exc, anyio.get_cancelled_exc_class()):
                raise
            self._on_source_error(exc)

    def _on_source_error(self, error: BaseException) -> None:
        if self.state is PipelineState.LEFT:
            logger.warning("the source of a batch raised %r after the batch was left", error)
        elif isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._interrupt = error
            self.stop_sending()
        else:
            self.source_error = error

    def _new_job(self, request: GenerationRequest, index: int) -> ClientJob:
        if not isinstance(request, GenerationRequest):
            raise TypeError(f"as_completed takes requests such as NanoBanana(...), not {request!r}")
        return ClientJob(
            request=request,
            model=request.model,
            key=request.key,
            index=index,
            owner=self,
            timeout=self._options.task_timeout,
        )

    async def _enqueue(self, job: ClientJob) -> bool:
        """Start *job*, and wait until the window has room; tell whether to pull the next one."""
        self._pulled += 1
        if self.previous_run is not None:
            job = await self._look_up(job, self.previous_run)
        if not self._pulling:  # the batch was stopped meanwhile
            self._list_unstarted(job)
            return False
        self._start_job(job)
        return await self._wait_for_room()

    async def _wait_for_room(self) -> bool:
        """Wait until the window has room; tell whether to pull the next request."""
        if self._pulled % _CHECKPOINT_EVERY == 0:
            await lowlevel.checkpoint()
        while self._pulled - self._consumed >= self._options.window and self._pulling:
            self._room = anyio.Event()
            await self._room.wait()
        return self._pulling

    def _list_unstarted(self, job: ClientJob) -> None:
        if not isinstance(job, RecordedJob):  # the journal delivers its end in the next run
            (self.unsubmitted if job.task_id is None else self.unfinished).append(job.record())

    def _start_job(self, job: ClientJob) -> None:
        """Buy *job*, follow its task, wait for its callback, or deliver it: by what the journal knows."""
        self._open.add(job)
        if job.ended:
            self.ended(job)
        elif job.task_id is not None:
            self.driver.follow(job)
        elif job.callback_id is not None:
            self.driver.await_callback(job)
        else:
            self.driver.submit(job)

    async def _look_up(self, job: ClientJob, previous_run: PreviousRun) -> ClientJob:
        """Return *job* with what the journal knows: nothing, its task id, its callback id, or its end."""
        try:
            return await previous_run.look_up(job)
        except (KeyConflictError, RequestValidationError) as exc:
            return recorded_job(job, error=exc, finished_at=self.driver.outcomes.clock.wall_now())
        except BaseException:
            self.unsubmitted.append(job.record())
            raise

    # ---- `Owner`

    def accepted(self, job: ClientJob) -> None:  # noqa: ARG002 - which job does not matter
        """Record that the service accepts creates."""
        self._halt.on_accept()

    def ended(self, job: ClientJob) -> None:
        if job not in self._open:
            return
        self._open.discard(job)
        self._ready.append(job)
        if isinstance(job.error, SubmissionUnknownError):
            self.unknown.append(job.record())
        elif isinstance(job.error, PollingStoppedError):
            self.unfinished.append(job.record())
        if job.refusal is not None and self.halt_cause is None and self._halt.on_refusal(job.refusal):
            self._halt_with(job.error)
        self._changed.set()

    def withdrawn(self, job: ClientJob) -> None:
        """List *job*, which was pulled and never sent, as unsubmitted."""
        self._open.discard(job)
        self.unsubmitted.append(job.record())
        self._changed.set()

    def halted(self, job: ClientJob, cause: Exception) -> None:
        """List *job* as never sent, and halt the batch because of *cause*."""
        if self.halt_cause is None:
            self._halt_with(cause)
        self.withdrawn(job)

    def _halt_with(self, cause: Exception | None) -> None:
        """Buy nothing more, because of *cause*; creates on the wire and running tasks are still delivered."""
        self.halt_cause = cause
        self.stop_sending()

    def stop_sending(self) -> None:
        """Pull nothing more, and withdraw what was not sent."""
        self._stop_pulling()
        for job in tuple(self._open):
            job.sending_forbidden = True
            if self.driver.withdraw(job):
                self.withdrawn(job)

    def _stop_pulling(self) -> None:
        self._pulling = False
        self._room.set()
        # Do not cancel a puller that has ended: a batch may be dropped after its event loop.
        if self._puller is not None and not self._pulled_all.is_set():
            self._puller.cancel()

    # ---- for the caller

    async def next_job(self) -> ClientJob | None:
        """Return the next job that is over, None after the last. Several tasks may call this at once.

        Raises the KeyboardInterrupt or SystemExit of the source, in every task.
        """
        if self._consumed % _CHECKPOINT_EVERY == 0:
            await lowlevel.checkpoint()
        while not self._ready or self._interrupt is not None:
            if self._interrupt is not None:
                raise self._interrupt
            if self.state is PipelineState.LEFT or (not self._pulling and not self._open):
                return None
            self.driver.ensure_running()
            if self._changed.is_set():  # otherwise another task waits for this event
                self._changed = anyio.Event()
            await self._changed.wait()
        job = self._ready.popleft()
        self._consumed += 1
        self._room.set()
        return job

    @property
    def has_ready(self) -> bool:
        """Whether a job is over and was not taken yet."""
        return bool(self._ready)

    def put_back(self, job: ClientJob) -> None:
        """Make *job*, which was taken, the next one again: its taker had left."""
        if self.state is PipelineState.RUNNING:
            self._ready.appendleft(job)
            self._consumed -= 1
            self._changed.set()
        else:
            self._list_left_job(job, orphaned=True)

    def list_unsubmitted(self, request: GenerationRequest) -> None:
        """List *request*, which was pulled after the pipeline had stopped."""
        self.unsubmitted.append(
            JobRecord(request=request, key=request.key, index=self._pulled, model=request.model)
        )
        self._pulled += 1

    def client_closed(self) -> None:
        """Wake every task that waits for an outcome or for room in the window."""
        self._changed.set()
        self._room.set()

    # ---- leaving

    async def end(self) -> None:
        """End the batch after its last outcome was taken."""
        self.finish()

    def finish(self) -> None:
        """End the batch: every outcome was taken or listed."""
        self.state = PipelineState.LEFT
        self._changed.set()
        self.driver.owners.discard(self)
        if self.previous_run is not None:
            self.previous_run.close()

    def leave_now(self) -> None:
        """Stop without waiting, because the `Completions` was dropped; list paid tasks as orphans."""
        if self.state is PipelineState.RUNNING:
            self.stop_sending()
            self._list_left(orphaned=True)
        self.finish()

    async def leave(self, *, orphaned: bool, until: float | None = None) -> None:
        """Stop, wait for the creates on the wire, and list the jobs whose outcome was not taken.

        With *orphaned*, paid tasks among them are listed as orphans too. *until* is when to stop waiting for
        creates, on the clock of the event loop (default: in ``Timeouts.create_drain``).
        """
        if self.state is not PipelineState.RUNNING:
            self.finish()
            return
        self.stop_sending()
        try:
            with anyio.move_on_after(self._options.drain, shield=True):
                await self._pulled_all.wait()
            seconds = self._options.drain if until is None else max(0.0, until - anyio.current_time())
            await self.driver.drain(lambda: any(map(_on_wire, self._open)), seconds)
        finally:
            self._list_left(orphaned=orphaned)
            self.finish()
        if self._interrupt is not None:
            raise self._interrupt

    def _list_left(self, *, orphaned: bool) -> None:
        for job in (*self._ready, *self._open):
            self._list_left_job(job, orphaned=orphaned)
        self._open.clear()
        self._ready.clear()

    def _list_left_job(self, job: ClientJob, *, orphaned: bool) -> None:
        if isinstance(job, RecordedJob):
            return  # the journal delivers its end in the next run
        assert isinstance(job.owner, Pipeline)  # this one, or the earlier stage whose failure it passes on
        unknown = _on_wire(job) or job.phase is Phase.AWAITING_CALLBACK
        if unknown:
            cause = SubmissionUnknownError(
                "it was not known yet whether it was bought when the batch was left"
            )
            job.owner.unknown.append(job.record(cause))
        elif job.task_id is not None and not isinstance(job.error, PollingStoppedError):
            job.owner.unfinished.append(job.record())
        if orphaned or unknown:
            self.driver.on_caller_left(job)
        else:
            job.caller_left = True
            self.driver.release(job)


def _on_wire(job: ClientJob) -> bool:
    """Tell whether the outcome of the create of *job* is still open."""
    return job.phase is Phase.CREATING and not job.create_settled
