"""The driver: owns the tasks that send requests, and carries out what the engine decides.

Workers take a job from the engine, send its request, and report the reply. A timer wakes them when a request
falls due. All run in tasks of the client, so a create on the wire is finished when its caller is cancelled.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from anyio.abc import TaskGroup

from ruxa_async import events
from ruxa_async._api.endpoint import Endpoint
from ruxa_async._engine.engine import Engine
from ruxa_async._logging import logger
from ruxa_async.callbacks import CallbackReceiver
from ruxa_async.errors import (
    ClientClosedError,
    RequestValidationError,
    SubmissionUnknownError,
    TaskTimeout,
    UploadError,
)
from ruxa_async.journal import Journal, JournalEntry
from ruxa_async.requests import LocalFile, local_files
from ruxa_async.results import TaskStatus
from ruxa_async.settings import Limits
from ruxa_async.transports import Transport
from ruxa_async.uploads import Uploader

from .callback_dispatcher import CallbackDispatcher, RecoveredCreate
from .create import CreateHandler
from .job import ClientJob, Owner
from .outcomes import Outcomes
from .query import QueryHandler
from .timer import Timer, make_timer
from .uploads import Uploads
from .worker_pool import WorkerPool

__all__ = ("Driver",)

#: Queries that fall due between two ticks are sent together at the second one, 4 ms late on average, which
#: saves wake-ups. A power of two, so that a time rounded to a tick is exact.
_TICKS_PER_SECOND = 128.0


class _State(enum.Enum):
    OPEN = enum.auto()
    #: No new work is taken; creates on the wire go on.
    CLOSING = enum.auto()
    #: No job changes any more.
    CLOSED = enum.auto()


class Driver:
    """Carry out what *engine* decides, from `open` until `close`."""

    def __init__(
        self,
        engine: Engine[ClientJob],
        endpoint: Endpoint,
        transport: Transport,
        journal: Journal,
        outcomes: Outcomes,
        limits: Limits,
        receiver: CallbackReceiver | None = None,
        callback_wait: float = 0.0,
        uploader: Uploader | None = None,
    ) -> None:
        self.engine: Engine[ClientJob] = engine
        self.outcomes: Outcomes = outcomes
        self.owners: set[Owner] = set()
        self._clock = outcomes.clock
        self._state = _State.OPEN
        self._crash_cause: Exception | None = None
        self._tg: TaskGroup | None = None
        self._timer: Timer | None = None
        self._background: set[anyio.CancelScope] = set()
        self._waiting: set[ClientJob] = set()
        self._uploading: set[ClientJob] = set()
        self._uploads = Uploads(uploader, self.start_background)
        if uploader is not None:
            outcomes.events.add(self._uploads.on_event)
        self._drains: set[anyio.CancelScope] = set()
        self._drain_aborted = False
        busy: set[ClientJob] = set()
        dispatcher = None
        if receiver is not None:
            dispatcher = CallbackDispatcher(
                receiver, engine, journal, outcomes, callback_wait, self._wake_workers, busy.add
            )
        self._callback_dispatcher = dispatcher
        creates = CreateHandler(engine, endpoint, transport, journal, outcomes, busy, dispatcher)
        slots = anyio.Semaphore(limits.max_concurrent_queries, fast_acquire=True)
        queries = QueryHandler(engine, endpoint, transport, journal, outcomes, slots)
        pool = partial(
            WorkerPool[ClientJob], clock=self._clock, on_take=self._wake_workers_at, on_crash=self._crash
        )
        self._create_handler = creates
        self._create_workers = pool(
            "create", limits.max_concurrent_creates, take=engine.take_create, perform=creates.run
        )
        self._query_workers = pool(
            "query", limits.max_concurrent_queries, take=engine.take_query, perform=queries.run
        )

    # ---- opening and closing

    def open(self, tg: TaskGroup) -> None:
        """Start the timer and the other background tasks in *tg*, the task group of the client."""
        self._tg = tg
        self._clock.open()
        self._timer = timer = make_timer()
        self.start_background(lambda: self._run_timer(timer), "timer")
        if (dispatcher := self._callback_dispatcher) is not None:
            dispatcher.open()
            self.start_background(lambda: dispatcher.run(self._recover), "recovery")
            self.start_background(dispatcher.receiver.hand_over_unclaimed, "callbacks")
            self.start_background(dispatcher.relay_recorded, "recorded callbacks")

    async def close(self, drain: float) -> None:
        """Withdraw queued creates, wait up to *drain* seconds for those on the wire, then cancel the rest."""
        self._stop_taking()
        self._query_workers.cancel()
        creates, dispatcher = self._create_handler, self._callback_dispatcher
        try:
            if dispatcher is not None:  # first, because the drain waits for these jobs as well
                await dispatcher.recover_pending(creates.recover)
            await self.drain(lambda: bool(creates.busy), drain)
        finally:
            self._create_workers.cancel()
            with anyio.CancelScope(shield=True):
                if dispatcher is not None:
                    await dispatcher.recover_pending(creates.recover)
                    dispatcher.close()
                while creates.busy:
                    await creates.wait_for_one()
            self._state = _State.CLOSED
            self._notify_all()
            await self._uploads.close()

    def ensure_open(self) -> None:
        """Raise `ClientClosedError` if the client takes no new jobs any more."""
        if self._state is not _State.OPEN:
            raise self._closed_error()

    def ensure_running(self) -> None:
        """Raise `ClientClosedError` if no job can change any more."""
        if self._state is _State.CLOSED:
            raise self._closed_error()

    def _closed_error(self) -> ClientClosedError:
        if self._crash_cause is None:
            return ClientClosedError(
                "the client was closed; tasks that were submitted can be attached to by their ids"
            )
        error = ClientClosedError(f"the client closed because its driver crashed: {self._crash_cause!r}")
        error.__cause__ = self._crash_cause
        return error

    def start_background(self, function: Callable[[], Awaitable[None]], name: str) -> anyio.CancelScope:
        """Run *function* in a shielded task of the client; return the scope that cancels it."""
        assert self._tg is not None
        scope = anyio.CancelScope(shield=True)
        self._background.add(scope)

        async def run() -> None:
            try:
                with scope:
                    await function()
            except Exception as exc:  # noqa: BLE001 - it must reach every waiter, never the user's body
                self._crash(exc)
            finally:
                self._background.discard(scope)

        self._tg.start_soon(run, name=f"ruxa_async {name}")
        return scope

    def _crash(self, exc: Exception) -> None:
        """Fail every waiter with *exc*. The body of the user's ``async with`` is not cancelled."""
        logger.error("the driver of a RuxaClient crashed: %r", exc, exc_info=exc)
        if self._crash_cause is None:
            self._crash_cause = exc
        self._stop_taking()
        self._query_workers.cancel()
        self._state = _State.CLOSED
        self._notify_all()

    def _stop_taking(self) -> None:
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
        self._create_handler.stop()
        for scope in tuple(self._background):
            scope.cancel()
        while self._uploading:
            self._create_handler.deliver_withdrawn(self._uploading.pop())
        while (job := self.engine.pop_queued()) is not None:
            self._create_handler.deliver_withdrawn(job)
        self._create_workers.stop()

    def _notify_all(self) -> None:
        for job in tuple(self._waiting):
            job.notify()
        for owner in tuple(self.owners):
            owner.client_closed()

    # ---- time

    async def _run_timer(self, timer: Timer) -> None:
        while True:
            self._expire()
            now = self._clock.now()
            due = min(
                self.engine.queues.deadlines.next_time(),
                self._wake_for_creates(now),
                self._wake_for_queries(now, self.engine.polls.count_due(now)),
            )
            await timer.sleep_until(due)

    def _wake_workers(self) -> None:
        """Wake a worker for each kind of request that may leave now, and set the timer for later ones."""
        if self._state is not _State.CLOSED:  # a batch may be dropped when no event loop runs any more
            self._wake_workers_at(self._clock.now())

    def _wake_workers_at(self, now: float) -> None:
        due = self.engine.queues.deadlines.next_time()
        # A worker that was woken wakes the next one itself, after it took its job.
        if not self._create_workers.is_waking:
            due = min(due, self._wake_for_creates(now))
        if not self._query_workers.is_waking:
            due = min(due, self._wake_for_queries(now, 1))
        if self._timer is not None:
            self._timer.bring_forward(due)

    def _wake_for_creates(self, now: float) -> float:
        """Wake a worker if a create may leave now; otherwise return when one may."""
        ready_at = self.engine.create_ready_at(now)
        if ready_at > now:
            return ready_at
        self._wake(self._create_workers, 1)
        return math.inf

    def _wake_for_queries(self, now: float, workers: int) -> float:
        """Wake up to *workers* workers if a query may leave now; otherwise return when to call this again."""
        look_at, only_due = self.engine.look_for_query_at(now)
        # A query that waits for the rate limit is not rounded to a tick, which would waste the limit.
        if only_due and look_at < math.inf:
            look_at = math.ceil(look_at * _TICKS_PER_SECOND) / _TICKS_PER_SECOND
        if look_at > now:
            return look_at
        self._wake(self._query_workers, max(workers, 1))
        return math.inf

    def _wake(self, pool: WorkerPool[ClientJob], workers: int) -> None:
        if self._tg is not None:
            pool.wake(self._tg, workers)

    def _expire(self) -> None:
        while (job := self.engine.take_expired(self._clock.now())) is not None:
            if job.task_id is None:
                assert self._callback_dispatcher is not None
                self._callback_dispatcher.on_timeout(job)
            else:
                assert job.timeout is not None
                self.outcomes.stop(job, TaskTimeout(job.task_id, job.timeout))

    # ---- for callers

    def submit(self, job: ClientJob) -> None:
        """Queue *job* to be bought, once its local files are uploaded. Raises `ClientClosedError`."""
        self.ensure_open()
        assert job.request is not None
        self.outcomes.events.emit(events.JobQueued, job)
        if files := tuple(local_files(job.request)):
            self._uploading.add(job)
            self.start_background(partial(self._upload, job, files), "upload")
        else:
            self._queue(job)

    async def _upload(self, job: ClientJob, files: tuple[LocalFile, ...]) -> None:
        """Upload *files*, then queue *job*, unless it was withdrawn. It holds no slot until then."""
        try:
            job.links = await self._uploads.upload(job, files)
        except (RequestValidationError, UploadError) as exc:
            if job in self._uploading:
                self.outcomes.abandon(job, exc)
        else:
            if job in self._uploading:
                self._queue(job)
            else:
                self._uploads.release(job)
        finally:
            self._uploading.discard(job)

    def _queue(self, job: ClientJob) -> None:
        now = self._clock.now()
        self.engine.creates.submit(job, now)
        if self.engine.creates.has_waited_too_long(job, now):
            self._create_handler.give_up_waiting()
        self._wake_workers()

    def follow(self, job: ClientJob) -> None:
        """Query a task that was bought earlier, now and until its end or ``job.timeout``."""
        self.ensure_open()
        now = self._clock.now()
        age = 0.0 if job.submitted_at is None else max(0.0, self._clock.wall(now) - job.submitted_at)
        job.mark_recovered(now - age)
        self.engine.creates.on_recovered()
        self.outcomes.events.emit(events.TaskFollowed, job)
        timeout = None if job.timeout is None else age + job.timeout
        self.engine.polls.follow(job, now, timeout=timeout, poll_at=now)
        self._wake_workers()

    async def query_once(self, task_id: str) -> TaskStatus:
        """Return the state of a task by one query, which is sent again only after a 429."""
        self.ensure_open()
        now = self._clock.now()
        job = ClientJob(request=None, model=None, task_id=task_id, single_shot=True)
        job.mark_recovered(now)
        self.engine.polls.follow(job, now, poll_at=now)
        self._wake_workers()
        try:
            while not job.ended:
                await self.wait_for_change(job)
        except BaseException:
            self.release(job)
            raise
        if job.error is not None:
            raise job.error
        assert job.status is not None
        return job.status

    async def _recover(self, recovered: RecoveredCreate) -> None:
        await self._create_handler.recover(recovered)
        self._wake_workers()

    def may_be_called_back(self, known: JournalEntry) -> bool:
        """Tell whether a callback for the create of *known* may still come."""
        return self._callback_dispatcher is not None and self._callback_dispatcher.may_come(known)

    def await_callback(self, job: ClientJob) -> None:
        """Wait for the callback of *job*, whose create the journal holds as unknown since an earlier run."""
        assert self._callback_dispatcher is not None
        self.ensure_open()
        self._callback_dispatcher.await_recorded(job)
        self._wake_workers()

    def release(self, job: ClientJob) -> None:
        """Stop following *job*, and free its slot."""
        if job.task_id is not None and not (job.ended or job.single_shot):
            self.outcomes.events.emit(events.TaskReleased, job)
        self.engine.release(job)
        self._wake_workers()

    def withdraw(self, job: ClientJob) -> bool:
        """Remove *job* from the queue if its create was not sent; tell whether it was removed."""
        if not self.engine.creates.withdraw(job):
            return False
        self._uploading.discard(job)
        self.outcomes.events.emit(events.JobWithdrawn, job)
        self._wake_workers()
        return True

    def on_caller_left(self, job: ClientJob) -> None:
        """Note that the caller of *job* left: withdraw it if queued, list it as orphan if it may be paid."""
        if job.caller_left:
            return
        job.caller_left = True
        if self.withdraw(job) or not job.create_settled:
            return  # not bought, or on the wire: then `CreateHandler` lists it when its outcome is known
        if job.task_id is not None:
            self.release(job)
            self.outcomes.add_orphan(job)
        elif isinstance(job.error, SubmissionUnknownError):
            self.outcomes.add_orphan(job)

    async def wait_for_change(self, job: ClientJob) -> None:
        """Wait until *job* changes. Raises `ClientClosedError` if it cannot change any more."""
        self.ensure_running()
        if job.changed is None:
            job.changed = anyio.Event()
        self._waiting.add(job)
        try:
            await job.changed.wait()
        finally:
            self._waiting.discard(job)

    async def drain(self, busy: Callable[[], bool], seconds: float) -> None:
        """Wait up to *seconds*, shielded, until *busy* returns False, which is called after each create."""
        with anyio.move_on_after(0 if self._drain_aborted else seconds, shield=True) as scope:
            self._drains.add(scope)
            try:
                while busy():
                    await self._create_handler.wait_for_one()
            finally:
                self._drains.discard(scope)

    def abort_drain(self) -> None:
        """End every drain at once, now and later."""
        self._drain_aborted = True
        for scope in tuple(self._drains):
            scope.cancel()
