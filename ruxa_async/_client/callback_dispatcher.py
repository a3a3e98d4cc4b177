"""A callback URL for each create, and what the client does about each callback that it receives.

The engine decides (`_engine.callbacks`); this module connects it to the receiver, the journal and the
callers. A create whose reply was lost waits here for its callback, which proves that the service accepted it.
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
from ruxa_async._engine.polling.callback_polling import CallbackStep
from ruxa_async._logging import logger
from ruxa_async.callbacks import Callback, CallbackReceiver
from ruxa_async.callbacks._authentication import ID_SIZE
from ruxa_async.callbacks._receiver import Claim
from ruxa_async.errors import JournalError, SubmissionUnknownError
from ruxa_async.journal import Journal, JournalEntry, LastingJournal
from ruxa_async.journal._base import SharedJournal
from ruxa_async.journal._records import KeptCallback
from ruxa_async.results import TaskState
from ruxa_async.settings import CallbackURL

from .job import ClientJob
from .outcomes import Outcomes

__all__ = ("CallbackDispatcher", "RecoveredCreate")

#: seconds between two looks for callbacks that other processes recorded
_LOOK_INTERVAL = 1.0
#: seconds before the last look whose callbacks are read again: clocks differ, and a slow server commits late
_LOOK_BACK = 300.0


@frozen
class RecoveredCreate:
    """A create of unknown outcome that *callback* proved accepted.

    *was_unknown* tells whether the engine counted it as unknown.
    """

    job: ClientJob
    callback: Callback
    was_unknown: bool


@frozen
class _UnknownCreate:
    """A create whose outcome is unknown because of *cause*; *resend* it if no callback comes.

    *counted* tells whether the engine counts it as unknown already.
    """

    cause: Exception
    resend: bool
    counted: bool


@define(eq=False)
class CallbackDispatcher:
    """Connects one client to its receiver, as a `Listener`.

    A create of unknown outcome waits *wait* seconds for its callback. *on_change* is called after each
    callback for a job, *on_recover* with each job that is about to be recovered.
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
        """Stop listening, and deliver the jobs that still wait for a callback as unknown."""
        self.receiver.detach(self)
        for job in tuple(self._unknown):
            self._engine.release(job)
            self.on_timeout(job, closing=True)

    # ---- for `CreateHandler`

    def callback_url(self, job: ClientJob) -> CallbackURL:
        """Return the URL for callbacks about the next attempt of *job*."""
        callback_id = secrets.token_bytes(ID_SIZE)
        self._engine.callback_polling.expect(job, callback_id)
        return CallbackURL(self.receiver.url(callback_id), self.receiver.field)

    def forget_early(self, job: ClientJob) -> None:
        """Drop the callback of *job* that came before the reply: the reply says that it was accepted."""
        self._early.pop(job, None)

    def proves_accepted(self, job: ClientJob) -> bool:
        """Tell whether a callback came before the reply to the create of *job*: then it was accepted."""
        return job in self._early

    def await_callback(
        self, job: ClientJob, cause: Exception, *, resend: bool = False, counted: bool = True
    ) -> None:
        """Wait for the callback of *job*, whose create has an unknown outcome because of *cause*.

        *resend* and *counted* are those of `_UnknownCreate`.
        """
        self._unknown[job] = _UnknownCreate(cause, resend, counted)
        self._engine.callbacks.await_callback(job, self._outcomes.clock.now(), self._wait)
        early = self._early.pop(job, None)
        if early is not None:
            self.claim(early)

    def on_timeout(self, job: ClientJob, *, closing: bool = False) -> None:
        """Resend *job*, or deliver it as unknown: no callback came in time."""
        unknown = self._unknown.pop(job)
        if unknown.resend and not (closing or job.caller_left or job.sending_forbidden):
            self._engine.creates.requeue(job)
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
        elif step is CallbackStep.RECOVER:
            self._count_accepted(job)
            unknown = self._unknown.pop(job, None)
            self._recovered.append(RecoveredCreate(job, callback, unknown is not None and unknown.counted))
            self._on_recover(job)
            self._new_recovered.set()
        elif step is CallbackStep.AWAIT_NEXT:
            self._count_accepted(job)
            self.await_callback(job, _accepted_without_id(), counted=False)
        self._on_change()
        return Claim.PROOF if step in _PROOFS else Claim.KNOWN

    def _count_accepted(self, job: ClientJob) -> None:
        """Count *job* in the budget, even if its reply said that it was not bought."""
        if (spending := self._engine.spending) is not None:
            spending.on_proven(job)

    async def keep(self, callback: Callback) -> None:
        """Record *callback*; return when that is durable."""
        if isinstance(self._journal, LastingJournal):
            await self._journal.called_back(callback.job, callback.task_id, callback.status)

    # ---- for the driver

    async def run(self, recover: Callable[[RecoveredCreate], Awaitable[None]]) -> None:
        """Call *recover* for each create that a callback proves accepted, until cancelled."""
        while True:
            await self.recover_pending(recover)
            self._new_recovered = anyio.Event()
            await self._new_recovered.wait()

    async def recover_pending(self, recover: Callable[[RecoveredCreate], Awaitable[None]]) -> None:
        """Call *recover*, shielded, for each create that a callback has proved accepted so far."""
        while self._recovered:
            with anyio.CancelScope(shield=True):
                await recover(self._recovered.popleft())

    async def relay_recorded(self) -> None:
        """Pass on the callbacks that other processes record in the journal, until cancelled."""
        if not isinstance(self._journal, SharedJournal):
            return
        seen: set[tuple[bytes, float]] = set()
        last_look, failed = anyio.current_time(), False
        while True:
            began = anyio.current_time()
            try:
                recent = await self._journal.recent_callbacks(_LOOK_BACK + began - last_look)
            except JournalError as exc:
                if not failed:
                    logger.warning("callbacks of other processes are not read for now: %s", exc)
                failed = True
            else:
                last_look, failed = began, False
                for kept in recent:
                    if (kept.callback_id, kept.received_at) not in seen:
                        self.receiver.relay(_callback_of(kept))
                seen = {(kept.callback_id, kept.received_at) for kept in recent}
            await anyio.sleep(_LOOK_INTERVAL)

    def may_come(self, known: JournalEntry) -> bool:
        """Tell whether a callback for the create of *known* may still come."""
        if known.callback_id is None or known.intended_at is None:
            return False
        return self._outcomes.clock.wall_now() - known.intended_at <= self.receiver.max_age

    def await_recorded(self, job: ClientJob) -> None:
        """Wait for the callback of *job*, whose create the journal holds as unknown since an earlier run."""
        assert job.callback_id is not None
        job.sent_at = self._outcomes.clock.now() - (
            self._outcomes.clock.wall_now() - (job.submitted_at or 0.0)
        )
        self._engine.callback_polling.expect(job, job.callback_id)
        self.await_callback(job, job.take_recorded_error(), counted=False)
        # The callback may have come after the journal was read for this job, and before it was expected.
        missed = self.receiver.unclaimed(job.callback_id)
        if missed is not None:
            self.claim(missed)


#: The steps after which the journal does not know yet that the job was bought.
_PROOFS = frozenset({CallbackStep.EARLY, CallbackStep.RECOVER, CallbackStep.AWAIT_NEXT})


def _is_sufficient(callback: Callback) -> bool:
    """Tell whether *callback* holds the task id or the result, so that it replaces a lost reply."""
    if callback.task_id is not None:
        return True
    status = callback.status
    return status is not None and (status.state is TaskState.FAIL or (callback.ended and has_result(status)))


def _callback_of(kept: KeptCallback) -> Callback:
    return Callback(
        job=kept.callback_id, issued_at=kept.received_at, task_id=kept.task_id, status=kept.status
    )


def _accepted_without_id() -> Exception:
    return RuntimeError(
        "the service called back, so it was accepted, but the callback names no task and no output"
    )
