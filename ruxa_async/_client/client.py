"""`RuxaClient`: owns the transport and the driver between entering and leaving its ``async with`` block."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import EventLoopToken, current_token

from ruxa_async import events
from ruxa_async._api.endpoint import USER_AGENT, Endpoint
from ruxa_async._engine.engine import Engine
from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import report_orphans
from ruxa_async.callbacks import CallbackReceiver
from ruxa_async.downloads import Downloader
from ruxa_async.errors import (
    ClientClosedError,
    ConfigurationError,
    RuxaError,
    SubmissionUnknownError,
    TaskError,
    TaskTimeout,
)
from ruxa_async.events import EventHook
from ruxa_async.journal import Journal, NullJournal
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, JobRecord, Stats, TaskStatus, how_to_save
from ruxa_async.settings import Budget, CallbackURL, Downloads, Limits, Polling, Resume, Retries, Timeouts
from ruxa_async.transports import MemoryTransport, Transport
from ruxa_async.uploads import Uploader

from .async_only import AsyncOnly, awaited_as
from .clock import Clock
from .completions import Completions
from .config import (
    check_hook,
    checked_budget,
    checked_task_id,
    checked_timeout,
    ensure_allowed,
    resolve_base_url,
    resolve_key,
)
from .driver import Driver
from .event_bus import EventBus
from .holder import Holder
from .job import ClientJob
from .keyed_purchases import KeyedPurchases
from .learned_state import LearnedState
from .log import add_logging
from .outcomes import Outcomes
from .outputs import OutputFetcher
from .pipeline import Pipeline, PipelineOptions
from .resume import PreviousRun, RecordedJob
from .spending import RunSpending
from .stats import snapshot
from .task import GenerationTask

if TYPE_CHECKING:
    import ssl

__all__ = ("RuxaClient",)

#: Seconds that the transport may take to close its connections.
_CLOSE_WITHIN = 10.0
#: Connections of the pool above the sum of the concurrency limits.
_SPARE_CONNECTIONS = 8


class RuxaClient(AsyncOnly):
    """A client of the Ruxa generation API; use it as ``async with RuxaClient() as ruxa: ...``.

    *api_key* and *base_url* default to RUXA_API_KEY and RUXA_BASE_URL; plain http is accepted for loopback
    only. *transport* moves the bytes (default: aiohttp, on asyncio; for trio see `Httpx2Transport`), and the
    client closes it. The default transport uses *proxy*, such as ``http://user:password@host:3128``, and
    trusts *ssl_context*; without them HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and
    SSL_CERT_DIR count. A loopback address is never reached through a proxy.

    *journal* records every purchase. A `SqliteJournal` that is not open is opened and closed with the client;
    entering the client then raises `JournalError` and its subclasses. *on_event* is called with every event.
    *downloads* sets how outputs are fetched. *budget* stops buying before it would be exceeded. *uploader*,
    such as an `ObjectStoreUploader`, puts local files that requests name where the service can download them.
    With a `CallbackReceiver` as *callbacks* every create carries its own callback URL, and a callback has its
    task queried at once; a `CallbackURL` is only sent with each create.

    One client serves many callers at once. It belongs to one event loop and to the task that entered it. In a
    REPL or a notebook use `open` and `aclose`; in code without async use ``ruxa_async.sync.RuxaClient``.
    Raises `ConfigurationError` if the key, the address or another setting cannot be right.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        transport: Transport | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        polling: Polling = Polling(),  # noqa: B008
        retries: Retries = Retries(),  # noqa: B008
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        journal: Journal | None = None,
        callbacks: CallbackReceiver | CallbackURL | None = None,
        downloads: Downloads = Downloads(),  # noqa: B008
        budget: Budget | None = None,
        uploader: Uploader | None = None,
        on_event: EventHook | None = None,
    ) -> None:
        check_hook(on_event)
        self._base_url = resolve_base_url(base_url)
        self._limits = limits
        self._timeouts = timeouts
        self._needs_asyncio = transport is None
        key = resolve_key(api_key)
        if transport is None:
            transport = _default_transport(limits, downloads, self._base_url, proxy, ssl_context)
        else:
            _ensure_unset(proxy, ssl_context)
        self._sends_for_real = not isinstance(transport, MemoryTransport)
        on_event, self._transport = add_logging(on_event, transport)
        journal = journal if journal is not None else NullJournal()
        engine: Engine[ClientJob] = Engine(limits, polling, retries, checked_budget(budget))
        clock = Clock(time.time, time.monotonic)
        self._outcomes = Outcomes(engine, clock, EventBus(clock, on_event))
        self._run_spending = None if engine.spending is None else RunSpending(engine.spending)
        endpoint = Endpoint(
            self._base_url,
            key,
            create_timeout=timeouts.create,
            query_timeout=timeouts.query,
            connect_timeout=timeouts.connect,
            callback=callbacks if isinstance(callbacks, CallbackURL) else None,
        )
        receiver = callbacks if isinstance(callbacks, CallbackReceiver) else None
        if receiver is not None:
            receiver.ensure_for_client()
        wait = timeouts.callback_wait
        self._driver = Driver(
            engine, endpoint, self._transport, journal, self._outcomes, limits, receiver, wait, uploader
        )
        self._learned_state = LearnedState(journal, engine, base_url=self._base_url, api_key=key)
        self._downloader = Downloader(
            transport=self._transport,
            settings=downloads,
            home=self._base_url,
            connect_timeout=timeouts.connect,
            user_agent=USER_AGENT,
            saved=self._learned_state.on_file_saved,
        )
        self._keyed_purchases = KeyedPurchases(self._driver, self._previous_run, self._task)
        self._tg: TaskGroup | None = None
        self._loop: EventLoopToken | None = None
        self._entered_in: int | None = None
        self._holder = Holder(self)
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._tg is None else "open"
        engine = self._driver.engine
        counts = f"{engine.counts.in_flight} in flight, {engine.queued} queued"
        return f"<RuxaClient {self._base_url} {state}, {counts}>"

    async def __aenter__(self) -> Self:
        if self._tg is not None:
            raise RuntimeError("a RuxaClient is entered once: make a new one")
        if self._needs_asyncio and anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            raise RuntimeError(
                "the default transport is aiohttp, which runs on asyncio only. On trio use "
                "RuxaClient(transport=Httpx2Transport()), with "
                "`from ruxa_async.transports import Httpx2Transport` and the extra 'httpx2': "
                "pip install 'ruxa-async[httpx2]'"
            )
        await self._learned_state.open()
        tg = anyio.create_task_group()
        await tg.__aenter__()
        self._tg = tg
        self._loop = current_token()
        self._entered_in = anyio.get_current_task().id
        self._driver.open(tg)
        if self._learned_state.is_enabled:
            self._driver.start_background(self._learned_state.save_periodically, "learned state")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tg is not None
        same_task = anyio.get_current_task().id == self._entered_in
        if same_task:
            # Only the client's own tasks are left in the group, and they end by themselves.
            self._tg.cancel_scope.shield = True
        self._closed = True
        failpoint("client closing")
        try:
            await self._driver.close(self._timeouts.create_drain)
        finally:
            report_orphans(self._outcomes.counters.orphaned)
            self._outcomes.events.emit_for_client(events.ClientClosed)
            try:
                with anyio.move_on_after(_CLOSE_WITHIN, shield=True):
                    await self._transport.aclose()
            finally:
                try:
                    with anyio.CancelScope(shield=True):
                        await self._learned_state.close()
                finally:
                    if same_task:
                        await self._tg.__aexit__(None, None, None)
        if not same_task:
            raise RuntimeError(
                "this RuxaClient was left in another task than it was entered in. It is closed and nothing "
                "paid was lost, but enter and leave it in one task: in a fixture or a framework's startup "
                "and shutdown hooks, use one async context manager (a lifespan) around both, or "
                "`await ruxa.open()` and `await ruxa.aclose()`"
            )

    @awaited_as("await ruxa.open")
    async def open(self) -> Self:
        """Open the client and return it, without ``async with``, for a REPL or a notebook.

        A task of its own enters and leaves the client, so `aclose` may be called in another task. What is
        open when the event loop ends is closed then; on asyncio that cuts off creates on the wire, so call
        `aclose`. Raises what ``async with`` raises.
        """
        await self._holder.open()
        return self

    @awaited_as("await ruxa.aclose")
    async def aclose(self) -> None:
        """Close the client that `open` opened; wait for creates on the wire as ``async with`` does.

        Does nothing if the client is not open. Raises RuntimeError inside ``async with``.
        """
        if self._tg is not None and not self._closed and not self._holder.is_used:
            raise RuntimeError("this RuxaClient was entered with `async with`: leave that block instead")
        await self._holder.aclose()

    def abort_drain(self) -> None:
        """Stop waiting for creates on the wire, now and when the client is left: they are listed as unknown.

        Use it when a user asks to stop for a second time.
        """
        self._driver.abort_drain()

    # ---- buying

    @awaited_as("await ruxa.submit")
    async def submit(self, request: GenerationRequest, *, run: str | None = None) -> GenerationTask:
        """Buy *request* and return its task once the service accepted it: from then on it is paid.

        If you cancel this before a byte has left, the request is not bought. If you cancel it while the
        create is on the wire, the create goes on, and an accepted task is listed in `orphans`.

        Without *run* each call buys. *run* names a run in the client's journal, which must be a lasting one
        (`SqliteJournal`, `PostgresJournal`), and there a request is bought once, across restarts and for
        callers at the same moment. A request is recognised by its key, otherwise by its model and input:
        unlike in ``as_completed(resume=)``, equal requests without a key are one purchase. A purchase that

        - ended: is returned at once, with the links of that time and its recorded files, or its error;
        - is under way: is shared. It is withdrawn or becomes an orphan only after its last caller left;
        - was accepted earlier: is followed;
        - may have been charged: raises `SubmissionUnknownError`, and is not sent;
        - was not bought, or was forgotten in the journal: is bought.

        With *run* it also raises `ConfigurationError` without such a journal, ValueError if the name is
        empty, `KeyConflictError` if the key belongs to another request of the run, `JournalError`, and its
        subclass `RunInUseError` while ``as_completed(resume=run)`` is open or another client of the journal
        buys the same request.

        Raises `APIError` and its subclasses if the service refuses, `SubmissionUnknownError` if it may have
        been charged, `NotSentError` if the service could not be reached for ``Retries.throttled_timeout``,
        `BudgetExceededError` if it would pass the client's budget, `ClientClosedError`.
        """
        self._check_usable()
        _check_request(request)
        if run is not None:
            return await self._keyed_purchases.submit(request, run)
        job = ClientJob(request=request, model=request.model, key=request.key)
        self._driver.submit(job)
        try:
            while not job.create_settled:
                await self._driver.wait_for_change(job)
        except BaseException:
            self._driver.on_caller_left(job)
            raise
        if job.error is not None and job.task_id is None and job.status is None:
            raise job.error
        return self._task(job)

    @awaited_as("await ruxa.generate")
    async def generate(self, request: GenerationRequest, *, run: str | None = None) -> Generation:
        """Buy *request*, wait for its end, and return the generation.

        Waits for ``Timeouts.task`` at most, from its acceptance, or from this call if it was accepted before.
        Raises what `submit` and `GenerationTask.result` raise. The error's ``task_id`` names a paid task; if
        you cancel this, the task is listed in `orphans`. With *run* it is bought once in that run of the
        journal, see `submit`.
        """
        if run is not None:
            self._check_usable()
            _check_request(request)
            return await self._keyed_purchases.generate(request, run)
        task = await self.submit(request)
        try:
            return await task.result()
        except TaskTimeout:
            self._driver.release(task._job)  # noqa: SLF001 - the error names the task
            raise
        except BaseException as exc:
            job = task._job  # noqa: SLF001
            # A cancellation may come in the moment of the end; then nobody has the generation.
            if not task.done or (job.error is None and not isinstance(exc, Exception)):
                self._driver.on_caller_left(job)
            raise

    def as_completed(
        self,
        requests: Iterable[GenerationRequest] | AsyncIterable[GenerationRequest],
        *,
        window: int | None = None,
        task_timeout: float | None = None,
        resume: str | Resume | None = None,
    ) -> Completions:
        """Buy every request of *requests* and give each outcome as it finishes, errors as values.

        The source is pulled lazily: at most *window* requests are between pulled and consumed (default: twice
        ``Limits.max_in_flight``), so a slow consumer holds it back. *task_timeout* is in seconds from a
        task's acceptance (default: ``Timeouts.task``); a task that exceeds it is a `Failed` outcome, and
        lives on.

        *resume* names a run in the client's journal, which must be a lasting one (`SqliteJournal`). Call this
        again with the same name, in this process or a later one, to continue the run. A request is recognised
        by its key, otherwise by its model, its input and the number of equal requests before it:

        - ended: `Succeeded` with the links of that time, or `Failed`, at once from the journal;
        - accepted: followed, with *task_timeout* counted from its acceptance;
        - may have been charged: `Failed` with `SubmissionUnknownError`, and not sent;
        - its key belongs to another request: `Failed` with `KeyConflictError`;
        - anything else: bought.

        `Resume` has options. Raises `ConfigurationError` without such a journal; the iteration raises
        `JournalError`.
        """
        self._check_usable()
        if isinstance(requests, GenerationRequest) or not isinstance(requests, (Iterable, AsyncIterable)):
            raise TypeError(f"as_completed takes an iterable or async iterable of requests, not {requests!r}")
        options = self._pipeline_options(window, task_timeout)
        if isinstance(resume, str):
            resume = Resume(resume)
        previous_run = None if resume is None else self._previous_run(resume)
        pipeline = Pipeline(requests, self._driver, options, previous_run)
        return Completions(pipeline, self._generation, self._pipeline_options)

    # ---- tasks that were bought before

    def attach(self, task_id: str, *, model: str | None = None) -> GenerationTask:
        """Return a handle on a task that this or another process bought. Nothing is sent until you wait."""
        self._check_usable()
        return self._task(ClientJob(request=None, model=model, task_id=checked_task_id(task_id)))

    @awaited_as("await ruxa.status")
    async def status(self, task_id: str) -> TaskStatus:
        """Return the current state of a task, by one query. After a 429 the query waits and is sent again.

        Raises `NotFoundError` and other `APIError`, `TransportError`, `MalformedResponseError`,
        `ClientClosedError`.
        """
        self._check_usable()
        return await self._driver.query_once(checked_task_id(task_id))

    # ---- monitoring

    def add_event_hook(self, hook: EventHook) -> None:
        """Call *hook* with every event from now on, as with ``on_event=``. See `ruxa_async.events`."""
        check_hook(hook)
        self._outcomes.events.add(hook)

    @property
    def orphans(self) -> tuple[JobRecord, ...]:
        """The last 10,000 purchases whose callers left: accepted (with ``task_id``) or unknown (without)."""
        return tuple(self._outcomes.orphans)

    def stats(self) -> Stats:
        """Return a snapshot of the client's counters."""
        return snapshot(self._driver.engine, self._outcomes.counters, self._outcomes.clock.now())

    def _pipeline_options(self, window: int | None, task_timeout: float | None) -> PipelineOptions:
        if window is not None and window < 1:
            raise ValueError(f"window={window!r} is not valid: at least 1 is needed")
        limit = checked_timeout("task_timeout", task_timeout)
        return PipelineOptions(
            window=window if window is not None else 2 * self._limits.max_in_flight,
            task_timeout=self._timeouts.task if task_timeout is None else limit,
            drain=self._timeouts.create_drain,
        )

    def _previous_run(self, resume: Resume) -> PreviousRun:
        journal = self._learned_state.require_journal()
        return PreviousRun(journal, resume, self._driver.may_be_called_back, self._run_spending)

    def _task(self, job: ClientJob) -> GenerationTask:
        return GenerationTask(job, self._driver, self._generation, self._timeouts.task)

    def _generation(self, job: ClientJob) -> Generation:
        status = job.status
        assert status is not None
        return Generation(
            task_id=job.task_id,
            model=job.model,
            urls=status.urls,
            request=job.request,
            credits=status.credits,
            duration=status.duration,
            raw=status.raw,
            _media=OutputFetcher(
                self._downloader,
                job.files if isinstance(job, RecordedJob) else None,
                self.status,
                self._ensure_downloads,
                self._outcomes.events,
            ),
        )

    def _ensure_downloads(self, generation: Generation) -> None:
        if self._closed:
            raise ClientClosedError(
                "the client that this Generation came from was closed: save inside its `async with` block. "
                + how_to_save(generation.task_id, generation.model)
            )
        if current_token() != self._loop:
            raise RuntimeError(
                "the client that this Generation came from belongs to another event loop. A client of "
                "ruxa_async.sync saves it with `ruxa.save(generation, folder)`"
            )

    def _on_lost(self, request: GenerationRequest, bought: object) -> None:
        """List the purchase of *request* as orphan: its caller left before a call gave it *bought*."""
        if isinstance(bought, GenerationTask):
            self._outcomes.add_orphan(bought._job)  # noqa: SLF001
        elif isinstance(bought, (Generation, SubmissionUnknownError, TaskError)):
            job = ClientJob(request=request, model=request.model, key=request.key)
            job.task_id = getattr(bought, "task_id", None)
            job.error = bought if isinstance(bought, RuxaError) else None
            self._outcomes.add_orphan(job)

    def _check_usable(self) -> None:
        if self._tg is None:
            raise ClientClosedError(
                "the client is not open: use it inside `async with RuxaClient() as ruxa:`, or call "
                "`await ruxa.open()` first"
            )
        if current_token() != self._loop:
            raise RuntimeError(
                "this RuxaClient belongs to another event loop: make one in the loop that uses it"
            )
        self._driver.ensure_open()
        if self._sends_for_real:
            ensure_allowed(self._base_url)


def _check_request(request: object) -> None:
    if not isinstance(request, GenerationRequest):
        raise TypeError(f"submit takes a request such as NanoBanana(...), not {request!r}")


def _default_transport(
    limits: Limits, downloads: Downloads, base_url: str, proxy: str | None, ssl_context: ssl.SSLContext | None
) -> Transport:
    # Imported only when needed: aiohttp takes 190 ms to import.
    from ruxa_async.transports import AiohttpTransport  # noqa: PLC0415
    from ruxa_async.transports._proxies import Proxies  # noqa: PLC0415

    # Raises for a proxy that cannot be used, so that you learn of it before the first request.
    Proxies(proxy, trust_env=True).route(base_url)
    in_use = limits.max_concurrent_creates + limits.max_concurrent_queries + downloads.max_concurrent
    return AiohttpTransport(pool_size=in_use + _SPARE_CONNECTIONS, proxy=proxy, ssl_context=ssl_context)


def _ensure_unset(proxy: str | None, ssl_context: ssl.SSLContext | None) -> None:
    if proxy is not None or ssl_context is not None:
        raise ConfigurationError(
            "proxy and ssl_context are for the default transport: pass them to your own transport instead"
        )
