"""The callbacks of a client: a callback URL for each create, and what a received callback leads to.

`CallbackPolling` in the engine decides; this module reaches the receiver, the journal and the callers. A
create whose reply was lost waits here for a while: a callback proves that the service accepted it.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import EventLoopToken, current_token
from attrs import define, field, frozen

from ruxa_async._api.task_status import has_result
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import CreateStep
from ruxa_async._engine.polling.callbacks import CallbackStep
from ruxa_async.callbacks import Callback, CallbackReceiver
from ruxa_async.callbacks._receiver import Claim
from ruxa_async.callbacks._tokens import ID_SIZE
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.journal import Journal, JournalEntry, LastingJournal
from ruxa_async.results import TaskState
from ruxa_async.settings import CallbackURL

from .job import ClientJob
from .outcomes import Outcomes

__all__ = ("CallbackDispatcher", "RecoveredCreate")


@frozen
class RecoveredCreate:
    """A create of unknown outcome that *callback* proved accepted.

    *was_unknown* is whether the engine counted it as unknown.
    """

    job: ClientJob
    callback: Callback
    was_unknown: bool


@frozen
class _UnknownCreate:
    """Why the outcome of a create is unknown, and whether to *resend* it if no callback comes.

    *counted* is whether the engine counts it as unknown already.
    """

    cause: Exception
    resend: bool
    counted: bool


@define(eq=False)
class CallbackDispatcher:
    """The callbacks of one client; a `Listener` of its receiver.

    *wait* is how many seconds a create of unknown outcome waits for its callback. *on_change* is called after
    the engine's queue changed, *on_recover* with each job that is about to be recovered.
    """

    receiver: CallbackReceiver
    _engine: Engine[ClientJob]
    _journal: Journal
    _outcomes: Outcomes
    _wait: float
    _on_change: Callable[[], object]
    _on_recover: Callable[[ClientJob], object]
    _loop: EventLoopToken | None = field(default=None, init=False)
    #: Callbacks that came while the create was still on the wire.
    _early: dict[ClientJob, Callback] = field(factory=dict, init=False)
    _unknown: dict[ClientJob, _UnknownCreate] = field(factory=dict, init=False)
    _recovered: deque[RecoveredCreate] = field(factory=deque, init=False)
    _new_recovered: anyio.Event = field(factory=anyio.Event, init=False)

    def open(self) -> None:
        self._loop = current_token()
        self.receiver.attach(self)

    def close(self) -> None:
        """Stop listening, and deliver every create that is still unknown."""
        self.receiver.detach(self)
        for job in tuple(self._unknown):
            self._engine.release(job)
            self.on_timeout(job, closing=True)

    # ---- for `CreateHandler`

    def callback_url(self, job: ClientJob) -> CallbackURL:
        """Return the URL for callbacks about the next attempt of *job*."""
        callback_id = secrets.token_bytes(ID_SIZE)
        self._engine.calls.expect(job, callback_id)
        return CallbackURL(self.receiver.url(callback_id), self.receiver.field)

    def forget_early(self, job: ClientJob) -> None:
        """Drop the early callback of *job*: the reply said that it was accepted."""
        self._early.pop(job, None)

    def proves_accepted(self, job: ClientJob) -> bool:
        """Tell whether a callback came for the attempt on the wire: it was accepted despite its reply."""
        return job in self._early

    def await_callback(
        self, job: ClientJob, cause: Exception, *, resend: bool = False, counted: bool = True
    ) -> None:
        """Wait for the callback of *job*, whose create is of unknown outcome because of *cause*."""
        self._unknown[job] = _UnknownCreate(cause, resend, counted)
        self._engine.callbacks.await_callback(job, self._outcomes.clock.now(), self._wait)
        early = self._early.pop(job, None)
        if early is not None:
            self.claim(early)

    def on_timeout(self, job: ClientJob, *, closing: bool = False) -> None:
        """Resend *job*, or deliver it as unknown: no callback came in time."""
        unknown = self._unknown.pop(job)
        if unknown.resend and not (closing or job.caller_left or job.sending_forbidden):
            self._engine.requeue(job)
        elif isinstance(unknown.cause, SubmissionUnknownError):  # recorded by an earlier process
            self._outcomes.fail(job, unknown.cause)
        else:
            if not unknown.counted:
                self._engine.callbacks.doubt(CreateStep.UNKNOWN)
            self._outcomes.fail_unknown(job, unknown.cause)

    # ---- for the receiver

    def claim(self, callback: Callback) -> Claim:
        """Act on *callback* if it is about a job of this client; return what it means."""
        if current_token() != self._loop:
            raise RuntimeError(
                "a callback was received in another event loop than the client's: "
                "serve the receiver in the client's own"
            )
        now = self._outcomes.clock.now()
        step, job = self._engine.callbacks.on_callback(
            callback.job, now, over=not callback.pending, settles=_is_sufficient(callback)
        )
        if job is None:
            return Claim.KNOWN if step is CallbackStep.LATE else Claim.NONE
        if step is CallbackStep.EARLY:
            known = self._early.get(job)
            if known is None or not _is_sufficient(known) or callback.ended:
                self._early[job] = callback
        elif step is CallbackStep.ADOPT:
            self._count_accepted(job)
            unknown = self._unknown.pop(job, None)
            self._recovered.append(RecoveredCreate(job, callback, unknown is not None and unknown.counted))
            self._on_recover(job)
            self._new_recovered.set()
        elif step is CallbackStep.HOLD:
            self._count_accepted(job)
            self.await_callback(job, _accepted_without_id(), counted=False)
        self._on_change()
        return Claim.PROOF if step in _PROOFS else Claim.KNOWN

    def _count_accepted(self, job: ClientJob) -> None:
        """Count *job* as bought; its reply may have denied that."""
        if (spending := self._engine.spending) is not None:
            assert job.model is not None
            spending.proven(job, job.model)

    async def keep(self, callback: Callback) -> None:
        """Record *callback*; return when that is durable."""
        if isinstance(self._journal, LastingJournal):
            await self._journal.called_back(callback.job, callback.task_id, callback.status)

    # ---- for the driver

    async def run(self, recover: Callable[[RecoveredCreate], Awaitable[None]]) -> None:
        """Call *recover* for each create that a callback proves accepted, until this is cancelled."""
        while True:
            await self.recover_pending(recover)
            self._new_recovered = anyio.Event()
            await self._new_recovered.wait()

    async def recover_pending(self, recover: Callable[[RecoveredCreate], Awaitable[None]]) -> None:
        """Call *recover* for each create that a callback proved accepted so far. Each call is shielded."""
        while self._recovered:
            with anyio.CancelScope(shield=True):
                await recover(self._recovered.popleft())

    def may_come(self, known: JournalEntry) -> bool:
        """Tell whether a callback for the create of *known* may still come."""
        if known.callback_id is None or known.intended_at is None:
            return False
        return self._outcomes.clock.wall_now() - known.intended_at <= self.receiver.max_age

    def await_recorded(self, job: ClientJob) -> None:
        """Wait for the callback of *job*, whose create an earlier process recorded as unknown."""
        assert job.callback_id is not None
        job.sent_at = self._outcomes.clock.now() - (
            self._outcomes.clock.wall_now() - (job.submitted_at or 0.0)
        )
        self._engine.calls.expect(job, job.callback_id)
        self.await_callback(job, job.take_recorded_error(), counted=False)
        # The callback may have come after the journal was read for this job, and before it was expected.
        missed = self.receiver.unclaimed(job.callback_id)
        if missed is not None:
            self.claim(missed)


#: The steps after which the journal does not know yet that the job was bought.
_PROOFS = frozenset({CallbackStep.EARLY, CallbackStep.ADOPT, CallbackStep.HOLD})


def _is_sufficient(callback: Callback) -> bool:
    """Tell whether *callback* says enough to go on with if nothing else is known of the task."""
    if callback.task_id is not None:
        return True
    status = callback.status
    return status is not None and (status.state is TaskState.FAIL or (callback.ended and has_result(status)))


def _accepted_without_id() -> Exception:
    return RuntimeError(
        "the service called back, so it was accepted, but the callback names no task and no output"
    )
