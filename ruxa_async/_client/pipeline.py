"""One batch: what pulls the requests, keeps the window, and collects what ended.

No task group lives here (PEP 789): the requests are pulled in a helper task of the client, and `_completions` is
only a window onto this.
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
from .resume import PreviousRun, ResumedJob, remembered

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ("Pipeline", "PipelineState")

_YIELD_EVERY = 32  # requests pulled, or outcomes taken, without letting the event loop run


class PipelineState(enum.Enum):
    NEW = enum.auto()
    RUNNING = enum.auto()
    LEFT = enum.auto()


class Pipeline:
    """One batch: pulls requests, keeps the window, collects what ended."""

    def __init__(
        self,
        requests: Iterable[GenerationRequest] | AsyncIterable[GenerationRequest],
        driver: Driver,
        *,
        window: int,
        task_timeout: float | None,
        drain: float,
        past: PreviousRun | None = None,
    ) -> None:
        self._drain = drain
        self._requests = requests
        self._driver = driver
        self._window = window
        self._task_timeout = task_timeout
        self._pulled = 0
        self._consumed = 0
        self._halt = HaltPolicy()
        self._past = past
        self._puller: anyio.CancelScope | None = None
        self._news = anyio.Event()
        self._room = anyio.Event()
        self._pulled_all = anyio.Event()
        self.state = PipelineState.NEW
        self.open: set[ClientJob] = set()
        self.ready: deque[ClientJob] = deque()
        self.pulling = True
        #: What the source raised; it comes out of the iteration after the last outcome.
        self.source_error: BaseException | None = None
        #: A KeyboardInterrupt or SystemExit out of the source; it comes out of the iteration at once.
        self._interrupt: BaseException | None = None
        self.cause: Exception | None = None
        self.unfinished: list[JobRecord] = []
        self.unknown: list[JobRecord] = []
        self.unsubmitted: list[JobRecord] = []

    # ---- pulling

    def start(self) -> None:
        """Begin to pull."""
        if self.state is PipelineState.NEW:
            self._driver.ensure_open()
            self.state = PipelineState.RUNNING
            self._driver.runs.add(self)
            self._puller = self._driver.start_helper(self._pull, "puller")

    async def _pull(self) -> None:
        try:
            with self._source_errors():
                await self._pull_all()
        finally:
            self.pulling = False
            # An async generator that was left early is closed: dropped, it would be finalized at some odd time.
            if inspect.isasyncgen(self._requests):
                with anyio.move_on_after(self._drain, shield=True), self._source_errors():
                    await self._requests.aclose()
            self._news.set()
            self._pulled_all.set()

    async def _pull_all(self) -> None:
        if self._past is not None:
            await self._past.open()
        if isinstance(self._requests, AsyncIterable):
            async for request in self._requests:
                if not await self._take(request):
                    return
        else:
            for request in self._requests:
                if not await self._take(request):
                    return

    @contextmanager
    def _source_errors(self) -> Iterator[None]:
        """Keep whatever the source raises for the iteration; only a cancellation by us passes.

        The task that runs the source is the client's. A CancelledError or GeneratorExit of the source's own would
        end that task, and with it the client.
        """
        try:
            yield
        except BaseException as exc:
            cancelled = anyio.current_effective_deadline() == -math.inf
            if cancelled and isinstance(exc, anyio.get_cancelled_exc_class()):
                raise
            self._source_failed(exc)

    def _source_failed(self, error: BaseException) -> None:
        if self.state is PipelineState.LEFT:
            logger.warning("the source of a batch raised %r after the batch was left", error)
        elif isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._interrupt = error
            self._stop_pulling()
            self._withdraw_unsent()
        else:
            self.source_error = error

    async def _take(self, request: GenerationRequest) -> bool:
        """Queue *request*, and wait until there is room for the next; tell whether to go on."""
        if not isinstance(request, GenerationRequest):
            raise TypeError(f"as_completed takes requests such as NanoBanana(...), not {request!r}")
        job = ClientJob(
            request=request,
            model=request.model,
            key=request.key,
            index=self._pulled,
            owner=self,
            timeout=self._task_timeout,
        )
        self._pulled += 1
        if self._past is not None:
            job = await self._looked_up(job, self._past)
            if not self.pulling:  # nothing is begun any more
                self._note_left(job)
                return False
        self._begin(job)
        if self._pulled % _YIELD_EVERY == 0:
            await lowlevel.checkpoint()
        while self._pulled - self._consumed >= self._window and self.pulling:
            self._room = anyio.Event()
            await self._room.wait()
        return self.pulling

    def _note_left(self, job: ClientJob) -> None:
        if isinstance(job, ResumedJob):
            return  # the journal will tell its end again
        (self.unsubmitted if job.task_id is None else self.unfinished).append(job.record())

    def _begin(self, job: ClientJob) -> None:
        """Buy *job*, pick it up, or deliver it."""
        self.open.add(job)
        if job.ended:
            self.ended(job)
        elif job.task_id is not None:
            self._driver.follow(job)
        elif job.callback_id is not None:
            self._driver.hold(job)
        else:
            self._driver.submit(job)

    async def _looked_up(self, job: ClientJob, past: PreviousRun) -> ClientJob:
        """Return *job* as the journal knows it: to be bought, to be picked up, or over."""
        try:
            return await past.look_up(job)
        except (KeyConflictError, RequestValidationError) as exc:
            return remembered(job, error=exc, finished_at=self._driver.delivery.wall_now())
        except BaseException:
            self.unsubmitted.append(job.record())
            raise

    # ---- what the driver tells

    def accepted(self, job: ClientJob) -> None:  # noqa: ARG002 - which one does not matter
        """Note that the service takes creates."""
        self._halt.on_accept()

    def ended(self, job: ClientJob) -> None:
        """Collect a job that is over."""
        if job not in self.open:
            return
        self.open.discard(job)
        self.ready.append(job)
        if isinstance(job.error, SubmissionUnknownError):
            self.unknown.append(job.record())
        elif isinstance(job.error, PollingStoppedError):
            self.unfinished.append(job.record())
        if job.refusal is not None and self.cause is None and self._halt.on_refusal(job.refusal):
            self._stop(job.error)
        self._news.set()

    def withdrawn(self, job: ClientJob) -> None:
        """Note a request that was pulled and is never sent."""
        self.open.discard(job)
        self.unsubmitted.append(job.record())
        self._news.set()

    def halted(self, job: ClientJob, cause: Exception) -> None:
        """Send nothing more: *job* was not sent because of *cause*, and the others would not be either."""
        if self.cause is None:
            self._stop(cause)
        self.withdrawn(job)

    def closed(self) -> None:
        """Learn that nothing more will come."""
        self._news.set()
        self._room.set()

    def _stop(self, cause: Exception | None) -> None:
        """Send nothing more; what is on the wire or running is still delivered."""
        self.cause = cause
        self._stop_pulling()
        self._withdraw_unsent()

    def _stop_pulling(self) -> None:
        self.pulling = False
        self._room.set()
        if (
            self._puller is not None and not self._pulled_all.is_set()
        ):  # else it may be over, and its loop too
            self._puller.cancel()

    def _withdraw_unsent(self) -> None:
        for job in tuple(self.open):
            job.last_attempt = True
            if self._driver.withdraw(job):
                self.withdrawn(job)

    # ---- what the caller takes

    async def next_job(self) -> ClientJob | None:
        """Return the next job that is over, None after the last. Several tasks may wait at once.

        Raises the KeyboardInterrupt or SystemExit of the source, in every task.
        """
        if (
            self._consumed % _YIELD_EVERY == 0
        ):  # each time would cost as much as all else that is done for an outcome
            await lowlevel.checkpoint()
        while not self.ready or self._interrupt is not None:
            if self._interrupt is not None:
                raise self._interrupt
            if self.state is PipelineState.LEFT or (not self.pulling and not self.open):
                return None
            self._driver.ensure_running()
            if self._news.is_set():  # else another task waits for this very event
                self._news = anyio.Event()
            await self._news.wait()
        job = self.ready.popleft()
        self._consumed += 1
        self._room.set()
        return job

    # ---- leaving

    def finish(self) -> None:
        """Note that everything was taken."""
        self.state = PipelineState.LEFT
        self._news.set()
        self._driver.runs.discard(self)
        if self._past is not None:
            self._past.close()

    def leave_now(self) -> None:
        """Stop without waiting, as when the handle was dropped; what is paid is listed as orphaned."""
        if self.state is PipelineState.RUNNING:
            self._stop_pulling()
            self._withdraw_unsent()
            self._list_left(orphaned=True)
        self.finish()

    async def leave(self, *, orphaned: bool) -> None:
        """Stop, wait for creates on the wire as long as a drain may take, and list what is left."""
        if self.state is not PipelineState.RUNNING:
            self.finish()
            return
        self._stop_pulling()
        self._withdraw_unsent()
        try:
            with anyio.move_on_after(self._drain, shield=True):
                await self._pulled_all.wait()
            await self._driver.drained(lambda: any(map(_on_wire, self.open)), self._drain)
        finally:
            self._list_left(orphaned=orphaned)
            self.finish()
        if self._interrupt is not None:
            raise self._interrupt

    def _list_left(self, *, orphaned: bool) -> None:
        for job in (*self.ready, *self.open):
            if isinstance(job, ResumedJob):
                continue  # the journal knew its end before, and will tell it again
            on_wire = _on_wire(job) or job.phase is Phase.HELD
            if on_wire:
                cause = SubmissionUnknownError(
                    "it was not known yet whether it was bought when the batch was left"
                )
                self.unknown.append(job.record(cause))
            elif job.task_id is not None and not isinstance(job.error, PollingStoppedError):
                self.unfinished.append(job.record())
            if orphaned or on_wire:
                self._driver.abandon(job)
            else:
                job.caller_left = True
                self._driver.release(job)
        self.open.clear()
        self.ready.clear()


def _on_wire(job: ClientJob) -> bool:
    """Tell whether the create of *job* is still out; if its id could not be written down, it is not."""
    return job.phase is Phase.CREATING and not job.create_settled
