"""One create, from the engine's decision to its outcome.

The order of the steps keeps money safe:

1. The intent is recorded before the first byte leaves.
2. The task id is recorded before the first query.
3. What was not bought is recorded before the job is queued again.

At the end the job is accepted, queued again, delivered, or listed as orphan or unknown.
"""

from __future__ import annotations

import anyio
from attrs import define, field

from ruxa_async import events
from ruxa_async._api.endpoint import Endpoint
from ruxa_async._engine.classify import Refusal, Reply, refusal_of
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import CreateStep
from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import logger
from ruxa_async.errors import ClientClosedError, NotSentError, RuxaError, TaskFailedError
from ruxa_async.journal import Journal
from ruxa_async.results import TaskState, TaskStatus
from ruxa_async.transports import Request, Transport

from .callback_dispatcher import CallbackDispatcher, RecoveredCreate
from .clock import Clock
from .config import never_reached
from .event_bus import EventBus
from .job import ClientJob
from .outcomes import Outcomes
from .spending import budget_error

__all__ = ("CreateHandler",)


@define(eq=False)
class CreateHandler:
    """Send creates. *busy* holds each job from the engine's decision to its recorded outcome."""

    _engine: Engine[ClientJob]
    _endpoint: Endpoint
    _transport: Transport
    _journal: Journal
    _outcomes: Outcomes
    busy: set[ClientJob]
    _callback_dispatcher: CallbackDispatcher | None
    _clock: Clock = field(init=False)
    _events: EventBus = field(init=False)
    _one_done: anyio.Event = field(factory=anyio.Event, init=False)
    _stopped: bool = field(default=False, init=False)
    _circuit_was_open: bool = field(default=False, init=False)
    #: Why the last create was not accepted; queued jobs that have waited too long fail with this error.
    _last_delay: Exception = field(factory=lambda: RuxaError("no create was accepted"), init=False)

    def __attrs_post_init__(self) -> None:
        self._clock, self._events = self._outcomes.clock, self._outcomes.events

    def stop(self) -> None:
        """Send no more creates; those on the wire are finished."""
        self._stopped = True

    async def run(self, job: ClientJob) -> None:
        """Send the create of *job*, and handle the reply."""
        self.busy.add(job)
        try:
            await self._create(job)
        except Exception as exc:
            if not job.create_settled:
                self._outcomes.fail_unknown(job, exc)
            raise
        finally:
            if (spending := self._engine.spending) is not None:
                spending.on_answer(job)
            self._leave_busy(job)

    async def wait_for_one(self) -> None:
        """Wait until the next job leaves *busy*."""
        if self._one_done.is_set():
            self._one_done = anyio.Event()
        await self._one_done.wait()

    def deliver_withdrawn(self, job: ClientJob) -> None:
        """Deliver that *job* was not bought and will not be, because its caller left or the client closes."""
        self._events.emit(events.JobWithdrawn, job)
        if job.owner is None:
            self._outcomes.fail(job, ClientClosedError("the client was closed before this request was sent"))
        else:
            self._engine.release(job)
            job.owner.withdrawn(job)

    def give_up_waiting(self) -> None:
        """Fail every queued job that has waited too long, see `Creates.has_waited_too_long`."""
        for job in self._engine.creates.give_up_waiting(self._clock.now()):
            self._outcomes.abandon(job, self._last_delay)

    async def recover(self, recovered: RecoveredCreate) -> None:
        """Record and follow the task of a create of unknown outcome that a callback proved accepted."""
        job, callback = recovered.job, recovered.callback
        try:
            self._engine.callbacks.recover(
                job, callback.task_id, self._clock.now(), was_unknown=recovered.was_unknown
            )
            if callback.task_id is not None:
                await self._on_accept(job)
            else:
                assert callback.status is not None
                await self._finish_without_id(job, callback.status)
        finally:
            self._leave_busy(job)

    async def _finish_without_id(self, job: ClientJob, status: TaskStatus) -> None:
        """Deliver the end of a task whose id is unknown, so that it cannot be queried, from its callback."""
        error = None
        if status.state is TaskState.FAIL:
            error = TaskFailedError("", status.fail_code, status.fail_message)
        job.submitted_at = self._clock.wall(job.accepted_at)
        if (spending := self._engine.spending) is not None:
            spending.on_end(job, status.credits)
        await self._journal.finished(job.record(error), status)
        self._engine.release(job)
        job.settle_create()
        self._events.emit(events.TaskAccepted, job)
        if job.owner is not None:
            job.owner.accepted(job)
        self._outcomes.publish_end(job, status, succeeded=error is None)
        if job.caller_left:
            self._outcomes.add_orphan(job)
        self._outcomes.end(job, error)

    def _leave_busy(self, job: ClientJob) -> None:
        self.busy.discard(job)
        self._one_done.set()

    # ---- sending

    async def _create(self, job: ClientJob) -> None:
        failpoint("create taken")
        if self._exceeds_budget(job):
            return
        request = await self._record_intent(job)
        if request is None:
            return
        failpoint("intent durable")
        if self._may_not_be_sent(job):
            self._engine.creates.on_abort(job, self._clock.now())
            await self._journal.not_bought(job.record())
            self._refund(job)
            self.deliver_withdrawn(job)
            return
        self._events.emit(events.CreateSent, job)
        await self._exchange(job, request)

    def _exceeds_budget(self, job: ClientJob) -> bool:
        """Reserve the price of *job*. If it would exceed the budget, deliver that and return True.

        There is no await since the engine's decision, so two jobs never reserve the same credits.
        """
        if (spending := self._engine.spending) is None:
            return False
        shortfall = spending.reserve(job)
        if shortfall is None:
            return False
        error = budget_error(shortfall, spending.budget)
        self._engine.creates.on_abort(job, self._clock.now())
        if job.owner is None:
            self._outcomes.abandon(job, error)
        else:
            self._events.emit(events.JobWithdrawn, job)
            job.owner.halted(job, error)
        return True

    async def _record_intent(self, job: ClientJob) -> Request | None:
        """Record the intent of *job*, and return the HTTP request; None if *job* failed instead."""
        assert job.request is not None
        try:
            dispatcher = self._callback_dispatcher
            callback = None if dispatcher is None else dispatcher.callback_url(job)
            request = self._endpoint.create(job.request, callback, job.links)
            self._engine.creates.hold_back()
            try:
                job.entry = await self._journal.intend(job.record())
            finally:
                self._engine.creates.on_departure(self._clock.now())
        except Exception as exc:  # noqa: BLE001 - nothing was sent: deliver it unchanged
            self._engine.creates.on_abort(job, self._clock.now())
            self._refund(job)
            self._outcomes.abandon(job, exc)
            return None
        return request

    async def _exchange(self, job: ClientJob, request: Request) -> None:
        clock = self._clock
        try:
            response = await self._transport.send(request)
        except NotSentError as exc:
            if not self._engine.scopes.create.rejecting_for(clock.now()):
                logger.warning("%s; it is tried again, nothing was charged", exc)
            await self._on_not_bought(job, self._engine.creates.on_not_sent(job, clock.now()), exc)
        except Exception as exc:  # noqa: BLE001 - some bytes may have left
            partial = self._endpoint.read_partial_create(exc, wall_now=clock.steady(clock.now()))
            if partial is None:
                step = self._engine.creates.on_no_response(job, clock.now())
                self._check_circuit(exc)
                await self._on_unknown(job, step, exc)
            else:
                await self._on_reply(job, self._engine.creates.on_reply(job, partial, clock.now()), partial)
        except BaseException as exc:
            self._engine.creates.on_no_response(job, clock.now())
            self._outcomes.fail_unknown(job, exc)
            raise
        else:
            failpoint("reply read")
            now = clock.now()
            reply = self._endpoint.read_create(response, wall_now=clock.steady(now))
            await self._on_reply(job, self._engine.creates.on_reply(job, reply, now), reply)

    def _refund(self, job: ClientJob) -> None:
        """Return the reserved price of *job* to the budget: its create bought nothing."""
        if (spending := self._engine.spending) is not None:
            spending.refund(job)

    # ---- outcomes

    async def _on_reply(self, job: ClientJob, step: CreateStep, reply: Reply) -> None:
        if step is CreateStep.ACCEPTED:
            self._check_circuit(None)
            await self._on_accept(job)
            return
        error = self._endpoint.error(reply)
        self._check_circuit(error)
        if step in (CreateStep.UNKNOWN, CreateStep.RESEND):
            await self._on_unknown(job, step, error)
        else:
            await self._on_not_bought(job, step, error, reply)

    def _check_circuit(self, error: Exception | None) -> None:
        """Log and emit that the last reply, which says *error*, opened or closed the circuit, if it did."""
        breaker = self._engine.breaker
        if breaker.is_open and error is not None:
            if not self._circuit_was_open:
                logger.warning("the service is failing (%s): creates wait, nothing is being bought", error)
                self._events.emit_for_client(events.CircuitOpened, error)
            self._last_delay = NotSentError(
                f"the service is failing ({error}), so this request was not sent, and nothing was charged"
            )
            self._last_delay.__cause__ = error
            self.give_up_waiting()
        if self._circuit_was_open and not breaker.is_open:
            logger.warning("the service answers again after %.0f s: creates go on", breaker.last_outage)
            self._events.emit_for_client(events.CircuitClosed, breaker.last_outage)
        self._circuit_was_open = breaker.is_open

    async def _on_accept(self, job: ClientJob) -> None:
        if self._callback_dispatcher is not None:
            self._callback_dispatcher.forget_early(job)
        try:
            await self._journal.accepted(job.record())
        except BaseException as exc:
            job.settle_create()  # it is paid, so its id is kept although the journal failed
            job.notify()
            if job.caller_left or not isinstance(exc, Exception):
                self._outcomes.add_orphan(job)
            raise
        failpoint("task id durable")
        job.mark_accepted()
        self._events.emit(events.TaskAccepted, job)
        if job.caller_left:
            self._engine.release(job)
            self._outcomes.add_orphan(job)
            return
        self._engine.polls.follow(job, self._clock.now(), timeout=job.timeout)
        if job.owner is not None:
            job.owner.accepted(job)  # it may stop following the task
        job.notify()

    async def _on_unknown(self, job: ClientJob, step: CreateStep, cause: Exception) -> None:
        await self._journal.unknown(job.record(cause))
        resend = step is CreateStep.RESEND and not self._may_not_be_sent(job)
        dispatcher = self._callback_dispatcher
        if dispatcher is not None and (
            dispatcher.proves_accepted(job) or not (job.caller_left or self._stopped)
        ):
            dispatcher.await_callback(job, cause, resend=resend, counted=step is CreateStep.UNKNOWN)
        elif resend:
            self._engine.creates.requeue(job)
        else:
            if step is CreateStep.RESEND:
                self._engine.callbacks.doubt(step)
            self._outcomes.fail_unknown(job, cause)

    async def _on_not_bought(
        self, job: ClientJob, step: CreateStep, error: Exception, reply: Reply | None = None
    ) -> None:
        await self._journal.not_bought(job.record(error))
        if self._callback_dispatcher is not None and self._callback_dispatcher.proves_accepted(job):
            self._engine.callbacks.doubt(step)  # a callback came, so it was bought after all
            await self._on_unknown(job, CreateStep.UNKNOWN, error)
            return
        self._refund(job)
        if step is CreateStep.REFUSED:
            assert reply is not None
            job.refusal = refusal_of(reply)
            self._events.emit(events.CreateRefused, job, error)
            self._outcomes.fail(job, error)
            return
        self._last_delay = error
        if reply is None:
            self._events.emit(events.CreateUnsent, job, error)
        else:
            self._events.emit(events.CreateThrottled, job, reply.retry_after)
            pause = self._engine.scopes.create.wait(self._clock.now())
            self._events.emit_for_client(events.ScopePaused, "create", pause)
        if self._may_not_be_sent(job):
            self.deliver_withdrawn(job)
        elif step is CreateStep.GIVE_UP:
            self._give_up(job, error)
        else:
            self._engine.creates.requeue(job)

    def _give_up(self, job: ClientJob, error: Exception) -> None:
        if not self._engine.counts.reached:
            job.refusal = Refusal.UNREACHABLE
            self._last_delay = error = never_reached(error)
        self._outcomes.abandon(job, error)
        self.give_up_waiting()

    def _may_not_be_sent(self, job: ClientJob) -> bool:
        return job.caller_left or job.sending_forbidden or self._stopped
