"""One query, from the engine's decision to what its reply leads to."""

from __future__ import annotations

import anyio
from attrs import define, field

from ruxa_async import events
from ruxa_async._api.endpoint import Endpoint, body_text
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

from .clock import Clock
from .event_bus import EventBus
from .job import ClientJob
from .outcomes import Outcomes

__all__ = ("QueryHandler",)


@define(eq=False)
class QueryHandler:
    """Send queries. A slot of *slots* is held only while a request is on the wire."""

    _engine: Engine[ClientJob]
    _endpoint: Endpoint
    _transport: Transport
    _journal: Journal
    _outcomes: Outcomes
    _slots: anyio.Semaphore
    _clock: Clock = field(init=False)
    _events: EventBus = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._clock, self._events = self._outcomes.clock, self._outcomes.events

    async def run(self, job: ClientJob) -> None:
        """Send the query of *job*, and handle the reply."""
        assert job.task_id is not None
        reply: Reply | None = None
        cause: Exception | None = None
        await self._take_slot()
        try:
            self._events.emit(events.QuerySent, job)
            failpoint("query begun")
            try:
                response = await self._transport.send(self._endpoint.query(job.task_id))
            except Exception as exc:  # noqa: BLE001 - a failed query never fails a task
                step = self._engine.polls.on_failure(
                    job, self._clock.now(), sent=not isinstance(exc, NotSentError)
                )
                cause = exc
            except BaseException:
                self._engine.polls.on_abort(self._clock.now())
                raise
            else:
                now = self._clock.now()
                reply = self._endpoint.read_query(
                    response, task_id=job.task_id, wall_now=self._clock.steady(now)
                )
                step = self._engine.polls.on_reply(job, reply, now)
        finally:
            self._slots.release()
        if step is QueryStep.PENDING:
            assert reply is not None
            self._on_pending(job, reply)
        elif step is QueryStep.AGAIN:
            self._on_retry(job, reply, cause)
        elif job.single_shot:
            self._finish_single_shot(job, reply, cause)
        elif step is QueryStep.ENDED:
            assert reply is not None
            await self._on_end(job, reply)
        else:
            await self._stop(job, self._error(job, reply, cause))

    async def _take_slot(self) -> None:
        try:
            self._slots.acquire_nowait()  # succeeds nearly always, and saves the checkpoint of `acquire`
        except anyio.WouldBlock:
            await self._slots.acquire()

    def _on_pending(self, job: ClientJob, reply: Reply) -> None:
        if reply.raw_state != job.raw_state:
            job.raw_state = reply.raw_state
            if job.listeners or self._events.enabled:
                assert job.task_id is not None
                self._outcomes.publish_status(job, task_status(job.task_id, reply))

    def _on_retry(self, job: ClientJob, reply: Reply | None, cause: Exception | None) -> None:
        if not self._events.enabled:
            return
        error = self._error(job, reply, cause)
        self._events.emit(events.QueryFailed, job, error)
        if isinstance(error, RateLimitedError):
            pause = self._engine.scopes.query.wait(self._clock.now())
            self._events.emit_for_client(events.ScopePaused, "query", pause)

    def _finish_single_shot(self, job: ClientJob, reply: Reply | None, cause: Exception | None) -> None:
        """Deliver to ``RuxaClient.status`` the state that the reply names, or why it names none."""
        assert job.task_id is not None
        error: Exception | None = None
        if reply is not None and reply.state is not None:
            job.status = task_status(job.task_id, reply)
        else:
            error = self._error(job, reply, cause)
        self._outcomes.deliver(job, error)

    async def _on_end(self, job: ClientJob, reply: Reply) -> None:
        assert job.task_id is not None
        status = task_status(job.task_id, reply)
        error: Exception | None = None
        if status.state is TaskState.FAIL:
            error = TaskFailedError(job.task_id, status.fail_code, status.fail_message, status.credits)
        elif not has_result(status):
            error = MalformedResponseError(
                job.task_id, "it succeeded, but its answer names no output", body_text(reply)
            )
        if job.request is not None and (error is None or status.state is TaskState.FAIL):
            # Not for a task that was attached to: it is not known when it started.
            self._engine.polls.learn(job, self._clock.now(), status.duration, succeeded=error is None)
        if (spending := self._engine.spending) is not None:
            spending.on_end(job, status.credits)
        failpoint("end seen")
        await self._journal.finished(job.record(error), status)
        failpoint("outcome durable")
        self._outcomes.publish_end(job, status, succeeded=error is None)
        self._outcomes.end(job, error)

    async def _stop(self, job: ClientJob, cause: Exception) -> None:
        assert job.task_id is not None
        error = PollingStoppedError(
            job.task_id,
            f"its state could not be learned, though it may well finish: attach to it later ({cause})",
        )
        error.__cause__ = cause
        await self._journal.finished(job.record(error), None)
        self._outcomes.stop(job, error)

    def _error(self, job: ClientJob, reply: Reply | None, cause: Exception | None) -> Exception:
        """Return the error for a query without a state: *cause*, or what *reply* says."""
        if reply is None:
            assert cause is not None
            return cause
        error = self._endpoint.error(reply, job.task_id)
        if reply.status != 200 or error.code not in (None, 200):
            return error
        problem = f"the state {reply.raw_state!r} is not known" if reply.raw_state else error.message
        return MalformedResponseError(
            job.task_id or "", f"the answer to a query cannot be read: {problem}", body_text(reply)
        )
