"""One create from the engine's word to the outcome; the order of the steps is what keeps money safe.

The intent is written down before the first byte leaves, the task id before anybody asks for its state, and what
was not bought before the job queues again. Every path out of here leaves the job accepted, queued, delivered,
orphaned or listed as unknown.
"""

from __future__ import annotations

import anyio

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
from ruxa_async.transports import Transport

from .callbacks import Adoption, CallbackDispatcher
from .config import never_reached
from .job import ClientJob
from .outcomes import Delivery
from .spending import budget_error

__all__ = ("CreateHandler",)


class CreateHandler:
    """Send creates."""

    def __init__(
        self,
        engine: Engine[ClientJob],
        wire: Endpoint,
        transport: Transport,
        journal: Journal,
        delivery: Delivery,
        desk: CallbackDispatcher | None = None,
    ) -> None:
        self._desk = desk
        self._engine = engine
        self._wire = wire
        self._transport = transport
        self._journal = journal
        self._delivery = delivery
        self._done = anyio.Event()
        self.closing = False
        self._circuit_was_open = False
        #: Jobs whose create is being written down, on the wire, or being written down again.
        self.busy: set[ClientJob] = set()
        #: Why the last create was put off; what those behind it are told if nobody waits any more.
        self.last_delay: Exception = RuxaError("nothing was let through")

    async def buy(self, job: ClientJob) -> None:
        """Send the create of *job* and see it to its outcome."""
        self.busy.add(job)
        try:
            await self._buy(job)
        except Exception as exc:
            if not job.create_settled:
                self._delivery.unknown(job, exc)
            raise
        finally:
            if (spending := self._engine.spending) is not None:
                spending.answered(job)
            self.busy.discard(job)
            self._done.set()

    async def one_done(self) -> None:
        """Wait until a create that is busy now is busy no more."""
        if self._done.is_set():
            self._done = anyio.Event()
        await self._done.wait()

    def withdrawn(self, job: ClientJob) -> None:
        """Note that *job* leaves unbought because its caller did, or because the client closes."""
        self._delivery.tell(events.JobWithdrawn, job)
        if job.owner is None:
            self._delivery.fail(job, ClientClosedError("the client was closed before this request was sent"))
        else:
            self._engine.release(job)
            job.owner.withdrawn(job)

    def give_up_waiting(self) -> None:
        """Fail every queued job that would have to wait longer than is worth it."""
        for job in self._engine.give_up_waiting(self._delivery.now()):
            self._delivery.fail(job, self.last_delay)

    async def adopt(self, adoption: Adoption) -> None:
        """See a create of unknown outcome that a callback settled to its outcome; it was accepted."""
        job, callback = adoption.job, adoption.callback
        try:
            self._engine.callbacks.recover(
                job, callback.task_id, self._delivery.now(), was_unknown=adoption.was_unknown
            )
            if callback.task_id is not None:
                await self._accepted(job)
            else:
                assert callback.status is not None
                await self._ended_unnamed(job, callback.status)
        finally:
            self.busy.discard(job)
            self._done.set()

    async def _ended_unnamed(self, job: ClientJob, status: TaskStatus) -> None:
        """Deliver the end of a task whose id nobody told: what the callback said is all that will ever be known."""
        error = None
        if status.state is TaskState.FAIL:
            error = TaskFailedError("", status.fail_code, status.fail_message)
        job.submitted_at = self._delivery.wall(job.accepted_at)
        if (spending := self._engine.spending) is not None:
            spending.ended(job, job.model, status.credits)
        await self._journal.finished(job.record(error), status)
        self._engine.release(job)
        job.create_settled = True
        self._delivery.tell(events.TaskAccepted, job)
        if job.owner is not None:
            job.owner.accepted(job)
        self._delivery.publish(job, status)
        self._delivery.count_end(job, status, good=error is None)
        if job.caller_left:
            self._delivery.orphan(job)
        self._delivery.end(job, error)

    async def _buy(self, job: ClientJob) -> None:
        assert job.request is not None
        now = self._delivery.now
        failpoint("create taken")
        if self._beyond_budget(job):
            return
        try:
            callback = None if self._desk is None else self._desk.address(job)
            request = self._wire.create(job.request, callback)
            job.entry = await self._journal.intend(job.record())
        except Exception as exc:  # noqa: BLE001 - nothing was sent, so the caller gets it as it is
            self._engine.create_aborted(job, now())
            self._refund(job)
            self._delivery.fail(job, exc)
            return
        failpoint("intent durable")
        if self._unwanted(job):
            self._engine.create_aborted(job, now())
            await self._journal.not_bought(job.record())
            self._refund(job)
            self.withdrawn(job)
            return
        self._delivery.tell(events.CreateSent, job)
        try:
            response = await self._transport.send(request)
        except NotSentError as exc:
            if not self._engine.creates.shut_for(now()):
                logger.warning("%s; it is tried again, nothing was charged", exc)
            await self._not_bought(job, self._engine.create_not_sent(job, now()), exc)
        except Exception as exc:  # noqa: BLE001 - whatever a transport raises, some of it may have left
            partial = self._wire.read_partial_create(exc, wall_now=self._delivery.steady(now()))
            if partial is None:
                step = self._engine.create_lost(job, now())
                self._check_circuit(exc)
                await self._lost(job, step, exc)
            else:
                await self._answered(job, self._engine.create_answered(job, partial, now()), partial)
        except BaseException as exc:
            self._engine.create_lost(job, now())
            self._delivery.unknown(job, exc)
            raise
        else:
            failpoint("reply read")
            reply = self._wire.read_create(response, wall_now=self._delivery.steady(now()))
            await self._answered(job, self._engine.create_answered(job, reply, now()), reply)

    def _beyond_budget(self, job: ClientJob) -> bool:
        """Hold the price of *job*, or see it out unsent if the budget has no room for it.

        Nothing is awaited between the engine's word and this, so that no two share the same room.
        """
        if (spending := self._engine.spending) is None:
            return False
        assert job.model is not None
        shortfall = spending.reserve(job, job.model)
        if shortfall is None:
            return False
        error = budget_error(shortfall, spending.budget)
        self._engine.create_aborted(job, self._delivery.now())
        if job.owner is None:
            self._delivery.fail(job, error)
        else:
            self._delivery.tell(events.JobWithdrawn, job)
            job.owner.halted(job, error)
        return True

    def _refund(self, job: ClientJob) -> None:
        """Note in the books that the attempt bought nothing."""
        if (spending := self._engine.spending) is not None:
            assert job.model is not None
            spending.refund(job, job.model)

    async def _answered(self, job: ClientJob, step: CreateStep, reply: Reply) -> None:
        if step is CreateStep.ACCEPTED:
            self._check_circuit(None)
            await self._accepted(job)
            return
        error = self._wire.refusal(reply)
        self._check_circuit(error)
        if step in (CreateStep.UNKNOWN, CreateStep.RESEND):
            await self._lost(job, step, error)
        else:
            await self._not_bought(job, step, error, reply)

    def _check_circuit(self, error: Exception | None) -> None:
        """Say so if the last answer, or its *error*, opened or closed the circuit; give up what waited too long for it."""
        breaker = self._engine.breaker
        if breaker.is_open and error is not None:
            if not self._circuit_was_open:
                self._delivery.circuit_opened(error)
            self.last_delay = NotSentError(
                f"the service is failing ({error}), so this request was not sent and nothing was charged for it"
            )
            self.last_delay.__cause__ = error
            self.give_up_waiting()
        if self._circuit_was_open and not breaker.is_open:
            self._delivery.circuit_closed(breaker.last_outage)
        self._circuit_was_open = breaker.is_open

    async def _accepted(self, job: ClientJob) -> None:
        if self._desk is not None:
            self._desk.settled_early(job)
        try:
            await self._journal.accepted(job.record())
        except BaseException as exc:
            job.create_settled = True  # it is paid: whatever went wrong must not take its id along
            job.notify()
            if job.caller_left or not isinstance(exc, Exception):
                self._delivery.orphan(job)
            raise
        failpoint("task id durable")
        job.create_settled = True
        # Of no more use, and a waiting task is two numbers smaller.
        job.queued_at, job.sequence = job.accepted_at, 0
        self._delivery.tell(events.TaskAccepted, job)
        if job.caller_left:
            self._engine.release(job)
            self._delivery.orphan(job)
            return
        if job.owner is not None:
            job.owner.accepted(job)
        self._engine.follow(job, self._delivery.now(), timeout=job.timeout)
        job.notify()

    async def _lost(self, job: ClientJob, step: CreateStep, cause: Exception) -> None:
        await self._journal.unknown(job.record(cause))
        again = step is CreateStep.RESEND and not self._unwanted(job)
        if self._desk is not None and (self._desk.proven(job) or not (job.caller_left or self.closing)):
            self._desk.hold(job, cause, again=again, counted=step is CreateStep.UNKNOWN)
        elif again:
            self._engine.requeue(job)
        else:
            if step is CreateStep.RESEND:
                self._engine.callbacks.doubt(step)
            self._delivery.unknown(job, cause)

    async def _not_bought(
        self, job: ClientJob, step: CreateStep, error: Exception, reply: Reply | None = None
    ) -> None:
        await self._journal.not_bought(job.record(error))
        if self._desk is not None and self._desk.proven(job):  # it was bought after all
            self._engine.callbacks.doubt(step)
            await self._lost(job, CreateStep.UNKNOWN, error)
            return
        self._refund(job)
        if step is CreateStep.REFUSED:
            assert reply is not None
            job.refusal = refusal_of(reply)
            self._delivery.tell(events.CreateRefused, job, error)
            self._delivery.fail(job, error)
            return
        self.last_delay = error
        if reply is None:
            self._delivery.tell(events.CreateUnsent, job, error)
        else:
            self._delivery.tell(events.CreateThrottled, job, reply.retry_after)
            self._delivery.tell_pause("create", self._engine.creates.wait(self._delivery.now()))
        if self._unwanted(job):
            self.withdrawn(job)
        elif step is CreateStep.GIVE_UP:
            if not self._engine.counts.reached:
                job.refusal = Refusal.UNREACHABLE
                self.last_delay = error = never_reached(error)
            self._delivery.fail(job, error)
            self.give_up_waiting()
        else:
            self._engine.requeue(job)

    def _unwanted(self, job: ClientJob) -> bool:
        """Tell whether *job* may not be sent any more."""
        return job.caller_left or job.last_attempt or self.closing
