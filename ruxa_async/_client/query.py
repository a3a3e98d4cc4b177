"""One query from the engine's word to what it saw."""

from __future__ import annotations

import anyio

from ruxa_async import events
from ruxa_async._api.endpoint import Endpoint, shown
from ruxa_async._api.task_status import has_result, task_status
from ruxa_async._engine.classify import Reply
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import QueryStep
from ruxa_async._internal.failpoints import failpoint
from ruxa_async.errors import (
    MalformedResponseError,
    NotSentError,
    PollingStoppedError,
    RateLimitedError,
    TaskFailedError,
)
from ruxa_async.journal import Journal
from ruxa_async.results import TaskState
from ruxa_async.transports import Transport

from .job import ClientJob
from .outcomes import Delivery

__all__ = ("QueryHandler",)


class QueryHandler:
    """Send queries. A slot is held only while bytes move, never during a wait."""

    def __init__(
        self,
        engine: Engine[ClientJob],
        wire: Endpoint,
        transport: Transport,
        journal: Journal,
        delivery: Delivery,
        slots: anyio.Semaphore,
    ) -> None:
        self._engine = engine
        self._wire = wire
        self._transport = transport
        self._journal = journal
        self._delivery = delivery
        self._slots = slots

    async def ask(self, job: ClientJob) -> None:
        """Ask once for the state of *job* and act on the answer."""
        assert job.task_id is not None
        delivery = self._delivery
        reply: Reply | None = None
        cause: Exception | None = None
        await self._take_slot()
        try:
            delivery.tell(events.QuerySent, job)
            failpoint("query begun")
            try:
                response = await self._transport.send(self._wire.query(job.task_id))
            except Exception as exc:  # noqa: BLE001 - a failed query never fails a task, whatever failed it
                step = self._engine.query_failed(job, delivery.now(), sent=not isinstance(exc, NotSentError))
                cause = exc
            except BaseException:
                self._engine.query_aborted(job, delivery.now())
                raise
            else:
                now = delivery.now()
                reply = self._wire.read_query(response, task_id=job.task_id, wall_now=delivery.steady(now))
                step = self._engine.query_answered(job, reply, now)
        finally:
            self._slots.release()
        if step is QueryStep.PENDING:
            assert reply is not None
            self._pending(job, reply)
        elif step is QueryStep.AGAIN:
            self._again(job, reply, cause)
        elif step is QueryStep.ENDED:
            assert reply is not None
            await self._ended(job, reply)
        else:
            await self._stopped(job, self._reason(job, reply, cause))

    async def _take_slot(self) -> None:
        try:
            self._slots.acquire_nowait()  # nearly always; the checkpoint of `acquire` costs more than all the rest of it
        except anyio.WouldBlock:
            await self._slots.acquire()

    def _pending(self, job: ClientJob, reply: Reply) -> None:
        if reply.raw_state != job.raw_state:
            job.raw_state = reply.raw_state
            if job.listeners or self._delivery.on_event is not None:
                assert job.task_id is not None
                self._delivery.publish(job, task_status(job.task_id, reply))

    def _again(self, job: ClientJob, reply: Reply | None, cause: Exception | None) -> None:
        if self._delivery.on_event is None:
            return
        error = self._reason(job, reply, cause)
        self._delivery.tell(events.QueryFailed, job, error)
        if isinstance(error, RateLimitedError):
            self._delivery.tell_pause("query", self._engine.queries.wait(self._delivery.now()))

    async def _ended(self, job: ClientJob, reply: Reply) -> None:
        assert job.task_id is not None
        if reply.state is None:  # asked once, and the answer names no state
            self._delivery.end(job, self._reason(job, reply, None))
            return
        status = task_status(job.task_id, reply)
        error: Exception | None = None
        if job.single_shot:
            job.status = status
            self._delivery.end(job, None)
            return
        if status.state is TaskState.FAIL:
            error = TaskFailedError(job.task_id, status.fail_code, status.fail_message, status.credits)
        elif not has_result(status):
            error = MalformedResponseError(
                job.task_id, "it succeeded, but its answer names no output", shown(reply)
            )
        if job.request is not None and (error is None or status.state is TaskState.FAIL):
            # Of a task that was attached to, nobody here knows when it began.
            self._engine.learn(job, self._delivery.now(), status.duration, succeeded=error is None)
        if (spending := self._engine.spending) is not None:
            spending.ended(job, job.model, status.credits)
        failpoint("end seen")
        await self._journal.finished(job.record(error), status)
        failpoint("outcome durable")
        self._delivery.publish(job, status)
        self._delivery.count_end(job, status, good=error is None)
        self._delivery.end(job, error)

    async def _stopped(self, job: ClientJob, reason: Exception) -> None:
        if job.single_shot:
            self._delivery.end(job, reason)
            return
        assert job.task_id is not None
        error = PollingStoppedError(
            job.task_id,
            f"its state could not be learned, though it may well finish: attach to it later ({reason})",
        )
        error.__cause__ = reason
        self._delivery.stopped += 1
        await self._journal.finished(job.record(error), None)
        self._delivery.end(job, error)

    def _reason(self, job: ClientJob, reply: Reply | None, cause: Exception | None) -> Exception:
        """Return why a query brought nothing."""
        if reply is None:
            assert cause is not None
            return cause
        error = self._wire.refusal(reply, job.task_id)
        if reply.status != 200 or error.code not in (None, 200):
            return error
        what = f"the state {reply.raw_state!r} is not known" if reply.raw_state else error.message
        return MalformedResponseError(
            job.task_id or "", f"the answer to a query cannot be read: {what}", shown(reply)
        )
