"""What a client does with callbacks: an address for each create, and what to do when it is posted to.

`CallbackPolling` in the engine decides; here is what needs the receiver, the journal and the waiters. A create whose reply was
lost is held for a while, because a post to its address proves that it was accepted.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
from anyio.lowlevel import EventLoopToken, current_token
from attrs import frozen

from ruxa_async._api.task_status import has_result
from ruxa_async._engine.engine import Engine
from ruxa_async._engine.job import CreateStep
from ruxa_async._engine.polling.callbacks import CallbackStep
from ruxa_async.callbacks import Callback, CallbackReceiver
from ruxa_async.callbacks._tokens import ID_SIZE
from ruxa_async.errors import SubmissionUnknownError
from ruxa_async.journal import Journal, JournalEntry, LastingJournal
from ruxa_async.results import TaskState
from ruxa_async.settings import CallbackURL

from .job import ClientJob
from .outcomes import Delivery

__all__ = ("Adoption", "CallbackDispatcher")


@frozen
class Adoption:
    """A *job* whose create *callback* settles. *was_unknown* is whether it was counted as unknown meanwhile."""

    job: ClientJob
    callback: Callback
    was_unknown: bool


@frozen
class _Doubt:
    """Why nobody knows what became of a create, and whether it is sent *again* when no callback tells.

    *counted* is whether the engine counts it as unknown already.
    """

    cause: Exception
    again: bool
    counted: bool


class CallbackDispatcher:
    """The callbacks of one client; a `Listener` of its receiver."""

    def __init__(
        self,
        receiver: CallbackReceiver,
        engine: Engine[ClientJob],
        journal: Journal,
        delivery: Delivery,
        settle_within: float,
    ) -> None:
        self.receiver = receiver
        self._engine = engine
        self._journal = journal if isinstance(journal, LastingJournal) else None
        self._delivery = delivery
        self._settle_within = settle_within
        self._loop: EventLoopToken | None = None
        self._early: dict[ClientJob, Callback] = {}
        self._doubts: dict[ClientJob, _Doubt] = {}
        self._adoptions: deque[Adoption] = deque()
        self._news = anyio.Event()
        #: Called when something became ready to be sent, or was taken out of the queue.
        self.changed: Callable[[], object] = lambda: None
        #: Called with a job that is about to be adopted.
        self.adopting: Callable[[ClientJob], object] = lambda _: None

    def open(self) -> None:
        """Begin to listen."""
        self._loop = current_token()
        self.receiver.attach(self)

    def close(self) -> None:
        """Listen no longer, and let what is still in doubt surface."""
        self.receiver.detach(self)
        for job in tuple(self._doubts):
            self._engine.release(job)
            self.expired(job, closing=True)

    # ---- what `CreateHandler` asks

    def address(self, job: ClientJob) -> CallbackURL:
        """Return where the service is to post about the next attempt of *job*."""
        callback_id = secrets.token_bytes(ID_SIZE)
        self._engine.calls.expect(job, callback_id)
        return CallbackURL(self.receiver.url(callback_id), self.receiver.field)

    def settled_early(self, job: ClientJob) -> None:
        """Note that the reply said what became of the create of *job*."""
        self._early.pop(job, None)

    def proven(self, job: ClientJob) -> bool:
        """Tell whether a callback came for the attempt that is on the wire: so it was accepted, whatever its reply says."""
        return job in self._early

    def hold(self, job: ClientJob, cause: Exception, *, again: bool = False, counted: bool = True) -> None:
        """Wait for the callback of *job*, whose create is of unknown outcome because of *cause*."""
        self._doubts[job] = _Doubt(cause, again, counted)
        self._engine.callbacks.await_callback(job, self._delivery.now(), self._settle_within)
        early = self._early.pop(job, None)
        if early is not None:
            self.claim(early)

    def expired(self, job: ClientJob, *, closing: bool = False) -> None:
        """Note that no callback came in time."""
        doubt = self._doubts.pop(job)
        if doubt.again and not (closing or job.caller_left or job.last_attempt):
            self._engine.requeue(job)
        else:
            self._surface(job, doubt)

    def _surface(self, job: ClientJob, doubt: _Doubt) -> None:
        if isinstance(doubt.cause, SubmissionUnknownError):  # an earlier process said so
            self._delivery.fail(job, doubt.cause)
            return
        if not doubt.counted:
            self._engine.callbacks.doubt(CreateStep.UNKNOWN)
        self._delivery.unknown(job, doubt.cause)

    # ---- what the receiver asks

    def claim(self, callback: Callback) -> bool:
        """Act on *callback* if it is about a job of this client's; tell whether it is."""
        if current_token() != self._loop:
            raise RuntimeError(
                "a callback was received in another event loop than the client's: serve the receiver in the client's own"
            )
        now = self._delivery.now()
        step, job = self._engine.callbacks.on_callback(
            callback.job, now, over=not callback.pending, settles=_settles(callback)
        )
        if job is None:
            return step is CallbackStep.LATE
        if step is CallbackStep.EARLY:
            known = self._early.get(job)
            if known is None or not _settles(known) or callback.ended:
                self._early[job] = callback
        elif step is CallbackStep.ADOPT:
            self._proven(job)
            doubt = self._doubts.pop(job, None)
            self._adoptions.append(Adoption(job, callback, doubt is not None and doubt.counted))
            self.adopting(job)
            self._news.set()
        elif step is CallbackStep.HOLD:
            self._proven(job)
            self.hold(job, _accepted_unnamed(), counted=False)
        self.changed()
        return (
            step is not CallbackStep.HOLD
        )  # that is for the journal as well, where it is known as not bought

    def _proven(self, job: ClientJob) -> None:
        """Count what was bought after all: its reply may have said that it was not."""
        if (spending := self._engine.spending) is not None:
            assert job.model is not None
            spending.proven(job, job.model)

    async def keep(self, callback: Callback) -> None:
        """Write down a *callback* that nobody claimed."""
        if self._journal is not None:
            await self._journal.called_back(callback.job, callback.task_id, callback.status)

    # ---- what the driver runs

    async def settle(self, adopt: Callable[[Adoption], Awaitable[None]]) -> None:
        """Have each job that a callback settled adopted, for as long as this runs."""
        while True:
            await self.settle_waiting(adopt)
            self._news = anyio.Event()
            await self._news.wait()

    async def settle_waiting(self, adopt: Callable[[Adoption], Awaitable[None]]) -> None:
        """Have each job that a callback settled so far adopted, whole even if this is cancelled."""
        while self._adoptions:
            with anyio.CancelScope(shield=True):
                await adopt(self._adoptions.popleft())

    def may_settle(self, known: JournalEntry) -> bool:
        """Tell whether a callback may still say what became of the create that the journal knows as in doubt."""
        if known.callback_id is None or known.intended_at is None:
            return False
        return self._delivery.wall_now() - known.intended_at <= self.receiver.max_age

    def hold_remembered(self, job: ClientJob) -> None:
        """Wait for the callback of *job*, which an earlier process sent; its ``error`` says what is known otherwise."""
        assert job.callback_id is not None
        assert job.error is not None
        cause, job.error = job.error, None
        job.sent_at = self._delivery.now() - (self._delivery.wall_now() - (job.submitted_at or 0.0))
        job.submitted_at = None
        self._engine.calls.expect(job, job.callback_id)
        self.hold(job, cause, counted=False)


def _settles(callback: Callback) -> bool:
    """Tell whether *callback* says enough to go on with when nothing else is known of the task."""
    if callback.task_id is not None:
        return True
    status = callback.status
    return status is not None and (status.state is TaskState.FAIL or (callback.ended and has_result(status)))


def _accepted_unnamed() -> Exception:
    return RuntimeError(
        "the service called back, so it was accepted, but what it said names no task and no output"
    )
