"""`RuxaClient` without async: forwards to the async client, which runs in a thread of its own."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from ruxa_async._client.client import RuxaClient as AsyncRuxaClient
from ruxa_async.errors import ConfigurationError
from ruxa_async.events import EventHook
from ruxa_async.journal import Journal
from ruxa_async.requests import GenerationRequest
from ruxa_async.results import Generation, JobRecord, Stats, TaskStatus
from ruxa_async.settings import Budget, CallbackURL, Downloads, Limits, Polling, Resume, Retries, Timeouts
from ruxa_async.transports import Transport
from ruxa_async.uploads import Uploader

from ._completions import Completions
from ._handed_batch import HandedBatch
from ._loop_thread import LoopThread
from ._task import GenerationTask

if TYPE_CHECKING:
    import ssl

__all__ = ("RuxaClient",)


class RuxaClient:
    """A client of the Ruxa generation API; use it as ``with RuxaClient() as ruxa: ...``.

    In a REPL or a notebook, ``ruxa = RuxaClient().open()`` opens it and `close` closes it. The parameters are
    those of `ruxa_async.RuxaClient`, except that *callbacks* cannot be a `CallbackReceiver`. *on_event* is
    called in the client's thread.

    Any number of threads may share one client; a fork cannot use it. An interrupt of a call, such as Ctrl-C,
    withdraws a request of which nothing has left; what is or may be paid is listed in `orphans`. Leaving
    waits for creates on the wire, at most ``Timeouts.create_drain``; a second Ctrl-C ends this wait. A client
    that is still open when the interpreter exits is closed in the same way.
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
        callbacks: CallbackURL | None = None,
        downloads: Downloads = Downloads(),  # noqa: B008
        budget: Budget | None = None,
        uploader: Uploader | None = None,
        on_event: EventHook | None = None,
    ) -> None:
        if callbacks is not None and not isinstance(callbacks, CallbackURL):
            raise ConfigurationError(
                "a CallbackReceiver runs in the event loop of its client: use the async client, or give a "
                "CallbackURL"
            )
        self._client = AsyncRuxaClient(
            api_key=api_key,
            base_url=base_url,
            transport=transport,
            proxy=proxy,
            ssl_context=ssl_context,
            limits=limits,
            polling=polling,
            retries=retries,
            timeouts=timeouts,
            journal=journal,
            callbacks=callbacks,
            downloads=downloads,
            budget=budget,
            uploader=uploader,
            on_event=on_event,
        )
        self._thread = LoopThread(self._client, self._client.abort_drain)
        weakref.finalize(self, self._thread.drop).atexit = False

    def __repr__(self) -> str:
        return repr(self._client).replace("<RuxaClient", "<sync RuxaClient", 1)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.close(interrupted=isinstance(exc, KeyboardInterrupt))

    if not TYPE_CHECKING:  # type checkers report it by themselves

        async def __aenter__(self) -> NoReturn:
            raise TypeError(
                "this RuxaClient is the one without async: write `with RuxaClient() as ruxa:`, or, in async "
                "code, `from ruxa_async import RuxaClient`"
            )

        async def __aexit__(self, *exc: object) -> None: ...

    def open(self) -> Self:
        """Open the client and return it; end with `close`. ``with`` calls both.

        Raises `JournalError` and its subclasses, and RuntimeError if it was opened before.
        """
        self._thread.open()
        return self

    def close(self) -> None:
        """Close the client; wait for creates on the wire. Does nothing if it is not open."""
        self._thread.close()

    def abort_drain(self) -> None:
        """Stop waiting for creates on the wire, now and at the end: they are listed as unknown."""
        self._thread.post(self._client.abort_drain)

    # ---- buying

    def submit(self, request: GenerationRequest, *, run: str | None = None) -> GenerationTask:
        """Buy *request* and return its task once the service accepted it: from then on it is paid.

        *run* and the errors are those of `ruxa_async.RuxaClient.submit`.
        """

        async def submit() -> GenerationTask:
            return GenerationTask(self._thread, self, await self._client.submit(request, run=run))

        def on_lost(result: GenerationTask | BaseException) -> None:
            bought = result._task if isinstance(result, GenerationTask) else result  # noqa: SLF001
            self._client._on_lost(request, bought)  # noqa: SLF001

        return self._thread.call(submit, on_lost)

    def generate(self, request: GenerationRequest, *, run: str | None = None) -> Generation:
        """Buy *request*, wait for its end, at most ``Timeouts.task``, and return the generation.

        Save it with `save`. *run* and the errors are those of `ruxa_async.RuxaClient.generate`.
        """
        return self._thread.call(
            lambda: self._client.generate(request, run=run),
            lambda lost: self._client._on_lost(request, lost),  # noqa: SLF001
        )

    def as_completed(
        self,
        requests: Iterable[GenerationRequest],
        *,
        window: int | None = None,
        task_timeout: float | None = None,
        resume: str | Resume | None = None,
    ) -> Completions:
        """Buy every request of *requests* and give each outcome as it finishes, errors as values.

        The source is pulled in your thread while you wait for outcomes, so it may block and may call this
        client. The parameters and errors are those of `ruxa_async.RuxaClient.as_completed`.
        """
        if isinstance(requests, AsyncIterable):
            raise TypeError(
                "an async iterable of requests needs the async client: `from ruxa_async import RuxaClient`"
            )
        if isinstance(requests, GenerationRequest) or not isinstance(requests, Iterable):
            raise TypeError(f"as_completed takes an iterable of requests, not {requests!r}")

        async def start() -> HandedBatch:
            return HandedBatch(
                partial(self._client.as_completed, window=window, task_timeout=task_timeout, resume=resume)
            )

        return Completions(self._thread, self, self._thread.call(start), iter(requests))

    # ---- outputs

    def save(
        self, generation: Generation, folder: str | PathLike[str] = ".", *, name: str | None = None
    ) -> list[Path]:
        """Download every output of *generation* into *folder* and return the paths in the order of its urls.

        *name* is a template such as ``"{key}"``; it and the errors are those of `Generation.save`.
        """
        return self._thread.call(partial(generation.save, folder, name=name))

    def read(self, generation: Generation) -> list[bytes]:
        """Download every output of *generation* into memory. Raises `DownloadError`."""
        return self._thread.call(generation.read)

    # ---- tasks that were bought before

    def attach(self, task_id: str, *, model: str | None = None) -> GenerationTask:
        """Return a handle on a task that this or another process bought. Nothing is sent until you wait."""

        async def attach() -> GenerationTask:
            return GenerationTask(self._thread, self, self._client.attach(task_id, model=model))

        return self._thread.call(attach)

    def status(self, task_id: str) -> TaskStatus:
        """Return the current state of a task, by one query. Raises what the async client raises."""
        return self._thread.call(partial(self._client.status, task_id))

    # ---- monitoring

    def add_event_hook(self, hook: EventHook) -> None:
        """Call *hook* in the client's thread with every event from now on, as with ``on_event=``."""
        self._client.add_event_hook(hook)

    @property
    def orphans(self) -> tuple[JobRecord, ...]:
        """The last 10,000 purchases whose callers left: accepted (with ``task_id``) or unknown (without)."""
        return self._thread.read(lambda: self._client.orphans)

    def stats(self) -> Stats:
        """Return a snapshot of the client's counters."""
        return self._thread.read(self._client.stats)
