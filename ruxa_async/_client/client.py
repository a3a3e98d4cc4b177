"""`RuxaClient`: the front door. It owns the transport and the driver for the length of its ``async with``."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import EventLoopToken, current_token

from ruxa_async._api.endpoint import USER_AGENT, Endpoint
from ruxa_async._engine.engine import Engine
from ruxa_async._internal.failpoints import failpoint
from ruxa_async._logging import report_orphans
from ruxa_async.callbacks import CallbackReceiver
from ruxa_async.downloads import Downloader
from ruxa_async.errors import ClientClosedError, ConfigurationError, TaskTimeout
from ruxa_async.events import EventHook
from ruxa_async.journal import Journal, NullJournal
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, JobRecord, Stats, TaskStatus, how_to_save
from ruxa_async.settings import Budget, CallbackURL, Downloads, Limits, Polling, Resume, Retries, Timeouts
from ruxa_async.transports import Transport

from .callbacks import CallbackDispatcher
from .completions import Completions
from .config import check_hook, checked_timeout, resolve_base_url, resolve_key
from .driver import Driver
from .job import ClientJob
from .learned_state import LearnedState
from .log import observed
from .outcomes import Delivery
from .outputs import OutputFetcher
from .pipeline import Pipeline
from .resume import PreviousRun, ResumedJob
from .spending import Ledger
from .task import GenerationTask

if TYPE_CHECKING:
    import ssl

__all__ = ("RuxaClient",)

_CLOSE_WITHIN = 10.0  # seconds that a transport may take to let go of its connections


class RuxaClient:
    """A client of the Ruxa generation API; use it as ``async with RuxaClient() as ruxa: ...``.

    *api_key* and *base_url* default to RUXA_API_KEY and RUXA_BASE_URL; plain http is accepted for loopback only.
    *transport* moves the bytes (default: aiohttp, on asyncio; for trio see `Httpx2Transport`) and is closed with the
    client. The default one goes through *proxy*, such as ``http://user:password@host:3128``, and trusts *ssl_context*;
    without them HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR count. A loopback address
    is never reached through a proxy. *journal* is told of every purchase, *on_event* of everything; *downloads* says how outputs are fetched. With
    a `CallbackReceiver` as *callbacks* every create carries a callback URL of its own and tasks wake when the service
    posts there; a `CallbackURL` is merely sent along. *budget* stops buying before it would be exceeded. A `SqliteJournal` that is not open is opened with the client and
    closed with it; entering the client then raises `JournalError` and its kin. One client serves many callers at
    once; it belongs to one event loop and to the task that entered it. Raises `ConfigurationError` if key or
    address cannot be right.
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
        on_event: EventHook | None = None,
    ) -> None:
        check_hook(on_event)
        self._base_url = resolve_base_url(base_url)
        self._limits = limits
        self._timeouts = timeouts
        self._on_asyncio_only = transport is None
        key = resolve_key(api_key)
        if transport is None:
            most = limits.max_concurrent_creates + limits.max_concurrent_queries + downloads.max_concurrent
            transport = _default_transport(most + 8, self._base_url, proxy, ssl_context)
        elif proxy is not None or ssl_context is not None:
            raise ConfigurationError(
                "proxy and ssl_context are for the default transport: pass them to the transport that you make"
            )
        self._transport = transport
        journal = journal if journal is not None else NullJournal()
        wire = Endpoint(
            self._base_url,
            key,
            create_timeout=timeouts.create,
            query_timeout=timeouts.query,
            connect_timeout=timeouts.connect,
            callback=callbacks if isinstance(callbacks, CallbackURL) else None,
        )
        engine: Engine[ClientJob] = Engine(limits, polling, retries, _checked_budget(budget))
        on_event, self._transport = observed(on_event, self._transport)
        self._delivery = Delivery(engine, on_event, time.time, time.monotonic)
        desk = (
            CallbackDispatcher(callbacks, engine, journal, self._delivery, timeouts.callback_wait)
            if isinstance(callbacks, CallbackReceiver)
            else None
        )
        self._ledger = None if engine.spending is None else Ledger(engine.spending)
        self._driver = Driver(engine, wire, self._transport, journal, self._delivery, limits, desk)
        self._memory = LearnedState(journal, engine, base_url=self._base_url, api_key=key)
        self._downloader = Downloader(
            transport=self._transport,
            settings=downloads,
            home=self._base_url,
            connect_timeout=timeouts.connect,
            user_agent=USER_AGENT,
            saved=self._memory.saved,
        )
        self._tg: TaskGroup | None = None
        self._token: EventLoopToken | None = None
        self._host: int | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._tg is None else "open"
        engine = self._driver.engine
        return f"<RuxaClient {self._base_url} {state}, {engine.counts.in_flight} in flight, {engine.queued} queued>"

    async def __aenter__(self) -> Self:
        if self._tg is not None:
            raise RuntimeError("a RuxaClient is entered once: make a new one")
        if self._on_asyncio_only and anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
            raise RuntimeError(
                "the default transport is aiohttp, which runs on asyncio only. On trio use "
                "RuxaClient(transport=Httpx2Transport()), with `from ruxa_async.transports import Httpx2Transport` and the "
                "extra 'httpx2': pip install 'ruxa-async[httpx2]'"
            )
        await self._memory.open()
        tg = anyio.create_task_group()
        await tg.__aenter__()
        self._tg = tg
        self._token = current_token()
        self._host = anyio.get_current_task().id
        self._driver.open(tg)
        if self._memory.lasts:
            self._driver.start_helper(self._memory.keep_learning, "memory")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tg is not None
        same_task = anyio.get_current_task().id == self._host
        if same_task:
            # From here on only the client's own tasks are waited for, and they end by themselves.
            self._tg.cancel_scope.shield = True
        self._closed = True
        failpoint("client closing")
        try:
            await self._driver.close(self._timeouts.create_drain)
        finally:
            report_orphans(self._delivery.orphaned)
            try:
                with anyio.move_on_after(_CLOSE_WITHIN, shield=True):
                    await self._transport.aclose()
            finally:
                try:
                    with anyio.CancelScope(shield=True):
                        await self._memory.close()
                finally:
                    if same_task:
                        await self._tg.__aexit__(None, None, None)
        if not same_task:
            raise RuntimeError(
                "this RuxaClient was left in another task than it was entered in. It is closed and nothing paid was "
                "lost, but enter and leave it in one task: in a test fixture or a framework's startup and shutdown "
                "hooks, use one async context manager (a lifespan) around both"
            )

    def abort_drain(self) -> None:
        """Wait for creates on the wire no longer, where something waits for them now or would later on leaving.

        What is cut off by that is listed as unknown. For whoever is asked twice to stop.
        """
        self._driver.abort_drain()

    # ---- buying

    async def submit(self, request: GenerationRequest) -> GenerationTask:
        """Buy *request* and return its task once the service accepted it: from then on it is paid.

        Cancelled before a byte of it left, it is never bought. Cancelled while it is on the wire, it goes on, and
        an accepted task is listed in `orphans`. Raises `APIError` and its kin when refused,
        `SubmissionUnknownError` when nobody can tell, `NotSentError` when the service could not be reached for
        ``Retries.throttled_timeout``, `BudgetExceededError` when it would pass the client's budget, `ClientClosedError`.
        """
        self._check()
        if not isinstance(request, GenerationRequest):
            raise TypeError(f"submit takes a request such as NanoBanana(...), not {request!r}")
        job = ClientJob(request=request, model=request.model, key=request.key)
        self._driver.submit(job)
        try:
            while not job.create_settled:
                await self._driver.changed(job)
        except BaseException:
            self._driver.abandon(job)
            raise
        if job.error is not None and job.task_id is None and job.status is None:
            raise job.error
        return self._task(job)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Buy *request*, wait for its end, and return what it made.

        Waits at most ``Timeouts.task`` once it is accepted. Raises what `submit` and `GenerationTask.result`
        raise; a paid task is named by the error's ``task_id``, or listed in `orphans` if the caller is cancelled.
        """
        task = await self.submit(request)
        try:
            return await task.result()
        except TaskTimeout:
            self._driver.release(task._job)  # noqa: SLF001 - the caller has its id from the error
            raise
        except BaseException:
            if not task.done:
                self._driver.abandon(task._job)  # noqa: SLF001
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
        ``Limits.max_in_flight``), so a slow consumer holds it back. *task_timeout* is in seconds from a task's
        acceptance (default: ``Timeouts.task``); one that runs out is a `Failed` outcome whose task lives on.

        *resume* names a run in the client's journal, which must be one that lasts (`SqliteJournal`); call this again
        with the same name, in this process or any later one, to go on with it. A request is known again by its key,
        else by its model and input and by how many equal ones came before it. What has ended is given at once from the
        journal: `Succeeded` with the links of then, or `Failed`. What was accepted is picked up, *task_timeout*
        counting from then. What may have been charged is `Failed` with `SubmissionUnknownError` and is not sent. Only
        the rest is bought. A key that stood for another request is `Failed` with `KeyConflictError`. A `Resume` says
        more. Raises `ConfigurationError` without such a journal; a `JournalError` comes out of the iteration.
        """
        self._check()
        if isinstance(requests, GenerationRequest) or not isinstance(requests, (Iterable, AsyncIterable)):
            raise TypeError(f"as_completed takes an iterable or async iterable of requests, not {requests!r}")
        if window is not None and window < 1:
            raise ValueError(f"window={window!r} is not valid: at least 1 is needed")
        limit = checked_timeout("task_timeout", task_timeout)
        if isinstance(resume, str):
            resume = Resume(resume)
        run = Pipeline(
            requests,
            self._driver,
            window=window if window is not None else 2 * self._limits.max_in_flight,
            task_timeout=self._timeouts.task if task_timeout is None else limit,
            drain=self._timeouts.create_drain,
            past=None if resume is None else self._past(resume),
        )
        return Completions(run, self._generation)

    # ---- asking

    def attach(self, task_id: str, *, model: str | None = None) -> GenerationTask:
        """Pick up a task that was bought earlier, here or in any other process. Nothing is sent until it is waited for."""
        self._check()
        return self._task(ClientJob(request=None, model=model, task_id=_checked_id(task_id)))

    async def status(self, task_id: str) -> TaskStatus:
        """Ask once for the state of a task.

        A refusal for the rate is waited out. Raises `NotFoundError` and other `APIError`, `TransportError`,
        `MalformedResponseError`, `ClientClosedError`.
        """
        self._check()
        job = ClientJob(request=None, model=None, task_id=_checked_id(task_id), single_shot=True)
        self._driver.follow(job)
        try:
            while not job.ended:
                await self._driver.changed(job)
        except BaseException:
            self._driver.release(job)
            raise
        if job.error is not None:
            raise job.error
        assert job.status is not None
        return job.status

    # ---- looking

    @property
    def orphans(self) -> tuple[JobRecord, ...]:
        """Purchases whose caller is gone, the last 10,000: accepted (with ``task_id``), or unknown (without)."""
        return tuple(self._delivery.orphans)

    def stats(self) -> Stats:
        """Return a snapshot of the counts."""
        engine, told = self._driver.engine, self._delivery
        spending, breaker = engine.spending, engine.breaker
        return Stats(
            in_flight=engine.counts.in_flight,
            queued=engine.queued,
            creates_on_wire=engine.counts.creating,
            queries_on_wire=engine.counts.asking,
            creates_sent=engine.counts.creates_sent,
            accepted=engine.counts.accepted,
            refused=engine.counts.refused,
            unknown=engine.counts.unknown,
            withdrawn=engine.counts.withdrawn,
            succeeded=told.succeeded,
            failed=told.failed,
            stopped=told.stopped,
            orphaned=told.orphaned,
            queries_sent=engine.counts.queries_sent,
            throttled={"create": engine.creates.refusals, "query": engine.queries.refusals},
            rates={"create": engine.creates.rate, "query": engine.queries.rate},
            durations={
                **{model: math.exp(law["mu"]) for model, law in engine.polling.export().items()},
                **{model: statistics.median(seen) for model, seen in told.durations.items()},
            },
            spent_tasks=None if spending is None else spending.tasks,
            spent_credits=None if spending is None else spending.known_credits,
            is_circuit_open=breaker.is_open,
            outages=breaker.openings,
            outage_seconds=breaker.seconds_open + (breaker.open_for(told.now()) if breaker.is_open else 0.0),
        )

    def _past(self, resume: Resume) -> PreviousRun:
        return PreviousRun(self._memory.lasting(), resume, self._driver.may_settle, self._ledger)

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
                job.files if isinstance(job, ResumedJob) else None,
                self.status,
                self._ensure_downloads,
            ),
        )

    def _ensure_downloads(self, generation: Generation) -> None:
        if self._closed:
            raise ClientClosedError(
                "the client that this Generation came from was closed: save inside its `async with` block. "
                + how_to_save(generation.task_id, generation.model)
            )

    def _check(self) -> None:
        if self._tg is None:
            raise ClientClosedError(
                "the client is not open: use it inside `async with RuxaClient() as ruxa:`"
            )
        if current_token() != self._token:
            raise RuntimeError(
                "this RuxaClient belongs to another event loop: make one in the loop that uses it"
            )
        self._driver.ensure_open()


def _default_transport(
    pool_size: int, base_url: str, proxy: str | None, ssl_context: ssl.SSLContext | None
) -> Transport:
    # They load for 190 ms, and not everybody needs them.
    from ruxa_async.transports import AiohttpTransport  # noqa: PLC0415
    from ruxa_async.transports._proxies import Proxies  # noqa: PLC0415

    Proxies(proxy, trust_env=True).route(
        base_url
    )  # a proxy that cannot be used is said now, not at each request
    return AiohttpTransport(pool_size=pool_size, proxy=proxy, ssl_context=ssl_context)


def _checked_budget(budget: object) -> Budget | None:
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"budget={budget!r} is not valid: a Budget(max_tasks=, max_credits=) is needed"
        )
    return budget


def _checked_id(task_id: object) -> str:
    if not isinstance(task_id, str) or not task_id.strip():
        raise ValueError(f"task_id={task_id!r} is not valid: the id that the service gave is needed")
    return task_id
