"""The driver: reads the clock, obeys the engine, and owns the tasks in which bytes move.

It decides nothing. Workers take a job from the engine, do the exchange, and report what came back; a timer wakes
them when something falls due. All of it runs in tasks that the client owns, so that a caller who is cancelled
leaves its create to somebody who still listens for the task id.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from ruxa_async import events
from ruxa_async._api.endpoint import Endpoint
from ruxa_async._engine.engine import Engine
from ruxa_async._logging import logger
from ruxa_async.errors import ClientClosedError, SubmissionUnknownError, TaskTimeout
from ruxa_async.journal import Journal, JournalEntry
from ruxa_async.settings import Limits
from ruxa_async.transports import Transport

from .callbacks import Adoption, CallbackDispatcher
from .create import CreateHandler
from .job import ClientJob
from .outcomes import Delivery
from .query import QueryHandler
from .timer import Timer, make_timer
from .worker_pool import WorkerPool

__all__ = ("Driver",)

#: Queries wait for the next tick of this clock, 4 ms on average. A power of two, so that no instant is rounded twice.
_TICKS_A_SECOND = 128.0


class _Run(Protocol):
    """A batch in progress, which wants to know when nothing more will come."""

    def closed(self) -> None: ...


class Driver:
    """Carry out what the engine decides, for the length of one client."""

    def __init__(
        self,
        engine: Engine[ClientJob],
        wire: Endpoint,
        transport: Transport,
        journal: Journal,
        delivery: Delivery,
        limits: Limits,
        desk: CallbackDispatcher | None = None,
    ) -> None:
        self._desk = desk
        self.engine = engine
        self.delivery = delivery
        self.runs: set[_Run] = set()
        self._tg: TaskGroup | None = None
        self._closed = False
        self._cause: Exception | None = None
        self._waiting: set[ClientJob] = set()
        self._alarm: Timer | None = None
        self._helpers: set[anyio.CancelScope] = set()
        self._drains: set[anyio.CancelScope] = set()
        self._hurried = False
        slots = anyio.Semaphore(limits.max_concurrent_queries, fast_acquire=True)
        self._buyer = CreateHandler(engine, wire, transport, journal, delivery, desk)
        self._asker = QueryHandler(engine, wire, transport, journal, delivery, slots)
        self._creators = WorkerPool(
            "create",
            limits.max_concurrent_creates,
            clock=lambda: delivery.now(),  # noqa: PLW0108 - it is bound when the loop runs
            take=engine.take_create,
            perform=self._buyer.buy,
            took=self._settle_at,
            crashed=self._crash,
        )
        self._askers = WorkerPool(
            "query",
            limits.max_concurrent_queries,
            clock=lambda: delivery.now(),  # noqa: PLW0108 - it is bound when the loop runs
            take=engine.take_query,
            perform=self._asker.ask,
            took=self._settle_at,
            crashed=self._crash,
        )

    # ---- opening and closing

    def open(self, tg: TaskGroup) -> None:
        """Begin to work in *tg*."""
        self._tg = tg
        self.delivery.open()
        self._alarm = clock = make_timer()
        self.start_helper(lambda: self._keep_time(clock), "timer")
        if (desk := self._desk) is not None:
            desk.changed, desk.adopting = self._settle, self._buyer.busy.add
            desk.open()
            self.start_helper(lambda: desk.settle(self._adopt), "adoptions")
            self.start_helper(desk.receiver.hand_over_unclaimed, "callbacks")

    async def close(self, drain: float) -> None:
        """Stop: withdraw what is unsent, wait up to *drain* seconds for creates on the wire, cut off the rest."""
        self._stop_taking()
        self._askers.cancel()
        try:
            if self._desk is not None:  # first, or the drain would wait for what nobody adopts any more
                await self._desk.settle_waiting(self._buyer.adopt)
            await self.drained(lambda: bool(self._buyer.busy), drain)
        finally:
            self._creators.cancel()
            with anyio.CancelScope(shield=True):
                if self._desk is not None:
                    await self._desk.settle_waiting(self._buyer.adopt)
                    self._desk.close()
                while self._buyer.busy:
                    await self._buyer.one_done()
            self._closed = True
            self._wake_everyone()

    def ensure_open(self) -> None:
        """Raise `ClientClosedError` unless new work can be taken."""
        if self._buyer.closing:
            raise self.closed_error()

    def ensure_running(self) -> None:
        """Raise `ClientClosedError` unless more news can come."""
        if self._closed:
            raise self.closed_error()

    def closed_error(self) -> ClientClosedError:
        """Return the error for whoever still wants something."""
        if self._cause is None:
            return ClientClosedError(
                "the client was closed; tasks that were submitted can be attached to by their ids"
            )
        error = ClientClosedError(f"the client closed because its driver crashed: {self._cause!r}")
        error.__cause__ = self._cause
        return error

    def start_helper(self, function: Callable[[], Awaitable[None]], name: str) -> anyio.CancelScope:
        """Run *function* in a shielded task that the client owns; cancel the returned scope to end it."""
        assert self._tg is not None
        scope = anyio.CancelScope(shield=True)
        self._helpers.add(scope)

        async def run() -> None:
            try:
                with scope:
                    await function()
            except Exception as exc:  # noqa: BLE001 - it must reach every waiter, never the user's body
                self._crash(exc)
            finally:
                self._helpers.discard(scope)

        self._tg.start_soon(run, name=f"ruxa_async {name}")
        return scope

    def _crash(self, exc: Exception) -> None:
        """Fail every waiter with *exc*; the user's body is never cancelled for it."""
        logger.error("the driver of a RuxaClient crashed: %r", exc, exc_info=exc)
        if self._cause is None:
            self._cause = exc
        self._stop_taking()
        self._askers.cancel()
        self._closed = True
        self._wake_everyone()

    def _stop_taking(self) -> None:
        self._buyer.closing = True
        for scope in tuple(self._helpers):
            scope.cancel()
        while (job := self.engine.pop_queued()) is not None:
            self._buyer.withdrawn(job)
        self._creators.stop()

    def _wake_everyone(self) -> None:
        for job in tuple(self._waiting):
            job.notify()
        for run in tuple(self.runs):
            run.closed()

    # ---- time

    async def _keep_time(self, clock: Timer) -> None:
        while True:
            self._expire()
            now = self.delivery.now()
            # All that are due leave in one turn of the loop.
            due = min(
                self.engine.queues.deadlines.next_time(),
                self._see_to_creates(now),
                self._see_to_queries(now, self.engine.queries_due(now)),
            )
            await clock.sleep_until(due)

    def _settle(self) -> None:
        """Wake workers for what is ready, and have the timer wake them for what is not."""
        if not self._closed:  # a batch may be dropped later, when no event loop runs any more
            self._settle_at(self.delivery.now())

    def _settle_at(self, now: float) -> None:
        due = self.engine.queues.deadlines.next_time()
        # A worker that is about to look sees to the rest of its kind afterwards.
        if not self._creators.roused:
            due = min(due, self._see_to_creates(now))
        if not self._askers.roused:
            due = min(due, self._see_to_queries(now, 1))
        if self._alarm is not None:
            self._alarm.bring_forward(due)

    def _see_to_creates(self, now: float) -> float:
        """See that a worker looks if a create may leave, else return when one may."""
        ready_at = self.engine.create_ready_at(now)
        if ready_at > now:
            return ready_at
        self._wake(self._creators, 1)
        return math.inf

    def _see_to_queries(self, now: float, workers: int) -> float:
        """See that so many *workers* look if a query may leave, else return when to look again."""
        look_at = self._query_wake(now)
        if look_at > now:
            return look_at
        self._wake(self._askers, max(workers, 1))
        return math.inf

    def _wake(self, pool: WorkerPool[ClientJob], workers: int) -> None:
        if self._tg is not None:
            pool.wake(self._tg, workers)

    def _query_wake(self, now: float) -> float:
        """Return when to look for queries again: on the next tick, so that those due at about that time share a wake-up.

        Where the limit holds them back, not their time, each leaves at its exact moment: waiting would waste the limit.
        """
        look_at, only_due = self.engine.look_for_query_at(now)
        if only_due and look_at < math.inf:
            return math.ceil(look_at * _TICKS_A_SECOND) / _TICKS_A_SECOND
        return look_at

    def _expire(self) -> None:
        while (job := self.engine.take_expired(self.delivery.now())) is not None:
            if job.task_id is None:
                assert self._desk is not None
                self._desk.expired(job)
                continue
            assert job.timeout is not None
            self.delivery.stopped += 1
            self.delivery.end(job, TaskTimeout(job.task_id, job.timeout))

    # ---- what callers ask for

    def submit(self, job: ClientJob) -> None:
        """Queue *job* to be bought."""
        self.ensure_open()
        now = self.delivery.now()
        self.engine.submit(job, now)
        self.delivery.tell(events.JobQueued, job)
        if self.engine.has_waited_too_long(job, now):
            self._buyer.give_up_waiting()
        self._settle()

    def follow(self, job: ClientJob) -> None:
        """Ask for the state of a task that was bought elsewhere, at once and from now on, for ``job.timeout`` at most."""
        self.ensure_open()
        now = self.delivery.now()
        age = 0.0 if job.submitted_at is None else max(0.0, self.delivery.wall(now) - job.submitted_at)
        job.accepted_at = now - age
        job.create_settled = True
        timeout = None if job.timeout is None else age + job.timeout
        self.engine.follow(job, now, timeout=timeout, ask_at=now)
        self._settle()

    async def _adopt(self, adoption: Adoption) -> None:
        await self._buyer.adopt(adoption)
        self._settle()

    def may_settle(self, known: JournalEntry) -> bool:
        """Tell whether a callback may still say what became of a create that the journal knows as in doubt."""
        return self._desk is not None and self._desk.may_settle(known)

    def hold(self, job: ClientJob) -> None:
        """Wait for the callback of *job*, whose create an earlier process lost sight of."""
        assert self._desk is not None
        self.ensure_open()
        self._desk.hold_remembered(job)
        self._settle()

    def release(self, job: ClientJob) -> None:
        """Follow *job* no longer; its slot is free for another."""
        self.engine.release(job)
        self._settle()

    def withdraw(self, job: ClientJob) -> bool:
        """Take *job* back if no byte of it has left; tell whether that was in time."""
        if not self.engine.withdraw(job):
            return False
        self.delivery.tell(events.JobWithdrawn, job)
        self._settle()
        return True

    def abandon(self, job: ClientJob) -> None:
        """Note that the caller of *job* is gone: withdraw what is unsent, list what is paid or may be."""
        if job.caller_left:
            return
        job.caller_left = True
        if self.withdraw(job) or not job.create_settled:
            return  # never bought, or still on the wire: then `CreateHandler` lists it when its outcome is known
        if job.task_id is not None:
            self.release(job)
            self.delivery.orphan(job)
        elif isinstance(job.error, SubmissionUnknownError):
            self.delivery.orphan(job)

    async def changed(self, job: ClientJob) -> None:
        """Wait until something about *job* changes. Raises `ClientClosedError` if nothing will."""
        self.ensure_running()
        if job.changed is None:
            job.changed = anyio.Event()
        self._waiting.add(job)
        try:
            await job.changed.wait()
        finally:
            self._waiting.discard(job)

    async def drained(self, busy: Callable[[], bool], seconds: float) -> None:
        """Wait, shielded, for at most *seconds* until *busy* is no more true of the creates on the wire."""
        with anyio.move_on_after(0 if self._hurried else seconds, shield=True) as scope:
            self._drains.add(scope)
            try:
                while busy():
                    await self._buyer.one_done()
            finally:
                self._drains.discard(scope)

    def abort_drain(self) -> None:
        """End every drain at once, now and later."""
        self._hurried = True
        for scope in tuple(self._drains):
            scope.cancel()
