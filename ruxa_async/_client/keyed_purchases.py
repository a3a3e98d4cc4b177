"""Purchases by key: callers that ask for the same request of a run share one job.

The journal lets one client at a time buy a key. Within the client, `KeyedPurchases` holds each purchase whose
outcome is open, and its callers wait for it. A job leaves as any other when its last caller has left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
from attrs import define, field

from ruxa_async.errors import ClientClosedError, KeyConflictError, TaskTimeout
from ruxa_async.journal import JournalPurchase
from ruxa_async.journal._identity import identify
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation
from ruxa_async.settings import Resume

from .job import ClientJob
from .resume import PreviousRun
from .task import GenerationTask, own_instance

if TYPE_CHECKING:
    from .driver import Driver

__all__ = ("KeyedPurchases",)


@define(eq=False)
class KeyedPurchases:
    """The purchases by key of one client."""

    _driver: Driver
    _previous_run: Callable[[Resume], PreviousRun]
    _task: Callable[[ClientJob], GenerationTask]
    _open: dict[tuple[str, bytes], _Purchase] = field(factory=dict, init=False)

    async def submit(self, request: GenerationRequest, run: str) -> GenerationTask:
        """Return the task of *request* in *run*, which is bought unless it was before."""
        purchase = self._join(request, run)
        try:
            task = self._task(await purchase.wait_until_settled())
        except BaseException:
            purchase.leave()
            raise
        purchase.hand_out()
        return task

    async def generate(self, request: GenerationRequest, run: str) -> Generation:
        """Return the generation of *request* in *run*, which is bought unless it was before."""
        purchase = self._join(request, run)
        try:
            generation = await self._task(await purchase.wait_until_settled()).result()
        except TaskTimeout:
            purchase.leave(orphaned=False)  # the error names the task
            raise
        except BaseException:
            purchase.leave()
            raise
        purchase.leave()
        return generation

    def _join(self, request: GenerationRequest, run: str) -> _Purchase:
        previous_run = self._previous_run(Resume(run))
        identity = identify(request)
        slot = (run, identity.handle)
        purchase = self._open.get(slot)
        if purchase is None:

            def forget() -> None:
                self._open.pop(slot, None)

            purchase = _Purchase(request, identity.digest, self._driver, previous_run, forget)
            self._open[slot] = purchase
            purchase.start()
        elif purchase.digest != identity.digest:
            raise KeyConflictError(
                request.key or "",
                run,
                f"it is being bought for another request ({purchase.request!r:.200}), not for this one "
                f"({request!r:.200}): give the changed request another key, or the run another name",
            )
        purchase.join()
        return purchase


@define(eq=False)
class _Purchase:
    """One purchase whose outcome is open, the `Owner` of its job. *forget* is called when it is over."""

    request: GenerationRequest
    digest: bytes
    _driver: Driver
    _previous_run: PreviousRun
    _forget: Callable[[], object]
    _job: ClientJob | None = field(default=None, init=False)
    _journal_purchase: JournalPurchase | None = field(default=None, init=False)
    #: Callers that wait now.
    _callers: int = field(default=0, init=False)
    #: Whether a caller has the task, so that the job is followed to its end.
    _handed_out: bool = field(default=False, init=False)
    _over: bool = field(default=False, init=False)
    #: Set when the task is accepted, or when nothing will be bought any more.
    _settled: anyio.Event = field(factory=anyio.Event, init=False)
    #: Why there is no job with an outcome, None if there is one.
    _error: Exception | None = field(default=None, init=False)

    # ---- for callers

    def join(self) -> None:
        """Add a caller."""
        self._callers += 1
        if self._job is not None:
            self._job.sending_forbidden = False

    async def wait_until_settled(self) -> ClientJob:
        """Return the job once it was accepted or has ended. Raises why it was not bought."""
        await self._settled.wait()
        if self._error is not None:
            raise own_instance(self._error)
        job = self._job
        assert job is not None
        if job.error is not None and job.task_id is None and job.status is None:
            raise own_instance(job.error)
        return job

    def hand_out(self) -> None:
        """Remove a caller that has the task from now on."""
        self._callers -= 1
        self._handed_out = True

    def leave(self, *, orphaned: bool = True) -> None:
        """Remove a caller. After the last one, withdraw the job, or stop following it and list it if paid."""
        self._callers -= 1
        if self._is_wanted or self._over or self._job is None:
            return  # a look-up that nobody waits for ends by itself
        job = self._job
        if job.create_settled:
            self._abandon(job, orphaned=orphaned)
        elif self._driver.withdraw(job):
            self._end()
        else:  # on the wire: a caller that comes before the reply shares this job
            job.sending_forbidden = True

    @property
    def _is_wanted(self) -> bool:
        return self._callers > 0 or self._handed_out

    def _abandon(self, job: ClientJob, *, orphaned: bool = True) -> None:
        if orphaned:
            self._driver.on_caller_left(job)
        else:
            self._driver.release(job)
        self._end()

    # ---- looking up and starting

    def start(self) -> None:
        """Look the request up in a task of the client, because its callers may leave."""
        self._driver.owners.add(self)
        self._driver.start_background(self._look_up_and_start, "keyed purchase")

    async def _look_up_and_start(self) -> None:
        try:
            await self._look_up()
            if self._is_wanted:
                self._start_job()
            else:
                self._end()
        except Exception as exc:  # noqa: BLE001 - every caller raises it
            self._fail(exc)
        except BaseException:
            self._fail(_closed())
            raise

    async def _look_up(self) -> None:
        self._journal_purchase = await self._previous_run.open_purchase(self.request)

    def _start_job(self) -> None:
        """Buy the job, follow its task, wait for its callback, or deliver it: by what the journal knows."""
        request, purchase = self.request, self._journal_purchase
        assert purchase is not None
        job = ClientJob(request=request, model=request.model, key=request.key, owner=self)
        self._job = job = self._previous_run.apply(job, purchase.match)
        if job.ended:
            self._end()
        elif job.task_id is not None:
            self._driver.follow(job)
            self._settled.set()
        elif job.callback_id is not None:
            self._driver.await_callback(job)
        else:
            self._driver.submit(job)

    # ---- `Owner`

    def accepted(self, job: ClientJob) -> None:
        """Let the callers go on, or list the task as orphan if all have left."""
        if self._is_wanted:
            self._settled.set()
        else:
            self._abandon(job)

    def ended(self, job: ClientJob) -> None:
        """Deliver *job*; if it may be paid and all callers have left, list it as orphan."""
        if self._is_wanted:
            self._end()
        else:
            self._abandon(job)

    def withdrawn(self, job: ClientJob) -> None:  # noqa: ARG002 - it has one job
        """Buy again what was withdrawn because all callers had left, if another one came since."""
        try:
            self._driver.ensure_open()
        except ClientClosedError:
            self._fail(_closed())
            return
        if self._is_wanted:
            self._release()
            self._job = None
            self.start()
        else:
            self._end()

    def halted(self, job: ClientJob, cause: Exception) -> None:  # noqa: ARG002
        """Deliver *cause*: the budget does not allow the job."""
        self._fail(cause)

    def client_closed(self) -> None:
        """Stop waiting. A job that was accepted stays delivered."""
        self._release()
        if self._job is None or not self._job.create_settled:
            self._error = self._error or _closed()
        self._settled.set()

    # ---- ending

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        """Let the next caller look the request up again."""
        self._over = True
        self._driver.owners.discard(self)
        self._release()
        self._forget()
        self._settled.set()

    def _release(self) -> None:
        purchase, self._journal_purchase = self._journal_purchase, None
        if purchase is not None:
            purchase.close()


def _closed() -> ClientClosedError:
    return ClientClosedError("the client was closed before it was known whether this request was bought")
